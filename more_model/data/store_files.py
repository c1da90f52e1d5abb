"""The plain file operations under a site store: durable writes, the manifest, the writer's lock."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from more_model.data.gate import GateRecord
from more_model.data.preprocessing import Preprocessing
from more_model.errors import EnvironmentFault, StoreError

SCHEMA = 1
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_STORE_FILES = frozenset(
    {"store.json", "index.jsonl", "quarantine.jsonl", "sources.jsonl", "xray.bin", "ecg.bin", ".lock"}
)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class Lock:
    """The kernel's lock on ``.lock`` in a store; it ends with the process, so no stale lock can remain."""

    descriptor: int

    @classmethod
    def acquire(cls, folder: Path) -> Lock:
        """Raises `StoreError` at once where another process (or another writer in this one) holds the lock."""
        import fcntl

        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreError(
                f"Another ingest is writing to {folder}.",
                remedy="Wait until it has ended.",
                avoid="delete the .lock file: the lock is the kernel's, and two writers would damage the store.",
            ) from error
        return cls(descriptor)

    def release(self) -> None:
        """Gives the lock up."""
        os.close(self.descriptor)


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Writes and syncs ``data`` at ``offset``; the file ends after it.

    Raises `EnvironmentFault` where the disk or the quota is full.
    """
    try:
        new = not path.exists()
        with open(path, "r+b" if not new else "xb", opener=_private) as stream:
            stream.seek(offset)
            stream.write(data)
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            sync_folder(path.parent)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise EnvironmentFault(
            f"The disk of {path.parent} is full.",
            remedy="Free some space and run the same command again; everything stored so far is kept.",
            avoid="delete files of the store.",
        ) from error


def make_folder(folder: Path) -> None:
    """Makes the folder of a store, for its owner alone; one that holds other things already keeps its rights."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    if not any(folder.iterdir()):
        _restrict(folder, _FOLDER_MODE)


def restrict_files(folder: Path) -> None:
    """Takes the rights of others from the files of a store that an earlier version wrote."""
    for path in folder.iterdir():
        if path.is_file() and path.name in _STORE_FILES:
            _restrict(path, _FILE_MODE)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE_MODE)


def _restrict(path: Path, mode: int) -> None:
    # Only the owner may change rights; a group's member who may write to the store must still be able to.
    with suppress(PermissionError):
        path.chmod(mode)


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def manifest_of(site: str, preprocessing: Preprocessing) -> dict[str, Any]:
    """The content of ``store.json``."""
    return {
        "schema": SCHEMA,
        "site": site,
        "preprocessing": preprocessing.model_dump(),
        "preprocessing_digest": preprocessing.digest(),
        "deidentification": None,
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes ``store.json`` whole or not at all."""
    temporary = folder / "store.json.new"
    write_at(temporary, 0, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
    temporary.replace(folder / "store.json")
    sync_folder(folder)


def read_manifest(folder: Path, wanted: Preprocessing | None) -> tuple[str, Preprocessing]:
    """Site and preprocessing of a store.

    Raises `StoreError` where there is none, where it is damaged or of another schema, where its arrays were made by
    other reading code, and where its preprocessing is not the one wanted.
    """
    path = folder / "store.json"
    if not path.is_file():
        raise StoreError(f"{folder} holds no site store.", remedy="Ingest a data set into it first.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema, site = int(manifest["schema"]), str(manifest["site"])
        digest, fields = manifest["preprocessing_digest"], manifest["preprocessing"]
        preprocessing = Preprocessing.model_validate(fields) if schema == SCHEMA else Preprocessing()
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise StoreError(f"{path} is damaged.", remedy="Restore it from a backup, or ingest again.") from error
    if schema != SCHEMA:
        raise StoreError(f"{path} has schema {schema}, this version reads {SCHEMA}.", remedy="Ingest again.")
    if digest != preprocessing.digest():
        raise StoreError(
            f"{folder} was written by another version of the reading code.",
            remedy="Delete the folder and ingest again.",
            avoid="edit store.json: the arrays would still be those of the old code.",
        )
    if wanted is not None and wanted != preprocessing:
        raise _other_preprocessing(folder, preprocessing, wanted)
    return site, preprocessing


def read_gate(folder: Path) -> GateRecord | None:
    """Which gate the studies of a store have passed; None if they were not checked (as by earlier versions).

    Raises `StoreError` where the manifest is missing or damaged.
    """
    path = folder / "store.json"
    try:
        entry = json.loads(path.read_text(encoding="utf-8")).get("deidentification")
        return None if entry is None else GateRecord(str(entry["rules"]), tuple(map(str, entry["accepted"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged.", remedy="Restore it from a backup, or ingest again.") from error


def write_gate(folder: Path, record: GateRecord | None) -> None:
    """States another gate in the manifest of a store; its lock must be held."""
    manifest = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    entry = None if record is None else {"rules": record.rules, "accepted": list(record.accepted)}
    write_manifest(folder, {**manifest, "deidentification": entry})


def _other_preprocessing(folder: Path, own: Preprocessing, wanted: Preprocessing) -> StoreError:
    before, asked = own.model_dump(), wanted.model_dump()
    changes = [f"{name} is {before[name]}, not {asked[name]}" for name in before if before[name] != asked[name]]
    return StoreError(
        f"{folder} was written with another preprocessing: {'; '.join(changes)}.",
        remedy="Use the store's preprocessing, or ingest into a new folder.",
    )
