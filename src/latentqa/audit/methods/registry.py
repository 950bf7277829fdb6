"""All methods by name, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latentqa.audit.methods.asked import AskDirectly, Prefilled
from latentqa.audit.methods.decoded import ReadBy
from latentqa.audit.methods.lens import Lens
from latentqa.audit.methods.method import Method, Peers
from latentqa.audit.methods.probe import Probe
from latentqa.audit.methods.text import TextAlone
from latentqa.benchmarks.experiment import nearest_name


def methods() -> dict[str, Callable[[Peers], Method]]:
    """All methods by name, and how each is made."""
    against, difference = "lit-vs-base", "lit-difference"
    return {
        "lit": lambda peers: ReadBy("lit", "The decoder reads the model alone.", "model"),
        against: lambda peers: ReadBy(
            against,
            "The decoder reads the model and its base side by side; what it says of both does not count.",
            "model",
            "base",
            "base",
        ),
        difference: lambda peers: ReadBy(
            difference,
            "The decoder reads the difference of the model's activations and its base's, norm-matched.",
            "difference",
            None,
            "nothing",
        ),
        AskDirectly.name: lambda peers: AskDirectly(),
        Prefilled.name: lambda peers: Prefilled(),
        TextAlone.name: TextAlone,
        Lens.name: Lens,
        Probe.name: Probe,
    }


METHODS: tuple[str, ...] = tuple(methods())
"""Names of all methods, the decoder's first."""
DECODED = METHODS[:3]
"""Those by which the decoder reads."""


def known_methods(names: Sequence[str]) -> list[str]:
    """The same names, each once.

    Raises:
        ConfigError: there is no such method; the nearest is suggested.
    """
    for name in names:
        if name not in METHODS:
            raise nearest_name("audit method", name, METHODS)
    return list(dict.fromkeys(names))


def make_methods(names: Sequence[str], peers: Peers) -> list[Method]:
    """Methods by name.

    Raises:
        ConfigError: there is no such method.
    """
    return [methods()[name](peers) for name in known_methods(names)]
