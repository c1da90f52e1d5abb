"""Noise for the sum alone: every site adds a share too small to protect it by itself, the sum has all of it.

With secure summation the coordinator sees the sum only, so the sum is what has to be noised. If at least H of the
contributors are honest and stay to the end, shares of N(0, sigma^2 / H) each give the sum at least N(0, sigma^2):
variances of independent Gaussians add. H = sites - tolerated drop-outs - tolerated colluders (a colluder can subtract
its own share). More honest sites only give more noise than claimed. Compare Kairouz et al. 2021 (arXiv 2102.06387),
section 1.

The shares here are continuous Gaussians, rounded to the grid at each site before they are added, and not the discrete
Gaussians of that paper. A sum of rounded values is not a rounding of the sum, so "post-processing" does not cover the
step. What covers it is that a share's standard deviation spans several grid steps (`MIN_STEPS`, enforced): the
rounding error of a Gaussian is then uniform and independent of it up to about exp(-2 pi^2 (std/step)^2), under 1e-137
(Widrow et al. 1996), an extra and independent noise. And that no value is cut at the end of the grid (enforced,
`MIN_DEVIATIONS`). Neither is part of the printed epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from more_model.errors import ConfigError

#: Grid steps that one standard deviation of a share must span.
MIN_STEPS = 4.0
#: Standard deviations that must fit on the grid beyond the clipping norm; `privacy.noise` draws end at 8.57.
MIN_DEVIATIONS = 8.6


@dataclass(frozen=True, slots=True)
class DistributedNoise:
    """Public settings of the noise. ``noise_multiplier`` z and ``sensitivity`` S of the weighted sum (the largest
    weight times the clipping norm) give its standard deviation, z S, with ``sites`` contributors of which ``dropouts``
    may get lost and ``colluders`` may work with the coordinator."""

    noise_multiplier: float
    sensitivity: float
    sites: int
    dropouts: int
    colluders: int = 1

    @property
    def honest(self) -> int:
        """Shares that are in the sum and unknown to everyone, at the least."""
        return self.sites - self.dropouts - self.colluders

    @property
    def minimum_contributors(self) -> int:
        """With fewer contributors the sum would have too little noise: the terms must keep it hidden then."""
        return self.sites - self.dropouts

    @property
    def share_std(self) -> float:
        """Standard deviation of what one site adds to its *weighted* contribution, z S / sqrt(honest)."""
        return self.noise_multiplier * self.sensitivity / math.sqrt(self.honest)


def check_distributed_noise(noise: DistributedNoise) -> None:
    """Refuse settings from which no guarantee follows: ConfigError with all faults."""
    faults = []
    for name, value in (("noise_multiplier", noise.noise_multiplier), ("sensitivity", noise.sensitivity)):
        if not (math.isfinite(value) and value > 0):
            faults.append(f"{name} {value:g}: must be finite and above 0")
    if noise.dropouts < 0 or noise.colluders < 0:
        faults.append("dropouts and colluders must not be negative")
    if noise.honest < 1:
        faults.append(
            f"{noise.sites} sites less {noise.dropouts} drop-outs less {noise.colluders} colluders: nobody is left "
            "whose noise could be counted on"
        )
    if faults:
        raise ConfigError("distributed noise", faults)


def guarantee(noise: DistributedNoise) -> str:
    """What may be said of a sum with this noise, in words; `privacy.accounting.epsilon` gives the number for
    ``noise_multiplier``, rate 1 and the number of rounds, adjacency add-remove."""
    return (
        f"Unit: a hospital, whose whole weighted update (norm at most {noise.sensitivity:g}) is set to zero. "
        f"Against: the coordinator and whoever sees the released sum, together with up to {noise.colluders} of the "
        f"other sites. The sum carries Gaussian noise of standard deviation at least "
        f"{noise.noise_multiplier * noise.sensitivity:g} (multiplier {noise.noise_multiplier:g}) as long as at least "
        f"{noise.minimum_contributors} of {noise.sites} sites contribute; with fewer no sum is revealed. "
        f"Not protected: a site's update against someone who sees it before it is masked, for one site's share of the "
        f"noise is only {noise.share_std:g}. Who takes part, and with which weight, is public. Not a guarantee for "
        "patients: where a site takes several local steps a round, only its own accounting speaks of patients."
    )
