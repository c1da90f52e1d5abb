"""What every test may rely on: a quiet environment, the folder of real recordings where present, a miniature run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from trees import miniature

if TYPE_CHECKING:
    from trees.simulated import Simulated

    from simulation.workbench import Workbench

CHECKOUT = Path(__file__).resolve().parents[1]

# Set at import, not in a fixture: Flower, Ray, Hugging Face and matplotlib read these when they are first imported,
# which a test module may do while pytest collects it.
QUIET_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MPLBACKEND": "Agg",
    "NO_COLOR": "1",
    "COLUMNS": "100",
}
os.environ.update(QUIET_ENVIRONMENT)
os.environ.pop("FORCE_COLOR", None)


@pytest.fixture(scope="session", autouse=True)
def quiet_environment() -> Iterator[None]:
    """No test may leave the environment louder than it found it: a later one would then call out."""
    yield
    changed = {name for name, value in QUIET_ENVIRONMENT.items() if os.environ.get(name) != value}
    assert not changed, f"tests changed {sorted(changed)} and did not put them back"


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the source tree under test."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real, openly licensed X-rays and ECGs: MORE_FED_SHARED_DATA, else ../shared/data.

    Skips with a printed reason where the folder is absent, and fails instead where MORE_FED_REQUIRE_SHARED_DATA is set
    to anything but an empty word or 0, so that a machine meant to have it cannot pass without it.
    """
    folder = Path(os.environ.get("MORE_FED_SHARED_DATA") or CHECKOUT.parent / "shared" / "data").resolve()
    if (folder / "xray" / "xray_images.csv").is_file() and (folder / "ecg" / "ecg_records.csv").is_file():
        return folder
    reason = f"no real X-rays and ECGs at {folder}; set MORE_FED_SHARED_DATA to the folder that holds xray/ and ecg/"
    if os.environ.get("MORE_FED_REQUIRE_SHARED_DATA", "0") not in {"", "0"}:
        pytest.fail(f"{reason} (MORE_FED_REQUIRE_SHARED_DATA forbids skipping)", pytrace=False)
    pytest.skip(reason)


WriteMiniature = Callable[..., Path]


@dataclass(frozen=True)
class FinishedRun:
    """A miniature run that ended well: its configuration file, its directory, and what the command printed."""

    config: Path
    out: Path
    stdout: str


@pytest.fixture(scope="session")
def write_miniature() -> WriteMiniature:
    """See `trees.miniature.write_miniature`."""
    return miniature.write_miniature


@pytest.fixture(scope="session")
def miniature_run(write_miniature: WriteMiniature, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The miniature with every arm, run once through the command line with ``--json``; read it, never change it."""
    from typer.testing import CliRunner

    from simulation.cli import app

    folder = tmp_path_factory.mktemp("miniature")
    config, out = write_miniature(folder), folder / "run"
    result = CliRunner().invoke(app, ["run", str(config), "--out", str(out), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return FinishedRun(config, out, result.stdout)


@pytest.fixture(scope="session")
def miniature_bench(miniature_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The prepared miniature without its arms. Give each test a folder of its own: ``replace(bench, folder=...)``."""
    from more_model.run_folder import RunFolder
    from simulation.run import prepare
    from simulation.settings import load_run_config

    folder = tmp_path_factory.mktemp("bench")
    shutil.copytree(miniature_run.out / "workspace", folder / "workspace")
    return prepare(load_run_config(miniature_run.config), RunFolder(folder), lambda _stage, _done, _total: None)


#: Four hospitals, one of them without X-rays, and a public cohort that the base is warmed up on.
PROTECTED: dict[str, Any] = {
    "base": {
        "tokenizer_texts": None,
        "kind": "warm-up",
        "warm_up": {
            "epochs": 1,
            "cohort": {"patients": 24, "seed": 9, "hospitals": 2, "first_subject_id": 15_000_000, "image_px": 64},
        },
    },
    "data": {"synthetic": {"patients": 80}},
    "partition": {"sites": 4, "missing": {"site-1": ["xray"]}},
    "public_bank": {"negatives": 16},
    "arms": ["federated", "base"],
    "evaluation": {"linear_probe": False, "retrieval": False, "examples": 0},
}
ProtectedBench = Callable[[Path, dict[str, Any]], "Workbench"]


@pytest.fixture(scope="session")
def write_protected(write_miniature: WriteMiniature) -> WriteMiniature:
    """Like ``write_miniature``, for these four hospitals."""

    def write(folder: Path, changes: dict[str, Any] | None = None) -> Path:
        return write_miniature(folder, miniature.overlaid(PROTECTED, changes or {}))

    return write


@pytest.fixture(scope="session")
def protected_bench(write_protected: WriteMiniature, tmp_path_factory: pytest.TempPathFactory) -> ProtectedBench:
    """``protected_bench(folder, {"privacy": {...}, "federation": {...}})``: the prepared four hospitals in a folder of
    the caller's, with this protection. Data and base are made once."""
    from dataclasses import replace

    from more_model.run_folder import RunFolder
    from simulation.run import prepare
    from simulation.settings import load_run_config

    made = tmp_path_factory.mktemp("protected")
    config = load_run_config(write_protected(made))
    prepared = prepare(config, RunFolder(made), lambda _stage, _done, _total: None)

    def bench(folder: Path, changes: dict[str, Any]) -> Workbench:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "workspace").symlink_to(made / "workspace")
        protected = load_run_config(write_protected(folder, changes))
        return replace(prepared, config=protected, folder=folder)

    return bench


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Simulated]:
    """``simulated(rounds=4)``: see `trees.simulated.simulate`."""
    from trees.simulated import simulate

    def run(rounds: int, changes: dict[str, Any] | None = None) -> Simulated:
        return simulate(tmp_path_factory.mktemp("simulated"), rounds, changes)

    return run


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """Not under pytest's own folder: the path of a Unix socket is short."""
    folder = Path(tempfile.mkdtemp(prefix="more-"))
    yield folder
    shutil.rmtree(folder)
