"""A LoRA trained on the same pairs as the decoder, with the visible text in place of activations."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig
from torch import Tensor

from latentqa.activations import WriteSite
from latentqa.baselines.fit import FitItem, ReaderError, Validation
from latentqa.baselines.ranking import check_queries, plain_answer, rank
from latentqa.baselines.search import reciprocal_rank
from latentqa.baselines.text import visible_text
from latentqa.baselines.unfinished import UNFINISHED_FILE, load_unfinished, save_unfinished
from latentqa.decoder import Wiring
from latentqa.decoder.forward import Row
from latentqa.decoder.generate import Sampling, generate
from latentqa.decoder.score import mean_scores
from latentqa.decoder.wiring import Slot
from latentqa.dialogs import decoder_prompt
from latentqa.errors import AdapterError
from latentqa.models import (
    adapter_names,
    adapter_parameters,
    add_adapter,
    load_adapter,
    remove_adapter,
    save_adapter,
)
from latentqa.training import ContrastSettings, LITModule
from latentqa.training.loss import LossSettings, PreparedEntry
from latentqa.types import Answer, Query, Score

if TYPE_CHECKING:
    from latentqa.baselines.registry import ReaderContext

NAME = "text_finetuned"
RANK, ALPHA, LEARNING_RATE, WARMUP, CLIP = 32, 64, 5e-4, 0.03, 1.0  # as in training a decoder
EXAMPLES_PER_STEP = 16
GROUP = 6
SAME_QUESTION = 0.5
REFERENCES = 8
CHECKPOINTS = 4  # how often the validation items are ranked during training
SAVE_EVERY = 20  # steps
VALIDATION = 64  # of them at most
BATCH = 8
FINGERPRINT = "text-finetuned.json"
NOTHING = "(nothing)"


class TextFinetuned:
    """A LoRA of the target's weights, trained on the visible text of the span instead of its activations.

    It is a decoder in all but what it is given: the placeholders of its prompt hold the embeddings of the
    visible text's tokens, and prompt, loss (ranking term included), adapter and number of examples are those
    of training a decoder. Of four points of the run, the one that ranks the validation items best is kept.
    A run that was stopped goes on where it was last saved.
    Support is against eight other training texts (log of the mean probability).

    Source: the text control of Li et al. (2025), finetuned like a decoder.
    Needs: training pairs, and about as long as training a decoder.
    Cannot: use anything that the model computed and the text does not say.
    """

    name = "text-finetuned"

    def __init__(self, context: ReaderContext) -> None:
        self._reads = context.reads
        self._target = context.target
        self._seed = context.seed
        self._answer_tokens = context.answer_tokens
        self._examples = context.finetune_examples
        self._checkpoints = max(1, min(CHECKPOINTS, context.budget))
        self._folder = None if context.folder is None else Path(context.folder)
        self._wiring: Wiring | None = None
        self._references: list[str] = []
        self._memory: dict[tuple[str, str], float] = {}
        self.choices: dict[str, object] = {}

    def fit(self, items: Sequence[FitItem], validation: Validation = ()) -> None:
        """Train the adapter, or load it from the context's folder if the same run left it there.

        Args:
            items: training pairs.
            validation: ranked at four points of the run; without any the last weights are kept.

        Raises:
            ReaderError: no items.
        """
        if not items:
            raise ReaderError(f"{self.name} was given no training pair. Give a training split.")
        self.close()
        texts = [self._text(item.query) for item in items]
        self._references = random.Random(f"{self._seed}:references").sample(
            texts, min(REFERENCES, len(texts))
        )
        fingerprint = self._fingerprint(items, texts, validation)
        if not self._load(fingerprint):
            self._train(items, validation, fingerprint)
            self._save(fingerprint)

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """Greedy answers on the visible text."""
        check_queries(self.name, queries)
        wiring = self._fitted()
        answers: list[Answer] = []
        for first in range(0, len(queries), BATCH):
            batch = queries[first : first + BATCH]
            slots = [self.embedded(self._text(query)) for query in batch]
            rows = [Row(place, query.question) for place, query in enumerate(batch)]
            with wiring.active():
                said = generate(wiring, slots, rows, Sampling(self._answer_tokens))
            for query, one in zip(batch, said, strict=True):
                text = str(wiring.prompt.tokenizer.decode(one.token_ids, skip_special_tokens=True))
                answers.append(plain_answer(self.name, query, text, logprobs=one.logprobs))
        return answers

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates by support."""
        check_queries(self.name, queries, candidates)
        wiring = self._fitted()
        answer = wiring.prompt.answer
        texts = [(number, text) for number, group in enumerate(candidates) for text in group]
        slots = [self.embedded(self._text(query)) for query in queries]
        rows = [Row(number, queries[number].question, answer(text)) for number, text in texts]
        with torch.no_grad(), wiring.active():
            values = mean_scores(wiring, slots, rows)
        priors = self._priors([(queries[number].question, text) for number, text in texts])
        ranked: list[list[Score]] = [[] for _ in queries]
        for (number, text), value, prior in zip(texts, values, priors, strict=True):
            ranked[number].append(Score(text, value, value - prior, len(answer(text))))
        return [rank(group) for group in ranked]

    def close(self) -> None:
        """Take the adapter off the target's weights."""
        if self._wiring is not None and self._wiring.adapter is not None:
            remove_adapter(self._wiring.model, self._wiring.adapter)
        self._wiring = None
        self._memory.clear()

    def _fitted(self) -> Wiring:
        if self._wiring is None:
            raise ReaderError(
                f"{self.name} has not been fitted. Call fit(items) with a training split first."
            )
        return self._wiring

    def _train(self, items: Sequence[FitItem], validation: Validation, fingerprint: str) -> None:
        model, name = self._target.model, self._free_name()
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
        add_adapter(model, config, name, seed=self._seed)
        self._wiring = self._wire(name)
        module = _TextModule(self, self._wiring)
        parameters = adapter_parameters(model, name)
        optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
        n_steps = max(1, math.ceil(self._examples / EXAMPLES_PER_STEP))
        ends = {math.ceil(n_steps * (i + 1) / self._checkpoints) for i in range(self._checkpoints)}
        best: tuple[float, int, list[Tensor]] | None = None
        done = tried = 0
        whose = {"fingerprint": fingerprint}
        if self._folder is not None and (
            found := load_unfinished(self._folder, parameters, optimizer, whose)
        ):
            done, tried = found[0]["step"], found[0]["tried"]
            if found[1]:
                best = found[0]["value"], found[0]["best"], found[1]
        for step, groups in enumerate(self._steps(items, n_steps), start=1):
            if step <= done:
                continue
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * _schedule(step / n_steps)
            self._step(module, groups, parameters, optimizer)
            if step in ends and validation:
                tried += 1
                value = self._judge(validation)
                if best is None or value > best[0]:
                    best = value, step, [parameter.detach().clone() for parameter in parameters]
            if self._folder is not None and step % SAVE_EVERY == 0:
                judged = {} if best is None else {"value": best[0], "best": best[1]}
                about = {**whose, "step": step, "tried": tried, **judged}
                save_unfinished(self._folder, parameters, optimizer, [] if best is None else best[2], about)
        if best is not None:
            with torch.no_grad():
                for parameter, kept in zip(parameters, best[2], strict=True):
                    parameter.copy_(kept)
        self._memory.clear()
        self.choices = {
            "examples": n_steps * EXAMPLES_PER_STEP,
            "steps": n_steps if best is None else best[1],
            "tried": tried,
            "validation": None if best is None else round(best[0], 4),
        }

    def _step(
        self,
        module: LITModule,
        groups: Sequence[Sequence[PreparedEntry]],
        parameters: Sequence[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        model = self._target.model
        count = sum(map(len, groups))
        for group in groups:
            half = model.dtype == torch.bfloat16
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=half):
                loss = module([group])["loss"] / count
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()

    def _judge(self, validation: Validation) -> float:
        self._memory.clear()  # the weights have changed
        return reciprocal_rank(self.score, validation[:VALIDATION])

    def _steps(self, items: Sequence[FitItem], n_steps: int) -> Iterator[list[list[PreparedEntry]]]:
        """Groups of each step; every item is seen once before any is seen again."""
        waiting: list[list[FitItem]] = []
        epoch = 0
        for step in range(n_steps):
            groups: list[list[PreparedEntry]] = []
            while sum(map(len, groups)) < EXAMPLES_PER_STEP:
                if not waiting:
                    waiting = _groups(items, random.Random(f"{self._seed}:{epoch}:groups"))
                    epoch += 1
                chooser = random.Random(f"{self._seed}:{step}:{len(groups)}:question")
                groups.append(self._prepared(waiting.pop(), chooser))
            yield groups

    def _prepared(self, group: Sequence[FitItem], chooser: random.Random) -> list[PreparedEntry]:
        """Entries of a group; in half of the groups one question is put to all answers."""
        answer = self._fitted().prompt.answer
        same = chooser.choice(group).query.question if chooser.random() < SAME_QUESTION else None
        return [
            PreparedEntry(
                self._reads.reading(item.query), ((same or item.query.question, answer(item.answer)),)
            )
            for item in group
        ]

    def _wire(self, adapter: str) -> Wiring:
        prompt = decoder_prompt(self._target.tokenizer)
        return Wiring(self._target.model, prompt, WriteSite("embed"), adapter=adapter)

    def _text(self, query: Query) -> str:
        return visible_text(self._reads.reading(query)) or NOTHING

    def embedded(self, text: str) -> Slot:
        """The embeddings `[N, D]` of a text's tokens, which are written into the placeholders."""
        token_ids = self._target.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            vectors = self._target.model.get_input_embeddings()(
                torch.tensor(token_ids, device=self._target.model.device)
            )
        return Slot(vectors, len(token_ids))

    def _priors(self, asked: Sequence[tuple[str, str]]) -> list[float]:
        """Log of the mean probability of (question, answer) over other texts, in nats a token."""
        wiring = self._fitted()
        fresh = [key for key in dict.fromkeys(asked) if key not in self._memory]
        slots = [self.embedded(text) for text in self._references]
        tokens = [wiring.prompt.answer(text) for _, text in fresh]
        rows = [
            Row(slot, question, answer)
            for (question, _), answer in zip(fresh, tokens, strict=True)
            for slot in range(len(slots))
        ]
        with torch.no_grad(), wiring.active():
            values = torch.tensor(mean_scores(wiring, slots, rows), dtype=torch.float64)
        for key, answer, part in zip(fresh, tokens, values.view(len(fresh), len(slots)), strict=True):
            total = torch.logsumexp(part * len(answer), 0) - math.log(len(slots))
            self._memory[key] = float(total) / len(answer)
        return [self._memory[key] for key in asked]

    def _free_name(self) -> str:
        taken = adapter_names(self._target.model)
        return next(name for n in range(len(taken) + 1) if (name := f"{NAME}_{n}") not in taken)

    def _fingerprint(self, items: Sequence[FitItem], texts: Sequence[str], validation: Validation) -> str:
        pairs = [(text, item.query.question, item.answer) for text, item in zip(texts, items, strict=True)]
        judged = [(item.answer, candidates) for item, candidates in validation[:VALIDATION]]
        settings = (self._target.weights_hash, self._seed, self._examples, self._checkpoints, RANK, GROUP)
        return hashlib.sha256(json.dumps([pairs, judged, settings]).encode()).hexdigest()

    def _load(self, fingerprint: str) -> bool:
        """Whether the folder holds the adapter of the same run, which is then in use."""
        if self._folder is None or not (self._folder / FINGERPRINT).is_file():
            return False
        try:
            kept = json.loads((self._folder / FINGERPRINT).read_text(encoding="utf-8"))
            if kept["fingerprint"] != fingerprint:
                return False
            name = self._free_name()
            load_adapter(self._target.model, self._folder, name)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AdapterError):
            return False  # damaged: it is trained again
        self._wiring = self._wire(name)
        self.choices = kept["choices"]
        return True

    def _save(self, fingerprint: str) -> None:
        if self._folder is None:
            return
        wiring = self._fitted()
        assert wiring.adapter is not None
        save_adapter(wiring.model, wiring.adapter, self._folder)
        unfinished = self._folder / (FINGERPRINT + ".tmp")
        kept = {"fingerprint": fingerprint, "choices": self.choices}
        unfinished.write_text(json.dumps(kept, indent=2), encoding="utf-8")
        unfinished.replace(self._folder / FINGERPRINT)
        (self._folder / UNFINISHED_FILE).unlink(missing_ok=True)


