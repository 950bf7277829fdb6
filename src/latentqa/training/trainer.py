"""`LITTrainer`: transformers' Trainer around the LIT loss, with atomic checkpoints and exact resumption."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from latentqa.errors import TrainingError
from latentqa.training.loss import LITModule, Losses, PreparedEntry
from latentqa.training.plan import Entry, Pass
from latentqa.training.sharding import fill

WEIGHTS_FILE = "trained.safetensors"
LOG_FILE = "log.jsonl"
KEPT = 2  # checkpoints
TERMS = ("answer", "foreign", "ranking", "gap")
STAGING = ".saving"


class PassDataset(Dataset):
    """The passes of a plan, prepared as they are asked for.

    Args:
        plan: all passes of the run, in order.
        prepare: renders an entry's dialog and encodes its answers.
    """

    def __init__(self, plan: Sequence[Pass], prepare: Callable[[Entry], PreparedEntry]) -> None:
        self._plan = plan
        self._prepare = prepare

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> list[list[PreparedEntry]]:
        """Groups of one pass."""
        return [[self._prepare(entry) for entry in group] for group in self._plan[index].groups]


class LITTrainer(Trainer):
    """Trains the decoder's parameters on a plan of passes.

    The loss is a sum over examples divided by the number of examples of the whole step, over all passes and
    processes, so that neither accumulation nor the number of processes changes it.

    Args:
        module: target pass, decoder pass and loss.
        args: transformers' settings; see `training.run.trainer_arguments`.
        dataset: the passes.
        evaluate_decoder: held-out figures, called as often as `args` says.
        callbacks: more of them.
    """

    model: LITModule

    def __init__(
        self,
        module: LITModule,
        args: TrainingArguments,
        dataset: PassDataset,
        *,
        evaluate_decoder: Callable[[], dict[str, float]] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=module,
            args=args,
            train_dataset=dataset,
            eval_dataset=dataset,  # only because Trainer wants one: `evaluate` ranks held-out labels instead
            data_collator=_only,
            callbacks=list(callbacks),
        )
        self.remove_callback(PrinterCallback)  # it prints to stdout, which is the command's result
        self._evaluate_decoder = evaluate_decoder
        self._terms: dict[str, float] = {}
        self.loss_is_scaled_for_ga = True

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The pass's share of the step's mean loss."""
        losses: Losses = model(inputs["groups"])
        total = losses["count"] if num_items_in_batch is None else num_items_in_batch
        for name in (*TERMS, "count"):
            self._terms[name] = self._terms.get(name, 0.0) + float(losses[name].detach())
        loss = losses["loss"] / total * self.accelerator.num_processes
        return (loss, losses) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The passes of one step, and the number of examples in them over all processes."""
        batches = []
        for _ in range(num_batches):
            try:
                batches.append(next(epoch_iterator))
            except StopIteration:
                break
        count = torch.tensor(sum(len(group) for batch in batches for group in batch["groups"]), device=device)
        if self.accelerator.num_processes > 1:
            count = self.accelerator.gather(count).sum()  # pyright: ignore[reportAttributeAccessIssue]
        return batches, count

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Held-out figures of the decoder as it is now."""
        figures = {} if self._evaluate_decoder is None else self._evaluate_decoder()
        metrics = {f"eval_{name}": value for name, value in figures.items()}
        best = self.args.metric_for_best_model
        if best is not None and best not in figures:
            raise TrainingError(
                f"Early stopping goes by {best}, but no held-out label could be ranked (found: "
                f"{', '.join(figures) or 'nothing'}). Hold more labels out, or set patience: 0."
            )
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means of the loss terms since the last log."""
        if "loss" in logs and self._terms.get("count"):
            sums = torch.tensor([self._terms[name] for name in (*TERMS, "count")], device=self.args.device)
            *terms, count = self.accelerator.reduce(sums).tolist()  # pyright: ignore[reportAttributeAccessIssue]
            logs = {**logs, **{name: term / count for name, term in zip(TERMS, terms, strict=True)}}
            self._terms = {}
        super().log(logs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        gathered = state_dict or {}  # under FSDP, where a process has but its part of each parameter
        own = trained_parameters(self.model)
        trained = {name: gathered.get(name, p.detach()).contiguous() for name, p in own.items()}
        save_file(trained, folder / WEIGHTS_FILE)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, WeightAverage):
                callback.save(folder)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        weights = load_file(Path(resume_from_checkpoint) / WEIGHTS_FILE)
        own = trained_parameters(self.model)
        if set(own) != set(weights):
            raise TrainingError(
                f"Checkpoint {resume_from_checkpoint} holds {len(weights)} tensors, the run trains "
                f"{len(own)} others. Give the settings that it was started with, or another output folder."
            )
        fill(own, weights)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint beside its place and move it there whole."""
        output = Path(str(self.args.output_dir))
        name = f"checkpoint-{self.state.global_step}"
        self.args.output_dir = str(output / STAGING)
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # each process writes the state of its random numbers
            if self.args.should_save:
                _move(output / STAGING / name, output / name)
                shutil.rmtree(output / STAGING)
                for old in checkpoints(output)[:-KEPT]:
                    shutil.rmtree(old)
        except (OSError, SafetensorError, RuntimeError) as error:
            shutil.rmtree(output / STAGING, ignore_errors=True)
            if isinstance(error, RuntimeError) and not _is_torch_save(error):
                raise
            kept = checkpoints(output)
            way_out = f"The last whole one is {kept[-1].name}; free" if kept else "Free"
            raise TrainingError(
                f"{name} could not be written to {output} ({error}). {way_out} some space and start again."
            ) from error
        finally:
            self.args.output_dir = str(output)


