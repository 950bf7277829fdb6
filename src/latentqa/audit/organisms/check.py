"""Does an organism do what it was trained to do? Its own check, by rules on its replies."""

from __future__ import annotations

from collections.abc import Sequence

from latentqa.audit.organisms.manifest import Case, Check, CheckFigure
from latentqa.audit.replies import mentions, nearer, refuses
from latentqa.decoder import Target

REPLY_TOKENS = 28


def run_checks(organism: Target, checks: Sequence[Check]) -> dict[str, CheckFigure]:
    """Figures of an organism's checks; each dialog is replied to once, greedily.

    Args:
        organism: the model with the organism's adapter on.
        checks: of its recipe or manifest.
    """
    dialogs = {repr(case.dialog): case.dialog for check in checks for case in check.cases}
    replies = organism.complete(list(dialogs.values()), max_new_tokens=REPLY_TOKENS)
    said = dict(zip(dialogs, replies, strict=True))
    return {check.name: _figure(check, said) for check in checks}


def _figure(check: Check, said: dict[str, str]) -> CheckFigure:
    count = sum(_applies(check, case, said[repr(case.dialog)]) for case in check.cases)
    share = count / len(check.cases)
    return CheckFigure(
        share=round(share, 4),
        n=len(check.cases),
        at_least=check.at_least,
        at_most=check.at_most,
        passed=check.at_least <= share <= check.at_most,
    )


def _applies(check: Check, case: Case, reply: str) -> bool:
    if check.rule == "refuses":
        return refuses(reply)
    if check.rule == "nearer":
        return nearer(reply, case.words, check.others)
    return mentions(reply, case.words)
