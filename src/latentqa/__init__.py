"""Ask a language model's activations questions in plain language, and change the model with a sentence.

```python
import latentqa as lq

target = lq.load_target("builtin")
decoder = lq.load_decoder("builtin", target=target)
activation = target.read([{"role": "user", "content": "What should I cook tonight?"}], span="stimulus")
print(decoder.ask(activation, "What type of persona will the assistant adopt?").text)
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentqa.activations import capture, inject, load_activations, save_activations
    from latentqa.decoder import Decoder, Target, evaluate, load_decoder, load_target
    from latentqa.dialogs import render
    from latentqa.errors import LatentQAError
    from latentqa.reader import FakeReader, Reader
    from latentqa.steering import Steering, steered
    from latentqa.training import TrainConfig, train
    from latentqa.types import Activation, Answer, Query, Score, Span

_HOMES = {
    "Activation": "types",
    "Answer": "types",
    "Decoder": "decoder",
    "FakeReader": "reader",
    "LatentQAError": "errors",
    "Query": "types",
    "Reader": "reader",
    "Score": "types",
    "Span": "types",
    "Steering": "steering",
    "Target": "decoder",
    "TrainConfig": "training",
    "capture": "activations",
    "evaluate": "decoder",
    "inject": "activations",
    "load_activations": "activations",
    "load_decoder": "decoder",
    "load_target": "decoder",
    "render": "dialogs",
    "save_activations": "activations",
    "steered": "steering",
    "train": "training",
}

__all__ = [
    "Activation",
    "Answer",
    "Decoder",
    "FakeReader",
    "LatentQAError",
    "Query",
    "Reader",
    "Score",
    "Span",
    "Steering",
    "Target",
    "TrainConfig",
    "capture",
    "evaluate",
    "inject",
    "load_activations",
    "load_decoder",
    "load_target",
    "render",
    "save_activations",
    "steered",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import latentqa` loads no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'latentqa' has no attribute {name!r}")
    return getattr(import_module(f"latentqa.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