class _TextModule(LITModule):
    """The decoder's loss, with embeddings of the visible text where activations would be."""

    def __init__(self, reader: TextFinetuned, wiring: Wiring) -> None:
        contrast = ContrastSettings.model_validate({"group": GROUP})
        super().__init__(wiring, reader._target, LossSettings(1.0, contrast, ()))
        self._reader = reader

    def _read(self, entries: Sequence[PreparedEntry]) -> list[Slot]:
        return [self._reader.embedded(visible_text(entry.reading) or NOTHING) for entry in entries]


def _schedule(done: float) -> float:
    """Factor on the learning rate: a short warm-up, then a cosine to 0."""
    return min(1.0, done / WARMUP) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _groups(items: Sequence[FitItem], chooser: random.Random) -> list[list[FitItem]]:
    """Groups of items with different answers, of one question where it has items enough."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.query.question] = counts.get(item.query.question, 0) + 1
    open_groups: dict[str, list[list[FitItem]]] = {}
    full: list[list[FitItem]] = []
    for item in chooser.sample(list(items), len(items)):
        pool = item.query.question if counts[item.query.question] >= GROUP else ""
        groups = open_groups.setdefault(pool, [])
        fitting = (group for group in groups if all(item.answer != other.answer for other in group))
        group = next(fitting, None)
        if group is None:
            group = []
            groups.append(group)
        group.append(item)
        if len(group) == GROUP:
            groups.remove(group)
            full.append(group)
    rest = [group for groups in open_groups.values() for group in groups]
    groups = full + rest
    chooser.shuffle(groups)
    return groups
