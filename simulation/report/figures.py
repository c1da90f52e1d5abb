"""The figures of a report. Each gives the drawing, the same numbers as words (alt text), and a caption."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from more_model.report.blocks import Figure
from more_model.report.canvas import INK, QUIET, arm_colour, arm_dashes, arm_marker, blank, margins, save
from simulation.report.details import LearningPoint, RocCurve
from simulation.report.reading import arms, few_cases, interval, label_facts, labels, local_models, number, part
from simulation.report.wording import arm_name, auroc, difference, estimate, plural

WIDTH_IN = 7.2
#: Small multiples beyond this many stop being readable; the labels with most positives are kept, never the best ones.
MOST_ROC_PANELS = 12
#: Beyond this many the models of single sites are in the table only, and the figure keeps their mean.
MOST_SITES_IN_FIGURE = 12
CHANCE_STYLE: dict[str, Any] = {"color": QUIET, "linewidth": 1.0, "linestyle": (0, (4, 3)), "zorder": 1}


def _dot(
    axes: Any, values: Mapping[str, Any], key: str, height: float, arm: str, *, hollow: bool = False, size: float = 7
) -> None:
    value, ends = number(values, key), interval(values)
    if value is None:
        return
    colour = arm_colour(arm)
    if ends is not None:
        axes.plot(ends, [height, height], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
    face = "white" if hollow else colour
    axes.plot([value], [height], marker=arm_marker(arm), markersize=size, markerfacecolor=face, markeredgecolor=colour,
              markeredgewidth=1.4, linestyle="none", zorder=3)  # fmt: skip


def _auroc_axis(axes: Any, lowest: float) -> None:
    axes.axvline(0.5, **CHANCE_STYLE)
    axes.set_xlim(min(0.4, math.floor(lowest * 10) / 10), 1.005)
    axes.set_xlabel("AUROC (0.5 = chance, 1 = perfect)")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _lowest(entries: Sequence[Mapping[str, Any]], key: str) -> float:
    found = [ends[0] for ends in map(interval, entries) if ends] + [
        v for v in (number(e, key) for e in entries) if v is not None
    ]
    return max(0.0, min(found, default=0.5))


def _left_margin_in(ticks: Sequence[str]) -> float:
    """Room for the longest name beside an axis, so that short names leave the width to the data."""
    return 0.3 + 0.078 * max(map(len, ticks))


def arms_figure(summary: Mapping[str, Any], folder: Path) -> Figure | None:
    """Macro AUROC of every arm with its interval: zero-shot filled, linear probe hollow, single sites small."""
    shown = {arm: values for arm, values in arms(summary).items() if number(values, "macro_auroc") is not None}
    if not shown:
        return None
    rows = _arm_rows(summary, shown)
    figure = blank(WIDTH_IN, 0.95 + 0.36 * len(rows))
    axes = figure.add_subplot()
    for position, (_, arm, values, style) in enumerate(rows):
        _dot(axes, values, "macro_auroc", -position, arm, hollow=style == "probe", size=5 if style == "site" else 8)
    axes.set_yticks([-position for position in range(len(rows))], [row[0] for row in rows])
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    _auroc_axis(axes, _lowest([row[2] for row in rows], "macro_auroc"))
    margins(figure, left_in=_left_margin_in([row[0] for row in rows]), right_in=0.15, top_in=0.1, bottom_in=0.55)
    spoken = "; ".join(f"{name} {estimate(values)}" for name, _, values, _ in rows)
    probe = " Hollow marks: linear probe." if any(row[3] == "probe" for row in rows) else ""
    return Figure(
        "auroc_arms",
        save(figure, "auroc_arms", folder),
        f"Dot plot of macro AUROC with 95 % intervals. {spoken}.",
        f"Macro AUROC of every arm on held-out patients, lines are 95 % intervals, the dashed line is chance.{probe}",
    )


def _arm_rows(
    summary: Mapping[str, Any], shown: Mapping[str, dict[str, Any]]
) -> list[tuple[str, str, dict[str, Any], str]]:
    rows = []
    for arm, values in shown.items():
        rows.append((arm_name(arm), arm, values, "arm"))
        if number(part(values, "linear_probe"), "macro_auroc") is not None:
            rows.append(("linear probe", arm, part(values, "linear_probe"), "probe"))
        singles = local_models(summary) if arm == "local" else {}
        singles = singles if len(singles) <= MOST_SITES_IN_FIGURE else {}
        rows += [(f"{shorten(site, 16)} alone", arm, local, "site") for site, local in singles.items()]
    return rows


def shorten(name: str, most: int) -> str:
    """A name that fits its axis."""
    return name if len(name) <= most else name[: most - 1] + "…"


def labels_figure(summary: Mapping[str, Any], folder: Path) -> Figure | None:
    """Zero-shot AUROC per label, the arms of one label under each other."""
    compared = arms(summary)
    names = [
        n
        for n in labels(summary)
        if any(number(part(v, "per_label", n), "auroc") is not None for v in compared.values())
    ]
    if len(names) < 2:
        return None
    step = 0.8 / max(1, len(compared))
    figure = blank(WIDTH_IN, 1.15 + len(names) * (0.2 + 0.11 * len(compared)))
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        if row % 2 == 0:
            axes.axhspan(-row - 0.5, -row + 0.5, color="#f3f5f8", zorder=0)
        for place, (arm, values) in enumerate(compared.items()):
            _dot(
                axes,
                part(values, "per_label", name),
                "auroc",
                -row + step * ((len(compared) - 1) / 2 - place),
                arm,
                size=5,
            )
    ticks = [shorten(name, 26) + (" †" if few_cases(label_facts(summary, name)) else "") for name in names]
    axes.set_yticks([-row for row in range(len(names))], ticks)
    axes.set_ylim(-len(names) + 0.5, 0.5)
    _auroc_axis(axes, _lowest([part(v, "per_label", name) for name in names for v in compared.values()], "auroc"))
    margins(figure, left_in=_left_margin_in(ticks), right_in=0.15, top_in=0.42, bottom_in=0.55)
    _legend(figure, list(compared))
    return Figure(
        "auroc_labels",
        save(figure, "auroc_labels", folder),
        f"Dot plot of zero-shot AUROC for {plural(len(names), 'label')} and {plural(len(compared), 'arm')}; "
        "the table that follows holds the same numbers.",
        "Zero-shot AUROC per label. Wide intervals come from few cases; † marks labels with fewer than 10 positives or "
        "negatives.",
    )


def _legend(figure: Any, names: Sequence[str], *, curves: bool = False) -> None:
    """Names of the arms above a figure, with the marks (or, for ``curves``, the dashes) that it uses."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=arm_colour(arm),
            marker="" if curves else arm_marker(arm),
            linestyle=arm_dashes(arm) if curves else "-",
            markersize=6,
            linewidth=1.8,
            label=arm_name(arm),
        )
        for arm in names
    ]
    figure.legend(handles=handles, loc="upper center", ncols=min(4, len(handles)), handlelength=2.6, columnspacing=1.6)


