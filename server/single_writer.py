"""One process at a time: the kernel's lock on a file. It ends with its process, so nothing stale keeps a start out."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from more_model.errors import EnvironmentFault


def hold_alone(path: Path, *, cause: str, remedy: str) -> IO[bytes]:
    """Hold ``path`` until what is returned is closed; its folder is made for its owner alone where there is none.

    Raises:
        EnvironmentFault: somebody else holds it, with this ``cause`` and ``remedy``.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise EnvironmentFault(
            cause, remedy=remedy, avoid=f"delete {path.name}: it is the kernel that knows who holds it"
        ) from error
    return file
