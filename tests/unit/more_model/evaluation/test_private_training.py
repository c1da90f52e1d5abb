"""What may be asked of private training, and where its implementation is found."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from more_model.errors import ConfigError, EnvironmentFault
from more_model.evaluation import private_training
from more_model.evaluation.private_training import PrivateTerms, installed_private_training
from more_model.evaluation.settings import EvaluationSettings
from more_model.settings import validated

ENOUGH = {"epsilon": 8.0, "delta": 1e-3, "sampling_rate": 0.1, "public_patients": 450}


def given(**changes: Any) -> PrivateTerms:
    return validated(PrivateTerms, {**ENOUGH, **changes}, "test")


def test_steps_and_divisor_follow_from_public_numbers() -> None:
    terms = given()
    assert terms.expected_patients == pytest.approx(45)
    assert [terms.steps(epochs) for epochs in (1, 20)] == [10, 200]
    assert given(sampling_rate=0.3).steps(20) == 67
    assert given(sampling_rate=1.0).steps(1) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"epsilon": None}, "exactly one of epsilon and noise multiplier"),
        ({"noise_multiplier": 1.0}, "exactly one of epsilon and noise multiplier"),
        ({"delta": None}, "means nothing without its delta"),
        ({"delta": 1 / 450}, "below 1 / 450"),
        ({"sampling_rate": None}, "it decides epsilon"),
        ({"sampling_rate": 1.5}, "less than or equal to 1"),
        ({"public_patients": None}, "number of training patients.*may be published"),
        ({"clip_norm": 0.0}, "clip_norm: .*greater than 0"),
        ({"epsilon": float("inf")}, "finite"),
        ({"ledger": Path("l")}, "go together; missing: witness, site key"),
    ],
)
def test_terms_that_make_no_sense_say_why(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){why}"):
        given(**changes)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        validated(
            EvaluationSettings,
            {
                "protocol": "cohort", "data": "d", "checkpoint": "c", "modes": ["fusion"],
                "privacy": {"delta": None, "sampling_rate": None, "public_patients": None, "witness": "w"},
            },
            "test",
        )  # fmt: skip
    assert len(caught.value.faults) == 5
    text = str(caught.value)
    assert all(word in text for word in ("delta", "sampling_rate", "public_patients", "noise", "ledger"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"modes": ["fine-tune", "fusion"]}, "fusion fits weights"),
        ({"modes": ["zero-shot"]}, "nothing to protect"),
        ({"modes": ["fine-tune"], "fractions": [0.1, 1.0]}, "drawn class by class"),
    ],
)
def test_what_cannot_be_private_is_refused(changes: dict[str, Any], why: str) -> None:
    content = {"protocol": "p", "data": "d", "checkpoint": "c", "fractions": [1.0], **changes, "privacy": ENOUGH}
    with pytest.raises(ConfigError, match=why):
        validated(EvaluationSettings, content, "test")
    assert validated(EvaluationSettings, {**content, "privacy": None}, "test").open_modes == tuple(changes["modes"])


def test_an_implementation_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def registered(*entries: EntryPoint) -> None:
        monkeypatch.setattr(private_training, "entry_points", lambda group: [e for e in entries if e.group == group])

    registered()
    with pytest.raises(EnvironmentFault, match="not installed"):
        installed_private_training()
    registered(EntryPoint("opacus", "no_such_package.at_all:opened", private_training.GROUP))
    with pytest.raises(EnvironmentFault, match=r"cannot be loaded.*no_such_package"):
        installed_private_training()
    registered(EntryPoint("opacus", "json:loads", private_training.GROUP))
    import json

    assert installed_private_training() is json.loads
