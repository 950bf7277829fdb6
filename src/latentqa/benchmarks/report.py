"""The report: one page that holds everything, plots too, and the same tables as Markdown."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentqa.benchmarks import plots, table
from latentqa.benchmarks.calibration import FREE, RANKING
from latentqa.benchmarks.experiment import Metric
from latentqa.benchmarks.plans import PLAN_FILE, PlanResult, plan_lines, read_plan
from latentqa.benchmarks.published import PUBLISHED, Published
from latentqa.benchmarks.runner import HEADER_FILE, Row, Run, check_same_subject, load_run
from latentqa.benchmarks.scaling import PowerLaw, scaling_laws
from latentqa.benchmarks.summary import MEAN, Summary, Test, summarize, with_derived
from latentqa.errors import ConfigError, DataError

if TYPE_CHECKING:
    from latentqa.benchmarks.layer_map import LayerMap

MAP_FILE = "layer-map.json"
PAGE_FILE = "report.html"
TABLE_FILE = "report.md"
INTRODUCTION = (
    "A <b>reader</b> is anything that answers questions about a language model's activations (the "
    "vectors that "
    "it computes for each token). <b>lit</b> is a trained decoder; the others are controls and "
    "baselines, given "
    "the same activations, questions and scoring. <i>no-activation</i>, <i>mean-activation</i> and "
    "<i>shuffled</i> are the same decoder on vectors that hold no answer, so what they get right is "
    "guessing; "
    "<i>text-given</i> is the model itself, shown the visible text. Where readers rank given answers, "
    "they do so "
    "by <b>support</b>: how much likelier the activations make an answer than reference activations do. Bars "
    "show 95 % bootstrap intervals; a baseline that wins is shown as the winner."
)
STEERING = (
    "A <b>method</b> changes what a language model does: by a prompt, by a vector added to its states, or by "
    "finetuning. <b>vector</b>, <b>weights</b> and <b>closed-form</b> are made from a trained decoder's "
    "loss; the "
    "others are controls and baselines, made from the same prompts, with the same number of tried settings. "
    "<b>no-control</b> is the unchanged model. NAME@0.5 is a method at half its chosen strength. What "
    "steering "
    "costs (perplexity, change elsewhere, repetition) stands beside what it does. Bars show 95 % bootstrap "
    "intervals; a baseline that wins is shown as the winner."
)
STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1c2329;background:#fff;margin:0 auto;
max-width:1120px;padding:24px}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:20px;margin:40px 0 4px;border-top:1px solid #dde2e7;padding-top:20px}
h3{font-size:15px;margin:22px 0 6px}p{margin:6px 0 10px;max-width:880px}.dim{color:#5b6670}
.limited{background:#fff1d6;border:1px solid #e6b95c;border-radius:4px;padding:1px 7px;font-weight:600}
.foreign{color:#5b6670;font-style:italic}table{border-collapse:collapse;font-size:13px;margin:6px 0 12px}
th,td{padding:3px 10px 3px 0;text-align:right;white-space:nowrap;border-bottom:1px solid #edf0f2}
th:first-child,td:first-child{text-align:left}td small{color:#77828c}tr.best td{font-weight:600}
img{max-width:100%;height:auto;display:block;margin:8px 0}
.scroll{overflow-x:auto}code{background:#f3f5f7;padding:1px 4px}
details{margin:8px 0}summary{cursor:pointer;color:#1f5fa8}ul{margin:4px 0 10px;padding-left:20px}
pre{background:#f3f5f7;padding:8px;overflow-x:auto;font-size:12px}
"""


