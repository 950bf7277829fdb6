"""Read activations while a model runs, write them back, keep them in files: plain PyTorch hooks on blocks."""

from latentqa.activations.calls import CallPosition, call_position, detached_inputs
from latentqa.activations.capture import Captured, capture
from latentqa.activations.files import load_activations, save_activations
from latentqa.activations.inject import inject
from latentqa.activations.site import WriteSite

__all__ = [
    "CallPosition",
    "Captured",
    "WriteSite",
    "call_position",
    "capture",
    "detached_inputs",
    "inject",
    "load_activations",
    "save_activations",
]
