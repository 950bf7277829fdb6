"""Several LoRA adapters on one base model, switched without side effects.

One set of weights serves as target and decoder: the target is the base with the decoder's adapter switched
off, or with an adapter of its own. PEFT's own switching sets `requires_grad` of whatever is not active to
False, so that a steered target silently gets no gradient; nothing here does. An adapter is never merged into
the base: with a tied `lm_head` that would change the embeddings too.

Example:
    >>> from peft import LoraConfig
    >>> from latentqa.models.tiny import tiny_model
    >>> model = tiny_model()
    >>> add_adapter(model, LoraConfig(r=4, target_modules="all-linear"), "decoder")
    >>> active_names(model)
    ()
    >>> with active_adapter(model, "decoder"):
    ...     active_names(model)
    ('decoder',)
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.functional import cast_adapter_dtype
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from latentqa.errors import AdapterError
from latentqa.models.blocks import describe, unwrap
from latentqa.models.hub import first_line

_FLAGS = "_latentqa_requires_grad"
"""Attribute of an adapted model: `requires_grad` of each base parameter before the first adapter."""

_EXPECTED_WARNINGS = (
    "Already found a `peft_config` attribute",  # several adapters are the purpose
    "Model (with|has) `tie_word_embeddings",  # nothing is merged
    "fan_in_fan_out is set to False but the target module is `Conv1D`",  # PEFT sets it right
    r"The following (rank|alpha)_pattern keys did not match .*gate_up_proj",  # PEFT's own, for fused experts
)


def adapter_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the adapters on the model, in the order in which they were added."""
    return tuple(getattr(unwrap(model), "peft_config", {}))


def active_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the adapters that are switched on; empty for the bare base."""
    for layer in _layers(unwrap(model)):
        return () if layer.disable_adapters else tuple(layer.active_adapters)
    return ()


def set_active(model: nn.Module, name: str | None | tuple[str, ...]) -> None:
    """Switch adapters until the next switch: one, several (their changes add up), or None for the bare base.

    Never changes any `requires_grad`. Prefer `active_adapter`, which switches back.

    Raises:
        AdapterError: if the model has no adapter of that name.
    """
    names = _names(name)
    for wanted in names:
        require_adapter(model, wanted)
    # The attributes behind PEFT's properties: its setters change requires_grad.
    for layer in _layers(unwrap(model)):
        layer._disable_adapters = not names
        layer._active_adapter = list(names)


@contextmanager
def active_adapter(model: nn.Module, name: str | None | tuple[str, ...]) -> Iterator[None]:
    """Within the context these adapters are on: one, several, or None for the bare base, bit for bit.

    Never changes any `requires_grad`; nests; what was on before is on again afterwards, also after an
    exception. A backward pass needs no adapter switched on, except under gradient checkpointing, which
    computes the blocks
    again: see `enable_checkpointing`.

    Raises:
        AdapterError: if the model has no adapter of that name.
    """
    before = active_names(model)
    if before != _names(name):
        set_active(model, name)
    try:
        yield
    finally:
        left = set(adapter_names(model))
        if active_names(model) != before:
            set_active(model, tuple(each for each in before if each in left))


@contextmanager
def scaled_adapter(model: nn.Module, name: str, factor: float) -> Iterator[None]:
    """Within the context a LoRA adapter's update is multiplied; its weights stay as they are.

    Args:
        model: that carries the adapter, switched on or not.
        name: of the adapter.
        factor: 1 is as trained, 0 the bare base.

    Raises:
        AdapterError: if the model has no LoRA adapter of that name.
    """
    layers = [
        module for module in model.modules() if isinstance(module, LoraLayer) and name in module.scaling
    ]
    if not layers:
        raise AdapterError(f"The model has no LoRA adapter {name}; it has {', '.join(adapter_names(model))}.")
    before = [layer.scaling[name] for layer in layers]
    try:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling[name] = scaling * factor
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling[name] = scaling


def add_adapter(model: nn.Module, config: LoraConfig, name: str, *, seed: int = 0) -> None:
    """Put a new LoRA adapter on the model, in place: fp32 weights that change nothing until they are trained.

    It stays switched off, and what was on stays on. As in PEFT, the first adapter freezes the base's
    parameters (`remove_adapter` restores them); the flags of other adapters are left as they are.

    Args:
        model: a transformers model, PEFT-wrapped or not.
        config: of the adapter; it is copied. With `inference_mode=True` the adapter is frozen.
        name: a new name.
        seed: of the adapter's weights; the global random state is left alone.

    Raises:
        AdapterError: if the name is taken, or the config asks for what cannot be switched off bit for bit
            (trained biases, copies of whole modules), or names modules that the model does not have.
    """
    base = unwrap(model)
    _check_name(base, name)
    _check_config(config)
    before = active_names(base)
    flags = {_base_name(each): parameter.requires_grad for each, parameter in base.named_parameters()}
    first = not adapter_names(base)
    if first:
        setattr(base, _FLAGS, flags)
    try:
        _inject(base, copy.deepcopy(config), name, seed)
    except (ValueError, TypeError, RuntimeError) as error:
        set_active(base, before)
        _detach(base, name)
        _restore_flags(base, flags)
        raise AdapterError(f"Adapter {name!r} does not fit {describe(base)}: {first_line(error)}") from error
    if not first:
        _restore_flags(base, flags)
    set_active(base, before)


def remove_adapter(model: nn.Module, name: str) -> None:
    """Take an adapter off; with the last one keys, `requires_grad` flags and logits are as before the first.

    If it was switched on, the others that were on stay on.

    Raises:
        AdapterError: if the model has no adapter of that name.
    """
    base = unwrap(model)
    require_adapter(base, name)
    set_active(base, tuple(each for each in active_names(base) if each != name))
    _detach(base, name)


def adapter_parameters(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameters of one adapter, in order of the model's modules.

    Raises:
        AdapterError: if the model has no adapter of that name.
    """
    require_adapter(model, name)
    found: list[nn.Parameter] = []
    for layer in _layers(unwrap(model)):
        for attribute in layer.adapter_layer_names:
            container = getattr(layer, attribute)
            if name in container:
                item = container[name]
                found.extend([item] if isinstance(item, nn.Parameter) else item.parameters())
    return found


