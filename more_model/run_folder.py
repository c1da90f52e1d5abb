"""The run directory: what every run writes, and the rules for starting anew and for going on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel

from more_model.errors import ConfigError

_PACKAGES = ("torch", "timm", "transformers", "peft", "flwr", "numpy", "scikit-learn", "pydicom", "wfdb")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``config.toml``, ``environment.json``, ``events.jsonl``, ``summary.json``, ``report.html``, ``checkpoints/``,
    ``arms/`` (state to resume from) and ``workspace/`` (cohort, stores, base)."""

    path: Path

    @property
    def workspace(self) -> Path:
        """Cohort, site stores and base."""
        return self.path / "workspace"

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to ``events.jsonl``, whole or, where OSError is raised (a full disk), not at all."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **facts}
        with (self.path / "events.jsonl").open("ab", buffering=0) as file:
            before = file.tell()
            rest = (json.dumps(line) + "\n").encode()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(before)
                raise

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file whole or not at all."""
        temporary = self.path / f"{name}.part"
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(self.path / name)


def open_run_folder(out: Path, config: BaseModel, *, resume: bool, overwrite: bool) -> RunFolder:
    """Create the run directory, or open it to go on.

    Raises:
        ConfigError: there is a run already and neither ``resume`` nor ``overwrite`` was asked for, the directory holds
            something that is not a run, or the run to resume had another configuration.
    """
    resolved = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    stored = out / "config.toml"
    if out.exists() and not out.is_dir():
        raise ConfigError(str(out), ["this is a file, not a directory"], remedy="give another --out")
    if resume and stored.is_file():
        if stored.read_text(encoding="utf-8") != resolved:
            raise ConfigError(
                str(out),
                ["the run there was started with another configuration"],
                remedy="give the same configuration, or another --out",
                avoid="mix two runs in one directory",
            )
    elif out.exists() and any(out.iterdir()):
        _clear(out, overwrite)
    # The workspace holds patient data when the cohort is real.
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    stored.write_text(resolved, encoding="utf-8")
    folder = RunFolder(out)
    folder.write_json("environment.json", environment())
    folder.event("started", resumed=resume)
    return folder


def _clear(out: Path, overwrite: bool) -> None:
    if not (out / "config.toml").is_file() or not (out / "environment.json").is_file():
        raise ConfigError(str(out), ["the directory is not empty and holds no run"], remedy="give another --out")
    if not overwrite:
        raise ConfigError(
            str(out), ["there is a run already"], remedy="add --resume to go on or --overwrite to replace it"
        )
    shutil.rmtree(out)


def environment() -> dict[str, Any]:
    """What the run ran on; no user or host name."""
    return {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": {name: version(name) for name in _PACKAGES},
        "more-fed": version("more-fed"),
    }
