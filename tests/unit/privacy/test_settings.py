"""Privacy settings: every mode has what it needs, and every fault is reported at once, at its key."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from more_model.errors import ConfigError
from privacy.sensitivity import MODES, Mode
from privacy.settings import ModeOrNone, PrivacySettings, schedule

DECOUPLED = {"mode": "patient-decoupled", "noise_multiplier": 1.0, "delta": 1e-5, "expected_patients": 256}
GROUPS = {**DECOUPLED, "mode": "patient-groups"}
SHUFFLED = {**DECOUPLED, "mode": "patient-shuffled"}
HOSPITAL = {"mode": "hospital", "target_epsilon": 8, "delta": 1e-5, "public_weights": {"a": 0.75, "b": 0.25}}


def faults(**values: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        PrivacySettings.model_validate(values)
    return {str(error["loc"][0]): error["msg"] for error in caught.value.errors()}


def test_nothing_given_is_no_privacy_and_says_so() -> None:
    assert PrivacySettings().mode == "none"
    assert not PrivacySettings().on


@pytest.mark.parametrize("values", [DECOUPLED, GROUPS, SHUFFLED, HOSPITAL])
def test_every_mode_can_be_configured(values: dict[str, Any]) -> None:
    assert PrivacySettings.model_validate(values).on


def test_the_modes_are_those_of_the_contracts() -> None:
    assert set(get_args(Mode)) == set(MODES) == set(get_args(ModeOrNone)) - {"none"}


def test_all_faults_are_found_in_one_pass() -> None:
    found = faults(
        mode="hospital", clip_norm=-1, noise_multiplier=1, target_epsilon=3, delta=2, group_size=9,
        max_studies_per_patient=0, public_weights={"a": 0.5, "b": 0.2}, secret=1, sampling_rate=0.5,
    )  # fmt: skip
    assert set(found) == {
        "clip_norm", "target_epsilon", "delta", "group_size", "max_studies_per_patient", "public_weights", "secret",
        "sampling_rate",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"noise_multiplier": None}, "target_epsilon", "exactly one of noise_multiplier and target_epsilon"),
        ({"target_epsilon": 3.0}, "target_epsilon", "exactly one"),
        ({"delta": None}, "delta", "means nothing without its delta"),
        ({"expected_patients": None}, "expected_patients", "exactly one of sampling_rate and expected_patients"),
        ({"sampling_rate": 0.1}, "expected_patients", "exactly one"),
        ({"public_weights": {"a": 1.0}}, "public_weights", "only the mode hospital"),
        ({"mode": "patient-shuffled", "sampling_rate": 0.1}, "sampling_rate", "counts on no sampling"),
        ({"mode": "patient-shuffled", "expected_patients": None}, "expected_patients", "whole groups"),
        ({"mode": "hospital"}, "public_weights", "reveals it"),
        ({"mode": "hospital"}, "expected_patients", "leave it out"),
        ({"mode": "none"}, "target_epsilon", "without a mode"),
        ({"noise_multiplier": True}, "noise_multiplier", "not true or false"),
        ({"noise_multiplier": 0.0}, "noise_multiplier", "0.01"),
        ({"clip_norm": float("inf")}, "clip_norm", "finite"),
        ({"mode": "patient"}, "mode", "patient-decoupled"),
    ],
)
def test_each_fault_is_reported_at_its_key(changes: dict[str, Any], key: str, words: str) -> None:
    assert words in faults(**{**DECOUPLED, **changes})[key]


@pytest.mark.parametrize("weights", [{"a": 0.5, "b": 0.4}, {"a": 1.5, "b": -0.5}])
def test_weights_must_be_shares(weights: dict[str, float]) -> None:
    assert "public_weights" in faults(**{**HOSPITAL, "public_weights": weights})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PrivacySettings().clip_norm = 3.0  # type: ignore[misc]


def test_hospital_norms_are_the_same_or_equalised() -> None:
    assert PrivacySettings.model_validate(HOSPITAL).clip_norms() == {"a": 1.0, "b": 1.0}
    equalised = PrivacySettings.model_validate({**HOSPITAL, "hospital_clipping": "equalised", "clip_norm": 3.0})
    assert [equalised.public_weights[site] * norm for site, norm in equalised.clip_norms().items()] == [1.5, 1.5]


def test_schedule_of_patients_is_the_rate_and_the_public_divisor() -> None:
    found = schedule(PrivacySettings.model_validate(DECOUPLED), 10_000)
    assert (found.units, found.sampling_rate, found.expected_units) == (10_000, 0.0256, 256)
    by_rate = {**DECOUPLED, "expected_patients": None, "sampling_rate": 0.1}
    assert schedule(PrivacySettings.model_validate(by_rate), 2_000).expected_units == pytest.approx(200)


def test_schedule_of_groups_counts_groups() -> None:
    found = schedule(PrivacySettings.model_validate({**GROUPS, "group_size": 8}), 10_001)
    assert found.units == 1251
    assert found.expected_units == pytest.approx(found.sampling_rate * 1251)
    shuffled = schedule(PrivacySettings.model_validate(SHUFFLED), 10_000)
    assert (shuffled.units, shuffled.sampling_rate, shuffled.steps_per_epoch) == (2500, 1.0, 39)
    assert shuffled.expected_units == pytest.approx(2500 / 39)


@pytest.mark.parametrize("patients", [0, 255])
def test_more_patients_a_step_than_there_are_is_refused(patients: int) -> None:
    with pytest.raises(ConfigError, match="256 patients expected a step"):
        schedule(PrivacySettings.model_validate(DECOUPLED), patients)


def test_a_delta_that_lets_whole_patients_out_is_refused() -> None:
    settings = PrivacySettings.model_validate({**DECOUPLED, "delta": 1e-3})
    assert schedule(settings, 999).units == 999
    with pytest.raises(ConfigError, match=r"delta 0\.001: must be below 1 / 1000"):
        schedule(settings, 1000)


@pytest.mark.parametrize("values", [{}, HOSPITAL])
def test_modes_without_patients_have_no_schedule(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has no schedule"):
        schedule(PrivacySettings.model_validate(values), 1000)
