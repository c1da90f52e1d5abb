"""Where received DICOM instances wait for an ingest: whole files, a durable list of them, and the table that reads it.

spool/instances/<study date>/<hash of the instance>.dcm   as sent, with a file meta header
spool/received.jsonl                                      one line an instance, appended before the sender is thanked
spool/received.csv, received.toml                         the same as a table and its mapping, a source of an ingest

Paths and messages never hold a patient id. The list and the table do, as the sender wrote it: the spool belongs to one
user of the site and to nobody else.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from more_model.data.dicom_file import guarded_pydicom, open_dicom
from more_model.data.index_file import encode_line, read_index
from more_model.data.store_files import sync_folder, write_at
from more_model.errors import EnvironmentFault, InputRefused, StoreError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileMetaDataset

#: Storage classes that the readers know (DICOM PS3.4, table B.5-1), and what they hold.
STORAGE_CLASSES: Final[Mapping[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.1": "xray",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1": "xray",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.9.1.1": "ecg",  # 12-lead ECG
    "1.2.840.10008.5.1.4.1.1.9.1.2": "ecg",  # General ECG
}
COLUMNS: Final = ("instance", "patient", "examination", "study_uid", "time", "xray", "ecg")

_MAPPING: Final = """\
# Add to SOURCES.toml:
#   [[sources]]
#   kind = "table"
#   mapping = "{here}"
path = "received.csv"
patient = "patient"
study = "instance"
group = "examination"
time = "time"
xray = "xray"
ecg = "ecg"
"""
_NAME_DIGITS: Final = 32
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


@dataclass(slots=True)
class Spool:
    """An open spool; see `open_spool`. May be used by several threads."""

    folder: Path
    keep_free_bytes: int
    rows: dict[str, dict[str, str]]
    good_bytes: int
    table_is_old: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, meta: FileMetaDataset, content: memoryview) -> bool:
        """Make one instance durable; False where it repeats one that is there, which it replaces.

        Raises:
            EnvironmentFault: the disk is full, or would be left with too little space.
            InputRefused: no patient, not the instance that was announced, and the reasons of `open_dicom`.
        """
        self._require_space(len(content))
        name = hashlib.sha256(str(meta.MediaStorageSOPInstanceUID).encode()).hexdigest()[:_NAME_DIGITS]
        part = self.folder / f".{name}-{threading.get_ident()}.part"
        try:
            _write_part10(part, meta, content)
            # pydicom's switches against quoting values are the whole process's, so one reader at a time.
            with self.lock:
                return self._settle(part, _row(name, part, meta))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full(self.folder) from error
            raise
        finally:
            part.unlink(missing_ok=True)

    def write_table(self) -> None:
        """Bring ``received.csv`` up to date: the old one or the new one is there at any time. EnvironmentFault where
        the disk is full; nothing is lost, since the list holds the same."""
        with self.lock:
            text = io.StringIO()
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows.values())
            _write_whole(self.folder / "received.csv", text.getvalue().encode())
            self.table_is_old = False

    def _require_space(self, wanted_bytes: int) -> None:
        if shutil.disk_usage(self.folder).free - wanted_bytes < self.keep_free_bytes:
            raise _full(self.folder)

    def _settle(self, part: Path, row: dict[str, str]) -> bool:
        path = self.folder / (row["xray"] or row["ecg"])
        before = self.rows.get(row["instance"])
        if not path.parent.is_dir():
            path.parent.mkdir(mode=_FOLDER_MODE)
            sync_folder(path.parent.parent)
        part.replace(path)
        sync_folder(path.parent)
        if before != row:
            line = encode_line(row)
            write_at(self.folder / "received.jsonl", self.good_bytes, line)
            self.good_bytes += len(line)
            self.rows[row["instance"]] = row
            self.table_is_old = True
            self._remove_former(before, path)
        return before is None

    def _remove_former(self, before: dict[str, str] | None, path: Path) -> None:
        """The file of an instance whose study date was corrected."""
        former = None if before is None else self.folder / (before["xray"] or before["ecg"])
        if former is not None and former != path:
            former.unlink(missing_ok=True)


@contextmanager
def open_spool(folder: Path, keep_free_bytes: int) -> Iterator[Spool]:
    """The spool in ``folder``, made where there is none; the table is brought up to date at the beginning and end.

    Raises:
        StoreError: another receiver uses it, or its list is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
    (folder / "instances").mkdir(exist_ok=True, mode=_FOLDER_MODE)
    with _only_receiver(folder):
        for part in folder.glob(".*.part"):
            part.unlink()
        listed = read_index(folder / "received.jsonl")
        rows = {str(entry["instance"]): {name: str(entry[name]) for name in COLUMNS} for entry in listed.entries}
        spool = Spool(folder, keep_free_bytes, rows, listed.good_bytes)
        _write_whole(folder / "received.toml", _MAPPING.format(here=folder / "received.toml").encode())
        spool.write_table()
        try:
            yield spool
        finally:
            spool.write_table()


