"""One study to what the store keeps of it, or to the reason why it cannot be used; a bad file raises nothing."""

from __future__ import annotations

import signal
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

from more_model.data.gate import StudyGate, Withheld, pass_gate
from more_model.data.preprocessing import Preprocessing
from more_model.data.study import Modality, Study
from more_model.errors import InputRefused, MoreError

_MAX_REPORT_BYTES = 2**20
_RECORD_EXTENSIONS = ("", ".hea", ".dat", ".mat")


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """Array (uint8 [S, S] or float16 [12, L]) or text of a study, and what was noticed on the way."""

    array: npt.NDArray[Any] | None = None
    text: str | None = None
    corrections: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    nan_samples: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a study cannot be used: a stable code and a sentence without identifiers; of a study that a gate withheld,
    how many findings of which kind."""

    reason: str
    message: str
    found: Mapping[str, int] = field(default_factory=dict)


class _TimeIsUp(BaseException):
    """Not an `Exception`, so that no reader takes it for a damaged file."""


def convert(
    study: Study, preprocessing: Preprocessing, gate: StudyGate | None = None, *, timeout_s: float = 60.0
) -> Converted | Refused:
    """Reads one study and passes it through the gate, if there is one. Only errors that concern every study alike (a
    missing package) are raised.

    ``timeout_s`` bounds the time spent in Python code, where the platform has alarms and this is the main thread.
    """
    try:
        with _time_limit(timeout_s):
            return _READERS[study.modality](study, preprocessing, gate)
    except Withheld as error:
        return Refused(error.reason, error.cause, error.found)
    except InputRefused as error:
        return Refused(error.reason, error.cause)
    except _TimeIsUp:
        return Refused("reader-timeout", f"Reading took longer than {timeout_s:g} s.")
    except FileNotFoundError:
        return Refused("file-not-found", "There is no such file.")
    except PermissionError:
        return Refused("permission-denied", "The file is there, but this user may not read it.")
    except MemoryError:
        return Refused("out-of-memory", "Reading needed more memory than there is.")
    except MoreError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a damaged file provokes in a library must not stop the ingest
        return Refused("reader-error", f"The reader failed with {type(error).__name__}.")


def source_state(study: Study) -> str:
    """A short text that changes when the study's file does (size, time, readability) or its own text does."""
    if study.source is None:
        return f"text:{zlib.crc32((study.text or '').encode('utf-8', 'surrogatepass'))}"
    if study.modality is not Modality.ECG:
        return _file_state(study.source)
    record = study.source.with_suffix("") if study.source.suffix in _RECORD_EXTENSIONS[1:] else study.source
    files = (record.with_name(record.name + extension) for extension in _RECORD_EXTENSIONS)
    return ";".join(_file_state(path) for path in files)


def _file_state(path: Path) -> str:
    try:
        facts = path.stat()
        with path.open("rb"):
            return f"{facts.st_size}:{facts.st_mtime_ns}"
    except OSError as error:
        return type(error).__name__


def _xray(study: Study, preprocessing: Preprocessing, gate: StudyGate | None) -> Converted:
    from more_model.data.xray import read_xray, to_square

    image = read_xray(_source(study), gate=gate)
    facts = {name: image.facts[name] for name in ("manufacturer", "view") if image.facts.get(name)}
    pixels = to_square(image.pixels, preprocessing.image_size)
    return Converted(array=pixels, corrections=image.corrections, attributes=facts)


def _ecg(study: Study, preprocessing: Preprocessing, gate: StudyGate | None) -> Converted:
    from more_model.data.ecg import read_ecg, standardise_ecg

    ecg = standardise_ecg(
        read_ecg(_source(study), gate=gate),
        rate_hz=preprocessing.ecg_rate_hz,
        seconds=preprocessing.ecg_seconds,
        scaling=preprocessing.ecg_scaling,
    )
    return Converted(array=ecg.signal.astype(np.float16), corrections=ecg.corrections, nan_samples=ecg.nan_samples)


def _report(study: Study, preprocessing: Preprocessing, gate: StudyGate | None) -> Converted:
    raw, corrections = (study.text, ()) if study.text is not None else _report_file(_source(study))
    result = _words(study, raw, corrections)
    # The whole report, and not only the sections that are kept: who signs it tells that nobody has gone through it.
    pass_gate(gate, text=raw)
    return result


def _words(study: Study, raw: str, corrections: tuple[str, ...]) -> Converted:
    from more_model.data.report_text import training_text

    if study.describes is Modality.ECG:
        # Machine statements have no sections; a word with a colon ("Rhythm:") must not be taken for a header.
        text = " ".join(raw.split())
        if not text:
            raise InputRefused("empty-report", "The ECG report has no words.")
        return Converted(text=text, corrections=corrections)
    report = training_text(raw)
    return Converted(text=report.text, corrections=(*corrections, *report.corrections))


def _report_file(path: Path) -> tuple[str, tuple[str, ...]]:
    with path.open("rb") as stream:
        data = stream.read(_MAX_REPORT_BYTES + 1)
    if len(data) > _MAX_REPORT_BYTES:
        raise InputRefused("report-too-large", f"The report has more than {_MAX_REPORT_BYTES} bytes.")
    if b"\x00" in data:
        raise InputRefused("not-text", "The report holds bytes that no text has.")
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return data.decode("latin-1"), ("read-as-latin-1",)


def _source(study: Study) -> Path:
    if study.source is None:
        raise InputRefused("no-source", "The study names no file.")
    return study.source


_READERS = {Modality.XRAY: _xray, Modality.ECG: _ecg, Modality.REPORT: _report}


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
