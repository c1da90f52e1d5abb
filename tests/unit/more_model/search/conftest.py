"""An index of the miniature run's patients, made once with its federated model; read it, never change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from more_model.checkpoint import TrainedModel, load_checkpoint
from more_model.cohort_file import Cohort, load_cohort
from more_model.search.build import build_index
from more_model.search.index_file import Index


@pytest.fixture(scope="session")
def checkpoint(miniature_run: Any) -> Path:
    """The checkpoint that the index is made with."""
    path: Path = miniature_run.out / "checkpoints" / "federated.safetensors"
    return path


@pytest.fixture(scope="session")
def trained(checkpoint: Path) -> TrainedModel:
    """The model of the index."""
    return load_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def cohort(miniature_run: Any) -> Cohort:
    """Three sites, all splits."""
    return load_cohort(miniature_run.out)


@pytest.fixture(scope="session")
def index(trained: TrainedModel, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """All shelves, all splits."""
    folder = tmp_path_factory.mktemp("search") / "index"
    return build_index(trained, [cohort], folder, threads=1, replicates=20, batch_size=16)
