"""Reading one X-ray image: DICOM, JPEG or PNG, to grey levels that mean the same thing everywhere."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from more_model.data.dicom_file import guarded_pydicom, image_facts, is_bare_dicom, is_dicom, open_dicom, text_of
from more_model.data.dicom_pixels import check_header, check_size, grey_levels, percentile_rescale, rgb_to_grey
from more_model.data.gate import StudyGate, pass_gate
from more_model.data.packages import load_package
from more_model.data.radiograph import check_radiograph
from more_model.errors import InputRefused

_JPEG_MAGIC: Final = b"\xff\xd8\xff"
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, eq=False)
class XrayImage:
    """One radiograph: ``pixels`` float32 [height, width] in [0, 1], 0 = air (dark), 1 = dense (bright).

    ``corrections`` are short codes of what was changed on the way; ``facts`` come from a fixed list of header
    elements that identify nobody.
    """

    pixels: npt.NDArray[np.float32]
    corrections: tuple[str, ...]
    facts: dict[str, str]


def is_raster(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a JPEG or PNG file."""
    return head.startswith((_JPEG_MAGIC, _PNG_MAGIC))


def read_xray(
    path: Path,
    *,
    allow_non_chest: bool = False,
    allow_unknown_modality: bool = False,
    gate: StudyGate | None = None,
) -> XrayImage:
    """The image in ``path``, whatever its file name says.

    With ``allow_non_chest`` any single-frame image is returned (other modality, other body part); training must not use
    it. A DICOM file that names no modality is refused unless ``allow_unknown_modality``. JPEG and PNG name none and are
    taken on trust. ``gate`` sees the header, or the notes beside the pixels, and the grey levels. Raises `InputRefused`
    with the reasons of `more_model.data.dicom_file`, `.dicom_pixels`, `.radiograph` and `.gate`, besides
    file-not-found, unknown-format, truncated-pixels and damaged-pixels.
    """
    if not path.is_file():
        raise InputRefused("file-not-found", "There is no such file.")
    with path.open("rb") as file:
        head = file.read(132)
    if is_raster(head):
        return _read_raster(path, gate)
    if is_dicom(path):
        return _read_dicom(path, allow_non_chest, allow_unknown_modality, gate)
    if is_bare_dicom(head):
        raise InputRefused(
            "no-dicom-header",
            "The DICOM data set lacks its preamble and file meta header, so its encoding is not known.",
            remedy="export it again as a DICOM Part 10 file",
        )
    raise InputRefused("unknown-format", "The file is neither DICOM (with its preamble) nor JPEG nor PNG.")


def _read_dicom(path: Path, allow_non_chest: bool, allow_unknown_modality: bool, gate: StudyGate | None) -> XrayImage:
    with guarded_pydicom():
        header = open_dicom(path, pixels=False)
        if not allow_non_chest:
            modality, body_part = text_of(header, "Modality"), text_of(header, "BodyPartExamined")
            check_radiograph(modality, body_part, allow_unknown_modality=allow_unknown_modality)
        check_header(header)
        dataset = open_dicom(path)
        levels, corrections = grey_levels(dataset)
        pixels = _checked(levels)
        facts = image_facts(dataset)
        pass_gate(gate, dataset=dataset, pixels=pixels)
    return XrayImage(pixels, corrections, facts)


def _read_raster(path: Path, gate: StudyGate | None) -> XrayImage:
    image_module = load_package("PIL.Image", "read JPEG and PNG files")
    try:
        with warnings.catch_warnings():
            # Pillow's bomb warning: `check_size` refuses earlier and with a reason.
            warnings.simplefilter("ignore")
            with image_module.open(path, formats=("JPEG", "PNG")) as image:
                check_size(*image.size)
                if getattr(image, "n_frames", 1) > 1:
                    raise InputRefused("multi-frame", f"The file holds {image.n_frames} frames.")
                mode, size = image.mode, image.size
                image.load()
                levels, corrections = _raster_levels(image)
                notes = {**image.info, **image.getexif()}
                facts = {"format": str(image.format), "mode": mode, "source_size": f"{size[0]}x{size[1]}"}
    except InputRefused:
        raise
    except image_module.DecompressionBombError as error:
        raise InputRefused("too-large", "The image has far more pixels than any radiograph.") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and struct.error on damaged files
        truncated = "truncated" in str(error)
        reason = "truncated-pixels" if truncated else "damaged-pixels"
        cause = "The image file ends too early." if truncated else "The image file is damaged."
        raise InputRefused(reason, cause, remedy="transfer the file again") from error
    pixels = _checked(levels)
    # Out here, because a fault of the gate is not one of the file.
    pass_gate(gate, notes=notes, pixels=pixels)
    return XrayImage(pixels, corrections, facts)


def _raster_levels(image: Any) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """Grey levels of a decoded Pillow image and what was corrected."""
    operations = load_package("PIL.ImageOps", "read JPEG and PNG files")
    corrections: list[str] = []
    upright = operations.exif_transpose(image)
    if image.getexif().get(0x0112, 1) != 1:
        corrections.append("exif-rotated")
    if upright.mode.startswith("I") or upright.mode == "F":
        return percentile_rescale(np.asarray(upright)), (*corrections, "percentile-rescaled")
    if "A" in upright.mode or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        if upright.getchannel("A").getextrema()[0] < 255:
            background = load_package("PIL.Image", "read JPEG and PNG files").new("RGBA", upright.size, (0, 0, 0, 255))
            background.alpha_composite(upright)
            upright = background
            corrections.append("transparency-blackened")
        else:
            corrections.append("alpha-dropped")
    if upright.mode in {"L", "1"}:
        return np.asarray(upright.convert("L"), dtype=np.float32) / np.float32(255.0), tuple(corrections)
    corrections.append("rgb-to-grey")
    return rgb_to_grey(np.asarray(upright.convert("RGB"))), tuple(corrections)


def _checked(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The contract of `XrayImage.pixels`; a picture of one grey level is refused."""
    if float(pixels.min()) == float(pixels.max()):
        raise InputRefused("constant-image", "All pixels of the image have the same value.")
    return np.ascontiguousarray(pixels, dtype=np.float32)


def to_square(pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.uint8]:
    """uint8 [size, size] from grey levels in [0, 1]: aspect kept, centred, padded with 0.

    Shrinking averages over the area of each new pixel (no aliasing), enlarging is bilinear.
    """
    image_module = load_package("PIL.Image", "resize images")
    height, width = pixels.shape
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    resampling = image_module.Resampling.BOX if scale < 1.0 else image_module.Resampling.BILINEAR
    image = image_module.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    small = np.asarray(image.resize((new_width, new_height), resampling), dtype=np.float32)
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    grey = np.clip(np.rint(small * 255.0), 0, 255).astype(np.uint8)
    square[top : top + new_height, left : left + new_width] = grey
    return square
