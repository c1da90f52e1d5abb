"""What is installed is the five packages and nothing else; built from this tree with the registry out of reach."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOMS = {"more_model", "privacy", "client", "server", "simulation"}
UNSHIPPED_SUFFIXES = {".pyc", ".pyo"}


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [str(Path(sys.executable).parent / "uv"), "build", "--wheel", "--offline", "--out-dir", str(out)]
    # With the build backend among the locked packages nothing needs to be looked up; else uv's cache must hold it.
    if importlib.util.find_spec("hatchling"):
        command += ["--no-build-isolation", "--python", sys.executable]
    done = subprocess.run([*command, str(checkout)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


def shipped_files(checkout: Path) -> set[str]:
    return {
        path.relative_to(checkout).as_posix()
        for room in ROOMS
        for path in (checkout / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in UNSHIPPED_SUFFIXES
    }


def test_wheel_holds_the_five_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == ROOMS
    assert len(top) == len(ROOMS) + 1


def test_wheel_holds_every_file_of_the_packages(wheel: zipfile.ZipFile, checkout: Path) -> None:
    in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert in_wheel == shipped_files(checkout)


def test_wheel_holds_no_data_and_no_weights(wheel: zipfile.ZipFile) -> None:
    allowed = {".py", ".toml", ".json", ".j2", ".css", ".typed", ".sql"}
    strangers = [name for name in wheel.namelist() if ".dist-info/" not in name and Path(name).suffix not in allowed]
    assert not strangers
    assert sum(entry.file_size for entry in wheel.infolist()) < 5_000_000


def test_wheel_installs_the_entry_points_of_the_project_file(wheel: zipfile.ZipFile, checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    lines = wheel.read(entry_points).decode().split("\n")
    declared = {**project["scripts"]} | {k: v for group in project["entry-points"].values() for k, v in group.items()}
    assert {line.replace(" ", "") for line in lines if "=" in line} == {
        f"{name}={target}" for name, target in declared.items()
    }


def test_wheel_metadata_has_version_python_and_readme(wheel: zipfile.ZipFile, checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_string(wheel.read(entry).decode())
    assert metadata["Version"] == project["version"]
    assert set(metadata["Requires-Python"].split(",")) == set(project["requires-python"].split(","))
    assert "make demo" in metadata.get_payload()
