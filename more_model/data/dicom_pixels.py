"""From the stored values of one DICOM image to grey levels in [0, 1] with 0 = air and 1 = dense.

Order of DICOM PS3.3 C.11: modality LUT, VOI LUT or window, then the inversion that MONOCHROME1 asks for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from more_model.data.dicom_file import numbers_of, text_of
from more_model.data.packages import load_package
from more_model.errors import EnvironmentFault, InputRefused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MIN_SIDE_PX: Final = 32
MAX_PIXELS: Final = 64 * 2**20

_PIXEL_TAG: Final = b"\xe0\x7f\x10\x00"
_PIXEL_ELEMENTS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_GREY: Final = ("MONOCHROME1", "MONOCHROME2")
# Share of pixels cut off at either end where an image states no window: markers, collimator edges and dead pixels.
_CLIPPED_PERCENT: Final = 0.5


def check_size(width: int, height: int) -> None:
    """Raises `InputRefused` ("too-small", "too-large"); judged from the header, before anything is decoded."""
    if min(width, height) < MIN_SIDE_PX:
        raise InputRefused("too-small", f"The image is {width} x {height} pixels; {MIN_SIDE_PX} a side are needed.")
    if width * height > MAX_PIXELS:
        raise InputRefused("too-large", f"The image is {width} x {height} pixels; the limit is {MAX_PIXELS} in all.")


def check_header(dataset: Dataset) -> None:
    """Raises `InputRefused` ("bad-header", "multi-frame", "no-pixel-data" and those of `check_size`)."""
    frames = numbers_of(dataset, "NumberOfFrames")
    if not frames and text_of(dataset, "NumberOfFrames"):
        raise InputRefused("bad-header", "The number of frames is not a number.")
    if frames and frames[0] > 1:
        raise InputRefused("multi-frame", f"The file holds {frames[0]:.0f} frames (a cine loop or a volume).")
    rows, columns = numbers_of(dataset, "Rows"), numbers_of(dataset, "Columns")
    if not rows and not columns:
        raise InputRefused("no-pixel-data", "The DICOM file holds no image.")
    if not rows or not columns:
        raise InputRefused("bad-header", "The header does not state both rows and columns.")
    check_size(int(columns[0]), int(rows[0]))
    photometric = text_of(dataset, "PhotometricInterpretation")
    if photometric not in {*_GREY, "RGB", "PALETTE COLOR"} and not photometric.startswith("YBR_"):
        raise InputRefused("bad-header", "The header does not say, in terms of DICOM, what the pixel values mean.")


def grey_levels(dataset: Dataset) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """float32 [rows, columns] in [0, 1] and what was corrected. Expects a data set that passed `check_header`.

    Raises `InputRefused`: no-pixel-data, unknown-transfer-syntax, truncated-pixels, damaged-pixels, bad-header,
    constant-image; `EnvironmentFault` where the decoder of this compression is not installed.
    """
    stored = _decode(dataset)
    photometric = text_of(dataset, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        processing = load_package("pydicom.pixels", "read DICOM files")
        stored = _guarded(lambda: processing.apply_color_lut(stored, dataset), "bad-header", "The palette is damaged.")
        return rgb_to_grey(stored), ("palette-to-grey",)
    if stored.ndim == 3:
        return rgb_to_grey(stored, _full_scale(dataset)), ("rgb-to-grey",)
    if photometric not in _GREY:
        raise InputRefused("bad-header", "The photometric interpretation does not fit the pixels.")
    padding = _padding_mask(stored, dataset)
    values, corrections = _apply_modality_lut(stored, dataset)
    grey, how = _apply_voi(values, dataset, padding)
    corrections += how
    if photometric == "MONOCHROME1":
        grey = 1.0 - grey
        corrections.append("monochrome1-inverted")
    if padding is not None:
        grey[padding] = 0.0
        corrections.append("padding-blackened")
    return grey, tuple(corrections)


def rgb_to_grey(pixels: npt.NDArray[Any], full_scale: float | None = None) -> npt.NDArray[np.float32]:
    """ITU-R BT.601 luma of [rows, columns, 3] integers; ``full_scale`` is the largest possible value of their type."""
    scale = full_scale or float(np.iinfo(pixels.dtype).max)
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32) / np.float32(scale)
    luma: npt.NDArray[np.float32] = pixels[..., :3].astype(np.float32) @ weights
    return np.clip(luma, 0.0, 1.0)


def percentile_rescale(
    values: npt.NDArray[Any], padding: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float32]:
    """Maps the bulk of the values to [0, 1]; the extreme 0.5 % at either end are clipped.

    Raises `InputRefused` ("constant-image").
    """
    real = values if padding is None else values[~padding]
    # A regular sample is enough for percentiles and keeps large images fast.
    sample = real.reshape(-1)[:: max(1, real.size // 2**20)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0 or float(np.ptp(sample)) == 0.0:
        raise InputRefused("constant-image", "All pixels of the image have the same value.")
    low, high = np.percentile(sample, [_CLIPPED_PERCENT, 100.0 - _CLIPPED_PERCENT])
    if low == high:
        low, high = sample.min(), sample.max()
    scaled: npt.NDArray[np.float32] = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)


def _decode(dataset: Dataset) -> npt.NDArray[Any]:
    pixels = load_package("pydicom.pixels", "read DICOM files")
    present = [keyword for keyword in _PIXEL_ELEMENTS if keyword in dataset]
    if not present:
        # pydicom leaves out a last element that the file does not hold completely.
        if dataset.filename and _PIXEL_TAG in Path(dataset.filename).read_bytes():
            raise InputRefused("truncated-pixels", "The file ends inside the pixels.", remedy="transfer the file again")
        raise InputRefused("no-pixel-data", "The header describes an image, but there are no pixels.")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError as error:
        raise InputRefused("unknown-transfer-syntax", "The transfer syntax of the pixels is not supported.") from error
    if not decoder.is_available:
        raise EnvironmentFault(
            f"No installed package decodes {syntax.name}.",
            remedy="install pylibjpeg with pylibjpeg-libjpeg, pylibjpeg-openjpeg and pylibjpeg-rle",
        )
    if not syntax.is_encapsulated and len(dataset[present[0]].value or b"") < _expected_bytes(dataset):
        raise InputRefused(
            "truncated-pixels", "There are fewer pixels than the header announces.", remedy="transfer the file again"
        )
    return _guarded(lambda: np.asarray(pixels.pixel_array(dataset)), "damaged-pixels", "The pixels cannot be decoded.")


def _guarded(compute: Any, reason: str, cause: str) -> npt.NDArray[Any]:
    try:
        result: npt.NDArray[Any] = compute()
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # Decoders raise nearly every built-in exception on damaged streams; those written in Rust raise a panic, which
        # is no `Exception`: uncaught, one damaged file would end a whole ingest.
        raise InputRefused(reason, cause, remedy="transfer the file again or export it uncompressed") from error
    return result


def _expected_bytes(dataset: Dataset) -> int:
    pixels = load_package("pydicom.pixels.utils", "read DICOM files")
    try:
        return int(pixels.get_expected_length(dataset, unit="bytes"))
    except Exception as error:  # missing or nonsensical elements raise several exceptions
        raise InputRefused("bad-header", "The header does not describe its pixels completely.") from error


def _full_scale(dataset: Dataset) -> float:
    bits = numbers_of(dataset, "BitsStored")
    return 2.0 ** bits[0] - 1.0 if bits and 1 <= bits[0] <= 32 else 255.0


def _padding_mask(stored: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.bool_] | None:
    """Pixels outside the picture: Pixel Padding Value, or the range up to its limit (PS3.3 C.7.5.1.1.2)."""
    value = numbers_of(dataset, "PixelPaddingValue")
    if not value:
        return None
    limit = numbers_of(dataset, "PixelPaddingRangeLimit") or value
    low, high = min(value[0], limit[0]), max(value[0], limit[0])
    mask: npt.NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return mask if mask.any() and not mask.all() else None


def _apply_modality_lut(stored: npt.NDArray[Any], dataset: Dataset) -> tuple[npt.NDArray[Any], list[str]]:
    pixels = load_package("pydicom.pixels", "read DICOM files")
    if dataset.get("ModalityLUTSequence"):
        cause = "The modality lookup table is damaged."
        return _guarded(lambda: pixels.apply_modality_lut(stored, dataset), "bad-header", cause), ["modality-lut"]
    slope, intercept = numbers_of(dataset, "RescaleSlope"), numbers_of(dataset, "RescaleIntercept")
    if not slope or not intercept or (slope[0], intercept[0]) == (1.0, 0.0) or slope[0] == 0.0:
        return stored, []
    return stored.astype(np.float64) * slope[0] + intercept[0], ["rescale-slope"]


def _apply_voi(
    values: npt.NDArray[Any], dataset: Dataset, padding: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray[np.float32], list[str]]:
    if float(values.min()) == float(values.max()):
        raise InputRefused("constant-image", "All pixels of the image have the same value.")
    if dataset.get("VOILUTSequence"):
        return _apply_voi_lut(values, dataset), ["voi-lut"]
    center, width = numbers_of(dataset, "WindowCenter"), numbers_of(dataset, "WindowWidth")
    notes: list[str] = []
    if center and width:
        grey = _window(values, center[0], width[0], text_of(dataset, "VOILUTFunction"))
        if grey is not None and float(np.ptp(np.percentile(grey[::4, ::4], [1.0, 99.0]))) > 0.0:
            return grey, ["voi-window"]
        notes.append("voi-window-unusable")
    full_scale = _full_scale(dataset)
    if not notes and full_scale == 255.0 and values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(full_scale), notes
    return percentile_rescale(values, padding), [*notes, "percentile-rescaled"]


def _apply_voi_lut(values: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.float32]:
    """The looked-up value over the span of the table's own entries (the announced bit depth is often wrong)."""
    pixels = load_package("pydicom.pixels", "read DICOM files")
    whole = values if np.issubdtype(values.dtype, np.integer) else np.rint(values).astype(np.int64)
    looked_up = _guarded(lambda: pixels.apply_voi(whole, dataset), "bad-header", "The VOI lookup table is damaged.")
    probe = _guarded(lambda: pixels.apply_voi(_table_inputs(dataset), dataset), "bad-header", "The VOI LUT is damaged.")
    low, high = float(probe.min()), float(probe.max())
    if low == high or float(looked_up.min()) == float(looked_up.max()):
        raise InputRefused("constant-image", "The VOI lookup table maps all pixels to one value.")
    return (looked_up.astype(np.float32) - np.float32(low)) / np.float32(high - low)


def _table_inputs(dataset: Dataset) -> npt.NDArray[np.int64]:
    entries, first, _ = (int(value) for value in dataset.VOILUTSequence[0].LUTDescriptor)
    return np.arange(first, first + (entries or 2**16), dtype=np.int64)


def _window(values: npt.NDArray[Any], center: float, width: float, function: str) -> npt.NDArray[np.float32] | None:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3 (linear, linear exact, sigmoid) scaled to [0, 1]; None for an absurd width."""
    exact = function in {"LINEAR_EXACT", "SIGMOID"}
    if width <= 0.0 or (not exact and width < 1.0):
        return None
    levels = values.astype(np.float32)
    if function == "SIGMOID":
        exponent = np.clip(-4.0 * (levels - np.float32(center)) / np.float32(width), -80.0, 80.0)
        return np.asarray(1.0 / (1.0 + np.exp(exponent)), dtype=np.float32)
    offset, span = (center, width) if exact else (center - 0.5, max(width - 1.0, 1e-6))
    linear: npt.NDArray[np.float32] = (levels - np.float32(offset)) / np.float32(span) + np.float32(0.5)
    return np.clip(linear, 0.0, 1.0)