def roc_figure(summary: Mapping[str, Any], rocs: Mapping[str, Mapping[str, RocCurve]], folder: Path) -> Figure | None:
    """One small panel per label with the curves of all arms."""
    curved = list(dict.fromkeys(label for curves in rocs.values() for label in curves))
    if not curved:
        return None
    chosen = _most_positives(summary, curved)
    columns = min(4, max(2, len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    figure = blank(WIDTH_IN, 0.85 + rows * (WIDTH_IN - 0.6) / columns * 1.12)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, label in zip(grid.flat, [*chosen, *[""] * (rows * columns - len(chosen))], strict=True):
        if not label:
            axes.set_visible(False)
            continue
        _roc_panel(axes, label, {arm: curves[label] for arm, curves in rocs.items() if label in curves})
    figure.supxlabel("False positive rate", fontsize=10, y=0.1 / figure.get_size_inches()[1])
    figure.supylabel("True positive rate", fontsize=10, x=0.015)
    margins(figure, left_in=0.62, right_in=0.12, top_in=0.62, bottom_in=0.55, wspace=0.14, hspace=0.26)
    _legend(figure, list(rocs), curves=True)
    left_out = len(curved) - len(chosen)
    kept = f" Shown are the {len(chosen)} of {len(curved)} labels with the most positives; the table has all."
    remark = kept if left_out else ""
    return Figure(
        "roc",
        save(figure, "roc", folder),
        f"ROC curves of {plural(len(rocs), 'arm')} in {plural(len(chosen), 'panel')}: {', '.join(chosen)}. "
        "The areas under the curves are in the table of AUROC per label.",
        f"ROC curves, zero-shot, all sites pooled. The dashed diagonal is chance.{remark}",
    )


def _most_positives(summary: Mapping[str, Any], curved: Sequence[str]) -> list[str]:
    by_positives = sorted(curved, key=lambda label: -(number(label_facts(summary, label), "positives") or 0.0))
    kept = set(by_positives[:MOST_ROC_PANELS])
    return [label for label in curved if label in kept]


def _roc_panel(axes: Any, label: str, curves: Mapping[str, RocCurve]) -> None:
    axes.plot([0, 1], [0, 1], **CHANCE_STYLE)
    for arm, (false_positive, true_positive) in curves.items():
        axes.plot(false_positive, true_positive, color=arm_colour(arm), linewidth=1.6, linestyle=arm_dashes(arm))
    axes.set_title(shorten(label, 22), color=INK, fontsize=9, pad=3)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
    axes.tick_params(labelsize=8)


def learning_figure(learning: Mapping[str, Sequence[LearningPoint]], folder: Path) -> Figure | None:
    """Macro AUROC (and loss) on validation data over the share of the training done."""
    quantities = [
        (attribute, title)
        for attribute, title in (("macro_auroc", "Macro AUROC"), ("loss", "Loss"))
        if any(getattr(point, attribute) is not None for points in learning.values() for point in points)
    ]
    if not quantities:
        return None
    figure = blank(WIDTH_IN, 3.0)
    for axes, (attribute, title) in zip(
        figure.subplots(1, len(quantities), squeeze=False).flat, quantities, strict=True
    ):
        for arm, points in learning.items():
            _curve(
                axes, arm, [(p.progress, getattr(p, attribute)) for p in points if getattr(p, attribute) is not None]
            )
        if attribute == "macro_auroc":
            axes.axhline(0.5, **CHANCE_STYLE)
        axes.set_title(title, loc="left")
        axes.set_xlabel("Share of the training done" if _is_share(learning) else "Training progress")
        if _is_share(learning):
            axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    margins(figure, left_in=0.55, right_in=0.2, top_in=0.6, bottom_in=0.55, wspace=0.22)
    drawn = [arm for arm, points in learning.items() if points]
    _legend(figure, drawn)
    return Figure(
        "learning",
        save(figure, "learning", folder),
        f"Learning curves. {' '.join(_spoken_curve(arm, learning[arm]) for arm in drawn)}",
        "How the models improved. All arms share one scale: the share of the training done, at equal numbers of steps "
        "per patient seen.",
    )


def _is_share(learning: Mapping[str, Sequence[LearningPoint]]) -> bool:
    return all(0.0 <= point.progress <= 1.0 for points in learning.values() for point in points)


def _curve(axes: Any, arm: str, points: Sequence[tuple[float, float]]) -> None:
    if points:
        across, up = zip(*sorted(points), strict=True)
        axes.plot(across, up, color=arm_colour(arm), marker=arm_marker(arm), markersize=4, linewidth=1.6)


def _spoken_curve(arm: str, points: Sequence[LearningPoint]) -> str:
    measured = [point for point in points if point.macro_auroc is not None]
    if not measured:
        return f"{arm_name(arm)}: loss only."
    return (
        f"{arm_name(arm)}: macro AUROC from {auroc(measured[0].macro_auroc)} ({measured[0].label}) "
        f"to {auroc(measured[-1].macro_auroc)} ({measured[-1].label})."
    )


def joining_figure(summary: Mapping[str, Any], folder: Path) -> Figure | None:
    """What each site gains: federated minus its own model, with intervals around zero."""
    joining = part(summary, "joining")
    gains = {site: part(joining, site) for site in joining if number(part(joining, site), "gain") is not None}
    if not gains:
        return None
    figure = blank(WIDTH_IN, 0.9 + 0.36 * len(gains))
    axes = figure.add_subplot()
    for row, values in enumerate(gains.values()):
        _dot(axes, values, "gain", -row, "federated", size=8)
    axes.axvline(0.0, **CHANCE_STYLE)
    axes.set_yticks([-row for row in range(len(gains))], [shorten(site, 26) for site in gains])
    axes.set_ylim(-len(gains) + 0.4, 0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Gain in macro AUROC by joining  (left of the line: better alone)")
    margins(
        figure, left_in=_left_margin_in([shorten(site, 26) for site in gains]), right_in=0.2, top_in=0.1, bottom_in=0.55
    )
    spoken = "; ".join(f"{site} {difference(values, 'gain')}" for site, values in gains.items())
    return Figure(
        "joining",
        save(figure, "joining", folder),
        f"Dot plot of the gain in AUROC by joining, per site with 95 % interval. {spoken}.",
        "Federated model minus the site’s own model, on the same held-out patients. A line that crosses zero shows no "
        "clear gain or loss.",
    )
