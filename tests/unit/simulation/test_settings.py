"""The configuration of a run: every mistake at once, nothing read or written before it is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from more_model.errors import ConfigError
from more_model.run_folder import open_run_folder
from simulation.ablation.settings import load_ablation
from simulation.settings import RunConfig, load_run_config, with_options

Write = Callable[..., Path]
OVERLAP = {
    "base": {
        "kind": "warm-up",
        "tokenizer_texts": None,
        "warm_up": {"cohort": {"patients": 30, "first_subject_id": 10_000_059}},
    }
}


def faults_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_run_config(path)
    assert caught.value.exit_code == 2
    return caught.value.faults


def test_the_miniature_is_right(write_miniature: Write, tmp_path: Path) -> None:
    config = load_run_config(write_miniature(tmp_path))
    assert config.model.resolved().xray.width == 16
    assert config.arms == ("centralized", "federated", "local", "base", "random_encoder")


def test_three_mistakes_are_reported_at_once_those_in_model_overrides_too(
    write_miniature: Write, tmp_path: Path
) -> None:
    changes = {
        "model": {"overrides": {"xray": {"width": 15}}},
        "training": {"batch_size": 1},
        "federation": {"method": "fedsomething"},
    }
    faults = faults_of(write_miniature(tmp_path, changes))
    assert len(faults) == 3
    listing = "\n".join(faults)
    assert "training.batch_size: Input should be greater than or equal to 2 (given: 1)" in listing
    assert "federation.method" in listing and "'fedsomething'" in listing
    assert "model: xray" in listing and "width 15 is not a multiple of heads 2" in listing


def test_several_mistakes_within_the_overrides_are_all_reported(write_miniature: Write, tmp_path: Path) -> None:
    changes = {"model": {"overrides": {"xray": {"depth": 0, "surplus": 1}, "lora": {"rank": -1}}}}
    listing = "\n".join(faults_of(write_miniature(tmp_path, changes)))
    for place in ("model: xray.depth", "model: xray.surplus: there is no such setting", "model: lora.rank"):
        assert place in listing


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"preset": "huge"}}, "there is no such preset; there are more-base, small, tiny"),
        ({"model": {"overrides": 3}}, "model.overrides: Input should be a valid dictionary"),
        ({"model": {"preset": 3}}, "model.preset: Input should be a valid string"),
        ({"model": {"file": "absent.toml", "overrides": None}}, "absent.toml: there is no such file"),
        ({"model": {"file": "absent.toml"}}, "overrides belong to a preset: change the file instead"),
        ({"surplus": 1}, "surplus: there is no such setting"),
        ({"base": {"kind": "path"}}, 'kind = "path" needs a path'),
        ({"base": {"kind": "warm-up"}}, 'kind = "warm-up" needs a [base.warm_up] table'),
        ({"base": {"tokenizer_texts": None}}, 'kind = "seeded" needs a tokenizer folder or tokenizer_texts'),
        ({"data": {"synthetic": None}}, "give either synthetic or sources"),
        ({"data": {"sources": [{"kind": "mimic-iv-ecg", "root": "x"}]}}, "give either synthetic or sources"),
        ({"arms": ["centralised"]}, "arms.0: Input should be 'centralized', 'federated'"),
        ({"federation": {"rounds": {"minimum_sites": 0}}}, "federation.rounds.minimum_sites"),
    ],
)
def test_one_mistake(write_miniature: Write, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    listing = "\n".join(faults_of(write_miniature(tmp_path, changes)))
    assert reason in listing


def test_a_public_cohort_that_shares_patients_with_the_hospitals_is_refused(
    write_miniature: Write, tmp_path: Path
) -> None:
    (fault,) = faults_of(write_miniature(tmp_path, OVERLAP))
    assert "shares patient numbers with data.synthetic" in fault
    beside = {"base": {"warm_up": {"cohort": {"first_subject_id": 10_000_060}}}}
    cohort = OVERLAP["base"]["warm_up"] | {"cohort": {"patients": 30, **beside["base"]["warm_up"]["cohort"]}}
    config = load_run_config(write_miniature(tmp_path, {"base": {**OVERLAP["base"], "warm_up": cohort}}))
    assert config.base.warm_up is not None


def test_not_a_file_and_not_toml(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "absent.toml") == ("there is no such file",)
    (tmp_path / "broken.toml").write_text("name = ", encoding="utf-8")
    assert "not well formed" in faults_of(tmp_path / "broken.toml")[0]


def test_relative_paths_are_taken_from_the_configurations_own_folder(
    write_miniature: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "data": {
            "synthetic": None,
            "sources": [{"kind": "mimic-iv-ecg", "root": "records"}, {"kind": "table", "mapping": "tables/a.toml"}],
        },
        "evaluation": {"prompts": "mine.toml"},
    }
    write_miniature(tmp_path / "configs", changes)
    monkeypatch.chdir(tmp_path)
    config = load_run_config(Path("configs/miniature.toml"))
    folder = tmp_path / "configs"
    ecg, table = config.data.sources
    assert (ecg.root, table.mapping) == (folder / "records", folder / "tables/a.toml")  # type: ignore[union-attr]
    assert config.base.tokenizer_texts == folder / "public_texts.txt"
    assert config.evaluation.prompts == str(folder / "mine.toml")
    # The same run, whoever names its file in whichever way.
    assert load_run_config(folder / "miniature.toml") == config


def test_what_a_run_keeps_as_its_configuration_reads_back_equal(write_miniature: Write, tmp_path: Path) -> None:
    table = {"path": "a.csv", "patient": "pid", "ecg": "trace", "report_text": "words"}
    changes = {"data": {"synthetic": None, "sources": [{"kind": "table", "mapping": table}]}}
    for number, change in enumerate((None, changes)):
        config = load_run_config(write_miniature(tmp_path / str(number), change))
        out = tmp_path / f"out-{number}"
        open_run_folder(out, config, resume=False, overwrite=False)
        assert load_run_config(out / "config.toml") == config
        assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_options_of_the_command_line_win_and_are_validated(write_miniature: Write, tmp_path: Path) -> None:
    config = load_run_config(write_miniature(tmp_path))
    changed = with_options(config, engine="ray", base=tmp_path, seed=0, seeds=2)
    assert (changed.federation.engine, changed.seed, changed.seeds) == ("ray", 0, 2)
    assert (changed.base.kind, changed.base.path) == ("path", tmp_path)
    assert with_options(config, engine=None, base=None, seed=None, seeds=None) == config
    with pytest.raises(ConfigError, match=r"seeds: Input should be greater than or equal to 1"):
        with_options(config, engine=None, base=None, seed=None, seeds=0)


def test_json_is_as_good_as_toml(write_miniature: Write, tmp_path: Path) -> None:
    import json
    import tomllib

    path = write_miniature(tmp_path)
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    (tmp_path / "same.json").write_text(json.dumps(content), encoding="utf-8")
    assert load_run_config(tmp_path / "same.json") == load_run_config(path)
    assert tomli_w.dumps(content)


def test_every_configuration_that_ships_is_right(checkout: Path) -> None:
    files = sorted((checkout / "simulation/configs").glob("*.toml"))
    assert checkout / "simulation/configs/demo.toml" in files
    for file in files:
        import tomllib

        content = tomllib.loads(file.read_text(encoding="utf-8"))
        if "ablation" in content:
            load_ablation(file)
        elif {"name", "base", "data"} <= content.keys():
            load_run_config(file)
