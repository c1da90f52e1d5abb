"""The arms without a federation: an interrupted one goes on to the same bits, and sees each patient equally often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from more_model.data.study import Split
from more_model.errors import RoundError
from more_model.model.inventory import export_tensors
from more_model.training.examples import epoch_batches
from simulation.arms import TrainedArm, train_alone
from simulation.workbench import Workbench


def bits(arm: TrainedArm) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in export_tensors(arm.model).items()}


def state(folder: Path, arm: str) -> dict[str, torch.Tensor]:
    return load_file(folder / "arms" / arm / "state.safetensors")


@pytest.fixture
def bench(miniature_bench: Workbench, tmp_path: Path) -> Workbench:
    return replace(miniature_bench, folder=tmp_path / "undisturbed")


class Interrupted(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(("arm", "site"), [("centralized", None), ("local-site-2", "site-2")])
@pytest.mark.parametrize("segment", [1, 2])
def test_interrupted_training_goes_on_to_the_same_bits(
    bench: Workbench, tmp_path: Path, arm: str, site: str | None, segment: int
) -> None:
    undisturbed = train_alone(bench, arm, 3, site)

    def stop_within(name: str, done: int, total: int) -> None:
        assert name == arm
        # Two segments: the first half of the steps is the first one.
        if done == (1 if segment == 1 else total // 2 + 1):
            raise Interrupted

    stopped = replace(bench, folder=tmp_path / "stopped", on_progress=stop_within)
    with pytest.raises(Interrupted):
        train_alone(stopped, arm, 3, site)
    assert (tmp_path / "stopped" / "arms" / arm / "state.safetensors").exists() is (segment == 2)

    steps: list[int] = []
    going_on = replace(stopped, on_progress=lambda _arm, done, _total: steps.append(done))
    resumed = train_alone(going_on, arm, 3, site)
    assert bits(resumed) == bits(undisturbed)
    assert resumed.curve == undisturbed.curve
    ours, theirs = state(tmp_path / "stopped", arm), state(tmp_path / "undisturbed", arm)
    assert ours.keys() == theirs.keys() and any(name.startswith("optimiser.") for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # Only what was missing is trained again.
    assert steps[0] == (1 if segment == 1 else steps[-1] // 2 + 1)


def test_the_optimisers_memory_is_part_of_the_state(bench: Workbench, tmp_path: Path) -> None:
    """Without it the resumed bits would differ: the test above can fail."""
    undisturbed = train_alone(bench, "centralized", 3, None)
    other = replace(bench, folder=tmp_path / "other")

    def stop(_name: str, done: int, total: int) -> None:
        if done == total // 2 + 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_alone(replace(other, on_progress=stop), "centralized", 3, None)
    path = tmp_path / "other" / "arms" / "centralized" / "state.safetensors"
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    forgotten = {name: t if name.startswith("model.") else torch.zeros_like(t) for name, t in load_file(path).items()}
    save_file(forgotten, path, metadata=facts)
    assert bits(train_alone(other, "centralized", 3, None)) != bits(undisturbed)


def test_a_finished_arm_is_not_trained_again(bench: Workbench) -> None:
    first = train_alone(bench, "centralized", 3, None)

    def never(*_args: Any) -> None:
        raise AssertionError("a finished arm was trained again")

    again = train_alone(replace(bench, on_progress=never), "centralized", 3, None)
    assert bits(again) == bits(first)
    assert again.curve == first.curve


def test_the_seed_and_the_arm_decide(bench: Workbench, tmp_path: Path) -> None:
    first = bits(train_alone(bench, "centralized", 3, None))
    assert bits(train_alone(replace(bench, folder=tmp_path / "same"), "centralized", 3, None)) == first
    assert bits(train_alone(replace(bench, folder=tmp_path / "seed"), "centralized", 4, None)) != first


def test_the_curve_has_a_point_per_round_with_loss_and_validation_auroc(bench: Workbench) -> None:
    arm = train_alone(bench, "centralized", 3, None)
    assert [point.segment for point in arm.curve] == [1, 2]
    assert all(point.loss is not None and point.loss > 0 for point in arm.curve)
    assert all(point.macro_auroc is None or 0 <= point.macro_auroc <= 1 for point in arm.curve)
    for point in arm.curve:
        assert point.loss == pytest.approx(point.watched["loss_xray"] + point.watched["loss_ecg"], rel=0.3)
        known = [value for name, value in point.watched.items() if name.startswith("auroc_")]
        assert (point.macro_auroc is None) == (not known)
        assert all(0 <= value <= 1 for value in known)


def test_a_site_alone_takes_as_many_steps_as_its_own_patients_need(bench: Workbench) -> None:
    totals: dict[str, int] = {}
    watched = replace(bench, on_progress=lambda name, _done, total: totals.update({name: total}))
    for site in bench.sites:
        train_alone(watched, f"local-{site}", 3, site)
    size = bench.config.training.batch_size
    for site in bench.sites:
        own = bench.training_examples(site).trainable()
        assert {t.site for t in own.triplets} == {site}
        assert {t.split for t in own.triplets} == {Split.TRAIN}
        batches = [batch for batch in epoch_batches(own, size, 0) if len(batch) > 1]
        # Two rounds of one local epoch.
        assert totals[f"local-{site}"] == 2 * len(batches)


def test_the_state_of_another_model_is_refused(bench: Workbench) -> None:
    train_alone(bench, "centralized", 3, None)
    federation = bench.config.federation.model_copy(update={"method": "fedit"})
    other = replace(bench, config=bench.config.model_copy(update={"federation": federation}))
    with pytest.raises(RoundError, match="belongs to another base, model, LoRA method or set of patients"):
        train_alone(other, "centralized", 3, None)
