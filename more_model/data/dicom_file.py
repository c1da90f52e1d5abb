"""Opening a DICOM file without trusting it, and the few header facts that may be shown.

Messages of pydicom can quote header values, so none of them is passed on, logged or printed.
"""

from __future__ import annotations

import errno
import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from more_model.data.packages import load_package
from more_model.data.radiograph import known_body_part
from more_model.errors import InputRefused, MoreError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_DICOM_BYTES: Final = 512 * 2**20

_SMALL_FILE_BYTES: Final = 64 * 2**20
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_PREAMBLE_BYTES: Final = 128
_VIEWS: Final = re.compile(r"AP|PA|LL|RL|LAT|LATERAL|[RL]L[DO]|[RL][PA]O")


def is_dicom(path: Path) -> bool:
    """Whether the file carries the DICOM mark after its preamble."""
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES + 4)[_PREAMBLE_BYTES:] == b"DICM"


def is_bare_dicom(head: bytes) -> bool:
    """Whether a file begins like a DICOM data set whose preamble was lost: an early element of group 0002 or 0008."""
    little, big = (int.from_bytes(head[:2], order) for order in ("little", "big"))
    early = little in {2, 8} or big in {2, 8}
    implicit_length = int.from_bytes(head[4:8], "little") < 256
    return len(head) >= 8 and early and (implicit_length or (head[4:6].isalpha() and head[4:6].isupper()))


@contextmanager
def guarded_pydicom() -> Iterator[None]:
    """Keeps pydicom's warnings, which quote header values, off the screen and out of logs.

    Values are parsed when they are first used, so any access may fail: whatever pydicom raises inside becomes
    `InputRefused` ("damaged-dicom").
    """
    config = load_package("pydicom.config", "read DICOM files")
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except (MoreError, MemoryError):
        raise
    except Exception as error:  # pydicom raises nearly every built-in exception on damaged files
        # Only the operating system sets an error number; a seek to nowhere is the file's fault all the same.
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            raise
        raise InputRefused("damaged-dicom", "The DICOM header cannot be parsed.") from error
    finally:
        logger.disabled = was_disabled


def open_dicom(path: Path, *, pixels: bool = True) -> Dataset:
    """The data set of a DICOM file, or only what stands before its pixels. Call it inside `guarded_pydicom`.

    Raises `InputRefused`: file-not-found, too-large, no-dicom-header, unknown-transfer-syntax, truncated-file,
    damaged-dicom.
    """
    pydicom = load_package("pydicom", "read DICOM files")
    if not path.is_file():
        raise InputRefused("file-not-found", "There is no such file.")
    if path.stat().st_size > MAX_DICOM_BYTES:
        raise InputRefused("too-large", f"The DICOM file is larger than {MAX_DICOM_BYTES // 2**20} MiB.")
    if not is_dicom(path):
        raise InputRefused(
            "no-dicom-header",
            "The file lacks the DICOM preamble and file meta header.",
            remedy="export it again as a DICOM Part 10 file",
        )
    try:
        _check_inflated_size(path)
        dataset: Dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
    except EOFError as error:
        raise InputRefused("truncated-file", "The DICOM file ends in the middle of an element.") from error
    except MemoryError as error:
        # A buffer is reserved for whatever length an element announces, however short the file is.
        if path.stat().st_size > _SMALL_FILE_BYTES:
            raise
        raise InputRefused("damaged-dicom", "An element announces more bytes than the file holds.") from error
    if not dataset.file_meta.get("TransferSyntaxUID"):
        raise InputRefused(
            "unknown-transfer-syntax",
            "The file meta header names no transfer syntax, so the pixels cannot be decoded with certainty.",
            remedy="export the study again from the archive",
        )
    return dataset


def _check_inflated_size(path: Path) -> None:
    """Refuses a deflated data set that would grow past the limit, without inflating more than that."""
    reader = load_package("pydicom.filereader", "read DICOM files")
    meta = reader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != _DEFLATED or "FileMetaInformationGroupLength" not in meta:
        return
    start = _PREAMBLE_BYTES + 4 + 12 + int(meta.FileMetaInformationGroupLength)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(start)
        inflated_bytes = 0
        while chunk := inflater.unconsumed_tail or file.read(2**16):
            inflated_bytes += len(inflater.decompress(chunk, 2**20))
            if inflated_bytes > MAX_DICOM_BYTES:
                raise InputRefused("too-large", f"The deflated data set grows past {MAX_DICOM_BYTES // 2**20} MiB.")
            if inflater.eof:
                return


def text_of(dataset: Dataset, keyword: str) -> str:
    """A header value as one upper-case string; empty where it is missing or unreadable."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else " ".join(str(value).upper().split())
    except Exception:  # noqa: BLE001 - a value that cannot be converted counts as absent
        return ""


def numbers_of(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """All values of a numeric header element; empty where it is missing or one of them is not a number."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        many = value if not isinstance(value, str) and hasattr(value, "__iter__") else [value]
        return tuple(float(item) for item in many)
    except Exception:  # noqa: BLE001 - a value that cannot be converted counts as absent
        return ()


def image_facts(dataset: Dataset) -> dict[str, str]:
    """Facts about an image that identify nobody, from a fixed list of elements."""
    rows, columns = numbers_of(dataset, "Rows"), numbers_of(dataset, "Columns")
    view = text_of(dataset, "ViewPosition")
    facts = {
        "format": "DICOM",
        "transfer_syntax": str(dataset.file_meta.TransferSyntaxUID.name),
        "modality": _code(text_of(dataset, "Modality")),
        "body_part": known_body_part(text_of(dataset, "BodyPartExamined")),
        "view": view if not view or _VIEWS.fullmatch(view) else "other",
        "manufacturer": _printable(text_of(dataset, "Manufacturer")),
        "photometric": _code(text_of(dataset, "PhotometricInterpretation")),
        "bits_stored": _first_integer(dataset, "BitsStored"),
        "source_size": f"{columns[0]:.0f}x{rows[0]:.0f}" if rows and columns else "",
    }
    return {name: value for name, value in facts.items() if value}


def _code(text: str) -> str:
    """A short code string; longer or stranger text is not shown."""
    return text if len(text) <= 16 and text.replace(" ", "").replace("_", "").isalnum() else "other" if text else ""


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:64]


def _first_integer(dataset: Dataset, keyword: str) -> str:
    values = numbers_of(dataset, keyword)
    return f"{values[0]:.0f}" if values else ""
