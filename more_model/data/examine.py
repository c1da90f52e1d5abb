"""What the readers make of one file, as plain facts; `more_model.data.inspect` runs this with bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from more_model.data.bounded import serve
from more_model.data.dicom_file import guarded_pydicom, is_bare_dicom, is_dicom, numbers_of, open_dicom, text_of
from more_model.data.ecg import read_ecg, standardise_ecg
from more_model.data.preprocessing import Preprocessing
from more_model.data.report_text import training_text
from more_model.data.wfdb_record import header_path, is_header_text, names_signal_file
from more_model.data.xray import is_raster, read_xray
from more_model.errors import EnvironmentFault, InputRefused

Kind = Literal["xray", "ecg", "report", "unknown"]
Facts = dict[str, Any]

_MAX_TEXT_BYTES: Final = 2**20
_DICOMDIR: Final = "1.2.840.10008.1.3.10"
_FOREIGN: Final = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive or office document",
    b"\x1f\x8b": "compressed with gzip",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"{\\rtf": "an RTF document",
    b"\x89HDF": "an HDF5 file",
}
# Refusals that concern training only: the pixels can still be described.
_STILL_AN_IMAGE: Final = frozenset({"not-a-radiograph", "not-a-chest", "unknown-modality"})


def examine(path: Path) -> Facts:
    """Kind, acceptance, reason, message and facts of one file. Raises nothing but `MemoryError`."""
    result: Facts = {"kind": "unknown", "accepted": False, "reason": "", "message": "", "facts": {}}
    try:
        kind = sniff(path)
        result["kind"] = kind
        describe = {"xray": _describe_xray, "ecg": _describe_ecg, "report": _describe_report}
        if kind == "unknown":
            raise InputRefused("unknown-format", "The file is neither an image, nor an ECG record, nor text.")
        refusal = describe[kind](path, result["facts"])
        if refusal is not None:
            raise refusal
        result["accepted"] = True
    except InputRefused as error:
        result["reason"], result["message"] = error.reason, error.cause
    except EnvironmentFault as error:
        result["reason"], result["message"] = "missing-package", error.cause
    except MemoryError:
        raise
    except SystemError as error:
        # C extensions report a failed allocation this way when they overlook it themselves.
        raise MemoryError from error
    except OSError:
        result["reason"], result["message"] = "not-readable", "The file cannot be opened or read."
    except Exception as error:  # noqa: BLE001 - whatever a reader overlooked must still end in a named refusal
        # The text of the error may quote the file, so only its type is shown.
        result["reason"] = "reader-failed"
        result["message"] = f"The reader failed with {type(error).__name__}, which is a fault of this program."
    return result


def sniff(path: Path) -> Kind:
    """What kind of study a file holds, judged by its content. Raises `InputRefused` for known formats of no use."""
    if not path.exists():
        if header_path(path).is_file():
            return "ecg"
        raise InputRefused("file-not-found", "There is no such file.")
    if not path.is_file():
        raise InputRefused("not-a-file", "This is a folder or a device, not a file.")
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise InputRefused("empty-file", "The file is empty.")
    if is_dicom(path):
        return _sniff_dicom(path)
    if is_raster(head):
        return "xray"
    if path.suffix != ".hea" and names_signal_file(path):
        return "ecg"
    if is_bare_dicom(head):
        raise InputRefused("no-dicom-header", "The DICOM data set lacks its preamble and file meta header.")
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise InputRefused("unknown-format", f"The file is {what}.")
    text = _decode(head)
    if text is None:
        return "unknown"
    return "ecg" if path.suffix.lower() == ".hea" or is_header_text(text) else "report"


def _sniff_dicom(path: Path) -> Kind:
    with guarded_pydicom():
        header = open_dicom(path, pixels=False)
        if text_of(header.file_meta, "MediaStorageSOPClassUID") == _DICOMDIR:
            raise InputRefused("dicom-directory", "The file is the directory of a DICOM medium, not an image.")
        if "WaveformSequence" in header or text_of(header, "Modality") == "ECG":
            return "ecg"
        if numbers_of(header, "Rows") or "NumberOfFrames" in header:
            return "xray"
    # Reports, plans and the like: the image reader names the modality.
    read_xray(path)
    return "unknown"


def _decode(raw: bytes) -> str | None:
    """Text in UTF-8, UTF-16 with a mark, or Windows-1252; None for anything that is not text."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw[: len(raw) // 2 * 2].decode("utf-16", errors="replace")
    if any(byte < 32 and byte not in b"\t\n\v\f\r" for byte in raw):
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return raw[: error.start].decode("utf-8-sig")
        return raw.decode("cp1252", errors="replace")


def _describe_xray(path: Path, facts: Facts) -> InputRefused | None:
    refusal: InputRefused | None = None
    try:
        image = read_xray(path)
    except InputRefused as error:
        if error.reason not in _STILL_AN_IMAGE:
            raise
        refusal = error
        try:
            image = read_xray(path, allow_non_chest=True)
        except InputRefused:
            # The first refusal is the one that matters to training.
            return refusal
    facts.update(image.facts)
    facts["shape"] = list(image.pixels.shape)
    facts["unit"] = "grey level, 0 = air, 1 = dense"
    facts["value_range"] = [round(float(image.pixels.min()), 4), round(float(image.pixels.max()), 4)]
    facts["corrections"] = list(image.corrections)
    return refusal


def _describe_ecg(path: Path, facts: Facts) -> InputRefused | None:
    record = read_ecg(path)
    facts.update(record.facts)
    samples = record.signal_mv[np.isfinite(record.signal_mv)]
    facts["shape"] = list(record.signal_mv.shape)
    facts["unit"] = "mV"
    facts["sampling_rate_hz"] = round(record.fs_hz, 4)
    facts["duration_s"] = round(record.signal_mv.shape[0] / record.fs_hz, 3)
    facts["leads"] = list(record.leads)
    facts["value_range"] = [round(float(samples.min()), 4), round(float(samples.max()), 4)] if samples.size else []
    facts["nan_samples"] = int(record.signal_mv.size - samples.size)
    facts["corrections"] = list(record.corrections)
    chosen = Preprocessing()
    try:
        standard = standardise_ecg(
            record, rate_hz=chosen.ecg_rate_hz, seconds=chosen.ecg_seconds, scaling=chosen.ecg_scaling
        )
    except InputRefused as error:
        return error
    facts["corrections"] = list(standard.corrections)
    facts["training_shape"] = list(standard.signal.shape)
    return None


def _describe_report(path: Path, facts: Facts) -> InputRefused | None:
    """Counts only: the words of a report may name a patient."""
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise InputRefused("too-large", f"The text is larger than {_MAX_TEXT_BYTES // 2**20} MiB.")
    text = _decode(path.read_bytes())
    if text is None:
        raise InputRefused("unknown-format", "The file begins like text but holds binary data.")
    report = training_text(text)
    facts["origin"] = report.origin
    facts["words"] = len(report.text.split())
    facts["characters"] = len(report.text)
    facts["corrections"] = list(report.corrections)
    return None


if __name__ == "__main__":
    serve(lambda request: json.dumps(examine(Path(request))))
