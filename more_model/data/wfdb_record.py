"""Reading WFDB records (PhysioNet's format), those with the defects that published headers really have included."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from more_model.data.ecg_channels import MAX_READ_SECONDS, Channel, is_ecg
from more_model.data.gate import StudyGate, pass_gate
from more_model.data.packages import load_package
from more_model.errors import InputRefused

_EXTENSIONS: Final = frozenset({".hea", ".dat", ".mat"})
_MAX_HEADER_BYTES: Final = 2**20
_MAX_SIGNALS: Final = 256
_MAX_SIGNAL_BYTES: Final = 2**30
# Bytes per sample of the formats without compression (WFDB "signal(5)").
_SAMPLE_BYTES: Final = {
    "8": Fraction(1),
    "80": Fraction(1),
    "16": Fraction(2),
    "61": Fraction(2),
    "160": Fraction(2),
    "24": Fraction(3),
    "32": Fraction(4),
    "212": Fraction(3, 2),
    "310": Fraction(4, 3),
    "311": Fraction(4, 3),
}
# name[/segments] signals [rate[/counter]] [length ...], then a line that names a signal file or a segment.
_RECORD_LINE = re.compile(r"[-\w.]+(?:/\d+)?[ \t]+\d+(?:[ \t]+[\d.]+(?:/[-\d.()]+)?(?:[ \t].*)?)?")
_FILE_LINE = re.compile(r"[-~*/\w.]+[ \t]+\d+(?:[x:+ \t]|$)")


@dataclass(frozen=True, slots=True, eq=False)
class WfdbRecord:
    """Channels at one common rate in Hz, what was repaired on the way, and facts that identify nobody."""

    channels: list[Channel]
    fs_hz: float
    corrections: list[str]
    facts: dict[str, str]


def record_path(path: Path) -> Path:
    """The record without extension: .hea, .dat, .mat, or what its header names. A record name may hold other dots."""
    return path.with_suffix("") if path.suffix.lower() in _EXTENSIONS or names_signal_file(path) else path


def header_path(path: Path) -> Path:
    """Where the header of a record (given with or without extension) lies."""
    record = record_path(path)
    return record.with_name(record.name + ".hea")


def is_header_text(text: str) -> bool:
    """Whether the text starts, after comments, with the record line and the first file line of a WFDB header."""
    lines = _content_lines(text)
    return len(lines) > 1 and bool(_RECORD_LINE.fullmatch(lines[0])) and bool(_FILE_LINE.match(lines[1]))


def names_signal_file(path: Path) -> bool:
    """Whether ``path`` is a signal file: a header of the same stem lies beside it and names it."""
    header = path.with_suffix(".hea")
    if not header.is_file() or header.stat().st_size > _MAX_HEADER_BYTES:
        return False
    lines = _content_lines(header.read_text(encoding="utf-8", errors="replace"))
    return any(line.split()[0] == path.name for line in lines[1:])


def read_wfdb(path: Path, *, gate: StudyGate | None = None) -> WfdbRecord:
    """The record at ``path`` (with or without extension), at most its first `MAX_READ_SECONDS`.

    Raises `InputRefused`: file-not-found, bad-header, missing-signal-file, truncated-signal, damaged-signal, too-large,
    and those of ``gate``.
    """
    header = header_path(path)
    if not header.is_file():
        raise InputRefused("file-not-found", "There is no WFDB header file of this name.")
    if header.stat().st_size > _MAX_HEADER_BYTES:
        raise InputRefused("bad-header", "The header file is far larger than any WFDB header.")
    text = header.read_text(encoding="utf-8", errors="replace")
    repaired, corrections = _repair_record_name(text)
    corrections += _stated_defaults(text)
    with _readable_folder(header, repaired) as record:
        result = _read(record, corrections)
    pass_gate(gate, headers=[text, *_segment_headers(header, text)])
    return result


def _segment_headers(header: Path, text: str) -> list[str]:
    """The headers of the segments that a header names; comments stand in each of them."""
    lines = _content_lines(text)
    if not lines or "/" not in lines[0].split()[0]:
        return []
    paths = {header.with_name(f"{line.split()[0]}.hea") for line in lines[1:]}
    return [path.read_text(encoding="utf-8", errors="replace") for path in sorted(paths) if path.is_file()]


def _content_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _repair_record_name(text: str) -> tuple[str | None, list[str]]:
    """The header with the extension cut off its record name, or None where there is nothing to repair."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fixed = re.sub(r"^([ \t]*[-\w]+)\.(?:mat|dat|hea)(?=[ \t/])", r"\1", line)
        if fixed == line:
            break
        return "".join([*lines[:number], fixed, *lines[number + 1 :]]), ["record-name-repaired"]
    return None, []


def _stated_defaults(text: str) -> list[str]:
    """Names what the header leaves out and the format fills in: 250 Hz, 200 units per mV."""
    lines = _content_lines(text)
    if not lines or "/" in lines[0].split()[0]:
        return []
    notes = [] if len(lines[0].split()) > 2 else ["rate-assumed:250Hz"]
    gains = [line.split()[2] if len(line.split()) > 2 else "0" for line in lines[1:]]
    if any(re.match(r"0+(?:\.0*)?(?:[(/]|$)", gain) for gain in gains):
        notes.append("gain-assumed:200/mV")
    return notes


