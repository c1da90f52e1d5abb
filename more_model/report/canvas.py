"""Drawing surfaces: one look for every figure, saved as PNG in the run directory and as SVG for the page.

matplotlib is imported here, when the first figure is drawn, because the import alone costs a second or two.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Okabe-Ito colours: told apart with every common colour vision deficiency. Shapes repeat what the colours say.
ARM_COLOURS = {"centralized": "#0072b2", "federated": "#d55e00", "local": "#009e73", "random_encoder": "#6b6b6b"}
ARM_MARKERS = {"centralized": "o", "federated": "D", "local": "s", "random_encoder": "^"}
ARM_DASHES: dict[str, Any] = {
    "centralized": "-",
    "federated": (0, (6, 1.5)),
    "local": (0, (4, 1.5, 1, 1.5)),
    "random_encoder": (0, (1, 1.2)),
}
_OTHER_COLOUR, _OTHER_MARKER, _OTHER_DASHES = "#a0559a", "v", (0, (2, 2))

INK, QUIET, RULE = "#1c2430", "#56606e", "#d5dae1"

_LOOK: dict[str, Any] = {
    "font.size": 10.0,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": "#9aa3af",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    # Text stays text: smaller files, and the page sets it in the reader's own font.
    "svg.fonttype": "none",
    "svg.hashsalt": "more-fed",
}


def arm_colour(arm: str) -> str:
    """The colour of an arm, the same in every figure and table; models of single sites share the local one."""
    return ARM_COLOURS.get("local" if arm.startswith("local") else arm, _OTHER_COLOUR)


def arm_marker(arm: str) -> str:
    """The matplotlib marker of an arm."""
    return ARM_MARKERS.get("local" if arm.startswith("local") else arm, _OTHER_MARKER)


def arm_dashes(arm: str) -> Any:
    """The matplotlib line style of an arm, for curves without marks."""
    return ARM_DASHES.get("local" if arm.startswith("local") else arm, _OTHER_DASHES)


@contextmanager
def look() -> Iterator[None]:
    """The common style, for as long as figures are drawn; the settings of the caller come back afterwards."""
    import matplotlib

    with matplotlib.rc_context(_LOOK):
        yield


def blank(width_in: float, height_in: float) -> Any:
    """An empty figure (inches) without pyplot's global state or any window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in))
    FigureCanvasAgg(figure)
    return figure


def margins(figure: Any, *, left_in: float, right_in: float, top_in: float, bottom_in: float, **spacing: float) -> None:
    """Margins in inches, so that labels keep their room however tall the figure grows."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=left_in / width, right=1 - right_in / width, top=1 - top_in / height, bottom=bottom_in / height, **spacing
    )


def save(figure: Any, name: str, folder: Path) -> str:
    """Writes ``folder/name.png`` and returns the same drawing as SVG for a page."""
    figure.savefig(folder / f"{name}.png", dpi=130, facecolor="white")
    drawing = io.StringIO()
    figure.savefig(
        drawing, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    return inline_svg(drawing.getvalue(), name)


def inline_svg(document: str, prefix: str) -> str:
    """An SVG document as an element of an HTML page: no prologue, no outside references, no clash of identifiers."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'(?<=\sid=")', f"{prefix}-", body)
    body = re.sub(r'xlink:href="#', f'href="#{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    head, rest = body.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} aria-hidden="true" focusable="false">{rest}'.strip()
