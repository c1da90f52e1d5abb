"""Augmentation keeps shapes, ranges and findings, and is drawn from torch's random state alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from more_model.training.augment import augment_ecgs, augment_xrays


def half_bright(count: int, size: int = 64) -> Tensor:
    """Dark on the left, bright on the right."""
    pixels = torch.full((count, size, size), 20, dtype=torch.uint8)
    pixels[:, :, size // 2 :] = 200
    return pixels


def leads(count: int, samples: int = 500) -> Tensor:
    """Lead k is a sine of amplitude (k + 1) / 10 mV."""
    wave = torch.sin(torch.linspace(0, 40, samples))
    return (torch.arange(1, 13)[:, None] / 10 * wave).expand(count, -1, -1).clone()


def test_pictures_keep_shape_and_range() -> None:
    torch.manual_seed(0)
    drawn = augment_xrays(torch.randint(0, 256, (50, 32, 32), dtype=torch.uint8))
    assert drawn.shape == (50, 32, 32) and drawn.dtype == torch.float32
    assert float(drawn.min()) >= 0 and float(drawn.max()) <= 255


def test_the_heart_stays_on_its_side() -> None:
    torch.manual_seed(0)
    drawn = augment_xrays(half_bright(200))
    assert bool((drawn[:, 16:48, 44:60].mean(dim=(1, 2)) > drawn[:, 16:48, 4:20].mean(dim=(1, 2)) + 50).all())


def test_changes_are_small_and_of_every_picture_its_own() -> None:
    torch.manual_seed(0)
    pixels = half_bright(100)
    drawn = augment_xrays(pixels)
    change = (drawn - pixels.float()).abs().mean(dim=(1, 2))
    assert float(change.min()) > 2 and float(change.max()) < 45
    assert len({float(value) for value in change}) == 100


def test_ratios_between_leads_are_kept() -> None:
    torch.manual_seed(0)
    signal = leads(100)
    drawn = augment_ecgs(signal)
    assert drawn.shape == signal.shape and drawn.dtype == torch.float32
    spread = drawn.std(dim=2) / signal.std(dim=2)
    # The noise of 0.02 mV adds about 4 % to the smallest lead of 0.07 mV and nothing to the others.
    assert float((spread / spread[:, -1:] - 1).abs()[:, 2:].max()) < 0.02
    assert 0.89 < float(spread[:, -1].min()) < 0.95
    assert 1.05 < float(spread[:, -1].max()) < 1.11


def test_a_tracing_starts_at_most_a_tenth_later_in_all_leads_alike() -> None:
    torch.manual_seed(0)
    signal = torch.zeros(100, 12, 500)
    signal[:, :, 300] = 5.0
    places = augment_ecgs(signal).argmax(dim=2)
    assert bool((places == places[:, :1]).all())
    assert int(places.min()) >= 251 and int(places.max()) <= 300
    assert len(set(places[:, 0].tolist())) > 30


@pytest.mark.parametrize("samples", [1, 5, 9])
def test_very_short_tracings(samples: int) -> None:
    assert augment_ecgs(torch.zeros(2, 12, samples)).shape == (2, 12, samples)


@pytest.mark.parametrize(("augment", "inputs"), [(augment_xrays, half_bright(3)), (augment_ecgs, leads(3))])
def test_same_state_same_bits(augment: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
    kept = inputs.clone()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(augment(inputs))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(inputs, kept)
