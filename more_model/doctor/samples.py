"""How many of the files that tables name are there: looked up for a drawn sample, with an interval for the rest."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from more_model.doctor.finding import Finding, error, note, warning

#: Files looked up in one group: enough to see one file in a hundred missing, few enough for a slow network disk.
SAMPLE_SIZE = 300

#: Of those that are there, how many are opened for their first bytes.
OPENED = 8

#: A group of which at least this share is there can be evaluated; ingest counts the rest as refused.
ENOUGH = 0.95

_JPEG, _DICOM_OFFSET = b"\xff\xd8", 128
_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileSample:
    """``looked`` of ``total`` files were looked up: ``present`` are there, ``empty`` of those have no content.

    ``absent_folders`` are folders of which every sampled file is absent, ``odd`` the present files that are not what
    their name says (of at most `OPENED`), ``closed`` those that this user may not read.
    """

    what: str
    total: int
    looked: int
    present: int
    empty: int
    odd: int
    closed: int
    absent_folders: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share that is there."""
        return self.present / self.looked if self.looked else 0.0

    @property
    def enough(self) -> bool:
        """Whether an evaluation on these files would stand."""
        return self.share >= ENOUGH and self.empty == self.odd == self.closed == 0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share of all files: Wilson's score (JASA 1927), exact where all were looked up."""
        if self.looked == self.total or not self.looked:
            return self.share, self.share
        z, n, p = 1.959964, self.looked, self.share
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)


def sample_files(
    what: str,
    root: Path,
    relative: Sequence[str],
    *,
    looks_right: Callable[[Path], bool],
    size: int = SAMPLE_SIZE,
    folder_depth: int = 2,
) -> FileSample:
    """Looks up ``size`` of the files (the same ones on every call). Paths are relative to ``root``.

    ``looks_right`` is asked about at most `OPENED` of the files that are there. ``folder_depth`` is how many parts of
    a path make the folder that is reported as absent.
    """
    # Drawn also where all are looked up, so that those opened are of every kind and folder.
    chosen = random.Random(0).sample(list(relative), min(size, len(relative)))
    found: dict[str, list[bool]] = {}
    there: list[Path] = []
    empty = closed = 0
    for path in chosen:
        try:
            size_bytes = _size(root / path)
        except PermissionError:
            closed += 1
            continue
        found.setdefault("/".join(path.split("/")[:folder_depth]), []).append(size_bytes is not None)
        if size_bytes is None:
            continue
        there.append(root / path)
        empty += size_bytes == 0
    opened = there[:: max(1, len(there) // OPENED)][:OPENED]
    odd = 0
    for file in opened:
        try:
            odd += file.stat().st_size > 0 and not looks_right(file)
        except PermissionError:
            closed += 1
    absent = tuple(sorted(folder for folder, seen in found.items() if len(seen) > 1 and not any(seen)))
    return FileSample(what, len(relative), len(chosen), len(there), empty, odd, closed, absent)


def sample_findings(sample: FileSample, remedy: str, *, fatal: bool = True) -> list[Finding]:
    """What a sample says, in sentences; ``fatal``: without any of these files the data set cannot be used."""
    if not sample.looked:
        return []
    findings = [] if sample.closed == sample.looked else [_share_finding(sample, remedy, fatal=fatal)]
    if sample.empty:
        findings.append(warning(f"{sample.empty} of {sample.present} sampled {sample.what} are empty files.", remedy))
    if sample.odd:
        findings.append(
            error(
                f"{sample.odd} of the {min(sample.present, OPENED)} {sample.what} opened are not what their names say "
                "(a web page or a cut-off file).",
                f"Look at one of them with a text viewer. {remedy}",
            )
        )
    if sample.closed:
        findings.append(
            error(f"{sample.closed} {sample.what} may not be read by this user.", "Correct the rights of the files.")
        )
    return findings


def is_jpeg(path: Path) -> bool:
    """Whether a file starts like a JPEG."""
    return _start(path).startswith(_JPEG)


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM mark behind its preamble."""
    return _start(path)[_DICOM_OFFSET : _DICOM_OFFSET + 4] == b"DICM"


def is_text(path: Path) -> bool:
    """Whether a file is plain text and not a web page."""
    start = _start(path)
    return b"\0" not in start and not start.lstrip().lower().startswith((b"<!doctype", b"<html"))


def _share_finding(sample: FileSample, remedy: str, *, fatal: bool) -> Finding:
    counted = f"{sample.looked:,} sampled" if sample.looked < sample.total else f"{sample.total:,}"
    if sample.present == sample.looked:
        low = sample.interval[0]
        rest = "" if sample.looked == sample.total else f" (so at least {low:.1%} of {sample.total:,}, 95 % interval)"
        return note(f"All {counted} {sample.what} are there{rest}.")
    if not sample.present:
        sentence = f"None of the {counted} {sample.what} is there."
        return error(sentence, remedy) if fatal else warning(sentence, remedy)
    low, high = sample.interval
    range_ = "" if sample.looked == sample.total else f" (95 % interval {low:.1%} to {high:.1%} of {sample.total:,})"
    folders = ", ".join(sample.absent_folders[:10])
    where = f" Nothing of the sample is there in: {folders}{', ...' if len(sample.absent_folders) > 10 else ''}."
    return warning(
        f"A partial download: {sample.present} of {counted} {sample.what} are there, {sample.share:.1%}{range_}."
        + (where if folders else ""),
        remedy,
    )


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except PermissionError:
        raise
    except OSError:
        # Absent, or a link that leads nowhere: for whoever reads it, it is not there.
        return None
