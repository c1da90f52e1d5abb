"""How a federation comes back from its backup (`server.backup`)."""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import ValidationError

from more_model.errors import MoreError, StoreError
from server.backup import MANIFEST, Manifest, places
from server.federation_file import NAME as FEDERATION
from server.federation_file import read_federation
from server.whole_folder import whole_folder

_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that is in place again. ``notes``: what is to be done before it is started, in words."""

    manifest: Manifest
    notes: tuple[str, ...]


def restore(archive: Path, folder: Path) -> Restored:
    """Put a backup back into ``folder``, whole or not at all. Nothing is started.

    Raises:
        ConfigError: there is something in ``folder`` already.
        StoreError: the file is damaged, or no backup.
    """
    with whole_folder(folder) as draft:
        try:
            manifest = _extracted(archive, draft)
        except tarfile.TarError as error:
            raise _damaged(archive, str(error)) from error
    return Restored(manifest, tuple(_notes(manifest, folder)))


def _extracted(archive: Path, draft: Path) -> Manifest:
    found: dict[str, str] = {}
    manifest: Manifest | None = None
    with tarfile.open(archive, "r:") as opened:
        for info in opened:
            content = opened.extractfile(info) if info.isfile() else None
            if content is None or manifest is not None or info.name in found or not _is_plain(info.name):
                raise _damaged(archive, f"{info.name!r} does not belong there")
            if info.name == MANIFEST:
                manifest = _manifest(archive, content.read())
            else:
                found[info.name] = _write(content, draft / info.name, info.mode & 0o777)
    if manifest is None:
        raise _damaged(archive, "its end is missing")
    differing = sorted(
        name for name in manifest.files.keys() | found.keys() if manifest.files.get(name) != found.get(name)
    )
    if differing:
        raise _damaged(archive, f"not as they were written: {', '.join(differing)}")
    return manifest


def _is_plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts


def _write(content: IO[bytes], path: Path, mode: int) -> str:
    digest = hashlib.sha256()
    for folder in reversed([each for each in path.parents if not each.exists()]):
        folder.mkdir(mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        while piece := content.read(_CHUNK_BYTES):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _manifest(archive: Path, content: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise _damaged(archive, "its list of files is not one that this version knows") from error


def _damaged(archive: Path, reason: str) -> StoreError:
    return StoreError(
        f"{archive} is no whole backup: {reason}",
        remedy="take another copy of it, or an earlier backup; nothing was put in place",
        avoid="unpack it by hand: keys, sites or rounds may be missing without a word",
    )


def _notes(manifest: Manifest, folder: Path) -> list[str]:
    made = f"{manifest.made_at:%Y-%m-%d %H:%M} UTC"
    notes = [
        f"Sites that were revoked after {made} may connect again: look at more-server sites and revoke them once more.",
        "Never start it beside the federation that it was made from: hospitals would answer two runs of one name.",
    ]
    if not manifest.authority_key:
        notes.append("The authority's key is not in the backup; put it beside root.pem to renew certificates.")
    try:
        settings = read_federation(folder / FEDERATION)
    except MoreError as error:
        return [*notes, f"federation.toml cannot be used: {error.cause}"]
    if not settings.base.is_dir():
        notes.append(f"The base is not in the backup; put its folder to {settings.base}.")
    for place, named in places(settings, folder.resolve()):
        if named != (folder / place).resolve() and (folder / place).exists():
            notes.append(
                f"federation.toml names {named}; what was there lies in {folder / place} now: move one of them."
            )
    return notes
