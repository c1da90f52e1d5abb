"""X-rays and ECGs as a physician expects them: the X-ray as a picture, the ECG on millimetre paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from more_model.data.leads import STANDARD_LEADS

#: Paper speed 25 mm/s and 10 mm/mV: the standard of a printed 12-lead ECG.
MM_PER_S, MM_PER_MV = 25.0, 10.0
#: Printed in three rows of four leads, each shown for a quarter of the record, above one lead in full length.
_ROWS = ((0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11))
_RHYTHM_LEAD = 1
_ROW_MM_LEAST, _ROW_MM_MOST = 22.0, 60.0
_LEFT_MM, _TOP_MM = 8.0, 4.0
_MOST_POINTS_PER_S = 130


def png_data_uri(pixels: NDArray[np.uint8]) -> str:
    """uint8 [H, W] as a ``data:`` address of a greyscale PNG."""
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(packed, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


def ecg_paper(signal_mv: NDArray[np.floating], rate_hz: int, prefix: str) -> str:
    """float [12, samples] in mV as SVG on millimetre paper, one unit of the drawing per millimetre.

    The grid is 1 mm = 0.04 s = 0.1 mV with a heavier line every 5 mm. Samples that are not finite leave a gap.
    """
    signal = _finite_or_gap(signal_mv)
    seconds = signal.shape[1] / rate_hz
    row_mm = _row_mm(signal)
    width, height = _LEFT_MM + seconds * MM_PER_S + 4, _TOP_MM + 4 * row_mm
    parts = [_paper(prefix, width, height)]
    for row, leads in enumerate(_ROWS):
        middle = _TOP_MM + row_mm * (row + 0.55)
        parts.append(_pulse(middle))
        for column, lead in enumerate(leads):
            start, stop = (round(signal.shape[1] * quarter / len(leads)) for quarter in (column, column + 1))
            left = _LEFT_MM + start / rate_hz * MM_PER_S
            parts.append(_trace(signal[lead, start:stop], rate_hz, left, middle))
            parts.append(_name(STANDARD_LEADS[lead], left, middle - row_mm * 0.36, divider=column > 0))
    parts.append(_rhythm(signal, rate_hz, _TOP_MM + row_mm * 3.55, row_mm))
    return _drawing(width, height, parts)


def ecg_strip(signal_mv: NDArray[np.floating], rate_hz: int, prefix: str) -> str:
    """The rhythm lead (II) of float [12, samples] in mV alone, in full length, drawn as by `ecg_paper`."""
    signal = _finite_or_gap(signal_mv)
    row_mm = _row_mm(signal[_RHYTHM_LEAD : _RHYTHM_LEAD + 1])
    width, height = _LEFT_MM + signal.shape[1] / rate_hz * MM_PER_S + 4, _TOP_MM + row_mm
    strip = _rhythm(signal, rate_hz, _TOP_MM + row_mm * 0.55, row_mm)
    return _drawing(width, height, [_paper(prefix, width, height), strip])


def _finite_or_gap(signal_mv: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.where(np.isfinite(signal_mv), signal_mv, np.nan).astype(np.float64)


def _row_mm(signal: NDArray[np.float64]) -> float:
    """Room for one row: what the tallest lead needs, in whole squares of 5 mm."""
    spread = signal[np.isfinite(signal)]
    tallest_mv = float(np.ptp(np.percentile(spread, (0.1, 99.9)))) if spread.size else 0.0
    return float(np.clip(5 * np.ceil(tallest_mv * MM_PER_MV * 1.1 / 5), _ROW_MM_LEAST, _ROW_MM_MOST))


def _rhythm(signal: NDArray[np.float64], rate_hz: int, middle: float, row_mm: float) -> str:
    trace = _trace(signal[_RHYTHM_LEAD], rate_hz, _LEFT_MM, middle)
    return _pulse(middle) + trace + _name(STANDARD_LEADS[_RHYTHM_LEAD], _LEFT_MM, middle - row_mm * 0.36, divider=False)


def _drawing(width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg class="ecg" viewBox="0 0 {width:.0f} {height:.0f}" aria-hidden="true" focusable="false">'
    return f"{head}{''.join(parts)}</svg>"


def _paper(prefix: str, width: float, height: float) -> str:
    return (
        f'<defs><pattern id="{prefix}-mm" width="1" height="1" patternUnits="userSpaceOnUse">'
        '<path d="M1 0H0V1" fill="none" stroke="#f6cfcf" stroke-width="0.12"/></pattern>'
        f'<pattern id="{prefix}-cm" width="5" height="5" patternUnits="userSpaceOnUse">'
        f'<rect width="5" height="5" fill="url(#{prefix}-mm)"/>'
        '<path d="M5 0H0V5" fill="none" stroke="#e79a9a" stroke-width="0.25"/></pattern></defs>'
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="#fffafa"/>'
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="url(#{prefix}-cm)"/>'
    )


def _pulse(middle: float) -> str:
    """The calibration mark: 1 mV high, 0.12 s wide."""
    outline = f"M1.5 {middle:.2f}h1v-{MM_PER_MV:.0f}h3v{MM_PER_MV:.0f}h1"
    return f'<path d="{outline}" fill="none" stroke="#1c2430" stroke-width="0.35"/>'


def _name(lead: str, left: float, top: float, *, divider: bool) -> str:
    mark = f'<path d="M{left:.2f} {top - 1:.2f}v4" stroke="#1c2430" stroke-width="0.3"/>' if divider else ""
    place = f'x="{left + 1.2:.2f}" y="{top + 1.6:.2f}"'
    return f'{mark}<text {place} font-size="4" font-weight="600" fill="#1c2430">{lead}</text>'


def _trace(samples_mv: NDArray[np.float64], rate_hz: int, left: float, middle: float) -> str:
    """One lead as a path; runs of finite samples are drawn, gaps are left open."""
    times, values = _thinned(samples_mv, rate_hz)
    across = left + times * MM_PER_S
    up = middle - values * MM_PER_MV
    drawing, pen_down = [], False
    for x, y in zip(across.tolist(), up.tolist(), strict=True):
        if y != y:
            pen_down = False
            continue
        drawing.append(f"{'L' if pen_down else 'M'}{x:.2f} {y:.2f}")
        pen_down = True
    return f'<path d="{"".join(drawing)}" fill="none" stroke="#10151d" stroke-width="0.32" stroke-linejoin="round"/>'


def _thinned(samples_mv: NDArray[np.float64], rate_hz: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times (s) and values (mV). Fast records keep the lowest and highest sample of each bin, so no R peak is lost."""
    times = np.arange(samples_mv.size) / rate_hz
    per_bin = 2 * rate_hz // _MOST_POINTS_PER_S
    if rate_hz <= _MOST_POINTS_PER_S or per_bin < 2:
        return times, samples_mv
    whole = samples_mv.size // per_bin * per_bin
    bins = samples_mv[:whole].reshape(-1, per_bin)
    bare = np.logical_and.reduce(np.isnan(bins), axis=1)
    safe_low, safe_high = np.where(np.isnan(bins), np.inf, bins), np.where(np.isnan(bins), -np.inf, bins)
    picks = np.sort(np.stack([safe_low.argmin(axis=1), safe_high.argmax(axis=1)], axis=1), axis=1)
    rows = np.arange(len(bins))[:, None]
    values = np.where(bare[:, None], np.nan, bins[rows, picks])
    return times[:whole].reshape(-1, per_bin)[rows, picks].ravel(), values.ravel()
