"""The public settings of a run with secure sums, and the terms of each round that follow from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from more_model.errors import ConfigError
from more_model.exchange import TOWERS, ExchangeSpec
from privacy.quantise import Grid, Rounding, grids_digest
from privacy.secure_sum.distributed_noise import DistributedNoise, check_distributed_noise
from privacy.secure_sum.identity import canonical
from privacy.secure_sum.terms import MINIMUM_CONTRIBUTORS, Terms, check_terms, usual_threshold


@dataclass(frozen=True, slots=True)
class Plan:
    """What every site does with its update before it is masked: clip to ``clip_norm`` as a whole, add its share of
    ``noise`` (None: none), round to ``grids`` (by tensor name), multiply by its public weight."""

    spec: ExchangeSpec
    grids: Mapping[str, Grid]
    clip_norm: float
    rounding: Rounding = "stochastic"
    noise: DistributedNoise | None = None

    @property
    def largest(self) -> int:
        """Bound of the integers of all grids."""
        return max(grid.largest for grid in self.grids.values())

    def agreement(self, fingerprint_digest: str) -> str:
        """Hex SHA-256 of these settings and the digest of the base: the ``agreement`` of `Terms` and `Conditions`."""
        noise = self.noise
        shares = None if noise is None else [noise.share_std, noise.minimum_contributors, noise.colluders]
        content = [self.spec.digest(), fingerprint_digest, grids_digest(self.grids), self.clip_norm, shares]
        return hashlib.sha256(canonical(["agreement", content])).hexdigest()


def check_plan(plan: Plan) -> None:
    """Refuse a plan with tensors without a grid, or a clipping norm that is none: ConfigError."""
    faults = []
    names = {tensor.name for tensor in plan.spec.tensors}
    if not names or plan.grids.keys() != names:
        faults.append(f"{len(plan.grids)} grids for the {len(names)} tensors of the specification: one each is needed")
    if not (np.isfinite(plan.clip_norm) and plan.clip_norm > 0):
        faults.append(f"clip_norm {plan.clip_norm:g}: must be finite and above 0")
    if faults:
        raise ConfigError("plan of the secure sum", faults)
    if plan.noise is not None:
        check_distributed_noise(plan.noise)


def terms_of(
    plan: Plan,
    *,
    run: str,
    number: int,
    sites: Sequence[str],
    fingerprint_digest: str,
    word_bits: int,
    max_weight: int,
    minimum_contributors: int = MINIMUM_CONTRIBUTORS,
    colluders: int = 1,
) -> Terms:
    """The checked terms of round ``number`` with the usual threshold.

    Raises:
        ConfigError: see `check_plan` and `check_terms`; noise that the terms would not keep up.
    """
    check_plan(plan)
    counts = {group: sum(tensor.nbytes // 4 for tensor in plan.spec.of_towers((group,))) for group in TOWERS}
    terms = Terms(
        run=run,
        round=number,
        agreement=plan.agreement(fingerprint_digest),
        sites=tuple(sorted(sites)),
        threshold=usual_threshold(len(sites), colluders),
        words={group: count for group, count in counts.items() if count},
        word_bits=word_bits,
        largest=plan.largest,
        max_weight=max_weight,
        minimum_contributors=minimum_contributors,
        colluders=colluders,
    )
    check_terms(terms)
    check_noise_under(plan, terms)
    return terms


def check_noise_under(plan: Plan, terms: Terms) -> None:
    """Refuse terms under which the sum could carry less noise than the plan's claim: ConfigError."""
    noise, faults = plan.noise, []
    if noise is None:
        return
    if terms.minimum_contributors < noise.minimum_contributors:
        faults.append(
            f"minimum_contributors {terms.minimum_contributors}: the noise counts on {noise.minimum_contributors}"
        )
    if terms.colluders > noise.colluders:
        faults.append(f"colluders {terms.colluders}: the noise reckons with {noise.colluders}")
    if noise.sensitivity < terms.max_weight * plan.clip_norm:
        faults.append(
            f"sensitivity {noise.sensitivity:g}: a site of weight {terms.max_weight} clipped to {plan.clip_norm:g} "
            f"moves the sum by up to {terms.max_weight * plan.clip_norm:g}"
        )
    if faults:
        raise ConfigError("distributed noise under the terms of the secure sum", faults)
