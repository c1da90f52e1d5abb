"""The figure of an ablation: every difference to the reference with its interval, one under the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from more_model.report.blocks import Figure
from more_model.report.canvas import QUIET, RULE, arm_colour, blank, look, margins, save
from simulation.report.reading import interval, number, part
from simulation.report.wording import difference

_WIDTH_IN = 7.2
_LONGEST_NAME = 42


def forest(summary: Mapping[str, Any], folder: Path) -> Figure | None:
    """Draws ``folder/ablation.png``: zero-shot filled, linear probe hollow; None where there is no difference."""
    rows = [row for row in summary["variants"] if number(_difference(row, "zero_shot"), "macro_auroc") is not None]
    if not rows:
        return None
    names = [_shortened(row["what"]) for row in rows]
    with look():
        figure = blank(_WIDTH_IN, 0.9 + 0.3 * len(rows))
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            _draw(axes, row, -float(place), arm_colour(summary["arm"]))
            if place and row["group"] != rows[place - 1]["group"]:
                axes.axhline(0.5 - place, color=RULE, linewidth=0.8, zorder=0)
        axes.axvline(0.0, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        axes.set_yticks([-place for place in range(len(rows))], names)
        axes.set_ylim(0.4 - len(rows), 0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Macro AUROC, variant minus reference")
        margins(figure, left_in=0.3 + 0.075 * max(map(len, names)), right_in=0.2, top_in=0.1, bottom_in=0.55)
        svg = save(figure, "ablation", folder)
    return Figure("ablation", svg, _spoken(rows), _caption(rows))


def _draw(axes: Any, row: Mapping[str, Any], height: float, colour: str) -> None:
    has_probe = number(_difference(row, "linear_probe"), "macro_auroc") is not None
    offsets = {"zero_shot": 0.14 if has_probe else 0.0, "linear_probe": -0.18}
    colour = QUIET if row["is_reference"] else colour
    for measure, offset in offsets.items():
        found, filled = _difference(row, measure), measure == "zero_shot"
        value, ends = number(found, "macro_auroc"), interval(found)
        if value is None:
            continue
        if ends is not None:
            width = 1.8 if filled else 1.0
            axes.plot(ends, [height + offset] * 2, color=colour, linewidth=width, solid_capstyle="butt", zorder=2)
        mark = {"marker": "o", "markersize": 6} if filled else {"marker": "s", "markersize": 4.5}
        mark |= {"markerfacecolor": colour if filled else "white", "markeredgecolor": colour, "linestyle": "none"}
        axes.plot([value], [height + offset], zorder=3, **mark)


def _difference(row: Mapping[str, Any], measure: str) -> dict[str, Any]:
    return part(row, measure, "difference")


def _spoken(rows: Sequence[Mapping[str, Any]]) -> str:
    spoken = "; ".join(f"{row['what']} {difference(_difference(row, 'zero_shot'))}" for row in rows)
    return f"Forest plot of macro AUROC differences to the reference with 95 % intervals. {spoken}."


def _caption(rows: Sequence[Mapping[str, Any]]) -> str:
    probe = " Hollow squares: linear probe." if any("linear_probe" in row for row in rows) else ""
    return (
        "Each variant minus the reference, on the same patients and labels; lines are 95 % intervals, the dashed line "
        f"is no difference, grey rows are the reference's own values.{probe}"
    )


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