@dataclass(frozen=True)
class Loaded:
    """What one folder held.

    Attributes:
        folder: that was named.
        header: what was asked of whom.
        run: of readers on items, if it is one.
        summary: its figures.
        plan: of training runs, if it is one.
        laws: of a scaling plan.
        layer_map: if it is one.
    """

    folder: Path
    header: Mapping[str, Any]
    run: Run | None = None
    summary: Summary | None = None
    plan: PlanResult | None = None
    laws: Mapping[str, PowerLaw] = field(default_factory=dict)
    layer_map: LayerMap | None = None


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes:
        page: HTML that needs no other file.
        markdown: the same tables.
        figures: all numbers, as JSON has them.
    """

    page: str
    markdown: str
    figures: dict[str, Any]


def build_report(folders: Sequence[str | os.PathLike[str]]) -> Report:
    """A report of some runs.

    Runs of one experiment with several seeds are also shown as mean and range over the draws.

    Raises:
        DataError: a folder that holds no run.
        ConfigError: results of different versions, targets or decoders; no folder at all.
    """
    if not folders:
        raise ConfigError("No run is named. Name folders that `latentqa bench run` wrote.")
    loaded = [_load(Path(folder)) for folder in folders]
    for other in loaded[1:]:
        check_same_subject(loaded[0].header, other.header, str(loaded[0].folder), str(other.folder))
    by_experiment: dict[str, list[Loaded]] = {}
    for one in loaded:
        by_experiment.setdefault(one.header["experiment"], []).append(one)
    subject = loaded[0].header["subject"]
    kinds = {one.header.get("contender", "reader") for one in loaded}
    doing = {"reader": "Reading", "method": "Steering"}
    title = f"{' and '.join(doing[kind] for kind in sorted(kinds, reverse=True))} {subject['target']}"
    title += f" with {subject['decoder']}" if subject["decoder"] else ""
    introductions = {"reader": INTRODUCTION, "method": STEERING}
    introduction = "</p><p>".join(introductions[kind] for kind in sorted(kinds, reverse=True))
    versions = ", ".join(f"{name} {version}" for name, version in subject["versions"].items())
    parts = [
        f"<h1>{html.escape(title)}</h1><p class=dim>{html.escape(versions)}; target "
        f"{html.escape(subject['target_hash'][:12])}, decoder "
        f"{html.escape(subject['decoder_hash'][:12] or '–')}"
        f"</p><p>{introduction}</p>"
    ]
    texts = [f"# {title}", versions]
    for name, runs in by_experiment.items():
        parts.append(f"<h2 id={html.escape(name)}>{html.escape(name)}</h2>")
        texts.append(f"## {name}")
        for one in runs:
            parts.append(_section(one))
            texts.append(_markdown(one))
        drawn = _draws(runs)
        if drawn:
            parts.append(_draws_html(drawn))
            texts.append(_draws_markdown(drawn))
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    figures = {"subject": subject, "runs": [_figures(one) for one in loaded]}
    return Report(page, "\n\n".join(texts) + "\n", figures)


def write_report(folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write `report.html` and `report.md` into a folder; returns the two files."""
    report = build_report(folders)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in ((PAGE_FILE, report.page), (TABLE_FILE, report.markdown)):
        temporary = out / f"{name}.tmp"
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, out / name)
    return out / PAGE_FILE, out / TABLE_FILE


