"""Treatments: what goes before a dialog and a text, exact undo, and what a folder keeps of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentqa.baselines.steering.likelihood import sequence_logprobs
from latentqa.baselines.steering.treatment import FILE, Treated, Treatment, start_tokens, tokens_of
from latentqa.decoder import Target
from latentqa.errors import DataError
from tests.baselines.steering.conftest import logits, unit_vector

DIALOG = [{"role": "user", "content": "Where is the harbour?"}]


def test_a_prompt_goes_before_the_dialogs_own_system_message(target: Target) -> None:
    treated = Treated(target, "Talk about soup.")
    assert treated.dialog(DIALOG)[0] == {"role": "system", "content": "Talk about soup."}
    both = treated.dialog([{"role": "system", "content": "Be short."}, *DIALOG])
    assert both[0]["content"] == "Talk about soup.\n\nBe short." and len(both) == 2
    assert Treated(target).dialog(DIALOG) == DIALOG


def test_a_prompt_before_a_text_is_read_and_not_scored(target: Target) -> None:
    plain, prompted = (
        Treated(target).text("A good answer."),
        Treated(target, "Be bad.").text("A good answer."),
    )
    assert plain.scored == prompted.scored == tokens_of(target.tokenizer, "A good answer.")
    assert plain.token_ids[0] == prompted.token_ids[0] == start_tokens(target.tokenizer)[0]
    assert target.tokenizer.convert_ids_to_tokens([plain.token_ids[0]]) == ["<|endoftext|>"]
    one, other = sequence_logprobs(target, [plain, prompted])
    assert len(one) == len(other) and not torch.allclose(one, other)


def test_a_window_has_no_start_token_and_leaves_out_its_first(target: Target) -> None:
    assert Treated(target).window((5, 6, 7)).scored == (6, 7)
    prompted = Treated(target, "Be bad.").window((5, 6, 7))
    assert prompted.scored == (6, 7) and len(prompted.token_ids) > 3


@pytest.mark.parametrize("fails", [False, True])
def test_a_treatment_is_undone_bit_for_bit(target: Target, fails: bool) -> None:
    before = logits(target)
    treatment = Treatment("vector", unit_vector(target), strength=2.0)
    try:
        with treatment.on(target, 0.5) as treated:
            assert not torch.equal(logits(treated.target), before)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert torch.equal(logits(target), before)


def test_the_factor_multiplies_the_chosen_strength(target: Target) -> None:
    steering = unit_vector(target)
    with Treatment("vector", steering, strength=2.0).on(target, 0.5) as treated:
        half = logits(treated.target)
    with Treatment("vector", steering).on(target) as treated:
        assert torch.equal(half, logits(treated.target))


def test_a_folder_keeps_it(target: Target, tmp_path: Path) -> None:
    made = Treatment("vector", unit_vector(target), strength=1.5, seconds=3.0).chosen(layer=2, tried=4)
    made.save(tmp_path)
    found = Treatment.load(tmp_path)
    assert found is not None and found.steering is not None and made.steering is not None
    assert (found.strength, found.seconds, dict(found.choices)) == (1.5, 3.0, {"layer": 2, "tried": 4})
    assert torch.equal(found.steering.vectors, made.steering.vectors)  # pyright: ignore
    Treatment("prompting", prompt="Talk about soup.").save(tmp_path / "other")
    again = Treatment.load(tmp_path / "other")
    assert again is not None and again.prompt == "Talk about soup." and again.steering is None


def test_what_is_not_whole_is_not_there_and_damage_is_said(target: Target, tmp_path: Path) -> None:
    assert Treatment.load(tmp_path) is None
    Treatment("vector", unit_vector(target)).save(tmp_path)
    (tmp_path / FILE).unlink()  # what comes last, as if the process had died before it
    assert Treatment.load(tmp_path) is None
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(DataError, match="Delete its folder"):
        Treatment.load(tmp_path)
