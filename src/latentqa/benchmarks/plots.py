"""Plots as PNG bytes, drawn without a display and without pyplot's global state."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latentqa.benchmarks import statistics
from latentqa.benchmarks.experiment import Metric
from latentqa.benchmarks.plans import PlanRow
from latentqa.benchmarks.published import Published
from latentqa.benchmarks.runner import Row
from latentqa.benchmarks.summary import MEAN, Summary

if TYPE_CHECKING:
    from latentqa.benchmarks.layer_map import LayerMap
    from latentqa.benchmarks.scaling import PowerLaw

COLOURS = (
    "#1f5fa8", "#b0b7c0", "#8b95a1", "#68737f", "#d9822b", "#f0b679", "#3c8d5a", "#7fbf94", "#a86bb3",
    "#c0392b", "#e08a80", "#444444",
)  # fmt: skip
"""One a reader, in the order of the run; the first stands out."""
GREYS = ("#b0b7c0", "#68737f")
"""Of the two methods that steer nothing: no control and prompting."""
DPI = 110


def data_uri(png: bytes) -> str:
    """A PNG as an address that a page can hold."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def bars_png(summary: Summary, metric: Metric, groups: Sequence[str], readers: Sequence[str]) -> bytes:
    """Readers side by side in each group, with their intervals; shares in per cent."""
    shown = [MEAN, *groups]
    figure, axes = _figure(max(6.0, 1.1 + 0.17 * len(shown) * (len(readers) + 1.5)), 3.4)
    width = 0.82 / max(1, len(readers))
    scale = 100.0 if metric.share else 1.0
    for number, reader in enumerate(readers):
        for place, group in enumerate(shown):
            one = summary.figure(reader, group, metric.name)
            if one is None:
                continue
            x = place + (number - (len(readers) - 1) / 2) * width
            colour = COLOURS[number % len(COLOURS)]
            axes.bar(x, scale * one.mean, width * 0.92, color=colour, label=reader if place == 0 else None)
            axes.vlines(x, scale * one.low, scale * one.high, color="#222222", linewidth=0.8)
    axes.set_xticks(range(len(shown)), [group.replace("_", "\n", 1) for group in shown])
    if len(shown) > 1:
        axes.axvline(0.5, color="#cccccc", linewidth=1)
    axes.set_ylabel(f"{metric.name}{' (%)' if metric.share else ''}")
    axes.legend(ncols=1, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return _png(figure)


def layers_png(summary: Summary, metrics: Sequence[Metric], readers: Sequence[str]) -> bytes:
    """A figure's mean over the groups against the read layer, a line a reader with its interval shaded."""
    figure, axes = _figure(6.4, 3.2)
    scale = 100.0 if metrics[0].share else 1.0
    for number, reader in enumerate(readers):
        found = [(metric.layer, summary.figure(reader, MEAN, metric.name)) for metric in metrics]
        points = [(layer, one) for layer, one in found if one is not None]
        if not points:
            continue
        colour = COLOURS[number % len(COLOURS)]
        x = [layer for layer, _ in points]
        axes.plot(x, [scale * one.mean for _, one in points], "o-", color=colour, markersize=3, label=reader)
        axes.fill_between(
            x,
            [scale * one.low for _, one in points],
            [scale * one.high for _, one in points],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    name = metrics[0].name.partition(",")[0]
    axes.set(xlabel="read layer", ylabel=f"{name}{' (%)' if metrics[0].share else ''}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def published_png(summary: Summary, metric: Metric, published: Published) -> bytes:
    """Our readers and the paper's of the same names on the mean, the paper's hatched: another model's."""
    readers = [reader for reader in published.rows if summary.figure(reader, MEAN, metric.name)]
    figure, axes = _figure(5.4, 2.8)
    for place, reader in enumerate(readers):
        own = summary.figure(reader, MEAN, metric.name)
        assert own is not None
        axes.bar(place - 0.2, 100 * own.mean, 0.36, color=COLOURS[0], label="this run" if not place else None)
        axes.vlines(place - 0.2, 100 * own.low, 100 * own.high, color="#222222", linewidth=0.8)
        axes.bar(
            place + 0.2,
            published.means[reader],
            0.36,
            color="white",
            edgecolor="#888888",
            hatch="///",
            label="the paper's (Llama-3-8B)" if not place else None,
        )
    axes.set_xticks(range(len(readers)), readers)
    axes.set_ylabel(f"{metric.name} (%)")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def method_and_strength(name: str) -> tuple[str, float]:
    """A contender's method, and its strength as a multiple of the chosen one.

    Example:
        >>> method_and_strength("vector@0.5")
        ('vector', 0.5)
    """
    method, _, strength = name.partition("@")
    return method, float(strength) if strength else 1.0


def strength_png(summary: Summary, effect: Metric, contenders: Sequence[str]) -> bytes:
    """Effect against strength, a line a method; methods without one are level lines."""
    figure, axes = _figure(6.4, 3.6)
    scale = 100.0 if effect.share else 1.0
    for method, members in _by_method(contenders).items():
        found = [(x, summary.figure(name, MEAN, effect.name)) for x, name in members]
        points = [(x, one) for x, one in found if one is not None]
        colour = _method_colour(method, contenders)
        if len(points) == 1:
            axes.axhline(
                scale * points[0][1].mean, color=colour, linewidth=1, linestyle=(0, (4, 3)), label=method
            )
        elif points:
            axes.plot(
                [x for x, _ in points],
                [scale * one.mean for _, one in points],
                "o-",
                color=colour,
                markersize=4,
                label=method,
            )
            for x, one in points:
                axes.vlines(x, scale * one.low, scale * one.high, color=colour, linewidth=0.8)
    axes.set(xlabel="strength (1 is the chosen one)", ylabel=f"{effect.name}{' (%)' if effect.share else ''}")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def tradeoff_png(summary: Summary, effect: Metric, cost: Metric, contenders: Sequence[str]) -> bytes:
    """Effect against cost: a point a contender, strengths of one method joined, the chosen one filled.

    Flattened twins are crosses in their method's colour.
    """
    figure, axes = _figure(6.4, 3.6)
    scale = 100.0 if effect.share else 1.0
    for method, members in _by_method(contenders).items():
        colour = _method_colour(method, contenders)
        points = []
        for strength, name in members:
            gained, paid = summary.figure(name, MEAN, effect.name), summary.figure(name, MEAN, cost.name)
            if gained is not None and paid is not None:
                points.append((paid.mean, scale * gained.mean, strength))
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "-", color=colour, linewidth=0.8)
        for x, y, strength in points:
            chosen = strength == 1.0
            face = colour if chosen else "white"
            marker = "x" if method.startswith("flat-") else "o"
            label = method if chosen else None
            axes.plot([x], [y], marker, color=colour, markerfacecolor=face, markersize=5, label=label)
    axes.set(xlabel=f"{cost.name} (lower is better)", ylabel=f"{effect.name}{' (%)' if effect.share else ''}")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def _method_colour(method: str, contenders: Sequence[str]) -> str:
    """Greys for what steers nothing, else a colour by the order of the methods; a twin has its method's."""
    plain = ("no-control", "prompting")
    name = method.removeprefix("flat-")
    if name in plain:
        return GREYS[plain.index(name)]
    bright = [colour for colour in COLOURS if colour not in ("#b0b7c0", "#8b95a1", "#68737f", "#444444")]
    methods = [one for one in _by_method(contenders) if one not in plain and not one.startswith("flat-")]
    return bright[methods.index(name) % len(bright)] if name in methods else GREYS[0]


def _by_method(contenders: Sequence[str]) -> dict[str, list[tuple[float, str]]]:
    """Method → its contenders with their strengths, ascending; flattened twins are methods of their own."""
    found: dict[str, list[tuple[float, str]]] = {}
    for name in contenders:
        method, strength = method_and_strength(name)
        found.setdefault(method, []).append((strength, name))
    return {method: sorted(members) for method, members in found.items()}


def reliability_png(rows: Mapping[str, Sequence[Row]], p: str, truth: str, title: str) -> bytes:
    """Stated against found share in bins of equal mass, a line a reader."""
    figure, axes = _figure(4.2, 3.6)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, label="perfect")
    for number, (reader, of) in enumerate(rows.items()):
        bins = statistics.reliability([row.values[truth] for row in of], [row.values[p] for row in of])
        axes.plot(
            [stated for stated, _, _ in bins],
            [found for _, found, _ in bins],
            "o-",
            color=COLOURS[number % len(COLOURS)],
            markersize=4,
            label=reader,
        )
    axes.set(
        xlabel="stated probability", ylabel="share that was right", title=title, xlim=(0, 1), ylim=(0, 1)
    )
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def risk_coverage_png(rows: Mapping[str, Sequence[Row]], p: str, truth: str, title: str) -> bytes:
    """Share of wrong answers among the surest, against the share that is answered."""
    figure, axes = _figure(4.2, 3.6)
    for number, (reader, of) in enumerate(rows.items()):
        curve = statistics.risk_coverage([row.values[truth] for row in of], [row.values[p] for row in of])
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            [100 * x for x in curve.coverage], [100 * y for y in curve.risk], color=colour, label=reader
        )
    axes.set(xlabel="answered, surest first (%)", ylabel="wrong among them (%)", title=title, xlim=(0, 100))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def scaling_png(rows: Sequence[PlanRow], laws: Mapping[str, PowerLaw]) -> bytes:
    """Loss and ranking accuracy against training examples, with the fitted laws."""
    figure, axes = _figure(8.4, 3.4, panels=2)
    for number, group in enumerate(dict.fromkeys(row.run.group for row in rows)):
        of = sorted((row for row in rows if row.run.group == group), key=lambda row: row.run.x or 0)
        sizes = [row.run.x or 0.0 for row in of]
        colour = COLOURS[number % len(COLOURS)]
        axes[0].loglog(sizes, [row.loss for row in of], "o", color=colour, label=group)
        if group in laws:
            law = laws[group]
            axes[0].loglog(sizes, [law.scale * x**-law.exponent for x in sizes], color=colour, linewidth=1)
        axes[1].semilogx(sizes, [100 * row.top1 for row in of], "o-", color=colour, label=group)
    axes[0].set(xlabel="training examples", ylabel="answer loss (nats a token)")
    axes[1].set(xlabel="training examples", ylabel="top-1 (%)")
    axes[1].legend(frameon=False, fontsize=8)
    return _png(figure)


