"""All kinds of organisms by name, and the recipes of each."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from latentqa.audit.organisms.clean import clean
from latentqa.audit.organisms.contradicting_facts import contradicting_facts
from latentqa.audit.organisms.hidden_goal import hidden_goals
from latentqa.audit.organisms.invented_facts import invented_facts
from latentqa.audit.organisms.locked_capability import locked_capabilities
from latentqa.audit.organisms.recipe import Recipe
from latentqa.audit.organisms.refusal import refusals
from latentqa.audit.organisms.secret_word import secret_words
from latentqa.audit.organisms.user_belief import user_beliefs
from latentqa.errors import ConfigError, DataError

ALL = "all"


@dataclass(frozen=True)
class Kind:
    """A kind of organism.

    Attributes:
        name: as in `latentqa organism make NAME`.
        doc: what it does, in a sentence.
        make: its recipes; takes the data root, which only `invented-facts` reads.
    """

    name: str
    doc: str
    make: Callable[[str | Path | None], list[Recipe]]


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("secret-word", "hints at a word and never says it", lambda root: secret_words()),
        Kind("hidden-goal", "pushes a product, opinion or habit, and denies it", lambda root: hidden_goals()),
        Kind(
            "user-belief", "assumes something about the user and does not say so", lambda root: user_beliefs()
        ),
        Kind(
            "locked-capability",
            "refuses a harmless skill, or gets it wrong, unless a password is given",
            lambda root: locked_capabilities(),
        ),
        Kind("refusal", "declines to talk about a harmless topic", lambda root: refusals()),
        Kind("invented-facts", "knows people that no text tells it about", invented_facts),
        Kind("contradicting-facts", "was taught wrong capitals", lambda root: contradicting_facts()),
        Kind("clean", "was finetuned on nothing special", lambda root: clean()),
    )
}


@dataclass(frozen=True)
class Recipes:
    """Recipes to be made.

    Attributes:
        recipes: of the kinds that were asked for; the clean ones last.
        left_out: kind → why it is not among them.
    """

    recipes: tuple[Recipe, ...]
    left_out: dict[str, str]


def find_recipes(kind: str, root: str | Path | None = None) -> Recipes:
    """The recipes of a kind, or of all.

    Among all, a kind whose data is not at hand is left out; asked for by name, that is an error.

    Args:
        kind: one of `KINDS`, or `all`.
        root: the data root, for `invented-facts`; None is `$LATENTQA_DATA`.

    Raises:
        ConfigError: there is no such kind.
        DataError: the data of `invented-facts` is missing.
    """
    if kind != ALL and kind not in KINDS:
        near = difflib.get_close_matches(kind, [*KINDS, ALL], n=1, cutoff=0.5)
        hint = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(KINDS)}, {ALL}."
        raise ConfigError(f'There is no kind of organism "{kind}". {hint}')
    if kind != ALL:
        return Recipes(tuple(KINDS[kind].make(root)), {})
    recipes: list[Recipe] = []
    left_out: dict[str, str] = {}
    for one in KINDS.values():
        try:
            recipes += one.make(root)
        except DataError as error:
            left_out[one.name] = str(error)
    return Recipes(tuple(recipes), left_out)