def layer_map_page(found: LayerMap, image: bytes) -> str:
    """A layer map as a page: the picture, then every number on hovering over its cell."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Layer map</title>"
        f"<style>{STYLE}{_MAP_STYLE}</style><body><h1>Layer map</h1>{_map_html(found, image)}</body></html>\n"
    )


_MAP_STYLE = "td.cell{width:14px;height:12px;padding:0;border:1px solid #fff}"


def _load(folder: Path) -> Loaded:
    try:
        header = json.loads((folder / HEADER_FILE).read_text(encoding="utf-8"))
        kind = header.get("kind", "items")
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no run: there is no {HEADER_FILE}. Name a folder that `latentqa bench run` "
            "wrote."
        ) from None
    except (ValueError, AttributeError) as error:
        raise DataError(f"{folder / HEADER_FILE} is not JSON: {error}. Run it again.") from None
    if kind == "plan":
        rows = read_plan(folder / PLAN_FILE)
        result = PlanResult(header["experiment"], tuple(rows), seed=header["seed"], data=header["data"])
        laws = scaling_laws(rows) if header["experiment"] == "scaling" else {}
        return Loaded(folder, header, plan=result, laws=laws)
    if kind == "map":
        return Loaded(folder, header, layer_map=_read_map(folder / MAP_FILE))
    run = load_run(folder)
    return Loaded(folder, run.header, run=run, summary=summarize(run))


def _read_map(path: Path) -> LayerMap:
    from latentqa.benchmarks.layer_map import LayerMap

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found.pop("notes")
        support = tuple(tuple(row) for row in found.pop("support"))
        lists: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in found.items()
        }
        return LayerMap(**lists, support=support)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is no layer map ({error}). Run `latentqa bench run layer-map` again."
        ) from None


def _section(one: Loaded) -> str:
    if one.plan is not None:
        lines = "\n".join(plan_lines(one.plan))
        image = _image(plots.scaling_png(one.plan.rows, one.laws), "scaling") if one.laws else ""
        laws = "".join(f"<li>{html.escape(name)}: {html.escape(str(law))}" for name, law in one.laws.items())
        return f"{image}<ul>{laws}</ul><div class=scroll><pre>{html.escape(lines)}</pre></div>"
    if one.layer_map is not None:
        return _map_html(one.layer_map, plots.layer_map_png(one.layer_map))
    assert one.run is not None and one.summary is not None
    return _run_html(one.run, one.summary)


def _run_html(run: Run, summary: Summary) -> str:
    header = run.header
    limited = f" <span class=limited>limited to {header['items']} items</span>" if header["limit"] else ""
    missing = f" <span class=limited>{summary.missing} rows are missing</span>" if summary.missing else ""
    parts = [
        f"<p>{html.escape(header['doc'])}</p><p class=dim>Seed {header['seed']}, {header['items']} items,"
        f" {html.escape(header['created'])}{limited}{missing}"
        + (f"<br><code>{html.escape(header['command'])}</code>" if header.get("command") else "")
        + "</p>"
    ]
    first, *rest = table.plain_metrics(run)
    steering = header.get("contender") == "method"
    groups = [] if steering else header["groups"]  # many groups of many methods make no picture
    parts.append(_image(plots.bars_png(summary, first, groups, run.readers), first.name))
    if steering:
        parts.append(_steering_plots(run, summary))
    parts.append(_metric_table(run, summary, first))
    parts.append(_tests_table(summary, first, header))
    if header["experiment"] == "calibration":
        parts.append(_calibration_html(run))
    tables = "".join(_metric_table(run, summary, metric) for metric in rest)
    if tables:
        parts.append(f"<details open><summary>{len(rest)} further figures</summary>{tables}</details>")
    others = "".join(_tests_table(summary, metric, header) for metric in rest)
    if others:
        parts.append(f"<details><summary>Paired tests of the further figures</summary>{others}</details>")
    parts += [_layers_html(run, summary, name, metrics) for name, metrics in table.by_layer(run).items()]
    parts.append(_published_html(run, summary))
    parts.append(_costs_html(summary))
    left_out = [f"{count} left out: {reason}" for reason, count in summary.filtered.items()]
    notes = "".join(f"<li>{html.escape(str(note))}" for note in [*left_out, *header["notes"]])
    return "".join(parts) + f"<ul>{notes}</ul>"


def _metric_table(run: Run, summary: Summary, metric: Metric) -> str:
    groups = table.groups_of(run, summary, metric)
    means = {reader: summary.figure(reader, MEAN, metric.name) for reader in run.readers}
    shown = {reader: one for reader, one in means.items() if one is not None}
    if not shown:
        return ""
    sign = 1 if metric.better == "high" else -1
    best = max(shown, key=lambda reader: sign * shown[reader].mean)
    rows = []
    for reader, whole in shown.items():
        cells = "".join(f"<td>{_cell(summary, reader, group, metric)}" for group in groups)
        mark = " class=best" if reader == best else ""
        rows.append(f"<tr{mark}><td>{html.escape(reader)}{cells}<td>{whole.n}")
    heads = "".join(f"<th>{html.escape(group)}" for group in groups)
    unit = " (%)" if metric.share else ""
    return (
        f"<h3>{html.escape(metric.name)}{unit}</h3><p class=dim>{html.escape(metric.doc)}</p><div "
        "class=scroll>"
        f"<table><tr><th>{html.escape(run.header.get('contender', 'reader'))}{heads}<th>n{''.join(rows)}"
        "</table></div>"
    )


def _steering_plots(run: Run, summary: Summary) -> str:
    """Effect against strength, and effect against cost."""
    by_name = {metric.name: metric for metric in run.metrics}
    wanted = [by_name[name] for name in run.header.get("tradeoff", ()) if name in by_name]
    if len(wanted) != 2 or not all(_has_means(run, summary, metric) for metric in wanted):
        return ""
    effect, cost = wanted
    parts = [
        _image(plots.tradeoff_png(summary, effect, cost, run.readers), f"{effect.name} against {cost.name}")
    ]
    if any(plots.method_and_strength(name)[1] != 1.0 for name in run.readers):
        picture = plots.strength_png(summary, effect, run.readers)
        parts.append(_image(picture, f"{effect.name} against strength"))
    return "".join(parts)


def _has_means(run: Run, summary: Summary, metric: Metric) -> bool:
    return any(summary.figure(reader, MEAN, metric.name) for reader in run.readers)


def _cell(summary: Summary, reader: str, group: str, metric: Metric) -> str:
    text = table.cell(summary.figure(reader, group, metric.name), metric)
    number, space, bounds = text.partition(" ")
    return f"{number}{space}<small>{bounds}</small>" if bounds else number


def _tests_table(summary: Summary, metric: Metric, header: Mapping[str, Any]) -> str:
    """The p values of the first reader against each other one; of methods, those that were planned."""
    tests = [test for test in summary.tests if test.metric == metric.name]
    if not tests:
        return ""
    if header.get("contender") == "method":
        return _planned_tests(tests, metric)
    groups = header["groups"]
    first = tests[0].a
    heads = [group for group in [MEAN, *groups] if any(test.group == group for test in tests)]
    rows = []
    for other in dict.fromkeys(test.b for test in tests if test.a == first):
        found = {test.group: table.p_text(test.p) for test in tests if (test.a, test.b) == (first, other)}
        rows.append(f"<tr><td>{html.escape(other)}" + "".join(f"<td>{found.get(g, '–')}" for g in heads))
    titles = "".join(f"<th>{html.escape(group)}" for group in heads)
    return (
        f"<h3>{html.escape(metric.name)}: {html.escape(first)} against each other reader, p</h3><p "
        "class=dim>Exact "
        "McNemar test by unit (a subject's or label's rows count once), Holm-corrected over all pairs "
        "and groups; "
        "p does not say which of the two is better.</p>"
        f"<div class=scroll><table><tr><th>{html.escape(first)} against{titles}{''.join(rows)}</table></div>"
    )


def _planned_tests(tests: Sequence[Test], metric: Metric) -> str:
    """The tests that a steering run plans, on the mean: against no control, a twin and the baselines."""
    whole = [test for test in tests if test.group == MEAN]
    rows = "".join(
        f"<tr><td>{html.escape(test.a)}<td "
        f"style='text-align:left'>{html.escape(test.b)}<td>{table.p_text(test.p)}"
        for test in whole
    )
    how = {"bootstrap": "Paired bootstrap", "McNemar": "Exact McNemar test"}[whole[0].method] if whole else ""
    return (
        f"<h3>{html.escape(metric.name)}: paired tests, p</h3><p class=dim>{how} by unit, "
        "Holm-corrected; p does "
        "not say which of the two is better.</p><div class=scroll><table><tr><th>method<th "
        "style='text-align:left'>"
        f"against<th>p{rows}</table></div>"
    )


def _layers_html(run: Run, summary: Summary, name: str, metrics: Sequence[Metric]) -> str:
    """One figure at every read layer that was asked about: a plot, and the numbers."""
    head, *rows = table.layer_rows(run, summary, metrics)
    if not rows:
        return ""
    title = f"{name} by read layer"
    heads = "".join(f"<th>{html.escape(text)}" for text in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(text)}" for text in row) for row in rows)
    unit = " (%)" if metrics[0].share else ""
    return (
        f"<h3>{html.escape(title)}{unit}</h3><p class=dim>Mean of the groups; shaded: 95 %.</p>"
        + _image(plots.layers_png(summary, metrics, run.readers), title)
        + f"<div class=scroll><table><tr>{heads}{body}</table></div>"
    )


def _comparable(run: Run, published: Published) -> tuple[Metric, str]:
    """Our figure that stands beside the paper's, and what to say of it."""
    for metric in run.metrics:
        if metric.name == published.comparable:
            return metric, f"Beside them stands “{metric.name}” of this run, made in the same way."
    said = f"Beside them stands “{run.metrics[0].name}” of this run."
    if published.comparable:
        said += (
            " It is not made as theirs are: each reader reads where it reads best. "
            f"“{published.comparable}”, which is, needs the setting layers=half."
        )
    return run.metrics[0], said


