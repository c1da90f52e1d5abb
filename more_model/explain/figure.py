"""Explanations as one picture: the X-ray under its heat, the ECG over its heat, the words shaded by their weight."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.data.leads import STANDARD_LEADS
from more_model.explain.explanation import Explanation, top_words
from more_model.report.blocks import Block, Facts, Picture, Section, Words
from more_model.report.canvas import INK, QUIET, RULE, blank, look

#: Even steps of lightness, so that it also reads in grey and with every colour vision deficiency.
HEAT = "cividis"
_WIDTH_IN = 11.0
_XRAY_IN, _ECG_IN, _WORD_LINE_IN, _HEAD_IN = 4.6, 5.6, 0.3, 0.5
#: A large square of ECG paper at 25 mm/s.
_LARGE_SQUARE_S = 0.2
_LEAD_STEP_MV = 2.0
_COLUMNS = 128


def explanation_png(explanations: Sequence[Explanation], *, dpi: int = 130) -> bytes:
    """One PNG file of the explanations of one patient, one below the other."""
    blocks = [_text_lines(explanation) for explanation in explanations]
    heights = []
    for explanation, lines in zip(explanations, blocks, strict=True):
        study = _XRAY_IN if explanation.modality == "xray" else _ECG_IN
        heights += [study + _HEAD_IN, _WORD_LINE_IN * (len(lines) + 1)]
    with look():
        figure = blank(_WIDTH_IN, sum(heights) + 0.6)
        rows = figure.add_gridspec(len(heights), 1, height_ratios=heights, left=0.05, right=0.97, top=0.96, bottom=0.02)
        for place, (explanation, lines) in enumerate(zip(explanations, blocks, strict=True)):
            draw = _draw_xray if explanation.modality == "xray" else _draw_ecg
            draw(figure, rows[2 * place], explanation)
            _draw_words(figure.add_subplot(rows[2 * place + 1]), lines, explanation)
        packed = io.BytesIO()
        figure.savefig(packed, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return packed.getvalue()


def alternative(explanation: Explanation) -> str:
    """What the picture shows, in words, for those who do not see it."""
    words = ", ".join(top_words(explanation, 3)) or "none"
    where = _place_in_xray(explanation.map) if explanation.modality == "xray" else _place_in_ecg(explanation)
    study = "chest X-ray" if explanation.modality == "xray" else "12-lead ECG"
    return (
        f"Heat map over a {study}. Cosine to the text {explanation.similarity:.2f}. Most relevance lies {where}. "
        f"Words of most weight: {words}."
    )


def explanation_section(explanations: Sequence[Explanation], png: bytes) -> Section:
    """The picture and its facts for a page."""
    notes: list[Block] = []
    for explanation in explanations:
        name = "X-ray" if explanation.modality == "xray" else "ECG"
        items = [("Similarity", f"{explanation.similarity:.3f} ({name} and text)")]
        if explanation.contrast_similarity is not None:
            items.append(("Contrast", f"{explanation.contrast_similarity:.3f} to: {explanation.contrast}"))
        items += [("Place", alternative(explanation)), ("Prefix", f"{explanation.weights.prefix:.0%} of the relevance")]
        notes.append(Facts(items))
        if explanation.weights.cut:
            notes.append(Words(f"The model did not read the last {explanation.weights.cut} words.", tone="note"))
    caption = (
        "Relevance by gradient-weighted attention. Bright is relevant; each map has its own scale. It shows what the "
        "similarity rests on, not where a disease is."
    )
    alt = " ".join(alternative(explanation) for explanation in explanations)
    return Section("explanation", "Explanation", [Picture(png, alt, caption), *notes])


def _draw_xray(figure: Any, place: Any, explanation: Explanation) -> None:
    left, right, bar = place.subgridspec(1, 3, width_ratios=(1, 1, 0.04), wspace=0.05)
    plain, heated = figure.add_subplot(left), figure.add_subplot(right)
    for axes, title in ((plain, "What the model sees"), (heated, _title(explanation))):
        axes.imshow(explanation.study, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, loc="left")
        axes.set_axis_off()
    heat = _scaled(explanation.map)
    shown = heated.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.25 + 0.45 * heat)
    _bar(figure, figure.add_subplot(bar), shown)


def _draw_ecg(figure: Any, place: Any, explanation: Explanation) -> None:
    left, bar = place.subgridspec(1, 2, width_ratios=(1, 0.02), wspace=0.03)
    axes = figure.add_subplot(left)
    seconds = explanation.study.shape[1] / explanation.rate_hz
    heat = _scaled(_smoothed(explanation.map, explanation.rate_hz))
    top = _LEAD_STEP_MV * len(STANDARD_LEADS)
    shown = axes.imshow(
        heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.75, aspect="auto", interpolation="nearest", extent=(0, seconds, 0, top)
    )
    times = np.arange(explanation.study.shape[1]) / explanation.rate_hz
    middles = top - _LEAD_STEP_MV * (np.arange(len(STANDARD_LEADS)) + 0.5)
    for middle, samples in zip(middles, explanation.study, strict=True):
        # A light edge keeps the tracing visible on dark and on bright heat.
        for colour, width in (("white", 1.7), (INK, 0.7)):
            axes.plot(times, middle + np.clip(samples, -1.5, 1.5), color=colour, linewidth=width)
    axes.set_yticks(middles, STANDARD_LEADS)
    axes.set_xlim(0, seconds)
    axes.set_ylim(0, top)
    axes.set_xticks(np.arange(0, seconds + 1e-9, 1.0))
    axes.set_xticks(np.arange(0, seconds, _LARGE_SQUARE_S), minor=True)
    axes.grid(which="minor", axis="x", color=RULE, linewidth=0.3)
    axes.set_xlabel(f"seconds (fine lines {_LARGE_SQUARE_S:g} s, leads {_LEAD_STEP_MV:g} mV apart)")
    axes.set_title(_title(explanation), loc="left")
    _bar(figure, figure.add_subplot(bar), shown)


def _bar(figure: Any, axes: Any, shown: Any) -> None:
    bar = figure.colorbar(shown, cax=axes)
    bar.set_label("relevance / largest")


def _title(explanation: Explanation) -> str:
    title = f"Relevance for the text: cosine {explanation.similarity:.2f}"
    if explanation.contrast_similarity is not None:
        title += f", contrast {explanation.contrast_similarity:.2f}"
    return title


def _text_lines(explanation: Explanation) -> list[list[tuple[str, float]]]:
    """The words with their weights over the largest, broken into lines."""
    largest = max((weight for _, weight in explanation.words), default=0.0)
    words = [(word, weight / largest if largest > 0 else 0.0) for word, weight in explanation.words]
    lines: list[list[tuple[str, float]]] = [[]]
    used = 0
    for whole, weight in words:
        for word in textwrap.wrap(whole, _COLUMNS) or [whole]:
            if used + len(word) > _COLUMNS and lines[-1]:
                lines.append([])
                used = 0
            lines[-1].append((word, weight))
            used += len(word) + 1
    return lines


def _draw_words(axes: Any, lines: list[list[tuple[str, float]]], explanation: Explanation) -> None:
    import matplotlib

    colours = matplotlib.colormaps[HEAT]
    axes.set_axis_off()
    axes.set_xlim(0, _COLUMNS)
    axes.set_ylim(len(lines) + 1, 0)
    head = f"Words by their share of the relevance; the prefix takes {explanation.weights.prefix:.0%}"
    axes.text(0, 0.45, head, color=QUIET, va="center")
    for row, line in enumerate(lines):
        column = 0
        for word, weight in line:
            box = {"facecolor": colours(weight), "edgecolor": "none", "pad": 1.2}
            # Dollar signs of a report are no formulas.
            axes.text(
                column, row + 1.4, word, va="center", family="DejaVu Sans Mono", fontsize=8.6, parse_math=False,
                color="white" if weight < 0.55 else INK, bbox=box,
            )  # fmt: skip
            column += len(word) + 1


def _scaled(heat: NDArray[np.floating]) -> NDArray[np.float64]:
    largest = float(heat.max())
    return np.asarray(heat / largest if largest > 0 else np.zeros_like(heat), dtype=np.float64)


def _smoothed(heat: NDArray[np.floating], rate_hz: int) -> NDArray[np.float64]:
    """Averaged over 0.1 s: single samples are thinner than a line of the picture."""
    width = max(1, round(0.1 * rate_hz))
    return np.stack([np.convolve(row, np.ones(width) / width, mode="same") for row in heat])


def _place_in_xray(heat: NDArray[np.floating]) -> str:
    size = heat.shape[0]
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    height = ("in the upper", "in the middle", "in the lower")[min(2, 3 * int(row) // size)]
    side = ("left", "middle", "right")[min(2, 3 * int(column) // size)]
    return f"{height} third of the picture, at its {side}" if side != "middle" else f"{height} third of the picture"


def _place_in_ecg(explanation: Explanation) -> str:
    heat = explanation.map
    leads = [STANDARD_LEADS[place] for place in np.argsort(-heat.sum(axis=1), kind="stable")[:3]]
    width = max(1, explanation.rate_hz // 2)
    by_time = heat.sum(axis=0)
    whole = by_time[: len(by_time) // width * width].reshape(-1, width).sum(axis=1)
    start = int(whole.argmax()) * width / explanation.rate_hz
    return f"in leads {', '.join(leads)} and around {start:.1f} to {start + width / explanation.rate_hz:.1f} s"