@contextmanager
def _readable_folder(header: Path, repaired: str | None) -> Iterator[Path]:
    """The record to hand to wfdb; a repaired header gets a temporary folder with links to its signal files."""
    if repaired is None:
        yield header.with_name(header.name.removesuffix(".hea"))
        return
    with tempfile.TemporaryDirectory(prefix="wfdb-") as name:
        folder = Path(name)
        (folder / "record.hea").write_text(repaired, encoding="utf-8")
        for line in _content_lines(repaired)[1 : 1 + _MAX_SIGNALS]:
            file_name = line.split()[0]
            target = header.parent / file_name
            if Path(file_name).name == file_name and target.is_file() and not (folder / file_name).exists():
                (folder / file_name).symlink_to(target.resolve())
        yield folder / "record"


def _read(record: Path, corrections: list[str]) -> WfdbRecord:
    with warnings.catch_warnings():
        # wfdb uses pandas in ways that pandas warns about; nobody here can act on that.
        warnings.simplefilter("ignore")
        return _read_quietly(record, corrections)


def _read_quietly(record: Path, corrections: list[str]) -> WfdbRecord:
    wfdb = load_package("wfdb", "read WFDB records")
    try:
        header = wfdb.rdheader(str(record))
        frame_rate, n_signals = float(header.fs), int(header.n_sig)
    except Exception as error:  # wfdb raises ValueError, KeyError, IndexError and TypeError on broken headers
        raise InputRefused("bad-header", "The WFDB header cannot be parsed.") from error
    if n_signals == 0 or n_signals > _MAX_SIGNALS or not 0.0 < frame_rate < 1e6:
        raise InputRefused("bad-header", f"The header states {n_signals} signals at {frame_rate:g} Hz.")
    frames = _check_signal_files(header, record.parent)
    limit = int(np.ceil(MAX_READ_SECONDS * frame_rate))
    until = None
    if frames is not None and frames > limit:
        until = limit
        corrections.append(f"read-first:{MAX_READ_SECONDS}s")
    try:
        data = wfdb.rdrecord(str(record), sampto=until, smooth_frames=False)
        samples = [np.asarray(column, dtype=np.float64) for column in data.e_p_signal]
        names, units = [str(name) for name in data.sig_name], [str(unit) for unit in data.units]
        per_frame = [int(count) for count in data.samps_per_frame]
    except FileNotFoundError as error:
        raise InputRefused("missing-signal-file", "A signal file that the header names is not there.") from error
    except MemoryError:
        raise
    except Exception as error:  # wfdb raises nearly every built-in exception on damaged signal files
        raise InputRefused("damaged-signal", "The signal file does not fit its header.") from error
    channels, fs_hz, notes = _common_rate(names, units, samples, per_frame, frame_rate)
    facts = {"format": "WFDB", "n_channels": str(n_signals), "stored_rate_hz": f"{frame_rate:g}"}
    formats = sorted({str(item) for item in getattr(data, "fmt", None) or [] if item})
    if formats:
        facts["storage_format"] = ",".join(formats)
    return WfdbRecord(channels, fs_hz, corrections + notes, facts)


def _check_signal_files(header: Any, folder: Path) -> int | None:
    """Frames in the record, once the files are known to exist and to be long enough; None where that is unknown."""
    stated = None if header.sig_len is None else int(header.sig_len)
    if getattr(header, "n_seg", None) is not None:
        return stated
    if not header.file_name or len(header.file_name) != header.n_sig:
        raise InputRefused("bad-header", "The header announces more signals than it describes.")
    for file_name in dict.fromkeys(header.file_name):
        if file_name == "~":
            continue
        path = folder / file_name
        if not path.is_file():
            raise InputRefused("missing-signal-file", "A signal file that the header names is not there.")
        size = path.stat().st_size
        if size > _MAX_SIGNAL_BYTES:
            raise InputRefused("too-large", f"A signal file is larger than {_MAX_SIGNAL_BYTES // 2**20} MiB.")
        members = [index for index, name in enumerate(header.file_name) if name == file_name]
        frame_bytes = _SAMPLE_BYTES.get(str(header.fmt[members[0]]))
        if frame_bytes is None:
            continue
        frame_bytes *= sum(int(header.samps_per_frame[index] or 1) for index in members)
        available = int((size - int(header.byte_offset[members[0]] or 0)) / frame_bytes)
        if stated is None:
            stated = max(available, 0)
        if available < stated:
            raise InputRefused(
                "truncated-signal",
                f"The signal file holds {max(available, 0)} of {stated} announced samples per lead.",
                remedy="transfer the file again",
            )
    return stated


def _common_rate(
    names: list[str], units: list[str], samples: list[npt.NDArray[np.float64]], per_frame: list[int], frame_rate: float
) -> tuple[list[Channel], float, list[str]]:
    """Channels at one rate: the leads' own if they share one, otherwise averaged down to one sample per frame."""
    channels = [Channel(*parts) for parts in zip(names, units, samples, strict=True)]
    counts = {count for channel, count in zip(channels, per_frame, strict=True) if is_ecg(channel.name, channel.unit)}
    if len(counts) <= 1:
        return channels, frame_rate * (counts.pop() if counts else 1), []
    averaged = [
        Channel(channel.name, channel.unit, channel.samples.reshape(-1, count).mean(axis=1))
        for channel, count in zip(channels, per_frame, strict=True)
    ]
    return averaged, frame_rate, ["samples-per-frame-averaged"]