class JSONLLog(TrainerCallback):
    """Appends what is logged to `log.jsonl`, with the step and the seconds; tells progress.

    Args:
        path: of the log.
        n_examples: of the whole run.
        progress: called with (examples done, examples in all).
    """

    def __init__(
        self, path: Path, n_examples: int, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self._path = path
        self._n_examples = n_examples
        self._progress = progress
        self._started = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **kwargs: Any,
    ) -> None:
        """Write one line."""
        if state.is_world_process_zero and logs:
            row = {"step": state.global_step, "seconds": round(time.monotonic() - self._started, 1), **logs}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the progress bar."""
        if self._progress is not None and state.is_world_process_zero:
            done = self._n_examples * state.global_step // max(1, state.max_steps)
            self._progress(done, self._n_examples)


class WeightAverage(TrainerCallback):
    """Exponential moving average of the trained parameters, taken over at the end of training.

    Args:
        module: whose parameters are averaged.
        decay: of the average; early steps use a smaller one, (1 + step) / (10 + step).
    """

    FILE = "average.safetensors"

    def __init__(self, module: LITModule, decay: float) -> None:
        self._parameters = trained_parameters(module)
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._decay = decay

    @torch.no_grad()
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take in the step."""
        decay = min(self._decay, (1 + state.global_step) / (10 + state.global_step))
        for name, parameter in self._parameters.items():
            self._average[name].lerp_(parameter.detach(), 1 - decay)

    def save(self, folder: Path) -> None:
        """Keep the average with a checkpoint, while that is written: both are there or neither."""
        save_file(self._average, folder / self.FILE)

    def resume(self, checkpoint: Path) -> None:
        """Take the average of a checkpoint."""
        saved = load_file(checkpoint / self.FILE)
        self._average = {name: saved[name].to(average.device) for name, average in self._average.items()}

    def take_over(self) -> None:
        """Put the average in place of the parameters."""
        fill(self._parameters, self._average)


def trained_parameters(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """What a run changes, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def checkpoints(output: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    found = [path for path in output.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _move(source: Path, place: Path) -> None:
    if place.exists():
        shutil.rmtree(place)
    os.replace(source, place)


def _is_torch_save(error: RuntimeError) -> bool:
    """Whether torch's own file writer failed, which says so with a RuntimeError."""
    return any(sign in str(error) for sign in ("PytorchStreamWriter", "inline_container", "write"))


def _only(batch: list[Any]) -> dict[str, Any]:
    (groups,) = batch
    return {"groups": groups}
