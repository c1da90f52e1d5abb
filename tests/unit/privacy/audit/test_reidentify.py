"""Search across modalities: certain, hopeless, tied, and with several studies a patient."""

from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import DataError
from privacy.audit.reidentify import reidentification
from privacy.audit.subject import Embedded

DRAWS = np.random.default_rng(0)
XRAY = DRAWS.normal(size=(200, 32))


def test_equal_embeddings_find_everybody() -> None:
    result = reidentification(Embedded(XRAY, 3 * XRAY, np.arange(200)))
    assert (result.top_1.value, result.median_rank.value) == (1.0, 1.0)
    assert result.top_1.low == pytest.approx(0.025 ** (1 / 200))


def test_unrelated_embeddings_are_at_chance() -> None:
    result = reidentification(Embedded(XRAY, DRAWS.normal(size=XRAY.shape), np.arange(200)))
    assert result.top_1.low <= result.chance_top_1 == 1 / 200 <= result.top_1.high
    assert result.top_5.low <= result.chance_top_5 == 5 / 200 <= result.top_5.high
    assert result.median_rank.low < result.chance_median_rank == 100.5 < result.median_rank.high


def test_embeddings_that_are_all_the_same_are_no_success() -> None:
    result = reidentification(Embedded(np.ones((50, 4)), np.ones((50, 4)), np.arange(50)))
    assert result.top_1.value == 0
    assert result.median_rank.value == 25.5


def test_studies_of_a_patient_are_taken_together() -> None:
    noisy = XRAY + 2.5 * DRAWS.normal(size=XRAY.shape)
    alone = reidentification(Embedded(XRAY, noisy, np.arange(200)))
    base = np.repeat(DRAWS.normal(size=(50, 32)), 4, axis=0)
    together = reidentification(
        Embedded(base + 2.5 * DRAWS.normal(size=base.shape), base, np.repeat(np.arange(50) + 7, 4))
    )
    assert together.patients == 50
    assert together.median_rank.value < alone.median_rank.value


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(DataError, match="9 patients with both"):
        reidentification(Embedded(XRAY[:9], XRAY[:9], np.arange(9)))
    with pytest.raises(DataError, match="do not pair"):
        reidentification(Embedded(XRAY, XRAY[:199], np.arange(200)))
    with pytest.raises(DataError, match="zero or not finite"):
        reidentification(Embedded(0 * XRAY, XRAY, np.arange(200)))
