"""Change the target through the decoder's loss: weights or a vector, applied and undone at run time.

```python
steering = make_vector(target, decoder, pairs, load_stimuli())
with steered(target, steering, strength=0.8):
    print(target.chat(dialog))
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentqa.steering.apply import steered
    from latentqa.steering.card import SteeringCard
    from latentqa.steering.closed_form import make_closed_form
    from latentqa.steering.control import PairsReport, pairs_from_control, pairs_from_rules
    from latentqa.steering.effect import Effect, control_ratio, measure_effect, mention_rate, mentions
    from latentqa.steering.fluency import Perplexity, perplexity
    from latentqa.steering.geometry import Geometry, measure_geometry
    from latentqa.steering.lora import steering_lora
    from latentqa.steering.neutral import NeutralReplies
    from latentqa.steering.objective import decoder_loss
    from latentqa.steering.pairs import Pair, read_pairs, write_pairs
    from latentqa.steering.repeats import repetition
    from latentqa.steering.settings import ClosedFormSettings, VectorSettings, WeightsSettings
    from latentqa.steering.steering import Steering
    from latentqa.steering.stimuli import load_stimuli, neutral_prompts
    from latentqa.steering.sweeping import SweepReport, SweepRow, sweep
    from latentqa.steering.vector import make_vector
    from latentqa.steering.weights import make_weights

_HOMES = {
    "ClosedFormSettings": "settings",
    "Effect": "effect",
    "Geometry": "geometry",
    "NeutralReplies": "neutral",
    "Pair": "pairs",
    "PairsReport": "control",
    "Perplexity": "fluency",
    "Steering": "steering",
    "SteeringCard": "card",
    "SweepReport": "sweeping",
    "SweepRow": "sweeping",
    "VectorSettings": "settings",
    "WeightsSettings": "settings",
    "control_ratio": "effect",
    "decoder_loss": "objective",
    "load_stimuli": "stimuli",
    "make_closed_form": "closed_form",
    "make_vector": "vector",
    "make_weights": "weights",
    "measure_effect": "effect",
    "measure_geometry": "geometry",
    "mention_rate": "effect",
    "mentions": "effect",
    "neutral_prompts": "stimuli",
    "pairs_from_control": "control",
    "pairs_from_rules": "control",
    "perplexity": "fluency",
    "read_pairs": "pairs",
    "repetition": "repeats",
    "steered": "apply",
    "steering_lora": "lora",
    "sweep": "sweeping",
    "write_pairs": "pairs",
}

__all__ = [
    "ClosedFormSettings",
    "Effect",
    "Geometry",
    "NeutralReplies",
    "Pair",
    "PairsReport",
    "Perplexity",
    "Steering",
    "SteeringCard",
    "SweepReport",
    "SweepRow",
    "VectorSettings",
    "WeightsSettings",
    "control_ratio",
    "decoder_loss",
    "load_stimuli",
    "make_closed_form",
    "make_vector",
    "make_weights",
    "measure_effect",
    "measure_geometry",
    "mention_rate",
    "mentions",
    "neutral_prompts",
    "pairs_from_control",
    "pairs_from_rules",
    "perplexity",
    "read_pairs",
    "repetition",
    "steered",
    "steering_lora",
    "sweep",
    "write_pairs",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that reading pairs or prompts loads no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'latentqa.steering' has no attribute {name!r}")
    return getattr(import_module(f"latentqa.steering.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
