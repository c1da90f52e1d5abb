"""Folders that are there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from more_model.data.store_files import sync_folder
from more_model.errors import ConfigError


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to fill, for its owner alone; it takes the name ``folder`` once the block has ended well, and is
    gone where it has not.

    Raises:
        ConfigError: there is something under that name already.
    """
    target = folder.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(str(folder), ["this is there already, and not empty"], remedy="give the name of a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    try:
        yield draft
        # An empty folder gives way to it.
        draft.replace(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(target.parent)
