"""Noise that a test may turn down, and a subject that is one real Gaussian release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from more_model.errors import DataError
from privacy.audit.subject import CanaryScores, Claimed, Embedded, HeadLeak, MembershipScores, TokenLeak
from privacy.claims import mode_claim
from privacy.noise import noised_array

DELTA = 1e-5


@pytest.fixture
def scaled_noise(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, int], None]:
    """``scaled_noise(scale, seed)``: from now on every mechanism adds its noise times ``scale``, from that seed. The
    product has no such knob: the noise's source itself is exchanged."""

    def set_to(scale: float, seed: int) -> None:
        draws = np.random.default_rng(seed)

        def normal(count: int) -> NDArray[np.float64]:
            return scale * draws.standard_normal(count)

        monkeypatch.setattr("privacy.noise.standard_normal", normal)
        monkeypatch.setattr("privacy.secure_sum.prepare.standard_normal", normal)

    return set_to


@dataclass
class GaussianSubject:
    """Canaries with orthogonal contributions of norm 1 in one noised sum: the optimal attack on it is to look."""

    noise_multiplier: float = 1.0
    unit: str = "patient"
    claims_something: bool = True
    honest: bool = True

    def name(self) -> str:
        return "toy run, site north"

    def claimed(self) -> Claimed:
        if not self.claims_something:
            return Claimed("none", float("inf"), 0.0, self.unit)
        claim = mode_claim("patient-decoupled", self.noise_multiplier, 1.0, 1.0, 1, DELTA)
        return Claimed("patient-decoupled", claim.result.epsilon, DELTA, self.unit)

    def canary_scores(self, canaries: int, included: NDArray[np.bool_]) -> CanaryScores:
        noise = self.noise_multiplier if self.honest else self.noise_multiplier / 10
        released = noised_array(included.astype(np.float64), noise)
        return CanaryScores(included, released.astype(np.float64))

    def membership_scores(self, references: int) -> MembershipScores:
        draws = np.random.default_rng(1)
        return MembershipScores(0.5 + draws.normal(size=300), draws.normal(size=200), references)

    def head_leaks(self) -> Mapping[str, HeadLeak]:
        draws = np.random.default_rng(2)
        members, outsiders = draws.normal(size=(2, 12, 40))
        return {"one step, no privacy": HeadLeak(draws.normal(size=(20, 12)) @ members, members, outsiders)}

    def token_leaks(self) -> Mapping[str, TokenLeak]:
        raise DataError("this run has no report tower", remedy="none is needed")

    def embeddings(self) -> Embedded:
        draws = np.random.default_rng(3)
        xray = draws.normal(size=(50, 16))
        return Embedded(xray, xray + draws.normal(size=(50, 16)), np.arange(50))


@pytest.fixture
def gaussian_subject() -> Callable[..., GaussianSubject]:
    """``gaussian_subject(...)``: see `GaussianSubject`."""
    return GaussianSubject