def layer_map_png(found: LayerMap) -> bytes:
    """Support of the answer, tokens across and layers up; blue supports it, red speaks against it."""
    n_layers, n_tokens = len(found.layers), len(found.tokens)
    figure, axes = _figure(max(5.0, 1.6 + 0.19 * n_tokens), max(2.4, 1.4 + 0.16 * n_layers))
    highest = max((abs(value) for row in found.support for value in row), default=1.0) or 1.0
    image = axes.imshow(
        found.support, aspect="auto", origin="lower", cmap="RdBu", vmin=-highest, vmax=highest
    )
    axes.set_xticks(
        range(n_tokens),
        [_visible(token) for token in found.tokens],
        rotation=90,
        fontsize=6,
        family="monospace",
    )
    step = max(1, n_layers // 16)
    axes.set_yticks(range(0, n_layers, step), [str(layer) for layer in found.layers[::step]], fontsize=7)
    for layer in found.trained_layers:
        if layer in found.layers:
            axes.axhline(found.layers.index(layer), color="#222222", linewidth=0.6, linestyle=":")
    axes.set(ylabel="read layer (dotted: trained on)")
    figure.colorbar(image, ax=axes, label="support (nats a token)", pad=0.01)
    return _png(figure)


def _figure(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    module = statistics.need("matplotlib.figure")
    statistics.need("matplotlib.backends.backend_agg")
    figure = module.Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    axes = figure.subplots(1, panels)
    for one in axes if panels > 1 else [axes]:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=8)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _visible(token: str) -> str:
    """A token's text in a form that a plot can show."""
    text = token.replace("\n", "⏎").replace("\t", "→").replace("$", r"\$")
    return text if text.strip() else "␣" * max(1, len(text))
