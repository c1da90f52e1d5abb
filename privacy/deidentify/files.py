"""The gate for files on a disk: DICOM, pictures, reports as text, tables of reports, WFDB headers.

Files of one study are judged together: DICOM files of one StudyInstanceUID, otherwise files that differ in their suffix
only. Names of files and folders are not checked; choose them without names of people.
"""

from __future__ import annotations

import csv
import gzip
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from more_model.errors import DataError, EnvironmentFault
from privacy.deidentify.burned_in import check_pixels
from privacy.deidentify.dicom import check_dicom
from privacy.deidentify.finding import Finding
from privacy.deidentify.gate import Verdict, verdict
from privacy.deidentify.notes import check_notes
from privacy.deidentify.reports import check_report
from privacy.deidentify.wfdb import check_wfdb_header

MAX_FILE_BYTES: Final = 512 * 2**20
_MAX_TEXT_BYTES: Final = 8 * 2**20
_SIGNAL_SUFFIXES: Final = frozenset({".dat", ".mat", ".atr", ".xws"})

Found = list[tuple[Path, Finding]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """``accepted``: what the site has looked at and lets pass, as for `RuleGate`. ``columns``: of tables, those that
    hold reports. ``pixels``: whether pictures are searched for writing."""

    accepted: frozenset[str] = frozenset()
    columns: tuple[str, ...] = ()
    pixels: bool = True


@dataclass(slots=True)
class _Study:
    found: Found = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scan:
    """What was looked at. ``verdicts``: one a study, in the order of the files. ``found``: where, for the screen of the
    site only."""

    files: int
    verdicts: tuple[Verdict, ...]
    found: tuple[tuple[Path, Finding], ...]


def scan(paths: Iterable[Path], options: Options, progress: Progress = lambda _done, _total: None) -> Scan:
    """Checks files, and everything below folders.

    Raises:
        DataError: there is no file.
    """
    files = sorted(
        {file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()}
    )
    if not files:
        raise DataError("There is no file to scan.", remedy="name files, or folders that hold some")
    studies: dict[str, _Study] = {}
    for number, path in enumerate(files):
        progress(number, len(files))
        for study, findings in _checked(path, options):
            studies.setdefault(study, _Study()).found += [(path, finding) for finding in findings]
    progress(len(files), len(files))
    verdicts = tuple(verdict((finding for _, finding in study.found), options.accepted) for study in studies.values())
    return Scan(len(files), verdicts, tuple(item for study in studies.values() for item in study.found))


def _checked(path: Path, options: Options) -> list[tuple[str, list[Finding]]]:
    """Each study that a file belongs to or holds, with what was found in it."""
    study = str(path.with_suffix(""))
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return [(study, [Finding("unreadable", "the file is too large")])]
        return list(_by_type(path, study, options))
    except EnvironmentFault:
        raise
    except Exception:  # noqa: BLE001 - fail closed: readers of foreign formats raise nearly everything
        return [(study, [Finding("unreadable", "the file")])]


def _by_type(path: Path, study: str, options: Options) -> Iterator[tuple[str, list[Finding]]]:
    suffix = path.suffix.lower()
    with path.open("rb") as stream:
        is_dicom = stream.read(132)[128:] == b"DICM"
    if is_dicom or suffix in {".dcm", ".dicom"}:
        yield _dicom(path, study, options)
    elif suffix in {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}:
        yield study, _picture(path, options)
    elif suffix == ".hea":
        yield study, check_wfdb_header(_text(path), options.accepted)
    elif suffix == ".txt":
        yield study, check_report(_text(path))
    elif suffix == ".csv" or path.name.lower().endswith(".csv.gz"):
        yield from _table(path, options.columns)
    elif suffix in _SIGNAL_SUFFIXES and path.with_suffix(".hea").is_file():
        yield study, []
    else:
        yield study, [Finding("unreadable", "a kind of file that is not looked into")]


def _dicom(path: Path, study: str, options: Options) -> tuple[str, list[Finding]]:
    with _quiet_pydicom():
        import pydicom

        dataset = pydicom.dcmread(path)
        findings = check_dicom(dataset, options.accepted)
        uid = str(dataset.get("StudyInstanceUID") or "")
        if options.pixels and any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            try:
                findings += check_pixels(dataset.pixel_array)
            except Exception:  # noqa: BLE001 - as for the header: what cannot be decoded cannot be judged
                findings.append(Finding("unreadable", "the pixels"))
    return (f"study {uid}" if uid else study), findings


@contextmanager
def _quiet_pydicom() -> Iterator[None]:
    """Its warnings quote header values, so they may reach neither the screen nor a log."""
    # Its modules log under names of their own below this one, which `disabled` here would not silence.
    logger = logging.getLogger("pydicom")
    propagated, logger.propagate = logger.propagate, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ModuleNotFoundError as error:
        raise EnvironmentFault(f"The Python package '{error.name}' is needed to read DICOM files.") from error
    finally:
        logger.propagate = propagated


def _picture(path: Path, options: Options) -> list[Finding]:
    import numpy as np
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            findings = check_notes({**image.info, **image.getexif()})
            if options.pixels:
                findings += check_pixels(np.asarray(image.convert("L")))
    return findings


def _text(path: Path) -> str:
    content = path.read_bytes()
    if len(content) > _MAX_TEXT_BYTES or b"\0" in content:
        raise ValueError("not a text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def _table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, list[Finding]]]:
    """Every row is a study; only the named columns are looked at, the others are the site's own keys."""
    csv.field_size_limit(min(sys.maxsize, _MAX_TEXT_BYTES))
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        held = [column for column in columns if column in (reader.fieldnames or ())]
        if not held:
            yield str(path), [Finding("unreadable", "a table without a named column of reports")]
            return
        for number, row in enumerate(reader, start=1):
            yield (
                f"{path} {number}",
                [
                    Finding(found.kind, f"row {number}, {column}, {found.place}")
                    for column in held
                    for found in check_report(row[column] or "")
                ],
            )
