"""Files that only their owner may read (keys and other secrets), written whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from more_model.data.store_files import sync_folder
from more_model.errors import ConfigError, StoreError

_SECRET_BYTES = 32


def write_new(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file that is not there yet, durably; its folder is made for its owner alone.

    Raises:
        ConfigError: it is there already, and stays as it is.
    """
    if path.exists():
        raise ConfigError(
            str(path),
            ["this file is there already; it was not touched"],
            remedy="give another folder, or move the file away yourself once nobody needs it",
            avoid="delete a key that is in use: whoever knows it by its public part would have to be told anew",
        )
    replace(path, content, mode=mode)


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """The same for a file that may be there: readers see the old one or the new one, never a part."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        # On a full disk half a file would take the space that its next attempt needs.
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def secret(path: Path) -> bytes:
    """A secret of 32 bytes, made from the operating system's entropy at the first call; only the owner may read it.
    Safe among processes.

    Raises:
        StoreError: a file that others may read or write, or that is no such secret.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
        replace(draft, os.urandom(_SECRET_BYTES))
        # A link, not a rename: whoever comes second finds the first one's secret and keeps it.
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
        sync_folder(path.parent)
    content = path.read_bytes()
    if len(content) != _SECRET_BYTES or path.stat().st_mode & 0o077:
        raise StoreError(
            f"{path.name} is no secret of {_SECRET_BYTES} bytes that only its owner may read",
            remedy="restore it from the site's backup with mode 0600",
            avoid="make a new one: what was signed, hashed or charged with it would be lost",
        )
    return content
