"""The digest of the installed code: any change of what would be imported changes it, compiling does not."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from client.installed_code import ROOMS, installed_code_digest
from more_model.errors import EnvironmentFault

CODE = "from client.installed_code import installed_code_digest; print(installed_code_digest())"


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    for room in ROOMS:
        shutil.copytree(checkout / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def digest(installed: Path) -> Callable[[], str]:
    """The digest as an interpreter of its own computes it that finds the packages in ``installed``."""

    def compute() -> str:
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            env={"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"},
            cwd=installed.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return compute


def test_compiled_files_and_the_place_play_no_part(installed: Path, digest: Callable[[], str]) -> None:
    first = digest()
    assert len(first) == 64
    compileall.compile_dir(installed / "client", maxlevels=0, quiet=1)
    assert list(installed.glob("client/__pycache__/*.pyc"))
    assert digest() == first


@pytest.mark.parametrize("room", ROOMS)
def test_a_changed_a_new_and_a_renamed_file_change_it(installed: Path, digest: Callable[[], str], room: str) -> None:
    first = digest()
    new = installed / room / "added.py"
    new.write_text("")
    added = digest()
    new.rename(installed / room / "renamed.py")
    renamed = digest()
    (installed / room / "renamed.py").write_text("x = 1\n")
    edited = digest()
    (installed / room / "renamed.py").unlink()
    assert len({first, added, renamed, edited}) == 4
    assert digest() == first


def test_data_files_of_the_packages_count(installed: Path, digest: Callable[[], str]) -> None:
    first = digest()
    template = installed / "client" / "policy_template.toml"
    before = template.read_bytes()
    template.write_bytes(before + b"\n")
    assert digest() != first
    template.write_bytes(before)


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.installed_code.ROOMS", ("client", "no_such_room"))
    with pytest.raises(EnvironmentFault, match="no_such_room"):
        installed_code_digest()
