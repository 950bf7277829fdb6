"""What makes a generated answer `supported`: its percentile among answers on ordinary dialogs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from latentqa.data import STOCK_PERSONA_QUESTIONS, calibration_dialogs
from latentqa.decoder.card import Calibration
from latentqa.decoder.decoder import Decoder
from latentqa.decoder.references import some_vectors
from latentqa.errors import ConfigError
from latentqa.types import Dialog

THRESHOLD = 95.0
JUDGED_BY = "ordinary"
N_ORDINARY = 2
TYPICAL = 0.99  # quantile of ordinary dialogs' foreign energy that still counts as the target's own
MARGIN = 1.1


def calibrate(
    decoder: Decoder,
    n_dialogs: int = 200,
    *,
    dialogs: Sequence[Dialog] | None = None,
    questions: Sequence[str] = STOCK_PERSONA_QUESTIONS,
    threshold: float = THRESHOLD,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Give a decoder's card what verdicts are judged by, from answers on ordinary dialogs.

    A generated answer was picked to maximise the first term of its support, so its raw support is biased
    upwards (0.22 nats where there is nothing to find, in trials); its place among answers on ordinary dialogs
    is not. The support that is judged compares with a few ordinary dialogs, on which "nothing special" is the
    likely answer, so that what is said of every ordinary dialog has none.

    Args:
        decoder: with its target; its card and references are replaced.
        n_dialogs: how many dialogs, each asked one of the questions in turn.
        dialogs: ordinary dialogs that the decoder was not trained on; by default the package's own.
        questions: that are asked.
        threshold: percentile from which an answer counts as supported.
        seed: of the choice of dialogs.
        progress: called with (answers done, answers in all).
    """
    if decoder.target is None:
        raise ConfigError("Calibration needs a target to read. Pass load_decoder(…, target=load_target(…)).")
    chosen = (calibration_dialogs(seed) if dialogs is None else dialogs)[:n_dialogs]
    readings = [decoder.target.reading(dialog, decoder.card.span) for dialog in chosen]
    activations = decoder.target.read_many(readings, decoder.card.default_layers)
    ordinary = {decoder.card.span: some_vectors(activations, N_ORDINARY, seed=seed)}
    decoder.references = replace(decoder.references, ordinary=ordinary)
    pairs = [(activation, questions[i % len(questions)]) for i, activation in enumerate(activations)]
    answers = decoder.ask_many(
        pairs,
        batch_size=32,
        reference=JUDGED_BY,
        on_answer=None if progress is None else lambda i, _: progress(i + 1, len(pairs)),
    )
    foreign = sorted(
        value for a in activations if (value := decoder.references.foreign_energy(a)) is not None
    )
    calibration = Calibration(
        supports=tuple(sorted(round(answer.support, 4) for answer in answers if answer.support is not None)),
        reference=JUDGED_BY,
        threshold=threshold,
        typicality=MARGIN * foreign[int(TYPICAL * (len(foreign) - 1))] if foreign else 1.0,
        questions=tuple(questions),
    )
    decoder.card = decoder.card.model_copy(update={"calibration": calibration})
