"""A private folder that is written whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from more_model.data.store_files import sync_folder
from more_model.errors import ConfigError


@contextmanager
def whole_folder(folder: Path, *, kind: str, header: str, overwrite: bool) -> Iterator[Path]:
    """An empty private folder to write into; it becomes ``folder`` if the block ends well, and goes if not.

    ``kind`` says in one word what is written, ``header`` is the file by which a finished one is known.

    Raises:
        ConfigError: ``folder`` holds something: one of the kind without ``overwrite``, or anything else.
    """
    folder = folder.resolve()
    # Fixed names, so that the next run finds what a killed one left behind.
    draft, former = (folder.with_name(f".{folder.name}.{kind}-{state}") for state in ("draft", "former"))
    if former.is_dir() and not folder.exists():
        former.replace(folder)
    _refuse_occupied(folder, kind, header, overwrite=overwrite)
    shutil.rmtree(draft, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft.mkdir(mode=0o700)
    try:
        yield draft
        _make_durable(draft)
        shutil.rmtree(former, ignore_errors=True)
        if (folder / header).is_file():
            folder.replace(former)
        draft.replace(folder)
        sync_folder(folder.parent)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _make_durable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
            continue
        path.chmod(0o600)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder)


def _refuse_occupied(folder: Path, kind: str, header: str, *, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    article = "an" if kind[0] in "aeiou" else "a"
    if not (folder / header).is_file():
        raise ConfigError(str(folder), [f"something that is no {kind} is there already"], remedy="give another --out")
    if not overwrite:
        raise ConfigError(str(folder), [f"there is {article} {kind} already"], remedy="add --overwrite to replace it")
