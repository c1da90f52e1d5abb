"""What is printed about privacy: the golden values by mode, with unit and adjacency; a study is never a patient."""

from __future__ import annotations

from typing import Any

import pytest

from more_model.errors import ConfigError
from privacy.claims import mode_claim, rounded_up, study_claim


@pytest.mark.parametrize(
    ("mode", "z", "rate", "steps", "published", "tolerance"),
    [
        ("patient-decoupled", 1.0, 0.0256, 1000, 5.129, 0.001),
        ("patient-groups", 1.0, 0.0256, 1000, 8.32, 0.005),
        ("patient-shuffled", 4.0, 1, 10, 7.5, 0.05),
        ("patient-shuffled", 8.0, 1, 50, 8.6, 0.05),
        ("patient-shuffled", 16.0, 1, 50, 3.8, 0.05),
        ("hospital", 1.0, 1, 50, 54.38, 0.005),
        ("hospital", 4.24, 1, 50, 8.0, 0.02),
    ],
)
def test_golden_values_by_mode(
    mode: Any, z: float, rate: float, steps: int, published: float, tolerance: float
) -> None:
    claim = mode_claim(mode, z, 1.0, rate, steps, 1e-5)
    assert claim.result.epsilon == pytest.approx(published, abs=tolerance)
    assert claim.unit == ("hospital" if mode == "hospital" else "patient")
    assert claim.sentence.startswith(f"Per {claim.unit}: epsilon {rounded_up(claim.result.epsilon)} at delta 1e-05")
    assert claim.neighbours in claim.sentence


def test_only_the_ratio_of_noise_and_norm_counts() -> None:
    one, other = (mode_claim("hospital", sigma, norm, 1, 50, 1e-5) for sigma, norm in ((4.0, 1.0), (2.4, 0.6)))
    assert one.result.epsilon == pytest.approx(other.result.epsilon, rel=1e-12)


def test_a_study_level_claim_never_speaks_of_patients_as_protected() -> None:
    claim = study_claim(1.0, 0.0256, 1000, 1e-5, studies_per_patient=5)
    assert claim.unit == "study"
    assert claim.result.epsilon == pytest.approx(5.129, abs=0.001)
    assert "patient" not in claim.sentence
    assert claim.sentence.startswith("Per study:")
    (warning,) = claim.warnings
    assert "not a guarantee for patients: one with 5 studies has epsilon 38.0" in warning


def test_one_study_a_patient_needs_no_warning_and_none_is_refused() -> None:
    assert study_claim(4.0, 0.0256, 10, 1e-5, studies_per_patient=1).warnings == ()
    with pytest.raises(ConfigError, match="studies 0"):
        study_claim(4.0, 0.0256, 10, 1e-5, studies_per_patient=0)


def test_a_large_epsilon_is_said_to_promise_little() -> None:
    assert "promises nothing about" in " ".join(mode_claim("hospital", 1.0, 1.0, 1, 50, 1e-5).warnings)
    assert mode_claim("hospital", 8.0, 1.0, 1, 50, 1e-5).warnings == ()


def test_a_patient_known_to_several_hospitals_is_mentioned() -> None:
    assert "several hospitals" in " ".join(mode_claim("patient-decoupled", 2.0, 1.0, 1, 5, 1e-5).warnings)


@pytest.mark.parametrize(("value", "text"), [(5.1281, "5.13"), (5.13, "5.13"), (5.1300001, "5.14"), (0.0, "0.00")])
def test_epsilons_are_never_rounded_down(value: float, text: str) -> None:
    assert rounded_up(value) == text