@contextmanager
def _only_receiver(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, _FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StoreError(
            f"Another receiver is writing to {folder}.",
            remedy="stop it, or give this one a spool of its own",
            avoid="delete the .lock file: the lock is the kernel's, and two writers would damage the list",
        ) from error
    finally:
        os.close(descriptor)


def _row(name: str, path: Path, meta: FileMetaDataset) -> dict[str, str]:
    """What the table says of the instance in ``path``, by its header."""
    with guarded_pydicom():
        header = open_dicom(path, pixels=False)
        same = (header.get("SOPInstanceUID"), header.get("SOPClassUID")) == (
            meta.MediaStorageSOPInstanceUID,
            meta.MediaStorageSOPClassUID,
        )
        if not same:
            raise InputRefused("not-as-announced", "The data set is another instance than the one announced.")
        patient, study = _value(header, "PatientID"), _value(header, "StudyInstanceUID")
        if not patient or not study:
            raise InputRefused("no-patient", "The data set names no patient or no study.")
        day, time = _date(header), _time(header)
        examination = _value(header, "AccessionNumber") or study
    kind = STORAGE_CLASSES[str(meta.MediaStorageSOPClassUID)]
    facts = {"instance": name, "patient": patient, "examination": examination, "study_uid": study, "time": time}
    return {**facts, "xray": "", "ecg": "", kind: f"instances/{day}/{name}.dcm"}


def _value(header: Dataset, keyword: str) -> str:
    return " ".join(str(header.get(keyword) or "").split())


def _date(header: Dataset) -> str:
    date = _value(header, "StudyDate")
    return date if len(date) == 8 and date.isascii() and date.isdigit() else "undated"


def _time(header: Dataset) -> str:
    """ISO 8601, of the acquisition where that is stated, else of the study; empty where neither is a time."""
    stamps = (_value(header, "AcquisitionDateTime"), _value(header, "StudyDate") + _value(header, "StudyTime"))
    for stamp in stamps:
        for digits, form in ((14, "%Y%m%d%H%M%S"), (8, "%Y%m%d")):
            try:
                return datetime.strptime(stamp[:digits], form).isoformat()
            except ValueError:
                continue
    return ""


def _write_part10(path: Path, meta: FileMetaDataset, content: memoryview) -> None:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info

    head = DicomBytesIO()
    write_file_meta_info(head, meta, enforce_standard=True)
    with open(path, "wb", opener=_private) as stream:
        stream.write(bytes(128) + b"DICM" + head.getvalue())
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _write_whole(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.part")
    write_at(draft, 0, content)
    draft.replace(path)
    sync_folder(path.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE_MODE)


def _full(folder: Path) -> EnvironmentFault:
    return EnvironmentFault(
        f"The disk of {folder} has less space than the site wants to keep free.",
        remedy="free some space; the sender keeps what was refused and sends it again",
        avoid="delete files of the spool that no ingest has read yet",
    )
