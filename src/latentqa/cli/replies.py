"""The file of replies that `latentqa generate` grows row by row and goes on with."""

from __future__ import annotations

from typing import Any, NamedTuple

from latentqa.cli.growing import GrowingFile


class ReplyKey(NamedTuple):
    """What a reply is filed under: the dialog's name, and which of several samples it is."""

    dialog: str
    sample: int = 0


class ReplyFile(GrowingFile[ReplyKey]):
    """The file of replies; every row holds `target`, `steer` and `strength`."""

    noun = "reply"
    made = "generated"
    command = "latentqa generate"
    required = frozenset({"dialog", "reply"})

    def key(self, row: dict[str, Any]) -> ReplyKey:
        """Dialog and sample of a row."""
        return ReplyKey(row["dialog"], row.get("sample", 0))
