"""What privacy costs: macro AUROC over epsilon, between public data only and no privacy at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from more_model.report.blocks import Figure
from more_model.report.canvas import INK, QUIET, arm_colour, arm_marker, blank, margins, save
from simulation.report.figures import WIDTH_IN
from simulation.report.privacy_words import curve_points, point_name
from simulation.report.reading import interval, number, part
from simulation.report.wording import estimate

_REFERENCE: dict[str, Any] = {"color": QUIET, "linewidth": 1.2, "linestyle": (0, (1, 2)), "zorder": 1}


def curve_figure(summary: Mapping[str, Any], folder: Path) -> Figure | None:
    """The points of ``summary["privacy"]["curve"]`` that have an AUROC; None where fewer than two do."""
    points = [point for point in curve_points(summary) if number(point, "macro_auroc") is not None]
    if len(points) < 2:
        return None
    figure = blank(WIDTH_IN, 3.3)
    axes = figure.add_subplot()
    _references(axes, points)
    for place, point in enumerate(points):
        _mark(axes, place, point)
    between = [place for place, point in enumerate(points) if not _is_end(point)]
    axes.plot(
        between, [number(points[place], "macro_auroc") for place in between], color=arm_colour("federated"),
        linewidth=1.0, zorder=1,
    )  # fmt: skip
    axes.set_xticks(range(len(points)), [_tick(point) for point in points])
    axes.set_xlim(-0.5, len(points) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("Macro AUROC")
    axes.set_xlabel(f"Epsilon per {part(summary, 'privacy').get('unit') or 'unit'} (smaller: more noise, bounds more)")
    margins(figure, left_in=0.75, right_in=0.2, top_in=0.15, bottom_in=0.78)
    spoken = "; ".join(f"{point_name(point)} {estimate(point)}" for point in points)
    return Figure(
        "privacy_curve",
        save(figure, "privacy_curve", folder),
        f"Privacy-utility curve: macro AUROC with 95 % intervals for each epsilon. {spoken}.",
        "Macro AUROC of the federated model on held-out patients, lines are 95 % intervals. Hollow marks and dotted "
        "lines: training on public data only (epsilon 0) and training without privacy (epsilon infinite). The steps of "
        "the horizontal axis are not to scale. The intervals cover the choice of test patients, not the noise: another "
        "run draws another.",
    )


def _is_end(point: Mapping[str, Any]) -> bool:
    return point["epsilon"] is None or point["epsilon"] == 0


def _references(axes: Any, points: Sequence[Mapping[str, Any]]) -> None:
    for point in points:
        if _is_end(point):
            axes.axhline(number(point, "macro_auroc"), **_REFERENCE)


def _mark(axes: Any, place: int, point: Mapping[str, Any]) -> None:
    ends, value = interval(point), number(point, "macro_auroc")
    colour = INK if _is_end(point) else arm_colour("federated")
    if ends is not None:
        axes.plot([place, place], ends, color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
    face = "white" if _is_end(point) else colour
    axes.plot([place], [value], marker=arm_marker("federated"), markersize=8, markerfacecolor=face,
              markeredgecolor=colour, markeredgewidth=1.4, linestyle="none", zorder=3)  # fmt: skip


def _tick(point: Mapping[str, Any]) -> str:
    if point["epsilon"] is None:
        return "∞\nwithout privacy"
    if point["epsilon"] == 0:
        return "0\npublic data only"
    return point_name(point).removeprefix("epsilon ").removesuffix(".00")
