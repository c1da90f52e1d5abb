"""Pictures as readers get them: PNG files made anew from the pixels, so that no header, comment or name comes along."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from more_model.data.leads import STANDARD_LEADS
from more_model.errors import InputRefused

if TYPE_CHECKING:
    from PIL.Image import Image

#: Longest side of a picture unless said otherwise: a film is still legible, a hundred cases still fit one page.
MAX_SIDE_PX = 1024

#: Paper of a printed ECG: 25 mm/s and 10 mm/mV; drawn at this many pixels per millimetre.
_MM_PER_S, _MM_PER_MV, _PX_PER_MM = 25.0, 10.0, 4
_LEAD_MM, _MARGIN_MM = 18, 10
_SECONDS_SHOWN = 10.0
_PAPER, _FINE, _COARSE, _TRACE = (255, 255, 255), (250, 226, 226), (236, 178, 178), (16, 21, 29)


def picture_png(path: Path, max_side_px: int = MAX_SIDE_PX) -> bytes:
    """A picture file, or a ``.npy`` of uint8 [H, W], as PNG bytes: 8 bits, no metadata, at most ``max_side_px`` long.

    Raises InputRefused (``missing-file``, ``unreadable-picture``).
    """
    from PIL import Image, UnidentifiedImageError

    if path.suffix == ".npy":
        array = _array(path)
        if array.dtype != np.uint8 or array.ndim != 2:
            raise InputRefused(
                "unreadable-picture", f"an array of {array.dtype} {list(array.shape)}, expected uint8 [H, W]"
            )
        return encode_png(Image.fromarray(array), max_side_px)
    _require(path)
    try:
        with Image.open(path) as picture:
            return encode_png(_eight_bits(picture), max_side_px)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputRefused("unreadable-picture", "the file is no picture that can be read") from error


def encode_png(picture: Image, max_side_px: int = MAX_SIDE_PX) -> bytes:
    """The pixels alone as PNG bytes."""
    picture.thumbnail((max_side_px, max_side_px))
    # Nothing of ``info`` (text, EXIF, colour profile) is handed over.
    picture.info = {}
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def ecg_png(path: Path, rate_hz: float) -> bytes:
    """A ``.npy`` of float [12, samples] (mV, leads in the usual order) as a picture of ECG paper, see `draw_ecg`.

    Raises InputRefused (``missing-file``, ``unreadable-array``, ``wrong-shape``).
    """
    signal = _array(path)
    if signal.ndim != 2 or len(signal) != len(STANDARD_LEADS) or signal.shape[1] < 2 or signal.dtype.kind not in "fiu":
        raise InputRefused("wrong-shape", f"an array of {signal.dtype} {list(signal.shape)}, expected [12, samples]")
    return draw_ecg(signal.astype(np.float64), rate_hz)


def draw_ecg(signal_mv: NDArray[np.floating], rate_hz: float) -> bytes:
    """All twelve leads below each other, at most ten seconds at 25 mm/s and 10 mm/mV, as PNG bytes.

    ``signal_mv`` is float [12, samples]; samples that are NaN leave a gap. A deflection beyond the paper is cut off.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = signal_mv[:, : int(_SECONDS_SHOWN * rate_hz)]
    width_mm = int(np.ceil(shown.shape[1] / rate_hz * _MM_PER_S)) + 2 * _MARGIN_MM
    height_mm = _LEAD_MM * len(shown) + 2 * _MARGIN_MM
    paper = Image.new("RGB", (width_mm * _PX_PER_MM, height_mm * _PX_PER_MM), _PAPER)
    canvas = ImageDraw.Draw(paper)
    _rule(canvas, width_mm, height_mm)
    font = ImageFont.load_default(size=4 * _PX_PER_MM)
    for row, (name, lead) in enumerate(zip(STANDARD_LEADS, shown, strict=True)):
        middle_mm = _MARGIN_MM + _LEAD_MM * (row + 0.5)
        _trace(canvas, lead, rate_hz, middle_mm, height_mm)
        canvas.text((_PX_PER_MM, (middle_mm - 6) * _PX_PER_MM), name, fill=_TRACE, font=font)
    return encode_png(paper, max_side_px=max(paper.size))


def _rule(canvas: Any, width_mm: int, height_mm: int) -> None:
    # The fine lines first, or they would cross the coarse ones.
    for step, colour in ((1, _FINE), (5, _COARSE)):
        for across in range(0, width_mm + 1, step):
            x = across * _PX_PER_MM
            canvas.line([(x, 0), (x, height_mm * _PX_PER_MM)], fill=colour)
        for down in range(0, height_mm + 1, step):
            y = down * _PX_PER_MM
            canvas.line([(0, y), (width_mm * _PX_PER_MM, y)], fill=colour)


def _trace(canvas: Any, lead_mv: NDArray[np.floating], rate_hz: float, middle_mm: float, height_mm: int) -> None:
    x = (_MARGIN_MM + np.arange(len(lead_mv)) / rate_hz * _MM_PER_S) * _PX_PER_MM
    y = np.clip(middle_mm - lead_mv * _MM_PER_MV, 0, height_mm) * _PX_PER_MM
    known = np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        canvas.line(list(zip(x[start:stop].tolist(), y[start:stop].tolist(), strict=True)), fill=_TRACE, width=2)


def _array(path: Path) -> NDArray[Any]:
    _require(path)
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputRefused("unreadable-array", "the file is no .npy array without pickle") from error
    return array


def _require(path: Path) -> None:
    if not path.is_file():
        # The name may be that of a patient; the line that names it says where to look.
        raise InputRefused("missing-file", "there is no such file")


def _eight_bits(picture: Image) -> Image:
    """Grey or colour in 8 bits; deeper grey is scaled from its own lowest to its own highest value."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float64)
        low, span = values.min(), np.ptp(values) or 1.0
        return Image.fromarray(((values - low) / span * 255).round().astype(np.uint8))
    return picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