def _published_html(run: Run, summary: Summary) -> str:
    published = PUBLISHED.get(run.header["experiment"])
    if published is None or not set(published.rows) & set(run.readers):
        return ""
    if published.figures:
        return _beside_html(run, summary, published)
    metric, said = _comparable(run, published)
    heads = "".join(f"<th>{html.escape(group)}" for group in published.groups)
    rows = ""
    for reader, values in published.rows.items():
        if reader in run.readers:
            cells = "".join(f"<td>{_cell(summary, reader, g, metric)}" for g in (MEAN, *published.groups))
            rows += f"<tr><td>{html.escape(reader)}, this run{cells}"
        rows += f"<tr class=foreign><td>{html.escape(reader)}, the paper's<td>{published.means[reader]:.1f}"
        rows += "".join(f"<td>{value:.1f}" for value in values)
    return (
        f"<h3>Beside the paper's figures (%)</h3><p class=foreign>{html.escape(published.source)}.</p>"
        f"<p class=dim>{html.escape(said)}</p><div class=scroll>"
        f"<table><tr><th>reader<th>mean{heads}{rows}</table></div>"
        + _image(plots.published_png(summary, metric, published), "this run beside the paper's figures")
    )


def _beside_html(run: Run, summary: Summary, published: Published) -> str:
    """Several of our figures with the paper's beside them, which are marked as another model's."""
    heads = "".join(
        f"<th>{html.escape(name)}, this run<th class=foreign>{html.escape(name)}, the paper's"
        for name in published.groups
    )
    rows = []
    for reader, values in published.rows.items():
        cells = "".join(
            f"<td>{own}<td class=foreign>{value:g}"
            for own, value in zip(_own(run, summary, published, reader), values, strict=True)
        )
        rows.append(f"<tr><td>{html.escape(reader)}{cells}")
    return (
        f"<h3>Beside the paper's figures</h3><p class=foreign>{html.escape(published.source)}.</p><div "
        "class=scroll>"
        f"<table><tr><th>method{heads}{''.join(rows)}</table></div>"
    )


