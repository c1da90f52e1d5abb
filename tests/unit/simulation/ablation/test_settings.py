"""The configuration of an ablation: every fault at once, none of them after something was read or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from more_model.errors import ConfigError
from simulation.ablation.settings import load_ablation

Write = Callable[..., Path]


def faults_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_ablation(path)
    return "\n".join(caught.value.faults)


def test_every_fault_is_told_at_once(write_ablation: Write, tmp_path: Path) -> None:
    chosen = {
        "lora_ranks": [0, -2],
        "dropkey": ["off", "off"],
        "temperatures": [0.0],
        "attention": ["quadratic"],
        "surplus": 1,
        "unseen": {"labels": ["Edema", "Gout"], "drop": "letters"},
    }
    changes = {"seed": "x", "model": {"overrides": {"xray": {"width": 15}}}}
    faults = faults_of(write_ablation(tmp_path, chosen, changes))
    for expected in (
        "ablation.lora_ranks: a rank is 0 (no adapters) or more",
        "ablation.dropkey: given twice: off",
        "ablation.temperatures: a temperature lies above 0",
        "ablation.attention.0: Input should be 'softmax' or 'linear'",
        "ablation.surplus: there is no such setting",
        "ablation.unseen.drop: Input should be 'sentences' or 'triplets'",
        "ablation.unseen.labels: no words are known for 'Gout'",
        "ablation.unseen.labels: 'Gout' is not asked for",
        "seed: Input should be a valid integer",
        "model: xray",
    ):
        assert expected in faults


@pytest.mark.parametrize(
    ("chosen", "changes", "fault"),
    [
        ({}, {}, "nothing is changed"),
        ({"lora_ranks": [0]}, {"arms": ["centralized", "federated"]}, "arms: Tuple should have at most 1 item"),
        ({"lora_ranks": [0]}, {"arms": ["local"]}, "arms.0: Input should be 'centralized' or 'federated'"),
        ({"lora_ranks": [0]}, {"federation": {"engine": "ray"}}, 'runs its federations "inprocess"'),
        ({"attention": ["linear"]}, {"base": {"kind": "path", "path": "base"}}, "mean something else"),
        ({"unseen": {"labels": ["NORM"]}}, {}, "no words are known for 'NORM'"),
        ({"unseen": {"labels": ["Edema"]}}, {"evaluation": {"labels": ["MI"]}}, "'Edema' is not asked for"),
        ({"unseen": {"labels": ["Edema"], "words": "none.toml"}}, {}, "none.toml: there is no such file"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    write_ablation: Write, tmp_path: Path, chosen: dict[str, object], changes: dict[str, object], fault: str
) -> None:
    assert fault in faults_of(write_ablation(tmp_path, chosen, changes))


def test_paths_are_taken_from_the_file_and_seeds_from_the_command_line(write_ablation: Write, tmp_path: Path) -> None:
    words = tmp_path / "mine.toml"
    words.write_text('[labels]\nEdema = ["water"]\n', encoding="utf-8")
    config = load_ablation(write_ablation(tmp_path, {"unseen": {"labels": ["Edema"], "words": "mine.toml"}}), seeds=3)
    assert config.ablation.unseen is not None and config.ablation.unseen.words == words.resolve()
    assert (config.seeds, config.arm) == (3, "centralized")
