"""Curves are fitted where there are enough cases, and say how far they can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from more_model.assess.calibrated import WRONG_WAY, Calibrated, calibrate
from more_model.assess.evidence import Evidence, Patients, fit_evidence
from more_model.assess.parts import SELECTIONS, Part, key
from more_model.data.study import Modality
from more_model.evaluation.embedded import EmbeddedSet, LabelTask

EDEMA, MI, RARE, SINGLE = (
    LabelTask("Edema", "xray"), LabelTask("MI", "ecg"), LabelTask("Rare", "xray"), LabelTask("Single", "ecg"),
)  # fmt: skip


def patients(n: int, seed: int, *, flipped: bool = False) -> Patients:
    """Edema shows in the X-ray and its report says it, MI in the ECG; Rare has four cases, Single is everywhere."""
    generator = np.random.default_rng(seed)
    edema, mi = generator.integers(0, 2, (2, n)).astype(float)
    xray, ecg, xray_report, ecg_report = generator.normal(size=(4, n, 5)).astype(np.float32)
    xray[:, 0] += (-2 if flipped else 2) * edema
    ecg[:, 0] += 2 * mi
    xray_report[:, 1] += 5 * edema
    ecg_report[:, 1] += 5 * mi
    xray[: n // 10], ecg[n // 10 : n // 5], xray_report[n // 5 : n // 3] = np.nan, np.nan, np.nan
    rare = np.zeros(n)
    rare[-4:] = 1.0
    labels = {"Edema": edema, "MI": mi, "Rare": rare, "Single": np.ones(n)}
    nothing = np.empty((n, 0), dtype=np.float32)
    studies = EmbeddedSet(
        patient=[f"{seed}-{row}" for row in range(n)], site=["north"] * n, xray=xray, ecg=ecg, text=nothing,
        report=[None] * n, xray_features=nothing, ecg_features=nothing, labels=labels,
    )  # fmt: skip
    return Patients(studies, {Modality.XRAY: xray_report, Modality.ECG: ecg_report})


TASKS = (EDEMA, MI, RARE, SINGLE)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return fit_evidence(patients(300, 0), patients(200, 1), TASKS)


@pytest.fixture(scope="module")
def calibrated(evidence: Evidence) -> tuple[dict[LabelTask, Any], dict[str, Any]]:
    return calibrate(evidence, patients(200, 1), TASKS, replicates=50, seed=0)


def test_every_selection_has_a_curve_or_a_reason(calibrated: tuple[dict[LabelTask, Any], dict[str, Any]]) -> None:
    curves, tables = calibrated
    assert set(tables) == {key(chosen) for chosen in SELECTIONS}
    for found in curves.values():
        assert set(found.curves) | set(found.refused) == set(tables)
        assert not set(found.curves) & set(found.refused)
    assert set(curves[EDEMA].curves) >= {"xray", "report", "xray+report", "xray+ecg", "xray+ecg+report"}
    assert curves[EDEMA].curves["xray"].informative
    assert curves[EDEMA].curves["xray+report"].auroc > curves[EDEMA].curves["xray"].auroc
    assert not curves[RARE].curves
    assert "4 positives" in curves[RARE].refused["xray"]
    assert curves[SINGLE].refused["ecg"] == "fusion: in training 0 negatives, at least 2 of either are needed"


def test_what_tells_nothing_is_not_called_informative(calibrated: tuple[dict[LabelTask, Any], dict[str, Any]]) -> None:
    found = calibrated[0][MI]
    curve = found.curves.get("xray")
    assert found.refused.get("xray") == WRONG_WAY if curve is None else not curve.informative


def test_a_score_that_ranks_the_wrong_way_gives_no_probability(evidence: Evidence) -> None:
    curves, _ = calibrate(evidence, patients(200, 2, flipped=True), [EDEMA], replicates=10, seed=0)
    assert curves[EDEMA].refused["xray"] == WRONG_WAY


def test_probabilities_hold_on_other_patients(
    evidence: Evidence, calibrated: tuple[dict[LabelTask, Any], dict[str, Any]]
) -> None:
    curve: Calibrated = calibrated[0][EDEMA].curves["xray"]
    (scored,) = evidence.scores(patients(2000, 3), [EDEMA], (Part.XRAY,))
    found = np.array([curve.probability(logit) for logit in scored.score.tolist()])
    assert (found[:, 1] <= found[:, 0]).all() and (found[:, 0] <= found[:, 2]).all()
    for low, high in ((0, 0.3), (0.3, 0.7), (0.7, 1)):
        rows = (found[:, 0] >= low) & (found[:, 0] < high)
        seen = scored.y[rows].mean()
        assert found[rows, 1].mean() - 0.03 < seen < found[rows, 2].mean() + 0.03


def test_the_interval_narrows_with_more_validation_patients(evidence: Evidence) -> None:
    widths = []
    for n in (60, 600):
        curves, _ = calibrate(evidence, patients(n, 5), [EDEMA], replicates=10, seed=0)
        middle, low, high = curves[EDEMA].curves["xray"].probability(0.0)
        assert low < middle < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_hidden_parts_do_not_count(evidence: Evidence) -> None:
    given = patients(50, 7)
    both = evidence.logits(EDEMA, given.parts(Modality.XRAY), (Part.XRAY,))
    parts = {**given.parts(Modality.XRAY), Part.ECG: np.full((50, 5), np.nan, dtype=np.float32)}
    np.testing.assert_array_equal(evidence.logits(EDEMA, parts, (Part.XRAY,)), both)
    assert np.isnan(both).sum() == 5
    assert np.isnan(evidence.logits(EDEMA, parts, (Part.XRAY, Part.ECG))).all()