def _own(run: Run, summary: Summary, published: Published, reader: str) -> list[str]:
    """Our figures of a reader, under the paper's names; shares in per cent."""
    by_name = {metric.name: metric for metric in run.metrics}
    return [
        table.cell(summary.figure(reader, MEAN, name), by_name[name]) if name in by_name else "–"
        for name in published.groups
    ]


def _costs_html(summary: Summary) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(reader)}<td>{cost['seconds']:.0f}<td>{cost['fit_seconds']:.0f}"
        f"<td>{cost['tokens']}<td>{cost['remembered']}"
        f"<td style='text-align:left;white-space:normal'>{html.escape(_choices(cost['choices']))}"
        for reader, cost in summary.costs.items()
    )
    return (
        "<h3>What it cost</h3><div class=scroll><table><tr><th>reader<th>seconds<th>fitting, s<th>tokens"
        "<th>of earlier runs"
        f"<th style='text-align:left'>chose{rows}</table></div>"
    )


def _calibration_html(run: Run) -> str:
    rows = [row for row in with_derived(run).rows if row.flags.get("split") == "test"]
    parts = []
    for predictor, title in ((RANKING, "rankings"), (FREE, "free answers")):
        by_reader: dict[str, list[Row]] = {}
        for row in rows:
            if predictor.name in row.values and predictor.truth in row.values:
                by_reader.setdefault(row.reader, []).append(row)
        if by_reader:
            parts.append(
                _image(plots.reliability_png(by_reader, predictor.name, predictor.truth, title), title)
                + _image(plots.risk_coverage_png(by_reader, predictor.name, predictor.truth, title), title)
            )
    return "".join(parts)


