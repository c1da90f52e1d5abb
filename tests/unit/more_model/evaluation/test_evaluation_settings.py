"""What an evaluation may be asked to do."""

from __future__ import annotations

from typing import Any

import pytest

from more_model.errors import ConfigError
from more_model.evaluation.settings import EvaluationSettings
from more_model.settings import validated

LEAST = {"protocol": "mimic-4", "data": "d", "checkpoint": "c"}


def given(**changes: Any) -> EvaluationSettings:
    return validated(EvaluationSettings, {**LEAST, **changes}, "test")


def test_what_is_named_twice_is_asked_once() -> None:
    settings = given(modes=["fusion", "fusion"], labels=["Edema", "Edema"], fractions=[1.0, 0.1, 1.0])
    assert (settings.modes, settings.labels, settings.fractions) == (("fusion",), ("Edema",), (1.0, 0.1))


def test_the_published_policy_counts_blanks_as_absent() -> None:
    assert given().blank == "unstated"
    assert given(choice={"blank": "absent"}).blank == given(uncertainty="published").blank == "absent"


@pytest.mark.parametrize(
    ("name", "value"),
    [("fractions", [0.0]), ("fractions", [1.5]), ("modes", []), ("epochs", 0), ("replicates", 0), ("seeds", 0)],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        given(**{name: value})
