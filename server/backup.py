"""The backup of a coordinator: one file, written while everything runs, from which the same run goes on elsewhere.

federation.toml
authority/        certificates and the server's private key; the authority's own key only where it is asked for
state/            register of sites, tokens, and every run with its journal, checkpoints and figures
manifest.json     last: the SHA-256 of each

Databases are copied as they are at one moment. A journal is copied before its checkpoints, which are written before
they are recorded, so each that it names is there.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field

from more_model.data.store_files import sync_folder
from more_model.errors import ConfigError, EnvironmentFault
from server.federation_file import NAME as FEDERATION
from server.federation_file import FederationFile, read_federation
from server.journal import CHECKPOINTS
from server.journal import NAME as JOURNAL
from server.status.live import NAME as LIVE
from server.superlink_service import superlink_folder

MANIFEST = "manifest.json"
#: What is never in a backup, and why.
LEFT_OUT: Mapping[str, str] = {
    "the SuperLink's folder": "single updates lie in its database; it is made anew, and sites are asked again",
    "the base": "it is large and never changes; keep a copy of the folder where the models are kept",
    "passwords of notifications": "they stand in files of your own",
}
#: Ends of names: what belongs to an open database, drafts, and a view of the moment.
_PASSING = ("-wal", "-shm", "-journal", ".part", LIVE)


class Manifest(BaseModel):
    """What is in a backup. ``made_at``: UTC, ISO 8601. ``files``: path below the folder -> hex SHA-256. It tells damage
    from a whole file, not who made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal[1] = Field(default=1, alias="schema")
    federation: str
    made_at: datetime
    version: str
    authority_key: bool
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was written. ``faults``: what was found wrong in what was copied, in words."""

    manifest: Manifest
    bytes: int
    faults: tuple[str, ...]


def write_backup(federation: Path, out: Path, *, authority_key: bool = False) -> Backup:
    """Write the backup of the federation in a folder (or of a federation file) to ``out``, for its owner alone. Nothing
    is stopped, nothing but ``out`` is written.

    Raises:
        ConfigError: ``out`` is there already, or the federation file has faults.
        EnvironmentFault: a database that is damaged or cannot be read; as with OSError, ``out`` is not there then.
    """
    file = federation / FEDERATION if federation.is_dir() else federation
    settings = read_federation(file)
    if out.exists():
        raise ConfigError(str(out), ["this file is there already"], remedy="give each backup a name of its own")
    draft = out.with_name(f".{out.name}.part")
    draft.unlink(missing_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=".backup") as scratch,
            os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream,
        ):
            manifest, faults = _archive(stream, file, settings, Path(scratch), authority_key)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(out.resolve().parent)
    return Backup(manifest, out.stat().st_size, faults)


def _archive(
    stream: BinaryIO, file: Path, settings: FederationFile, scratch: Path, authority_key: bool
) -> tuple[Manifest, tuple[str, ...]]:
    made_at = datetime.now(UTC)
    files: dict[str, str] = {}
    journals: dict[str, Path] = {}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in _members(file, settings, authority_key):
            source = path
            if path.suffix == ".sqlite":
                source = _snapshot(path, scratch / f"{len(files)}.sqlite")
                if path.name == JOURNAL:
                    journals[name] = source
            try:
                files[name] = _add(archive, name, source)
            except FileNotFoundError:
                # Listed, and removed since: a draft, or a run that was put aside at this moment.
                continue
        manifest = Manifest(
            schema=1, federation=settings.name, made_at=made_at, version=version("more-fed"),
            authority_key=any(name.endswith(f"/{settings.certificates.authority_key.name}") for name in files),
            files=files,
        )  # fmt: skip
        content = manifest.model_dump_json(by_alias=True, indent=1).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode, info.mtime = len(content), 0o600, int(made_at.timestamp())
        archive.addfile(info, io.BytesIO(content))
    return manifest, tuple(fault for name, copy in journals.items() for fault in _journal_faults(name, copy, files))


def _members(file: Path, settings: FederationFile, authority_key: bool) -> Iterator[tuple[str, Path]]:
    """Name in the backup and path of every file. Databases come before the rest of the state, which is looked for only
    once they were copied, so that nothing is missing that they name."""
    yield FEDERATION, file
    (authority, _), (state, root) = places(settings, file.resolve().parent)
    certificates = settings.certificates
    # By name: a copy of the authority's key that somebody left beside it stays there.
    wanted = [certificates.root, certificates.server_certificate, certificates.server_key, certificates.request]
    wanted += [certificates.authority_key] if authority_key else []
    yield from ((f"{authority}/{path.name}", path) for path in wanted if path.is_file())
    apart = [superlink_folder(settings).path.resolve(), certificates.path.resolve()]
    if (password := settings.notifications.smtp_password_file) is not None:
        apart.append(password.resolve())
    for databases in (True, False):
        for path in sorted(root.rglob("*")):
            if (path.suffix == ".sqlite") == databases and path.is_file() and _belongs(path, root, apart):
                yield f"{state}/{path.relative_to(root).as_posix()}", path


def _belongs(path: Path, root: Path, apart: Sequence[Path]) -> bool:
    # Locks and drafts have hidden names.
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    path = path.resolve()
    return not hidden and not path.name.endswith(_PASSING) and not any(each in (path, *path.parents) for each in apart)


def places(settings: FederationFile, folder: Path) -> tuple[tuple[str, Path], tuple[str, Path]]:
    """Place in a backup and folder, of authority and of state: as it lies below ``folder``, else by a name of its
    own."""
    authority, state = settings.authority.resolve(), settings.state.resolve()
    return (_place("authority", authority, folder), authority), (_place("state", state, folder), state)


def _place(name: str, root: Path, folder: Path) -> str:
    return root.relative_to(folder).as_posix() if folder in root.parents else name


def _snapshot(database: Path, copy: Path) -> Path:
    """A copy of a database of one moment, while others write it."""
    try:
        with (
            closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=30.0)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            # The copy is one file: it has no write-ahead log beside it.
            target.execute("PRAGMA journal_mode = DELETE")
            (word,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise EnvironmentFault(
            f"{database}: this database cannot be copied ({error})",
            remedy="look at the space on this disk; where the file is damaged, restore it from an earlier backup",
            avoid="replace an earlier backup by one without it",
        ) from error
    if word != "ok":
        raise EnvironmentFault(
            f"{database}: this database is damaged ({word})",
            remedy="restore it from an earlier backup",
            avoid="replace that backup by one of the damaged file",
        )
    copy.chmod(0o600)
    return copy


def _add(archive: tarfile.TarFile, name: str, path: Path) -> str:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        info = tarfile.TarInfo(name)
        # What is appended from now on is not read: the header has said how long the file is.
        info.size, info.mode, info.mtime = found.st_size, found.st_mode & 0o777, int(found.st_mtime)
        hashed = _Hashed(file)
        archive.addfile(info, hashed)  # type: ignore[arg-type]  # it calls nothing but read
    return hashed.digest.hexdigest()


class _Hashed:
    """A stream that is hashed as it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.digest = stream, hashlib.sha256()

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        self.digest.update(piece)
        return piece


def _journal_faults(name: str, copy: Path, files: Mapping[str, str]) -> Iterator[str]:
    with closing(sqlite3.connect(copy)) as database:
        # A run that was just started has made the file and not yet its tables.
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'rounds'").fetchone():
            return
        rows = database.execute("SELECT round, checkpoint, checkpoint_sha256 FROM rounds ORDER BY round").fetchall()
    for number, checkpoint, digest in rows:
        place = str(PurePosixPath(name).parent / CHECKPOINTS / checkpoint)
        if files.get(place) != digest:
            yield f"{place}: the checkpoint of round {number} is missing or was changed"