def _map_html(found: LayerMap, image: bytes) -> str:
    highest = max((abs(value) for row in found.support for value in row), default=1.0) or 1.0
    rows = []
    for layer, values in sorted(zip(found.layers, found.support, strict=True), reverse=True):
        cells = "".join(
            f"<td class=cell style='background:{_colour(value / highest)}' "
            f"title='{html.escape(token, quote=True)}"
            f" · layer {layer}: {value:+.2f}'>"
            for token, value in zip(found.tokens, values, strict=True)
        )
        rows.append(f"<tr><td>{layer}{cells}")
    notes = "".join(f"<li>{html.escape(note)}" for note in found.notes)
    return (
        f"<p><b>{html.escape(found.question)}</b><br>Support of “{html.escape(found.answer)}” by "
        f"{html.escape(found.reader)}, in nats a token: blue supports it, red speaks against it.</p>"
        f"{_image(image, 'layer map')}<ul>{notes}</ul><details><summary>Every number (hover over a cell)"
        f"</summary><style>{_MAP_STYLE}</style><div "
        f"class=scroll><table>{''.join(rows)}</table></div></details>"
    )


def _colour(share: float) -> str:
    """White at 0, blue at 1, red at -1."""
    fade = round(255 * (1 - min(1.0, abs(share))))
    return f"rgb({fade},{fade},255)" if share >= 0 else f"rgb(255,{fade},{fade})"


@dataclass(frozen=True)
class _Draw:
    experiment: str
    metric: Metric
    reader: str
    group: str
    values: tuple[float, ...]


def _draws(runs: Sequence[Loaded]) -> list[_Draw]:
    """Figures over several seeds, of whole runs and of limited ones apart."""
    whole = [one for one in runs if one.run is not None and one.header["limit"] is None]
    chosen = whole if len({one.header["seed"] for one in whole}) > 1 else []
    found: list[_Draw] = []
    for metric in table.plain_metrics(chosen[0].run) if chosen and chosen[0].run else ():
        for reader in chosen[0].run.readers if chosen[0].run else ():
            for group in [MEAN, *chosen[0].header["groups"]]:
                cells = [one.summary.figure(reader, group, metric.name) for one in chosen if one.summary]
                values = tuple(cell.mean for cell in cells if cell is not None)
                if len(values) > 1:
                    found.append(_Draw(chosen[0].header["experiment"], metric, reader, group, values))
    return found


def _draw_text(draw: _Draw) -> str:
    scale, digits = (100.0, 1) if draw.metric.share else (1.0, 3)
    mean = sum(draw.values) / len(draw.values)
    low, high = min(draw.values), max(draw.values)
    return f"{scale * mean:.{digits}f} ({scale * low:.{digits}f}–{scale * high:.{digits}f})"


