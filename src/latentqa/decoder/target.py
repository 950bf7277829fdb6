"""The target: the model that is read, with the dialogs that it is read on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from latentqa.activations import capture
from latentqa.activations.checks import check_finite
from latentqa.dialogs import Rendered, render, resolve_span
from latentqa.errors import ActivationError, ConfigError, ContextLengthError, SpanError
from latentqa.models import (
    LoadedModel,
    active_adapter,
    active_names,
    context_length,
    describe,
    find_blocks,
    load_model,
    resolve_layer,
    weights_hash,
)
from latentqa.models.head import token_logprobs
from latentqa.types import Activation, Dialog, Span

TOKENS_PER_PASS = 4096


@dataclass(frozen=True)
class Reading:
    """A rendered dialog and the span of it that is read."""

    rendered: Rendered
    span: Span


class Target:
    """A model whose activations are read.

    Args:
        loaded: the model and its tokenizer.
        adapter: name of the target's own adapter on that model, if it is a LoRA finetune.
        read_layers: layers that `read` takes unless told otherwise; half depth by default. `load_decoder`
            sets them to what its decoder reads.

    Attributes:
        completion_starts: during a pass, where its completions begin; see `completing`.

    Example:
        >>> from latentqa.models import load_model
        >>> from latentqa.models.tiny import tiny_model, tiny_tokenizer
        >>> target = Target(load_model(tiny_model(), tokenizer=tiny_tokenizer()))
        >>> target.read([{"role": "user", "content": "Hi"}], span="last:2").vectors.shape
        torch.Size([1, 2, 32])
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        adapter: str | tuple[str, ...] | None = None,
        read_layers: Sequence[int] | None = None,
    ) -> None:
        self.loaded = loaded
        self.adapter = adapter
        self.read_layers = tuple(read_layers or (len(find_blocks(loaded.model)) // 2,))
        self.completion_starts: tuple[int, ...] | None = None

    @property
    def model(self) -> PreTrainedModel:
        """The weights; shared with a decoder on the same base."""
        return self.loaded.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The target's tokenizer."""
        return self.loaded.tokenizer

    @property
    def name(self) -> str:
        """What the target was loaded as."""
        return self.loaded.name

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """The target's own adapters, empty for the bare base; while it is steered, the steerings' too."""
        if isinstance(self.adapter, str):
            return (self.adapter,)
        return self.adapter or ()

    @cached_property
    def weights_hash(self) -> str:
        """Hash of the base weights."""
        return weights_hash(self.model)

    def describe(self) -> str:
        """Name, size and read layers in one line."""
        millions = self.model.num_parameters() / 1e6
        return (
            f"{self.name}: {describe(self.model)}, {millions:.0f}M parameters, "
            f"{len(find_blocks(self.model))} blocks, {self.model.dtype}, read layers "
            f"{', '.join(map(str, self.read_layers))}"
        )

    def reading(self, dialog: Dialog, span: str | Sequence[int] = "stimulus") -> Reading:
        """Render a dialog and find a span in it.

        Raises:
            SpanError: a span that is empty or not there.
            ContextLengthError: a dialog longer than the model's context.
        """
        rendered = render(self.tokenizer, dialog)
        self._check_length(len(rendered.token_ids))
        return Reading(rendered, resolve_span(rendered, span))

    def read(
        self, dialog: Dialog, span: str | Sequence[int] = "stimulus", layers: Sequence[int] | None = None
    ) -> Activation:
        """Activations of one span.

        Args:
            dialog: the messages.
            span: what is read: a name, `last:8`, indices or a quoted text.
            layers: read layers; `self.read_layers` by default.

        Returns:
            vectors `[L, T, D]` in the model's dtype, detached.

        Raises:
            SpanError: a span that is empty or not in the dialog.
            LayerError: a layer that the model does not have.
            ContextLengthError: a dialog longer than the context.
            ActivationError: activations that are not finite.
        """
        return self.read_many([self.reading(dialog, span)], layers)[0]

    @torch.no_grad()
    def read_many(self, readings: Sequence[Reading], layers: Sequence[int] | None = None) -> list[Activation]:
        """Activations of many spans, batched by length.

        A causal model's states do not depend on what comes later: a dialog is run up to the last token that
        is read of it, and dialogs that are alike up to there are run once.
        """
        wanted = tuple(resolve_layer(self.model, layer) for layer in (layers or self.read_layers))
        ends: dict[tuple[int, ...], int] = {}
        for reading in readings:
            whole = reading.rendered.token_ids
            ends[whole] = max(ends.get(whole, 0), _end([reading.span]))
        beginnings: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for number, reading in enumerate(readings):
            end = ends[reading.rendered.token_ids]
            start = min(end + 1, completion_start(reading.rendered))  # what a steering changes may differ
            beginnings.setdefault((reading.rendered.token_ids[:end], start), []).append(number)
        found: dict[int, Activation] = {}
        order = sorted(beginnings, key=lambda beginning: len(beginning[0]))
        for batch in _batches([token_ids for token_ids, _ in order]):
            members, order = order[: len(batch)], order[len(batch) :]
            spans = [[readings[number].span for number in beginnings[one]] for one in members]
            with self.completing([start for _, start in members]):
                parts = read_vectors(self.model, batch, spans, wanted, adapter=self.adapter)
            for one, vectors in zip(members, parts, strict=True):
                for number, part in zip(beginnings[one], vectors, strict=True):
                    found[number] = self._activation(readings[number], part, wanted)
        return [found[number] for number in range(len(readings))]

    def complete(
        self,
        dialogs: Sequence[Dialog],
        *,
        max_new_tokens: int = 64,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Greedy replies to many dialogs: `generate` at temperature 0."""
        return self.generate(dialogs, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress)

    def generate(
        self,
        dialogs: Sequence[Dialog | str],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
        on_reply: Callable[[int, str], None] | None = None,
        **options: Any,
    ) -> list[str]:
        """The target's own replies, batched by length on its KV cache; steered if it is steered.

        Args:
            dialogs: each ends with the user's turn; a plain text in place of a dialog is continued as it
                stands, after the tokenizer's own start token if it has one.
            max_new_tokens: longest reply.
            temperature: 0 is greedy.
            top_p: with a temperature, only the likeliest tokens of this total probability are drawn from.
            seed: of the drawing; the replies depend on it, on `batch_size` and on the other dialogs.
            batch_size: dialogs generated together, padded on the left.
            progress: called with (dialogs done, dialogs in all).
            on_reply: called with (index, reply) as each batch ends.
            options: passed on to the model's own `generate`.

        Raises:
            ActivationError: logits that are not finite.
            ConfigError: a temperature, `top_p` or size that cannot be.
            ContextLengthError: a dialog longer than the context.
        """
        _check_sampling(max_new_tokens, temperature, top_p, batch_size)
        if temperature > 0:
            options = {"do_sample": True, "temperature": temperature, "top_p": top_p, **options}
        prompts = [self._prompt(dialog) for dialog in dialogs]
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        replies = [""] * len(prompts)
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            with _seeded(seed + first, self.model.device):
                made = self._replies([prompts[number] for number in batch], max_new_tokens, **options)
            for number, reply in zip(batch, made, strict=True):
                replies[number] = reply.rstrip() if isinstance(dialogs[number], str) else reply.strip()
                if on_reply is not None:
                    on_reply(number, replies[number])
            if progress is not None:
                progress(first + len(batch), len(order))
        return replies

    def chat(
        self,
        dialog: Dialog,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        **options: Any,
    ) -> str:
        """The target's own reply to a dialog whose last message is the user's; see `generate`."""
        return self.generate(
            [dialog], max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, **options
        )[0]

    @torch.no_grad()
    def logprobs(
        self,
        sequences: Sequence[Sequence[int]],
        starts: Sequence[int] | None = None,
        *,
        completions: bool = False,
    ) -> list[torch.Tensor]:
        """Log-probability of the tokens of given sequences, teacher-forced, batched by length.

        Args:
            sequences: token ids, at least two each.
            starts: first token of each that is scored, 1 or more; 1 by default.
            completions: what is scored are completions of what stands before them; a steering of completion
                tokens alone then leaves the rest as it is. Otherwise it changes every position.

        Returns:
            For each sequence float32 values of its scored tokens, in nats, on the CPU.

        Raises:
            ActivationError: values that are not finite.
        """
        first = [1] * len(sequences) if starts is None else list(starts)
        found: dict[int, torch.Tensor] = {}
        order = sorted(range(len(sequences)), key=lambda number: len(sequences[number]))
        for batch in _batches([tuple(sequences[number]) for number in order]):
            numbers, order = order[: len(batch)], order[len(batch) :]
            begin = [first[number] for number in numbers]
            with self.completing(begin if completions else None), active_adapter(self.model, self.adapter):
                hidden = last_hidden(self.model, batch)
                for row, number in enumerate(numbers):
                    token_ids = torch.tensor(batch[row][begin[row] :], device=hidden.device)
                    states = hidden[row, begin[row] - 1 : len(batch[row]) - 1]
                    found[number] = token_logprobs(self.model, states, token_ids).cpu()
        for values in found.values():
            check_finite(values[:, None], "The target's log-probability")
        return [found[number] for number in range(len(sequences))]

    @contextmanager
    def completing(self, starts: Sequence[int] | None) -> Iterator[None]:
        """Say where completions begin in the model calls of the with-block: a steering may ask.

        Args:
            starts: column of the first completion token of each row of the (padded) batch; None if the
                text is not a dialog, so that every position counts as completion.
        """
        before, self.completion_starts = self.completion_starts, None if starts is None else tuple(starts)
        try:
            yield
        finally:
            self.completion_starts = before

    def _prompt(self, dialog: Dialog | str) -> tuple[int, ...]:
        """Token ids of what is answered or continued."""
        if isinstance(dialog, str):
            token_ids = tuple(self.tokenizer(dialog)["input_ids"])  # pyright: ignore[reportArgumentType]
            if not token_ids:
                raise ConfigError("An empty text cannot be continued. Give at least one word.")
        else:
            token_ids = render(self.tokenizer, dialog).token_ids
        self._check_length(len(token_ids))
        return token_ids

    def _check_length(self, n_tokens: int) -> None:
        limit = context_length(self.model)
        if limit is not None and n_tokens > limit:
            raise ContextLengthError(
                f"The dialog has {n_tokens} tokens, but {describe(self.model)} takes {limit}. "
                "Shorten it, or split it into parts."
            )

    @torch.no_grad()
    def _replies(self, dialogs: Sequence[Sequence[int]], max_new_tokens: int, **options: Any) -> list[str]:
        token_ids, mask = _padded(dialogs, self.model.device, left=True)
        length = token_ids.shape[1]
        checks = LogitsProcessorList([_FiniteLogits(), *options.pop("logits_processor", ())])
        with self.completing([length] * len(dialogs)), active_adapter(self.model, self.adapter):
            out = self.model.generate(  # pyright: ignore[reportCallIssue]
                token_ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
                logits_processor=checks,
                **{"do_sample": False, "temperature": None, "top_p": None, "top_k": None, **options},
            )
        return [str(text) for text in self.tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)]

    def _activation(self, reading: Reading, vectors: torch.Tensor, layers: tuple[int, ...]) -> Activation:
        positions = reading.span.indices
        return Activation(
            vectors=vectors,
            token_ids=tuple(reading.rendered.token_ids[position] for position in positions),
            positions=positions,
            layers=layers,
            span=reading.span.name,
            model_id=self.name,
            model_hash=self.weights_hash,
        )


def load_target(
    name: str | PreTrainedModel,
    *,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    quantization: Literal["4bit", "8bit"] | None = None,
    trust_remote_code: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Target:
    """Load the model that is to be read.

    Args:
        name: a hub id, a folder, a `.gguf` file, `"builtin"`, or a loaded model (give its tokenizer too). A
            folder that holds an adapter alone is loaded with its base.
        revision: of a hub model.
        dtype: `auto` is bf16 where the processor has it, else fp32.
        device: `auto` is the first accelerator, else the CPU.
        quantization: `4bit` or `8bit`.
        trust_remote_code: run code that comes with the model; off unless you ask for it.
        tokenizer: of a loaded model.
    """
    loaded = load_model(
        name,
        revision=revision,
        dtype=dtype,
        device=device,
        quantization=quantization,
        trust_remote_code=trust_remote_code,
        tokenizer=tokenizer,
    )
    return Target(loaded, adapter=active_names(loaded.model) or None)


def read_vectors(
    model: PreTrainedModel,
    dialogs: Sequence[Sequence[int]],
    spans: Sequence[Sequence[Span]],
    layers: Sequence[int],
    *,
    adapter: str | tuple[str, ...] | None = None,
    gradients: bool = False,
    stop: bool = True,
) -> list[list[torch.Tensor]]:
    """One target pass over a batch of dialogs: nothing after the last read layer or token is computed.

    Args:
        model: the target's weights.
        dialogs: token ids of each dialog.
        spans: the spans that are read of each dialog.
        layers: read layers, resolved.
        adapter: the target's adapter, or None for the bare model.
        gradients: keep the graph.
        stop: leave the forward after the last read layer.

    Returns:
        For each dialog and each of its spans, vectors `[L, T, D]`.
    """
    kept = [sorted({index for span in group for index in span.indices}) for group in spans]
    for row, indices in enumerate(kept):
        if not indices:
            raise SpanError(f"Dialog {row} of the batch has no span to read. Name one.")
    read = [token_ids[: _end(group)] for token_ids, group in zip(dialogs, spans, strict=True)]
    token_ids, mask = _padded(read, model.device)
    wanted = torch.zeros_like(mask, dtype=torch.bool)
    for row, indices in enumerate(kept):
        wanted[row, indices] = True
    with (
        active_adapter(model, adapter),
        capture(model, layers, mask=wanted, stop=stop, gradients=gradients) as captured,
    ):
        model(input_ids=token_ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
    parts = captured.vectors.split([len(indices) for indices in kept], dim=1)
    return [_pick(part, indices, group) for part, indices, group in zip(parts, kept, spans, strict=True)]


def last_hidden(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """States `[B, T, D]` after the last norm of a whole pass, padded on the right; no logits are made."""
    token_ids, mask = _padded(sequences, model.device)
    return model.get_decoder()(input_ids=token_ids, attention_mask=mask, use_cache=False).last_hidden_state


def completion_start(rendered: Rendered) -> int:
    """Index of the first token of the completion: the reply's first word, or what comes after the prompt."""
    last = rendered.messages[-1]
    return last.content_start if last.role == "assistant" else len(rendered.token_ids)


class _FiniteLogits(LogitsProcessor):
    """Refuses logits that are not finite, of which generation would make arbitrary tokens."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Pass `[B, V]` on as they are."""
        if torch.isnan(scores).any() or torch.isposinf(scores).any():
            raise ActivationError(
                f"The target's logits are not finite at token {input_ids.shape[1]} of the dialog. If it is "
                "steered, lower the strength; if not, load it in bfloat16 or float32."
            )
        return scores


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global random state from a seed, and as it was before afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _check_sampling(max_new_tokens: int, temperature: float, top_p: float, batch_size: int) -> None:
    if max_new_tokens < 1 or batch_size < 1 or not 0 <= temperature < float("inf") or not 0 < top_p <= 1:
        raise ConfigError(
            f"Got max_new_tokens {max_new_tokens}, batch_size {batch_size}, temperature {temperature}, top_p "
            f"{top_p}. Sizes are 1 or more, a temperature is finite and 0 or more, top_p is in (0, 1]."
        )


def _end(spans: Sequence[Span]) -> int:
    """How many tokens of a dialog are run so that all spans are read."""
    return max(index for span in spans for index in span.indices) + 1


def _pick(vectors: torch.Tensor, kept: list[int], spans: Sequence[Span]) -> list[torch.Tensor]:
    place = {index: number for number, index in enumerate(kept)}
    return [vectors[:, [place[index] for index in span.indices]] for span in spans]


def _padded(
    dialogs: Sequence[Sequence[int]], device: torch.device, *, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, `[B, T]` each."""
    length = max(map(len, dialogs))
    padded = torch.zeros(2, len(dialogs), length, dtype=torch.long)
    for row, token_ids in enumerate(dialogs):
        where = slice(length - len(token_ids), length) if left else slice(0, len(token_ids))
        padded[0, row, where] = torch.tensor(token_ids)
        padded[1, row, where] = 1
    token_ids, mask = padded.to(device)
    return token_ids, mask


def _batches(dialogs: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Cut dialogs, sorted by length, into batches of at most `TOKENS_PER_PASS` padded tokens."""
    batches: list[list[tuple[int, ...]]] = []
    for dialog in dialogs:
        if batches and (len(batches[-1]) + 1) * len(dialog) <= TOKENS_PER_PASS:
            batches[-1].append(dialog)
        else:
            batches.append([dialog])
    return batches
