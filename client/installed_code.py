"""What code is installed here, as one digest that a site's people can approve."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from more_model.errors import EnvironmentFault

#: The packages of this distribution.
ROOMS = ("client", "more_model", "privacy", "server", "simulation")


def installed_code_digest() -> str:
    """Hex SHA-256 over the names and contents of all files that an import of the five packages would find now,
    compiled ones aside. Take it before training begins: it says what lies on the disk, not what a process has loaded.
    Other packages (torch, Flower) are not in it.

    Raises:
        EnvironmentFault: a package is missing, or is not one folder.
    """
    digest = hashlib.sha256()
    for room in ROOMS:
        folder = _folder(room)
        files = {f"{room}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if _counts(path)}
        for name, path in sorted(files.items()):
            digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {name}\n".encode())
    return digest.hexdigest()


def _folder(room: str) -> Path:
    found = find_spec(room)
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if len(folders) != 1:
        raise EnvironmentFault(
            f"The package {room} of this distribution is not installed as one folder.",
            remedy="install more-fed again in an environment of its own, and set PYTHONSAFEPATH=1 in the service",
        )
    return Path(folders[0])


def _counts(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
