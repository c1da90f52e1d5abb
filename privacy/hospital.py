"""Hospital-level privacy: whole updates are clipped, weighted by public numbers, summed and noised.

    Delta = sum_i w_i clip(D_i, C_i)  +  N(0, z^2 S^2 I),    S = max_i w_i C_i,    all w_i public, fixed, sum 1

Hides whether a hospital's data took part at all (its update set to zero). With few hospitals it costs a great deal of
noise; `more-privacy plan --mode hospital` says how much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import ExchangeSpec, TensorDict, Tensors
from privacy.noise import noised_array
from privacy.sensitivity import hospital_bound


def update_norm(update: Tensors) -> float:
    """L2 norm over all tensors together, in float64; not finite if any entry is not."""
    return math.sqrt(math.fsum(float(np.square(tensor.astype(np.float64)).sum()) for tensor in update.values()))


def clipped_update(update: Tensors, clip_norm: float) -> TensorDict:
    """The whole update scaled by min(1, C / norm), all tensors by the same factor. An update of zeros stays as it is.

    Raises:
        ExchangeError: the update holds NaN or infinity. It is refused, not repaired: min(1, C / NaN) would let it pass.
    """
    norm = update_norm(update)
    if not math.isfinite(norm):
        names = [name for name, tensor in update.items() if not np.isfinite(tensor).all()]
        raise ExchangeError(
            f"the update holds NaN or infinite values ({len(names)} tensors, first {names[0]})",
            remedy="lower the learning rate at this site and train the round again",
            avoid="replace the values by zero: whatever made them is still there",
        )
    factor = min(1.0, clip_norm / norm) if norm > 0 else 1.0
    return {name: (tensor.astype(np.float64) * factor).astype(np.float32) for name, tensor in update.items()}


def weighted_sum(
    updates: Mapping[str, Tensors],
    weights: Mapping[str, float],
    clip_norms: Mapping[str, float],
    spec: ExchangeSpec,
) -> dict[str, npt.NDArray[np.float64]]:
    """Sum over the sites, in the order of their names, of w_i clip(D_i, C_i); not yet private.

    A site that sent nothing, and a tensor that a site did not train, count as zero. The weights are not divided by
    those who took part: the sum would then move with every absence, by more than S.

    Raises:
        ConfigError: an update of a site without a public weight. ExchangeError: see `clipped_update`.
    """
    unknown = sorted(updates.keys() - weights.keys())
    if unknown:
        raise ConfigError(
            "hospital-level privacy",
            [f"site {site!r}: sent an update, but has no public weight" for site in unknown],
            remedy="list every site in public_weights before the first round",
            avoid="weigh a site by the number of its examples of the round: that number is private",
        )
    total = {tensor.name: np.zeros(tensor.shape) for tensor in spec.tensors}
    for site in sorted(updates):
        for name, tensor in clipped_update(updates[site], clip_norms[site]).items():
            total[name] += weights[site] * tensor.astype(np.float64)
    return total


def private_sum(
    updates: Mapping[str, Tensors],
    weights: Mapping[str, float],
    clip_norms: Mapping[str, float],
    noise_multiplier: float,
    spec: ExchangeSpec,
) -> TensorDict:
    """The released change of the global tensors: `weighted_sum` plus noise with standard deviation z S in every entry
    of every tensor of ``spec``, also where no site sent anything.

    Raises:
        ConfigError, ExchangeError: see `weighted_sum` and `privacy.sensitivity.hospital_bound`.
    """
    std = noise_multiplier * hospital_bound(weights, clip_norms)
    total = weighted_sum(updates, weights, clip_norms, spec)
    return {name: noised_array(tensor, std) for name, tensor in total.items()}
