"""The target's own replies: batched, cached, seeded; and the log-probabilities of given texts."""

from __future__ import annotations

import pytest
import torch

from latentqa.decoder import Target
from latentqa.errors import ConfigError, ContextLengthError
from latentqa.models import load_model, tiny_model, tiny_tokenizer

TEXTS = ["Hi", "What should I cook tonight with these vegetables?", "Where is the harbour?", "Who speaks?"]
DIALOGS = [[{"role": "user", "content": text}] for text in TEXTS]


def make(architecture: str = "llama", template: str | None = "chatml") -> Target:
    return Target(load_model(tiny_model(architecture), tokenizer=tiny_tokenizer(template)))


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "opt", "qwen3"])
def test_a_batch_says_what_single_dialogs_say_in_the_order_given(architecture: str) -> None:
    target = make(architecture)
    together = target.generate(DIALOGS, max_new_tokens=6)
    assert together == [target.chat(dialog, max_new_tokens=6) for dialog in DIALOGS]
    assert together == target.generate(DIALOGS, max_new_tokens=6, batch_size=3)
    assert together == target.generate(DIALOGS, max_new_tokens=6, use_cache=False)
    assert together == target.complete(DIALOGS, max_new_tokens=6)


def test_sampling_is_fixed_by_its_seed_and_leaves_the_global_state_alone() -> None:
    target = make()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    drawn = [target.generate(DIALOGS, max_new_tokens=8, temperature=1.0, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.rand(2), expected)


def test_replies_are_handed_on_as_they_come() -> None:
    came: dict[int, str] = {}
    done: list[tuple[int, int]] = []
    replies = make().generate(
        DIALOGS, max_new_tokens=4, batch_size=2, on_reply=came.__setitem__, progress=lambda *d: done.append(d)
    )
    assert [came[number] for number in range(4)] == replies and done == [(2, 4), (4, 4)]


def test_a_plain_text_is_continued_as_it_stands() -> None:
    target = make()
    (reply,) = target.generate(["The assistant will"], max_new_tokens=5)
    token_ids = target.tokenizer("The assistant will", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = target.model.generate(token_ids, max_new_tokens=5, do_sample=False, pad_token_id=0)
    expected = target.tokenizer.decode(out[0, token_ids.shape[1] :], skip_special_tokens=True)
    assert reply == str(expected).rstrip()
    assert target.generate([TEXTS[1], DIALOGS[1]], max_new_tokens=5)[1] == target.chat(
        DIALOGS[1], max_new_tokens=5
    )


@pytest.mark.parametrize(
    "options", [{"max_new_tokens": 0}, {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}]
)
def test_settings_that_cannot_be(options: dict) -> None:
    with pytest.raises(ConfigError, match="Sizes are 1 or more"):
        make().generate(DIALOGS, **options)


def test_dialogs_that_cannot_be_replied_to() -> None:
    target = make()
    with pytest.raises(ContextLengthError, match="takes 512"):
        target.generate([[{"role": "user", "content": "harbour " * 600}]])
    with pytest.raises(ConfigError, match="An empty text cannot be continued"):
        target.generate([""])


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "granite"])
def test_logprobs_are_those_of_the_models_own_logits(architecture: str) -> None:
    target = make(architecture)
    sequences = [[5, 6, 7, 8, 9, 10], [11, 12], [13, 14, 15, 16]]
    starts = [3, 1, 2]
    found = target.logprobs(sequences, starts)
    for values, token_ids, start in zip(found, sequences, starts, strict=True):
        with torch.no_grad():
            logits = target.model(torch.tensor([token_ids])).logits[0].float()
        expected = torch.log_softmax(logits, dim=-1)[start - 1 : -1]
        expected = expected.gather(1, torch.tensor(token_ids[start:])[:, None])[:, 0]
        torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-4)


def test_completion_starts_are_known_during_a_pass_and_not_after() -> None:
    target, seen = make(), []
    hook = target.model.model.layers[0].register_forward_hook(
        lambda *_: seen.append(target.completion_starts)
    )
    target.read(DIALOGS[0])
    target.read([*DIALOGS[0], {"role": "assistant", "content": "Yes."}], "completion")
    target.chat(DIALOGS[0], max_new_tokens=1)
    target.logprobs([[5, 6, 7]], [2])
    target.logprobs([[5, 6, 7]], [2], completions=True)
    hook.remove()
    length = len(target.reading(DIALOGS[0], "all").rendered.token_ids)
    assert seen == [(length,), (length,), (length,), None, (2,)]
    assert target.completion_starts is None