def enable_checkpointing(model: nn.Module) -> None:
    """Gradient checkpointing that computes each block again under the adapters of its *forward* pass.

    Plain checkpointing takes whichever adapter is on during backward: with a target and a decoder on one base
    the gradients are then wrong, or torch refuses them. As ever, it works in training mode only. Switch it
    off with the model's own `activation_checkpointing_disable`.
    """
    base = unwrap(model)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _Reselect(base, active_names(base))

    base.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})


class _Reselect(AbstractContextManager[None]):
    """`active_adapter` that can be entered again: a graph may be walked backward more than once."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        self._model = model
        self._names = names
        self._entered: list[AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        context = active_adapter(self._model, self._names)
        context.__enter__()
        self._entered.append(context)

    def __exit__(self, *exception: object) -> None:
        self._entered.pop().__exit__(*exception)  # type: ignore[arg-type]


def _names(name: str | None | tuple[str, ...]) -> tuple[str, ...]:
    if name is None:
        return ()
    return (name,) if isinstance(name, str) else tuple(name)


def _layers(base: nn.Module) -> Iterator[BaseTunerLayer]:
    return (module for module in base.modules() if isinstance(module, BaseTunerLayer))


def _base_name(parameter: str) -> str:
    """The name that a parameter has without adapters: PEFT puts a `base_layer` into its path."""
    return parameter.replace("base_layer.", "")


def require_adapter(model: nn.Module, name: str) -> None:
    """Raise `AdapterError`, naming what there is, unless the model has the adapter."""
    names = adapter_names(model)
    if name not in names:
        has = ", ".join(names) if names else "none"
        raise AdapterError(
            f"Adapter {name!r} does not exist: {describe(model)} has {has}. Add or load it first."
        )


def _check_name(base: nn.Module, name: str) -> None:
    if name in adapter_names(base):
        raise AdapterError(
            f"Adapter {name!r} exists already on {describe(base)}. Choose another name, or remove it first."
        )
    if not name or "." in name:
        raise AdapterError(f"Adapter name {name!r} cannot be used: it must be non-empty and without a dot.")


def _check_config(config: LoraConfig) -> None:
    if not isinstance(config, LoraConfig):
        kind = getattr(config, "peft_type", type(config).__name__)
        raise AdapterError(
            f"Only LoRA adapters can share one base; this one is {kind}. Merge it into a model first."
        )
    refused = ("modules_to_save", "trainable_token_indices", "layer_replication")
    asked = [key for key in refused if getattr(config, key, None)]
    if config.bias != "none":
        asked.append(f"bias={config.bias!r}")
    if asked:
        raise AdapterError(
            f"The adapter asks for {', '.join(asked)}, which changes the base itself, so that switching it "
            "off would not give back the bare model. Train it without, or merge it into a model of its own "
            "and load that."
        )


def _inject(base: PreTrainedModel, config: LoraConfig, name: str, seed: int) -> None:
    with warnings.catch_warnings(), torch.random.fork_rng():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        torch.manual_seed(seed)
        inject_adapter_in_model(config, base, name)
    cast_adapter_dtype(base, name, autocast_adapter_dtype=True)


def _detach(base: PreTrainedModel, name: str) -> None:
    """Delete the adapter's weights; a layer that has no adapter left becomes the base's own module again."""
    for layer in _layers(base):
        if layer.active_adapters == [name]:
            layer._active_adapter = []
        layer.delete_adapter(name)
    for path, module in list(base.named_modules()):
        # PEFT nests layers where it adapts several parameters of one module: the outermost is replaced.
        if isinstance(module, BaseTunerLayer) and not path.endswith(".base_layer"):
            if not any(layer._get_available_adapters() for layer in _layers(cast(nn.Module, module))):
                parent, _, child = path.rpartition(".")
                setattr(base.get_submodule(parent), child, module.get_base_layer())
    cast(dict[str, LoraConfig], getattr(base, "peft_config", {})).pop(name, None)
    if not adapter_names(base):
        _restore_flags(base, getattr(base, _FLAGS, {}))
        for attribute in ("peft_config", _FLAGS):
            if hasattr(base, attribute):
                delattr(base, attribute)


def _restore_flags(base: nn.Module, flags: dict[str, bool]) -> None:
    for name, parameter in base.named_parameters():
        if _base_name(name) in flags:
            parameter.requires_grad_(flags[_base_name(name)])
