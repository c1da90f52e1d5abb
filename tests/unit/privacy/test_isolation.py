"""The model itself is looked at: parts and losses that tie units together are found, sound ones are let through."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from more_model.errors import ConfigError
from privacy.isolation import (
    check_module,
    check_rows,
    check_units,
    module_faults,
    parameter_faults,
    row_faults,
    unit_faults,
)
from privacy.private_step import private_parameters
from privacy.unit_gradients import gradients_one_by_one

Record = dict[str, torch.Tensor]


@pytest.fixture
def batch(random_cohort: Any) -> Record:
    made: Record = random_cohort(6, 3)
    return made


@pytest.fixture
def patients(batch: Record) -> Record:
    studies = {name: rows[:, None] for name, rows in batch.items()}
    return {**studies, "present": torch.ones(6, 1, dtype=torch.bool)}


def test_the_decoupled_loss_of_sound_towers_passes(toy: Any, patients: Record) -> None:
    check_module(toy.towers)
    check_units(toy.towers, toy.patient_loss, toy.parameters, patients)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm])
def test_batch_norm_in_training_mode_is_found_even_when_frozen(kind: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 3), kind(3)).requires_grad_(False)
    assert "BatchNorm in training mode (freezing its parameters changes nothing)" in module_faults(model)[0]
    assert module_faults(model)[0].startswith("1: ")
    assert module_faults(model.eval()) == ()
    # Without running statistics it normalises by the batch in evaluation as well.
    assert len(module_faults(nn.Sequential(kind(3, track_running_stats=False)).eval())) == 1


def test_dropout_and_tracking_instance_norm_are_found_in_training_mode_only() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Dropout(0.0), nn.InstanceNorm1d(3, track_running_stats=True))
    assert [fault.split(":")[0] for fault in module_faults(model)] == ["0", "2"]
    with pytest.raises(ConfigError, match="2 faults"):
        check_module(model)
    assert module_faults(model.eval()) == ()
    assert module_faults(nn.Sequential(nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.InstanceNorm1d(3))) == ()


def test_in_batch_infonce_taken_apart_into_rows_is_caught(toy: Any, batch: Record) -> None:
    faults = row_faults(lambda given: toy.row_losses(toy.parameters, given), batch)
    assert "moves when another record is replaced" in faults[0]
    with pytest.raises(ConfigError, match="patient-groups"):
        check_rows(toy.towers, lambda given: toy.row_losses(toy.parameters, given), batch)


def test_a_loss_of_single_records_passes(toy: Any, batch: Record) -> None:
    def losses(given: Record) -> torch.Tensor:
        image, text = toy.embed(toy.parameters, given)
        return 1 - (image * text).sum(dim=1)

    check_rows(toy.towers, losses, batch)


def test_batch_norm_in_training_mode_is_caught_by_its_rows_too(batch: Record) -> None:
    model = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 1)).requires_grad_(False)
    assert "moves when another record" in row_faults(lambda given: model(given["image"])[:, 0], batch)[0]
    model.eval()
    assert row_faults(lambda given: model(given["image"])[:, 0], batch) == ()


def test_a_mean_over_the_batch_is_caught(batch: Record) -> None:
    assert "reduction='none'" in row_faults(lambda given: given["image"].mean(), batch)[0]


def test_a_queue_is_caught_by_asking_twice(toy: Any, batch: Record) -> None:
    remembered: list[torch.Tensor] = []

    def losses(given: Record) -> torch.Tensor:
        image, _ = toy.embed(toy.parameters, given)
        remembered.append(image.mean(dim=0))
        return image @ torch.stack(remembered).sum(dim=0)

    assert "asked for twice" in row_faults(losses, batch)[0]


def test_a_queue_inside_the_loss_of_a_unit_is_caught(toy: Any, patients: Record) -> None:
    calls = {"count": 0}

    def counting(parameters: Any, unit: Record) -> torch.Tensor:
        calls["count"] += 1
        loss: torch.Tensor = toy.patient_loss(parameters, unit) * calls["count"]
        return loss

    assert "asked twice" in unit_faults(counting, toy.parameters, patients)[0]


class ParameterHolder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))


class MixingUnits(torch.autograd.Function):
    """A fused operation whose vectorised form subtracts the mean over all units: wrong, and silent about it."""

    @staticmethod
    def forward(values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]

    @staticmethod
    def vmap(info: Any, in_dims: Any, values: torch.Tensor) -> Any:
        return values - values.mean(dim=in_dims[0], keepdim=True), in_dims[0]


def test_an_operation_that_mixes_units_when_vectorised_is_caught() -> None:
    def loss(parameters: Any, unit: torch.Tensor) -> torch.Tensor:
        return (MixingUnits.apply(parameters["w"] * unit)).square().sum()

    units = torch.arange(6.0).reshape(3, 2)
    assert "changes with the other units" in unit_faults(loss, {"w": torch.ones(2)}, units)[0]
    assert unit_faults(loss, {"w": torch.ones(2)}, units, gradients_one_by_one) == ()


def test_a_loss_that_branches_on_values_is_pointed_to_the_other_way() -> None:
    def loss(parameters: Any, unit: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = (parameters["w"] * unit).sum() if bool(unit.sum() > 0) else parameters["w"].sum()
        return total

    units, parameters = torch.tensor([[1.0, 2.0], [-1.0, -2.0]]), {"w": torch.ones(2)}
    assert "pass gradients=gradients_one_by_one" in unit_faults(loss, parameters, units)[0]
    check_units(ParameterHolder(), loss, parameters, units, gradients=gradients_one_by_one)


def test_batch_norm_inside_the_loss_of_a_unit_is_caught(toy: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    def loss(parameters: Any, unit: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = torch.func.functional_call(model, dict(parameters), (unit,))
        return outputs.square().sum()

    units = torch.randn(3, 2, 4)
    assert "cannot be taken for many units at once" in unit_faults(loss, private_parameters(model), units)[0]
    with pytest.raises(ConfigError, match="2 faults"):
        check_units(model, loss, private_parameters(model), units)


def test_a_trainable_parameter_outside_the_step_is_named(toy: Any, patients: Record) -> None:
    some = {name: tensor for name, tensor in toy.parameters.items() if name != "text.2.bias"}
    probes = [{name: rows[0] for name, rows in patients.items()}]
    faults = parameter_faults(toy.towers, toy.patient_loss, some, probes)
    assert len(faults) == 1
    assert faults[0].startswith("text.2.bias: trains, but is not among")


def test_a_parameter_that_no_unit_reaches_is_named(toy: Any, patients: Record) -> None:
    class WithIdleHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.towers, self.idle = toy.towers, nn.Linear(2, 2)

    def loss(parameters: Any, unit: Record) -> torch.Tensor:
        own = {n.removeprefix("towers."): tensor for n, tensor in parameters.items() if n.startswith("towers.")}
        scalar: torch.Tensor = toy.patient_loss(own, unit)
        return scalar

    model = WithIdleHead()
    with pytest.raises(ConfigError, match="2 faults") as caught:
        check_units(model, loss, private_parameters(model), patients)
    assert "idle.weight: no unit's loss reaches it" in str(caught.value)


def test_probes_need_only_reach_every_parameter_together(toy: Any, patients: Record) -> None:
    def one_tower(parameters: Any, unit: Record) -> torch.Tensor:
        image, text = toy.embed(parameters, unit)
        scalar: torch.Tensor = (image if bool(unit["flag"]) else text).sum()
        return scalar

    probe = {name: rows[0] for name, rows in patients.items()}
    with_image, with_text = ({**probe, "flag": torch.tensor(flag)} for flag in (True, False))
    assert len(parameter_faults(toy.towers, one_tower, toy.parameters, [with_image])) == 4
    assert parameter_faults(toy.towers, one_tower, toy.parameters, [with_image, with_text]) == ()


def test_too_few_units_to_see_anything_are_refused(toy: Any, batch: Record, patients: Record) -> None:
    one = {name: rows[:1] for name, rows in patients.items()}
    with pytest.raises(ValueError, match="at least two units"):
        unit_faults(toy.patient_loss, toy.parameters, one)
    with pytest.raises(ValueError, match="at least three records"):
        row_faults(lambda given: given["image"][:, 0], {name: rows[:2] for name, rows in batch.items()})
