"""The prompted target: equal to plain forwards of the whole sequence, with and without patched vectors."""

from __future__ import annotations

import pytest
import torch

from latentqa.activations import WriteSite, capture, inject
from latentqa.baselines.prompted import Prompt, Prompted
from latentqa.dialogs import render
from latentqa.errors import ContextLengthError
from latentqa.models import find_blocks
from tests.baselines.conftest import make_target

SITE = WriteSite("block", 1)
TEXTS = ("Hi", "What should I cook tonight?", "Please answer the question of the user.")
ANSWERS = ("a", "a pirate", "The assistant will adopt the persona of a lighthouse keeper.")


def prompts_of(prompted: Prompted, *, patched: bool = False) -> list[Prompt]:
    """Prompts of different lengths; patched at two tokens each."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for text in TEXTS:
        token_ids = render(prompted.target.tokenizer, [{"role": "user", "content": text}]).token_ids
        vectors = torch.randn(2, 32, generator=generator) if patched else None
        made.append(Prompt(token_ids, (3, 5) if patched else (), vectors))
    return made


@torch.no_grad()
def whole(prompted: Prompted, prompt: Prompt, answer: tuple[int, ...]) -> float:
    """The score by one plain forward of prompt and answer."""
    model = prompted.target.model
    token_ids = torch.tensor([[*prompt.token_ids, *answer]])
    if prompt.vectors is None:
        values = model(token_ids).logits
    else:
        mask = torch.zeros_like(token_ids, dtype=torch.bool)
        mask[0, list(prompt.marked)] = True
        with inject(model, SITE, prompt.vectors, mask=mask):
            values = model(token_ids).logits
    logprobs = values[0, len(prompt.token_ids) - 1 : -1].float().log_softmax(-1)
    return float(logprobs.gather(1, torch.tensor(answer)[:, None]).mean())


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "opt", "granite"])
@pytest.mark.parametrize("patched", [False, True])
def test_scores_equal_those_of_whole_forwards(architecture: str, patched: bool) -> None:
    prompted = Prompted(make_target(architecture))
    prompts = prompts_of(prompted, patched=patched)
    answers = [prompted.answer(text) for text in ANSWERS]
    found = prompted.logprobs(prompts, [answers] * 3, SITE)
    for prompt, values in zip(prompts, found, strict=True):
        expected = [whole(prompted, prompt, answer) for answer in answers]
        assert values == pytest.approx(expected, abs=1e-4)


def test_passes_do_not_change_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    prompted = Prompted(make_target())
    prompts = prompts_of(prompted, patched=True)
    answers = [[prompted.answer(text) for text in ANSWERS[:count]] for count in (1, 3, 2)]
    together = prompted.logprobs(prompts, answers, SITE)
    monkeypatch.setattr("latentqa.baselines.prompted.TOKENS_PER_PASS", 1)
    apart = prompted.logprobs(prompts, answers, SITE)
    for one, other in zip(together, apart, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "opt"])
def test_greedy_answers_equal_those_of_generate(architecture: str) -> None:
    target = make_target(architecture)
    prompted = Prompted(target)
    prompts = prompts_of(prompted)
    for prompt, said in zip(prompts, prompted.generate(prompts, 6), strict=True):
        out = target.model.generate(  # pyright: ignore[reportCallIssue]
            torch.tensor([prompt.token_ids]), max_new_tokens=6, do_sample=False
        )
        assert said.token_ids == tuple(out[0, len(prompt.token_ids) :].tolist())
        [[score]] = prompted.logprobs([prompt], [[said.token_ids]])
        assert sum(said.logprobs) / len(said.logprobs) == pytest.approx(score, abs=1e-4)


def test_patched_answers_do_not_depend_on_the_batch() -> None:
    prompted = Prompted(make_target())
    prompts = prompts_of(prompted, patched=True)
    together = prompted.generate(prompts, 5, SITE)
    assert [said.token_ids for said in together] == [
        prompted.generate([prompt], 5, SITE)[0].token_ids for prompt in prompts
    ]


@torch.no_grad()
def test_writing_what_is_there_has_no_support() -> None:
    prompted = Prompted(make_target())
    [bare, *_] = prompts_of(prompted)
    with capture(prompted.target.model, [1]) as captured:
        prompted.target.model(torch.tensor([bare.token_ids]))
    own = Prompt(bare.token_ids, (3, 5), captured.vectors[0, 0, [3, 5]])
    [values] = prompted.supports([own], [own.bare()], [[prompted.answer(text) for text in ANSWERS]], SITE)
    assert [support for _, support in values] == pytest.approx([0.0] * 3, abs=1e-5)


def test_what_is_given_nothing_but_text_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prompted = Prompted(make_target())
    prompts = prompts_of(prompted)
    first = prompted.generate([*prompts, prompts[0]], 3)
    assert first[-1] == first[0]
    answers = [[prompted.answer("a")]] * 3
    values = prompted.supports(prompts, prompts[:1] * 3, answers)
    monkeypatch.setattr(prompted, "_prefill", None)  # no pass is made any more
    assert prompted.generate(prompts, 3) == first[:3]
    assert prompted.supports(prompts, prompts[:1] * 3, answers) == values


def test_the_gain_of_a_generated_answer_is_its_support() -> None:
    prompted = Prompted(make_target())
    prompts = prompts_of(prompted, patched=True)
    bare = [prompt.bare() for prompt in prompts]
    said = prompted.generate(prompts, 4, SITE)
    expected = prompted.supports(prompts, bare, [[one.token_ids] for one in said], SITE)
    assert prompted.gains(said, bare) == pytest.approx([value[0][1] for value in expected], abs=1e-4)


def test_no_hook_survives_an_error() -> None:
    prompted = Prompted(make_target())
    prompt = Prompt(prompts_of(prompted)[0].token_ids, (3,), torch.zeros(2, 32))
    with pytest.raises(Exception, match="vectors"):
        prompted.logprobs([prompt], [[prompted.answer("a")]], SITE)
    assert not any(block._forward_hooks for block in find_blocks(prompted.target.model))


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    prompted = Prompted(make_target())
    with pytest.raises(ContextLengthError, match="512"):
        prompted.generate([Prompt((5,) * 600)], 3)
