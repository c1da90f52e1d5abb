"""The figure of an audit: which claims were refuted, beside what is claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import StringIO
from typing import Any

from privacy.audit.levels import Audit

_FOUND, _CLAIMED, _RULE = "#0072b2", "#d55e00", "#d5dae1"


@dataclass(frozen=True)
class _Row:
    name: str
    refuted_below: float
    claimed: float | None


def drawn(audit: Audit) -> str:
    """SVG text, or an empty string where no level certified anything."""
    rows = _rows(audit)
    if not rows:
        return ""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    look = {"font.size": 10.0, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "more-fed"}
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(9.0, 1.2 + 0.45 * len(rows)), layout="constrained")
        FigureCanvasSVG(figure)
        _plot(figure.subplots(), rows)
        text = StringIO()
        figure.savefig(text, format="svg", facecolor="white", metadata={"Date": None})
    # Without the declaration and document type, which may not stand inside a page.
    return text.getvalue()[text.getvalue().index("<svg") :]


def _rows(audit: Audit) -> list[_Row]:
    rows = [_Row(result.name, result.bound.epsilon, result.claimed) for result in audit.mechanisms]
    if audit.one_run is not None and audit.claimed is not None:
        claimed = audit.claimed.epsilon if math.isfinite(audit.claimed.epsilon) else None
        rows.append(_Row("one training run with canaries", audit.one_run.epsilon, claimed))
    return rows


def _plot(axes: Any, rows: list[_Row]) -> None:
    places = list(range(len(rows)))[::-1]
    axes.barh(places, [row.refuted_below for row in rows], height=0.45, color=_FOUND, label="claims refuted")
    claims = [(row.claimed, place) for row, place in zip(rows, places, strict=True) if row.claimed is not None]
    axes.plot(
        [claim for claim, _ in claims], [place for _, place in claims], "D", color=_CLAIMED, label="claimed epsilon"
    )
    axes.set_yticks(places, [row.name for row in rows])
    axes.set(xlabel="epsilon", xlim=(0, None), ylim=(-0.6, len(rows) - 0.4))
    axes.grid(color=_RULE, linewidth=0.6, axis="x")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 1.18), ncols=2)
