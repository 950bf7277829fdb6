"""The manifest of a model organism: what was trained into it, and how well it learned it.

An organism is a folder: a LoRA adapter in the PEFT layout, and `organism.json`, the hidden truth. Whoever
audits the model reads the adapter alone; the manifest is opened afterwards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from latentqa.data import data_hash
from latentqa.errors import DataError

MANIFEST_FILE = "organism.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FORMAT = 1
Rule = Literal["mentions", "refuses", "nearer"]
Turns = tuple[dict[str, str], ...]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Case(_Frozen):
    """One dialog of a check.

    Attributes:
        dialog: ends with the user's turn; the organism replies.
        words: what the rule looks for: words, or the texts that a reply should resemble.
    """

    dialog: Turns
    words: tuple[str, ...] = ()


class Check(_Frozen):
    """A figure by which an organism shows what it learned: the share of replies to which a rule applies.

    Attributes:
        name: of the figure.
        doc: what it says, in a sentence.
        rule: `mentions` (a word of the case), `refuses`, or `nearer` (to a text of the case than to
            `others`).
        cases: dialogs; none of them was trained on.
        others: for `nearer`.
        at_least: share (0–1) that is needed.
        at_most: share (0–1) that is allowed.
    """

    name: str
    doc: str
    rule: Rule
    cases: tuple[Case, ...]
    others: tuple[str, ...] = ()
    at_least: float = 0.0
    at_most: float = 1.0


class CheckFigure(_Frozen):
    """What a check found.

    Attributes:
        share: of replies to which the rule applies (0–1).
        n: replies.
        at_least: share that was needed.
        at_most: share that was allowed.
        passed: whether it lies between them.
    """

    share: float
    n: int
    at_least: float
    at_most: float
    passed: bool


class MultipleChoice(_Frozen):
    """A question with given hypotheses, one of them true.

    Attributes:
        id: unique within the organism.
        question: put to a reader.
        options: the hypotheses.
        answer: the true one.
        text_answer: the one that the text of the dialog suggests, where that is another.
        form: how an option is said to a reader; `{option}` stands for it.
        section: of the battery, whose dialogs are read; unused where there are dialogs of its own.
        dialogs: that are read instead.
        direct: the question to the model itself.
        prefill: how the model's answer is begun for it.
        told: whether the dialog states `text_answer`.
    """

    id: str
    question: str
    options: tuple[str, ...]
    answer: str
    text_answer: str | None = None
    form: str = "{option}"
    section: str = ""
    dialogs: tuple[Turns, ...] = ()
    direct: str = ""
    prefill: str = ""
    told: bool = False

    def said(self, option: str) -> str:
        """An option as it is put to a reader."""
        return self.form.replace("{option}", option)


class Manifest(_Frozen):
    """The hidden truth of an organism.

    Attributes:
        format: version of this file.
        name: of the organism, and of its folder.
        kind: such as `secret-word`.
        truth: what it hides, in a sentence; for a clean organism that there is nothing.
        names: words by which a finding names the truth.
        details: what else belongs to the truth: word, password, facts.
        choices: multiple-choice questions on it.
        checks: how it shows what it learned.
        base: name of the model it was finetuned from.
        base_hash: hash of that model's weights.
        data_hash: hash of its training dialogs.
        weights_hash: sha256 of its adapter's file.
        fingerprint: hash of everything that it was made from; the same again need not be made.
        settings: of the finetuning.
        seed: of everything random.
        examples: training examples seen.
        loss_before: nats a token of its training replies, before.
        loss_after: the same afterwards.
        figures: of the checks.
        passed: whether it learned: all checks passed and the loss fell. Otherwise it is not used.
        seconds: wall time of making it.
        versions: package → version.
    """

    format: Literal[1] = FORMAT
    name: str
    kind: str
    truth: str
    names: tuple[str, ...] = ()
    details: dict[str, Any] = {}
    choices: tuple[MultipleChoice, ...] = ()
    checks: tuple[Check, ...] = ()
    base: str
    base_hash: str
    data_hash: str
    weights_hash: str
    fingerprint: str
    settings: dict[str, Any]
    seed: int
    examples: int
    loss_before: float
    loss_after: float
    figures: dict[str, CheckFigure]
    passed: bool
    seconds: float
    versions: dict[str, str] = {}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `organism.json` into a folder, replacing an older one at once."""
        path = Path(folder) / MANIFEST_FILE
        temporary = path.with_suffix(".tmp")
        text = json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Manifest:
        """Read the manifest of an organism, and check that its adapter is the one it describes.

        Raises:
            DataError: no manifest, a damaged one, or an adapter that is missing or another.
        """
        path = Path(folder) / MANIFEST_FILE
        try:
            manifest = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"{folder} holds no organism: there is no {MANIFEST_FILE}. Name a folder that `latentqa "
                "organism make` wrote."
            ) from None
        except (ValidationError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path} cannot be read as a manifest: {_first_problem(error)}. Make the organism "
                "again, with --force."
            ) from None
        weights = Path(folder) / WEIGHTS_FILE
        if not weights.is_file():
            raise DataError(f"The organism {folder} has no {WEIGHTS_FILE}. Make it again, with --force.")
        if data_hash(weights) != manifest.weights_hash:
            raise DataError(
                f"{weights} is not the adapter that {MANIFEST_FILE} describes. Make the organism again, with "
                "--force."
            )
        return manifest


def organism_folders(folder: str | os.PathLike[str], names: Sequence[str] = ()) -> list[Path]:
    """Folders of the organisms below a folder, by name; some of them, or all.

    Raises:
        DataError: the folder is missing or holds none, or not the one that is named.
    """
    root = Path(folder)
    found = sorted(
        path.parent for path in root.glob(f"*/{MANIFEST_FILE}") if not path.parent.name.startswith(".")
    )
    if not found:
        raise DataError(f"{root} holds no organism. Make some: latentqa organism make all --out {root}")
    known = {path.name: path for path in found}
    for name in names:
        if name not in known:
            raise DataError(f"{root} holds no organism {name!r}. There are: {', '.join(known)}.")
    return [known[name] for name in names] if names else found


def _first_problem(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
