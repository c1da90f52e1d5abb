"""Configuration files are read and validated whole, once, at the edge: every fault is reported in one error."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from more_model.errors import ConfigError

Settings = TypeVar("Settings", bound=BaseModel)

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a ``.toml`` or ``.json`` file.

    Raises:
        ConfigError: the file is missing, has another suffix, or is not well formed.
    """
    if not path.is_file():
        raise ConfigError(str(path), ["there is no such file"], remedy="give the path of a .toml or .json file")
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".toml":
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        else:
            raise ConfigError(str(path), [f"unknown suffix {path.suffix!r}"], remedy="use .toml or .json")
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"not well formed: {error}"], remedy="correct the place that it names") from error
    if not isinstance(content, dict):
        raise ConfigError(str(path), ["the top level must be a table of keys"])
    return content


def validated(
    kind: type[Settings], content: Mapping[str, Any], where: str, *, context: Mapping[str, Any] | None = None
) -> Settings:
    """``content`` as ``kind``; ``context`` is what its validators may ask for.

    Raises:
        ConfigError: names every fault, each with the key it stands at.
    """
    try:
        return kind.model_validate(content, context=context)
    except ValidationError as error:
        # Where a path or a table may stand, a faulty table is reported as such, and not also as "no path".
        items = [
            item for item in error.errors() if not (item["type"] == "path_type" and isinstance(item["input"], dict))
        ]
        faults = [_sentence(item) for item in items]
        raise ConfigError(where, faults, remedy="correct all of them; nothing has been read or written") from error


def host_and_port(address: str) -> str:
    """``address`` as it is, for validators of settings.

    Raises:
        ValueError: it is not host:port.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError("give host:port, without https:// and without a path")
    return address


def load_settings(kind: type[Settings], path: Path) -> Settings:
    """The file at ``path`` as ``kind``; see `read_mapping` and `validated`."""
    return validated(kind, read_mapping(path), str(path))


def _sentence(item: Any) -> str:
    # pydantic puts the names of its validators between the keys, in square brackets.
    place = ".".join(str(part) for part in item["loc"] if "[" not in str(part)) or "(whole file)"
    if item["type"] == "extra_forbidden":
        return f"{place}: there is no such setting"
    given = item.get("input")
    shown = f" (given: {given!r})" if isinstance(given, (str, int, float, bool)) else ""
    return f"{place}: {item['msg'].removeprefix('Value error, ')}{shown}"
