"""A site's update on its way to the masks: clip, add noise, quantise, weight. In this order only.

Noise before clipping would be cut away with the tail it needs; noise after rounding would leave the grid; clipping
after rounding would bound nothing that was promised. Each step takes the type that the one before gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import Tensors
from privacy.hospital import clipped_update
from privacy.noise import standard_normal
from privacy.quantise import Encoded, Integers, encode, quantise
from privacy.secure_sum.distributed_noise import MIN_DEVIATIONS, MIN_STEPS
from privacy.secure_sum.plan import Plan, check_noise_under
from privacy.secure_sum.terms import Terms


@dataclass(frozen=True, slots=True)
class Clipped:
    """Changes whose norm over all tensors together is at most the plan's clipping norm."""

    deltas: Tensors


@dataclass(frozen=True, slots=True)
class Noised:
    """Clipped changes with this site's share of the noise, float64; without noise where the plan has none."""

    deltas: Mapping[str, npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True, slots=True)
class Rounded:
    """Integers by tensor name, and how many values the ends of the grids cut; that number stays at the site."""

    integers: Mapping[str, Integers]
    cut: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `privacy.secure_sum.site.Site.mask` takes, and the local number of cut values."""

    encoded: Encoded
    cut: int


def prepare(
    deltas: Tensors,
    weights: Mapping[str, int],
    plan: Plan,
    terms: Terms,
    *,
    generator: np.random.Generator | None = None,
) -> Prepared:
    """Clip, add noise, quantise and weight one update.

    deltas: float32, exactly the tensors of the groups in ``weights``. weights: this site's public integers, 1 to
    ``terms.max_weight``. generator: of the rounding, for tests; the noise always comes from the operating system.

    Raises:
        ExchangeError: tensors outside the specification or not finite; weights that the terms do not allow.
        ConfigError: a grid too coarse or too short for the noise, or noise that the terms do not keep up.
    """
    plan.spec.check(deltas, tuple(weights))
    if not weights or not all(1 <= weight <= terms.max_weight for weight in weights.values()):
        raise ExchangeError(f"weights must be 1 to {terms.max_weight}, of at least one group")
    clipped = clip(deltas, plan.clip_norm)
    noised = add_noise(clipped, weights, plan, terms)
    rounded = quantise_all(noised, plan, generator)
    return Prepared(encode(rounded.integers, weights, plan.spec, terms.word_bits, plan.largest), rounded.cut)


def clip(deltas: Tensors, clip_norm: float) -> Clipped:
    """Scale down to a Euclidean norm, over all tensors together, of at most ``clip_norm``; a zero update stays zero.

    Raises:
        ExchangeError: values that are not finite.
    """
    return Clipped(clipped_update(deltas, clip_norm))


def add_noise(clipped: Clipped, weights: Mapping[str, int], plan: Plan, terms: Terms) -> Noised:
    """Add this site's share of the plan's noise. The share is a share of the weighted sum, so each group's noise is
    divided by the weight that will multiply it.

    Raises:
        ExchangeError: not a clipped update. ConfigError: see `prepare`.
    """
    _require(clipped, Clipped, "noise comes after clipping")
    if plan.noise is None:
        return Noised(clipped.deltas)
    check_noise_under(plan, terms)
    noised = {}
    for tensor in plan.spec.of_towers(tuple(weights)):
        std = plan.noise.share_std / weights[tensor.tower]
        require_fine_and_long(plan, tensor.name, std)
        delta = clipped.deltas[tensor.name]
        noised[tensor.name] = delta + std * standard_normal(delta.size).reshape(delta.shape)
    return Noised(noised)


def require_fine_and_long(plan: Plan, name: str, std: float) -> None:
    """Refuse (ConfigError) a grid on which noise of ``std`` would be coarse, or cut."""
    grid, faults = plan.grids[name], []
    if std < MIN_STEPS * float(np.max(grid.steps)):
        faults.append(f"{name}: the noise of {std:g} spans less than {MIN_STEPS:g} steps of the grid")
    if grid.reach < plan.clip_norm + MIN_DEVIATIONS * std:
        faults.append(
            f"{name}: the grid ends at {grid.reach:g}, clipping norm and {MIN_DEVIATIONS:g} deviations of the noise "
            f"need {plan.clip_norm + MIN_DEVIATIONS * std:g}"
        )
    if faults:
        raise ConfigError(
            "grid under distributed noise",
            faults,
            remedy="use more bits, or weights that differ less between sites",
            avoid="cut the noise: the guarantee would no longer hold",
        )


def quantise_all(noised: Noised, plan: Plan, generator: np.random.Generator | None = None) -> Rounded:
    """Round every tensor to its grid. ExchangeError unless ``noised`` went through `add_noise`."""
    _require(noised, Noised, "quantising comes after noise")
    results = {
        name: quantise(delta, plan.grids[name], plan.rounding, generator) for name, delta in noised.deltas.items()
    }
    integers = {name: result.integers for name, result in results.items()}
    return Rounded(integers, sum(result.cut for result in results.values()))


def _require(value: Any, kind: type, rule: str) -> None:
    if not isinstance(value, kind):
        raise ExchangeError(f"{rule}: expected {kind.__name__}, not {type(value).__name__}")
