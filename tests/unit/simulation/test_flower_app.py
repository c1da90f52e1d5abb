"""The Flower app: what its bundle holds, and that a federation of the wrong size is refused at once."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flwr.cli.build import build_fab_from_files
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from more_model.errors import ConfigError, RoundError
from simulation import flower_app
from simulation.site_folder import index_of


class Nodes:
    """A grid of which only the nodes matter; one more registers each time somebody looks, up to ``count``."""

    def __init__(self, count: int, at_first: int = 99) -> None:
        self.count, self.now = count, at_first

    def get_node_ids(self) -> Iterable[int]:
        self.now += 1
        return list(range(min(self.count, self.now)))


def test_both_apps_are_where_the_project_file_says(checkout: Path) -> None:
    import tomllib

    app = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
    kinds = {"serverapp": ServerApp, "clientapp": ClientApp}
    for component, kind in kinds.items():
        module, attribute = app["components"][component].split(":")
        assert module == flower_app.__name__
        assert isinstance(getattr(flower_app, attribute), kind)
    assert set(app["config"]) == {"config", "out", "resume", "overwrite"}
    assert all(isinstance(value, str | bool) for value in app["config"].values())
    assert (checkout / app["config"]["config"]).is_file()


def test_the_bundle_holds_no_code_no_tests_and_no_data(checkout: Path) -> None:
    # What Flower would see of a checkout, without the virtual environment, which it leaves out anyway.
    names = ["pyproject.toml", "README.md", ".gitignore", "Makefile"]
    files = {name: checkout / name for name in names}
    for room in ("simulation", "more_model", "tests"):
        files |= {
            path.relative_to(checkout).as_posix(): path for path in (checkout / room).rglob("*") if path.is_file()
        }
    files["runs/demo/summary.json"] = checkout / "README.md"
    content, _ = build_fab_from_files(files)
    bundle = zipfile.ZipFile(io.BytesIO(content))
    assert set(bundle.namelist()) == {"pyproject.toml", "README.md", ".info/CONTENT"}
    assert len(content) < 100_000


def test_a_federation_of_the_right_size_is_taken_also_while_it_still_grows() -> None:
    flower_app.require_nodes(cast(Any, Nodes(3)), ("a", "b", "c"))
    flower_app.require_nodes(cast(Any, Nodes(3, at_first=0)), ("a", "b", "c"))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_federation_of_another_size_is_refused_with_the_command_to_give(count: int) -> None:
    started = time.monotonic()
    with pytest.raises(RoundError, match=rf"Flower runs {count} nodes, but this run has 3 sites: a, b, c") as caught:
        flower_app.require_nodes(cast(Any, Nodes(count)), ("a", "b", "c"), timeout_s=0.05)
    assert '--federation-config "num-supernodes=3"' in caught.value.remedy
    assert time.monotonic() - started < 5


def context(**facts: Any) -> Any:
    return SimpleNamespace(run_config={"resume": False, "overwrite": False, **facts})


def test_a_configuration_without_a_federated_arm_is_refused(write_miniature: Any, tmp_path: Path) -> None:
    config = write_miniature(tmp_path, {"arms": ["centralized"]})
    with pytest.raises(ConfigError, match="there is no federated arm"):
        flower_app.main(cast(Any, Nodes(3)), context(config=str(config), out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_is_not_there_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=str(tmp_path / "absent.toml")):
        flower_app.main(cast(Any, Nodes(3)), context(config="absent.toml", out="run"))


def test_a_site_looks_for_its_data_in_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert index_of(Path("run")) == tmp_path / "run" / "workspace" / "sites.json"
