"""When a run directory may be made, gone on with, or replaced; and that nothing is lost where it may not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from more_model.errors import ConfigError
from more_model.run_folder import RunFolder, environment, open_run_folder
from simulation.settings import RunConfig, load_run_config


@pytest.fixture
def config(write_miniature: Callable[..., Path], tmp_path: Path) -> RunConfig:
    return load_run_config(write_miniature(tmp_path / "config"))


@pytest.fixture
def other(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"seed": config.seed + 1})


@pytest.fixture
def begun(config: RunConfig, tmp_path: Path) -> Path:
    """A directory in which a run was begun and something was trained."""
    out = tmp_path / "run"
    open_run_folder(out, config, resume=False, overwrite=False)
    (out / "arms").mkdir()
    (out / "arms" / "trained").write_text("hours of work", encoding="utf-8")
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_directory_holds_configuration_environment_and_events(config: RunConfig, tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "deep" / "run", config, resume=False, overwrite=False)
    assert load_run_config(folder.path / "config.toml") == config
    assert json.loads((folder.path / "environment.json").read_text()) == environment()
    (event,) = [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["resumed"]) == ("started", False)
    assert event["time"].endswith("+00:00")


def test_an_empty_directory_is_as_good_as_none(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    open_run_folder(tmp_path / "run", config, resume=False, overwrite=False)
    assert (tmp_path / "run" / "config.toml").is_file()


def test_a_run_that_is_there_is_refused_and_kept(begun: Path, config: RunConfig) -> None:
    before = contents(begun)
    with pytest.raises(ConfigError, match=r"there is a run already[\s\S]*--resume to go on or --overwrite to replace"):
        open_run_folder(begun, config, resume=False, overwrite=False)
    assert contents(begun) == before


def test_resume_goes_on_and_keeps_everything(begun: Path, config: RunConfig) -> None:
    before = contents(begun)
    open_run_folder(begun, config, resume=True, overwrite=False)
    after = contents(begun)
    assert after.pop("events.jsonl").startswith(before.pop("events.jsonl"))
    assert after == before
    assert json.loads((begun / "events.jsonl").read_text().splitlines()[-1])["resumed"] is True


@pytest.mark.parametrize("overwrite", [False, True])
def test_resume_with_another_configuration_is_refused_and_nothing_changes(
    begun: Path, other: RunConfig, overwrite: bool
) -> None:
    before = contents(begun)
    with pytest.raises(ConfigError, match=r"started with another configuration[\s\S]*Do not: mix two runs"):
        open_run_folder(begun, other, resume=True, overwrite=overwrite)
    assert contents(begun) == before


def test_overwrite_replaces_a_run_also_one_of_another_configuration(begun: Path, other: RunConfig) -> None:
    open_run_folder(begun, other, resume=False, overwrite=True)
    assert not (begun / "arms").exists()
    assert load_run_config(begun / "config.toml") == other


@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("name", ["thesis.tex", "environment.json"])
def test_a_directory_of_something_else_is_never_touched(
    config: RunConfig, tmp_path: Path, resume: bool, overwrite: bool, name: str
) -> None:
    out = tmp_path / "documents"
    out.mkdir()
    (out / name).write_text("years of work", encoding="utf-8")
    with pytest.raises(ConfigError, match="the directory is not empty and holds no run"):
        open_run_folder(out, config, resume=resume, overwrite=overwrite)
    assert contents(out) == {name: b"years of work"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_the_directory_is_refused(config: RunConfig, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "run").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match="this is a file, not a directory"):
        open_run_folder(tmp_path / "run", config, resume=False, overwrite=overwrite)
    assert (tmp_path / "run").read_text() == "a file"


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json("summary.json", {"auroc": 0.8})
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("summary.json", {"auroc": float("nan")})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"auroc": 0.8}


def test_the_environment_names_no_user_and_no_host() -> None:
    import getpass
    import platform

    text = json.dumps(environment())
    assert set(environment()["packages"]) >= {"torch", "flwr"}
    assert platform.node() not in text
    assert f"/{getpass.getuser()}" not in text


def test_an_event_that_a_full_disk_cuts_leaves_nothing_behind(tmp_path: Path) -> None:
    # The limit on the size of files stands for the disk; it would hold for this whole process, so a child has it.
    code = f"""
import pathlib, resource
from more_model.run_folder import RunFolder
folder = RunFolder(pathlib.Path({str(tmp_path)!r}))
folder.event("first")
size = (folder.path / "events.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
try:
    folder.event("cut")
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
folder.event("second")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    events = [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events == ["first", "second"]
