"""The site store: every study of one site, decoded once, on disk as training reads it.

A folder with ``store.json`` (schema, site, preprocessing and its digest), ``xray.bin`` (uint8 [n, S, S]), ``ecg.bin``
(float16 [n, 12, L]), ``index.jsonl`` (one line a study) and ``quarantine.jsonl`` (one line a refusal); an ingest adds
``sources.jsonl`` (`more_model.data.source_notes`). All are only ever appended to. A commit writes and syncs the arrays
first and the index lines after them, so the index never names bytes that are not on disk; whatever a crash leaves
behind the last whole index line is cut off by the next writer.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from more_model.data.index_file import encode_line, read_index
from more_model.data.preprocessing import Preprocessing
from more_model.data.store_files import (
    Lock,
    make_folder,
    manifest_of,
    read_manifest,
    restrict_files,
    write_at,
    write_manifest,
)
from more_model.data.stored_study import (
    Key,
    QuarantinedStudy,
    StoredStudy,
    refusal_entry,
    refusal_of_entry,
    study_entry,
    study_of_entry,
    text_bytes,
)
from more_model.data.study import Modality
from more_model.errors import StoreError

__all__ = ["Key", "QuarantinedStudy", "SiteStore", "StoredStudy"]

_COMMIT_STUDIES = 512
_COMMIT_BYTES = 32 * 2**20
_SHAPED = (Modality.XRAY, Modality.ECG)


class SiteStore:
    """One site's studies. Open it with `create`, `open_read` or `open_append`; a writer holds a lock until closed."""

    def __init__(self, folder: Path, site: str, preprocessing: Preprocessing, lock: Lock | None) -> None:
        self.folder = folder
        self.site = site
        self.preprocessing = preprocessing
        self._lock = lock
        index, refused = read_index(folder / "index.jsonl"), read_index(folder / "quarantine.jsonl")
        self._records = [study_of_entry(entry) for entry in index.entries]
        self._bytes = {"index.jsonl": index.good_bytes, "quarantine.jsonl": refused.good_bytes}
        self._keys: set[Key] = {(record.modality, record.study_id) for record in self._records}
        refusals = map(refusal_of_entry, refused.entries)
        self._quarantine = {(entry.modality, entry.study_id): entry for entry in refusals}
        self._rows = {modality: _row_count(self._records, modality, folder) for modality in _SHAPED}
        self._pending: list[tuple[StoredStudy, bytes]] = []
        self._pending_refusals: list[QuarantinedStudy] = []
        self._pending_bytes = 0
        for modality in _SHAPED:
            self._refuse_short_file(modality)
        if lock is not None:
            self._cut_tails()

    @classmethod
    def create(cls, folder: Path, site: str, preprocessing: Preprocessing) -> Self:
        """A new, empty store, open for appending. Raises `StoreError` where there is one already."""
        make_folder(folder)
        lock = Lock.acquire(folder)
        try:
            if (folder / "store.json").exists():
                raise StoreError(f"{folder} already holds a site store.", remedy="Open it for appending instead.")
            write_manifest(folder, manifest_of(site, preprocessing))
            return cls(folder, site, preprocessing, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open_read(cls, folder: Path, *, preprocessing: Preprocessing | None = None) -> Self:
        """The committed studies. With ``preprocessing`` given, raises `StoreError` where the store's is another."""
        site, own = read_manifest(folder, preprocessing)
        return cls(folder, site, own, None)

    @classmethod
    def open_append(cls, folder: Path, *, preprocessing: Preprocessing | None = None, site: str | None = None) -> Self:
        """The store, open for appending. Raises `StoreError` where another process writes to it, or where site or
        preprocessing differ.
        """
        stored_site, own = read_manifest(folder, preprocessing)
        if site is not None and site != stored_site:
            raise StoreError(
                f"{folder} is the store of site {stored_site!r}, not of {site!r}.",
                remedy="Give each site its own folder.",
                avoid="edit store.json: patients of two sites would end in one store.",
            )
        lock = Lock.acquire(folder)
        try:
            restrict_files(folder)
            return cls(folder, stored_site, own, lock)
        except BaseException:
            lock.release()
            raise

    @property
    def records(self) -> Sequence[StoredStudy]:
        """The committed studies in the order they were stored."""
        return self._records

    @property
    def quarantine(self) -> Mapping[Key, QuarantinedStudy]:
        """The latest refusal of each study that is not in the store."""
        return {key: entry for key, entry in self._quarantine.items() if key not in self._keys}

    @property
    def xrays(self) -> npt.NDArray[np.uint8]:
        """uint8 [n, S, S], read-only, memory-mapped."""
        return self._array(Modality.XRAY)

    @property
    def ecgs(self) -> npt.NDArray[np.float16]:
        """float16 [n, 12, L], read-only, memory-mapped."""
        return self._array(Modality.ECG)

    def keys(self) -> set[Key]:
        """(modality, study id) of every study, those not yet committed included."""
        return set(self._keys)

    def append(self, study: StoredStudy, array: npt.NDArray[Any] | None = None) -> None:
        """Adds a study; row and checksum are the store's to set. Commits by itself every so often.

        ``array`` is uint8 [S, S] for an X-ray, float16 [12, L] for an ECG, None for a report (which has ``text``).
        """
        key = (study.modality, study.study_id)
        if key in self._keys:
            raise StoreError(f"A {study.modality.value} study is already in the store.", remedy="Skip stored keys.")
        payload, row = self._payload(study, array)
        self._pending.append((replace(study, row=row, crc32=zlib.crc32(payload)), b"" if row is None else payload))
        self._keys.add(key)
        self._pending_bytes += len(payload)
        self._commit_if_due()

    def refuse(self, entry: QuarantinedStudy) -> None:
        """Adds a study to the quarantine list."""
        self._pending_refusals.append(entry)
        self._commit_if_due()

    def commit(self) -> None:
        """Makes all that was appended durable. May be repeated after a failure: it writes to the same places again.

        Raises `EnvironmentFault` where the disk is full; everything committed before stays whole.
        """
        if self._lock is None:
            raise StoreError("The store is open for reading only.", remedy="Use open_append.")
        if not self._pending and not self._pending_refusals:
            return
        for modality in _SHAPED:
            payload = b"".join(data for study, data in self._pending if study.modality is modality)
            if payload:
                offset = self._rows[modality] * self._item_bytes(modality)
                write_at(self.folder / f"{modality.value}.bin", offset, payload)
        self._append_lines("quarantine.jsonl", [refusal_entry(entry) for entry in self._pending_refusals])
        self._append_lines("index.jsonl", [study_entry(study) for study, _ in self._pending])
        self._settle()

    def verify(self) -> int:
        """Checks the checksum of every study and returns how many there are.

        Raises `StoreError` naming how many are damaged and the first of them by position.
        """
        damaged = [
            place for place, record in enumerate(self._records) if zlib.crc32(self._content(record)) != record.crc32
        ]
        if damaged:
            raise StoreError(
                f"{self.folder}: {len(damaged)} of {len(self._records)} studies do not match their checksum "
                f"(index lines {', '.join(str(place + 1) for place in damaged[:10])}).",
                remedy="Check the disk, then restore the store from a backup or delete its folder and ingest again.",
                avoid="train from it: damaged bytes look like data.",
            )
        return len(self._records)

    def close(self) -> None:
        """Commits and gives up the lock."""
        if self._lock is None:
            return
        try:
            self.commit()
        finally:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _payload(self, study: StoredStudy, array: npt.NDArray[Any] | None) -> tuple[bytes, int | None]:
        if study.modality not in _SHAPED:
            if study.text is None or array is not None:
                raise StoreError("A report is stored with a text and without an array.")
            return text_bytes(study.text), None
        shape, dtype = self._layout(study.modality)
        if array is None or array.shape != shape or array.dtype != dtype:
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise StoreError(f"The store takes {study.modality.value} arrays {dtype} {list(shape)}, not {found}.")
        waiting = sum(pending.modality is study.modality for pending, _ in self._pending)
        return np.ascontiguousarray(array).tobytes(), self._rows[study.modality] + waiting

    def _commit_if_due(self) -> None:
        waiting = len(self._pending) + len(self._pending_refusals)
        if waiting >= _COMMIT_STUDIES or self._pending_bytes >= _COMMIT_BYTES:
            self.commit()

    def _append_lines(self, name: str, entries: Sequence[Mapping[str, Any]]) -> None:
        write_at(self.folder / name, self._bytes[name], b"".join(map(encode_line, entries)))

    def _settle(self) -> None:
        """Notes that the pending studies are now on disk."""
        for study, _ in self._pending:
            self._records.append(study)
            if study.modality in _SHAPED:
                self._rows[study.modality] += 1
        for entry in self._pending_refusals:
            self._quarantine[entry.modality, entry.study_id] = entry
        for name in self._bytes:
            self._bytes[name] = (self.folder / name).stat().st_size
        self._pending, self._pending_refusals, self._pending_bytes = [], [], 0

    def _layout(self, modality: Modality) -> tuple[tuple[int, ...], np.dtype[Any]]:
        size = self.preprocessing.image_size
        if modality is Modality.XRAY:
            return (size, size), np.dtype(np.uint8)
        return (12, self.preprocessing.ecg_samples), np.dtype("<f2")

    def _item_bytes(self, modality: Modality) -> int:
        shape, dtype = self._layout(modality)
        return int(np.prod(shape)) * dtype.itemsize

    def _array(self, modality: Modality) -> npt.NDArray[Any]:
        shape, dtype = self._layout(modality)
        count = self._rows[modality]
        if count == 0:
            return np.empty((0, *shape), dtype)
        return np.memmap(self.folder / f"{modality.value}.bin", dtype=dtype, mode="r", shape=(count, *shape))

    def _content(self, record: StoredStudy) -> bytes:
        if record.row is None:
            return text_bytes(record.text or "")
        with (self.folder / f"{record.modality.value}.bin").open("rb") as stream:
            size = self._item_bytes(record.modality)
            stream.seek(record.row * size)
            return stream.read(size)

    def _refuse_short_file(self, modality: Modality) -> None:
        path = self.folder / f"{modality.value}.bin"
        needed = self._rows[modality] * self._item_bytes(modality)
        size = path.stat().st_size if path.exists() else 0
        if size < needed:
            raise StoreError(
                f"{path} has {size} bytes, but the index names {needed}.",
                remedy="Restore the store from a backup, or delete its folder and ingest again.",
            )

    def _cut_tails(self) -> None:
        """Removes what an interrupted commit left, so that a resumed store has the bytes of an undisturbed one."""
        sizes = {f"{modality.value}.bin": self._rows[modality] * self._item_bytes(modality) for modality in _SHAPED}
        for name, size in {**sizes, **self._bytes}.items():
            path = self.folder / name
            if path.exists() and path.stat().st_size > size:
                os.truncate(path, size)


def _row_count(records: Sequence[StoredStudy], modality: Modality, folder: Path) -> int:
    rows = [record.row for record in records if record.modality is modality]
    if rows != list(range(len(rows))):
        raise StoreError(
            f"{folder}: the rows of {modality.value} studies in the index are not in sequence.",
            remedy="Restore the store from a backup, or delete its folder and ingest again.",
        )
    return len(rows)