def _draws_html(draws: Sequence[_Draw]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(draw.reader)}<td>{html.escape(draw.metric.name)}<td>{html.escape(draw.group)}"
        f"<td>{_draw_text(draw)}<td>{len(draw.values)}"
        for draw in draws
    )
    return (
        "<h3>Over the draws</h3><p class=dim>Mean and range (lowest–highest) over runs with different "
        "seeds.</p>"
        "<div class=scroll><table><tr><th>reader<th>figure<th>group<th>mean "
        f"(range)<th>draws{rows}</table></div>"
    )


def _draws_markdown(draws: Sequence[_Draw]) -> str:
    rows = "\n".join(
        f"| {draw.reader} | {draw.metric.name} | {draw.group} | {_draw_text(draw)} | {len(draw.values)} |"
        for draw in draws
    )
    return (
        "### Over the draws: mean (range)\n\n| reader | figure | group | mean (range) | draws |\n"
        f"| --- | --- | --- | --- | --- |\n{rows}"
    )


def _markdown(one: Loaded) -> str:
    if one.plan is not None:
        laws = "\n".join(f"- {name}: {law}" for name, law in one.laws.items())
        return "```\n" + "\n".join(plan_lines(one.plan)) + "\n```\n" + laws
    if one.layer_map is not None:
        found = one.layer_map
        best, layer, token = max(
            (value, layer, token)
            for layer, row in zip(found.layers, found.support, strict=True)
            for token, value in zip(found.tokens, row, strict=True)
        )
        return (
            f"Support of “{found.answer}” at {len(found.layers)} layers × {len(found.tokens)} tokens: "
            "highest "
            f"{best:+.2f} nats a token, at layer {layer}, token {token!r}. " + " ".join(found.notes)
        )
    assert one.run is not None and one.summary is not None
    text = table.markdown(one.run, one.summary)
    published = PUBLISHED.get(one.header["experiment"])
    if published is None:
        return text
    if published.figures:
        return text + _beside_markdown(one.run, one.summary, published)
    metric, said = _comparable(one.run, published)
    rows = []
    for reader, values in published.rows.items():
        if reader in one.run.readers:
            cells = [
                table.cell(one.summary.figure(reader, g, metric.name), metric)
                for g in (MEAN, *published.groups)
            ]
            rows.append(f"| {reader}, this run | {' | '.join(cells)} |")
        cells = [f"*{value:.1f}*" for value in (published.means[reader], *values)]
        rows.append(f"| {reader}, the paper's | {' | '.join(cells)} |")
    heads = " | ".join(published.groups)
    return (
        f"{text}\n*{published.source}* (%). {said}\n\n| reader | mean | {heads} |\n"
        f"|{' --- |' * (len(published.groups) + 2)}\n" + "\n".join(rows) + "\n"
    )


def _beside_markdown(run: Run, summary: Summary, published: Published) -> str:
    heads = " | ".join(f"{name}, this run | {name}, the paper's" for name in published.groups)
    rows = "\n".join(
        f"| {reader} | "
        + " | ".join(
            f"{own} | *{value:g}*"
            for own, value in zip(_own(run, summary, published, reader), values, strict=True)
        )
        + " |"
        for reader, values in published.rows.items()
    )
    columns = 2 * len(published.groups) + 1
    return f"\n*{published.source}*:\n\n| method | {heads} |\n|{' --- |' * columns}\n{rows}\n"


def _figures(one: Loaded) -> dict[str, Any]:
    if one.summary is not None:
        return {"folder": str(one.folder), **one.summary.to_full_json()}
    if one.plan is not None:
        return {"folder": str(one.folder), **one.plan.to_json()}
    assert one.layer_map is not None
    return {"folder": str(one.folder), "experiment": "layer-map", **one.layer_map.to_json()}


def _image(png: bytes, alternative: str) -> str:
    return f"<img alt='{html.escape(alternative, quote=True)}' src='{plots.data_uri(png)}'>"


def _choices(choices: object) -> str:
    if isinstance(choices, dict):
        return ", ".join(
            f"{name}: {_choices(value)}" if isinstance(value, dict) else f"{name} {value}"
            for name, value in choices.items()
        )
    return str(choices)
