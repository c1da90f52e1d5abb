"""The miniature with hospitals that lack a modality, simulated once, and a folder for the same federation deployed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trees.simulated import Simulated, WriteMiniature, simulate


@pytest.fixture(scope="session")
def simulated(write_miniature: WriteMiniature, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Simulated]:
    """``simulated(rounds=4)``: see `trees.simulated.simulate`."""

    def run(rounds: int, changes: dict[str, Any] | None = None) -> Simulated:
        return simulate(write_miniature, tmp_path_factory.mktemp("simulated"), rounds, changes)

    return run


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """Not under pytest's own folder: the path of a Unix socket is short."""
    folder = Path(tempfile.mkdtemp(prefix="more-"))
    yield folder
    shutil.rmtree(folder)
