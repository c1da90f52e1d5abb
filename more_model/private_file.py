"""Files that only their owner may read (keys and other secrets), written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from more_model.data.store_files import sync_folder
from more_model.errors import ConfigError


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
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def secret(path: Path, length: int = 32) -> bytes:
    """``length`` random bytes from the operating system, made at the first call and kept."""
    if not path.exists():
        write_new(path, os.urandom(length))
    return path.read_bytes()
