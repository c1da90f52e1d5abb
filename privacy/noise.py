"""Gaussian noise from the operating system's entropy.

Noise that can be drawn again can be subtracted. So it comes from no generator that a seed, a checkpoint or a core dump
could reproduce: every number is made of fresh bytes of `os.urandom` (Linux: the kernel's ChaCha20), and there is no
parameter to make it repeatable. Experiment seeds govern everything else in a run, never this.

Floating point. The theorems speak of real numbers. Doubles have gaps, and which value of a noised sum can occur at all
may tell something about the sum (Mironov 2012; Haney et al. 2022, arXiv 2207.13793). One cheap measure is taken: sum
and noise are added in float64 and only then rounded to float32, which hides the low digits that such attacks read.
That is no proof. A discrete mechanism (Canonne et al. 2020, arXiv 2004.00010) would give one, at the price of updates
in whole numbers; it is not used here. The same holds for the clipped sum, whose rounding in float32 depends on all
units (about 1e-7 of its norm).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

#: Pairs of numbers made at once, which bounds the memory beside the result (16 bytes of entropy a pair).
_PAIRS_AT_ONCE = 1 << 19


def standard_normal(count: int) -> npt.NDArray[np.float64]:
    """``[count]`` independent standard normal numbers.

    Box and Muller 1958, from two uniforms of 53 bits a pair; the tails end at 8.57 standard deviations.
    """
    pairs = (count + 1) // 2
    normal = np.empty((2, pairs))
    for start in range(0, pairs, _PAIRS_AT_ONCE):
        stop = min(start + _PAIRS_AT_ONCE, pairs)
        first, second = _uniform(2 * (stop - start)).reshape(2, -1)
        radius = np.sqrt(-2.0 * np.log1p(-first))  # 1 - u lies in (0, 1]: no logarithm of zero
        normal[0, start:stop] = radius * np.cos(2 * np.pi * second)
        normal[1, start:stop] = radius * np.sin(2 * np.pi * second)
    return normal.ravel()[:count]


def _uniform(count: int) -> npt.NDArray[np.float64]:
    """Multiples of 2^-53 in [0, 1)."""
    words = np.frombuffer(os.urandom(8 * count), dtype=np.uint64)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def noised_array(values: npt.NDArray[np.floating], std: float) -> npt.NDArray[np.float32]:
    """``values`` plus independent N(0, std^2) in every entry, added in float64 and rounded to float32.

    Raises:
        ValueError: a standard deviation that is not finite or not above 0; noise is never quietly left out.
    """
    if not (math.isfinite(std) and std > 0):
        raise ValueError(f"the standard deviation of the noise must be finite and above 0, not {std:g}")
    noise = standard_normal(values.size).reshape(values.shape)
    return np.asarray(values.astype(np.float64) + std * noise, dtype=np.float32)


def with_noise(sums: Mapping[str, Tensor], std: float) -> dict[str, Tensor]:
    """Every tensor with a draw of its own of N(0, std^2) in every entry, float32, on the tensor's device: tensors of
    equal shape get different noise. Raises as `noised_array` does."""
    import torch

    return {
        name: torch.from_numpy(noised_array(tensor.detach().cpu().double().numpy(), std)).to(tensor.device)
        for name, tensor in sums.items()
    }
