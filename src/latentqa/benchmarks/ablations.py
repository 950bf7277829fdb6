"""Ablations: one setting of the training changed at a time, against the same base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from latentqa.benchmarks.experiment import ExperimentSettings, nearest_name
from latentqa.benchmarks.plans import PlannedRun

What = Literal["read-layer", "write-site", "injection", "span", "data", "rank", "mapping"]
ALL: tuple[What, ...] = ("read-layer", "write-site", "injection", "span", "data", "rank", "mapping")


class AblationSettings(ExperimentSettings):
    """What `bench run ablations key=value` takes.

    Attributes:
        config: settings of the training (YAML of `latentqa train`); the builtin decoder's without one.
        what: which settings are varied.
        examples: training examples of each run; 0 is as many as the base has.
        depths: read layers, as shares of the target's depth.
        ranks: of the adapter.
    """

    config: Path | None = None
    what: tuple[What, ...] = ALL
    examples: int = Field(2000, ge=0)
    depths: tuple[float, ...] = (0.1, 0.3, 0.5, 0.65, 0.8)
    ranks: tuple[int, ...] = (4, 16, 64)


def ablation_plan(
    settings: AblationSettings, base: Mapping[str, Any], n_blocks: int, *, seed: int = 0
) -> list[PlannedRun]:
    """The base, then one run per change.

    Args:
        settings: what is varied.
        base: settings of the base run, as JSON has them.
        n_blocks: blocks of the target.
        seed: of every run.
    """
    for name in settings.what:
        if name not in ALL:
            raise nearest_name("ablation", name, ALL)
    common = [f"seed={seed}"]
    if settings.examples:
        common.append(f"examples={settings.examples}")
    makers = {
        "read-layer": lambda: _read_layers(settings, base, n_blocks),
        "write-site": lambda: _write_sites(base),
        "injection": lambda: _injections(base),
        "span": lambda: _spans(base),
        "data": lambda: _data(base),
        "rank": lambda: _ranks(settings, base),
        "mapping": lambda: _mapping(base),
    }
    changes = [PlannedRun("base", "base")]
    for name in settings.what:
        changes += makers[name]()
    return [
        PlannedRun(run.name, run.group, (*common, *run.overrides), run.x, run.note)
        for run in {run.name: run for run in changes}.values()
    ]


def _read_layers(settings: AblationSettings, base: Mapping[str, Any], n_blocks: int) -> list[PlannedRun]:
    layers = dict.fromkeys(min(n_blocks - 1, int(share * n_blocks + 0.5)) for share in settings.depths)
    wired = base.get("write_site") == "read"
    return [
        PlannedRun(
            f"read layer {layer}",
            "read layer",
            (f"read_layers=[{layer}]",),
            float(layer),
            "written at the same block" if wired else "",
        )
        for layer in layers
        if list(base.get("read_layers", ())) != [layer]
    ]


def _write_sites(base: Mapping[str, Any]) -> list[PlannedRun]:
    sites = [site for site in ("embed", "block:0", "block:1", "read") if site != base.get("write_site")]
    return [PlannedRun(f"write site {site}", "write site", (f"write_site={site}",)) for site in sites]


def _injections(base: Mapping[str, Any]) -> list[PlannedRun]:
    modes = [mode for mode in ("replace", "add", "norm_add") if mode != base.get("injection", "replace")]
    return [PlannedRun(f"injection {mode}", "injection", (f"injection={mode}",)) for mode in modes]


def _spans(base: Mapping[str, Any]) -> list[PlannedRun]:
    """Masking on is a span without the control; off, the whole dialog is read, the control too."""
    data = [dict(source) for source in base.get("data", ())]
    changes = {"stimulus only": {"stimulus": 1.0}, "control not masked": {"all": 1.0}}
    return [
        PlannedRun(f"span {name}", "span", (_data_override([{**one, "spans": spans} for one in data]),))
        for name, spans in changes.items()
        if data
    ]


def _data(base: Mapping[str, Any]) -> list[PlannedRun]:
    data = [dict(source) for source in base.get("data", ())]
    runs = [
        PlannedRun(
            f"without {_source_name(source)}",
            "data",
            (_data_override([one for n, one in enumerate(data) if n != number]),),
        )
        for number, source in enumerate(data)
        if len(data) > 1
    ]
    if base.get("plain"):
        runs.append(PlannedRun("without ordinary dialogs", "data", ("plain=0",)))
    if any(source.get("reasoning", 1.0) for source in data):
        changed = [{**one, "reasoning": 0.0} for one in data]
        runs.append(PlannedRun("without reasoning pairs", "data", (_data_override(changed),)))
    return runs


def _source_name(source: Mapping[str, Any]) -> str:
    """A source as the table names it: its file, and which pairs of it are taken."""
    kinds = source.get("pair_kinds")
    name = Path(source["path"]).name
    return f"{name} ({', '.join(kinds)})" if kinds else name


def _ranks(settings: AblationSettings, base: Mapping[str, Any]) -> list[PlannedRun]:
    own = base.get("lora", {}).get("rank")
    return [
        PlannedRun(f"rank {rank}", "rank", (f"lora.rank={rank}", f"lora.alpha={2 * rank}"), float(rank))
        for rank in settings.ranks
        if rank != own
    ]


def _mapping(base: Mapping[str, Any]) -> list[PlannedRun]:
    if base.get("mapping") is None:
        return [PlannedRun("with mapping", "mapping", ("mapping={}",))]
    return [PlannedRun("without mapping", "mapping", ("mapping=null",))]


def _data_override(data: Sequence[Mapping[str, Any]]) -> str:
    return f"data={json.dumps([dict(one) for one in data])}"
