"""Gradients of rows from what a layer saw and what came back: those of autograd, whatever unit a row belongs to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from privacy.row_gradients import Batch, RowsMixed, layers_beyond_rows, recorded_calls, sums_over_rows

UNIT = torch.tensor([2, 0, 2, 1, 0])


class Everything(nn.Module):
    """Token ids [n, 3] through a layer of every kind, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 6)
        self.along = nn.Conv1d(6, 6, 2, padding=1)
        self.linear = nn.Linear(6, 6)
        self.bare = nn.Linear(6, 6, bias=False)
        self.norm = nn.LayerNorm(6)
        self.frozen = nn.Linear(6, 4).requires_grad_(False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.tanh(self.along(self.words(ids).transpose(1, 2)).transpose(1, 2))
        hidden = self.norm(torch.tanh(self.linear(self.bare(hidden))))
        return self.frozen(torch.tanh(self.linear(hidden.mean(dim=1))))


def found(module: nn.Module, inputs: Tensor, back: Tensor, unit: Tensor) -> dict[str, Tensor]:
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    with recorded_calls(module, trained) as calls:
        output = module(inputs)
    return sums_over_rows([Batch(output, back, calls, unit)], trained, 3)


def test_sums_of_a_unit_are_what_autograd_finds_for_its_rows() -> None:
    torch.manual_seed(0)
    module, back = Everything(), torch.randn(5, 4)
    ids = torch.randint(0, 7, (5, 3))
    sums = found(module, ids, back, UNIT)
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert sums.keys() == trained.keys()
    for unit in range(3):
        rows = unit == UNIT
        expected = torch.autograd.grad((module(ids[rows]) * back[rows]).sum(), list(trained.values()))
        for name, gradient in zip(trained, expected, strict=True):
            torch.testing.assert_close(sums[name][unit], gradient, rtol=1e-4, atol=1e-6)


def test_several_batches_of_other_shapes_add_up() -> None:
    torch.manual_seed(0)
    module = Everything()
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    batches, expected = [], {name: torch.zeros_like(tensor) for name, tensor in trained.items()}
    for length in (3, 5, 3):
        ids, back = torch.randint(0, 7, (2, length)), torch.randn(2, 4)
        with recorded_calls(module, trained) as calls:
            output = module(ids)
        batches.append(Batch(output, back, calls, torch.tensor([1, 1])))
        for name, rows in found(module, ids, back, torch.tensor([1, 1])).items():
            expected[name] += rows[1]
    sums = sums_over_rows(batches, trained, 2)
    for name, total in expected.items():
        torch.testing.assert_close(sums[name][1], total, rtol=1e-4, atol=1e-6)
        assert not sums[name][0].any()


def test_other_rows_change_no_bit_of_a_units_sum() -> None:
    torch.manual_seed(0)
    module, back = Everything(), torch.randn(5, 4)
    ids = torch.randint(0, 7, (5, 3))
    others, other_back = ids.clone(), back.clone()
    others[UNIT != 2] = (ids[UNIT != 2] + 1) % 7
    other_back[UNIT != 2] = torch.nan
    before, after = found(module, ids, back, UNIT), found(module, others, other_back, UNIT)
    assert all(torch.equal(before[name][2], after[name][2]) for name in before)
    assert all(after["linear.weight"][unit].isnan().any() for unit in (0, 1))


def test_hooks_are_gone_afterwards() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(KeyError), recorded_calls(module, {"weight": module.weight}):
        raise KeyError
    assert not module._forward_hooks


def test_a_layer_that_sees_other_rows_is_refused() -> None:
    class Flattening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, rows: Tensor) -> Tensor:
            return self.linear(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]).mean(dim=1)

    with pytest.raises(RowsMixed, match="linear was called with 15 rows instead of 5"):
        found(Flattening(), torch.randn(5, 3, 4), torch.randn(5, 4), UNIT)


def test_parameters_outside_known_layers_are_named() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3))
            self.attention = nn.MultiheadAttention(4, 2)
            self.known: Any = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3).requires_grad_(False))

    assert layers_beyond_rows(Token()) == ("token", "attention.in_proj_weight", "attention.in_proj_bias")
