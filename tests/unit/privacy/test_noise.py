"""Noise: normal, sized right, from fresh entropy each time."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from privacy.noise import noised_array, standard_normal, with_noise


def test_numbers_are_standard_normal_and_independent() -> None:
    drawn = standard_normal(100_001)
    assert drawn.shape == (100_001,)
    # Chance of a wrong alarm: one in a hundred thousand.
    assert kstest(drawn, "norm").pvalue > 1e-5
    assert abs(np.corrcoef(drawn[:50_000], drawn[50_001:])[0, 1]) < 0.025
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_count_can_be_drawn(count: int) -> None:
    assert standard_normal(count).shape == (count,)


def test_extreme_random_bytes_give_finite_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for byte in (b"\x00", b"\xff"):
        monkeypatch.setattr(os, "urandom", lambda count, byte=byte: byte * count)
        drawn = standard_normal(2)
        assert np.isfinite(drawn).all()
        assert np.abs(drawn).max() < 8.6


def test_no_seed_repeats_the_noise() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        np.random.seed(3)
        draws.append(standard_normal(1000))
    assert not (draws[0] == draws[1]).any()


def test_noise_is_added_in_double_precision_and_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy.noise.standard_normal", lambda count: np.full(count, 0.25 + 2.0**-40))
    found = noised_array(np.array([1.0 + 2.0**-30], dtype=np.float64), 1.0)
    assert found.dtype == np.float32
    assert found[0] == np.float32(1.25 + 2.0**-30 + 2.0**-40)


def test_tensors_keep_their_names_and_shapes() -> None:
    found = with_noise(
        {"a": torch.zeros(3, 2), "b": torch.zeros(3, 2, dtype=torch.bfloat16), "c": torch.zeros(())}, 1.0
    )
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"a": (3, 2), "b": (3, 2), "c": ()}
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert not (found["a"] == found["b"]).any()


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_is_never_quietly_left_out(std: float) -> None:
    with pytest.raises(ValueError, match="standard deviation"):
        with_noise({"a": torch.zeros(2)}, std)
