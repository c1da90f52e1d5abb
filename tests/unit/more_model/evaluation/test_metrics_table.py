from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from more_model.errors import DataError
from more_model.evaluation.bootstrap import percentile_interval, resample_patients, reverse_percentile_interval
from more_model.evaluation.calibration import expected_calibration_error, fit_calibrator
from more_model.evaluation.cells import Cells, figures_of
from more_model.evaluation.metrics_table import measure
from more_model.evaluation.summary import summarise


@pytest.fixture
def make_arm(make_scored):
    """Three labels (one of the ECG, one with a single positive) over 120 rows of 60 patients."""

    def build(prefix: str = "t", *, seed: int = 0, rare: bool = True):
        generator = np.random.default_rng(seed)
        patient = [f"{prefix}{i // 2}" for i in range(120)]

        def label(name: str, modality: str, share: float):
            y = (generator.random(120) < share).astype(float)
            score = y + generator.normal(size=120)
            y[generator.random(120) < 0.1] = np.nan
            return make_scored(y, score, label=name, modality=modality, patient=patient)

        single = make_scored([1.0] + [0.0] * 119, generator.normal(size=120), label="Rare", patient=patient)
        return [label("Edema", "xray", 0.4), label("AFIB", "ecg", 0.2), *([single] if rare else [])]

    return build


def test_every_figure_of_a_label_is_that_of_scikit_learn(make_arm) -> None:
    arm, validation = make_arm(), make_arm("v", seed=1)
    table = measure(arm, validation=validation, replicates=100, seed=1)
    for scored, held in zip(arm[:2], validation, strict=False):
        row = table["per_label"][scored.task.label]
        known = ~np.isnan(scored.y)
        y, score = scored.y[known], scored.score[known]
        assert row["auroc"] == pytest.approx(roc_auc_score(y, score))
        assert row["auprc"] == pytest.approx(average_precision_score(y, score))
        probability = fit_calibrator(held.y, held.score).probability(score)
        assert row["brier"] == pytest.approx(brier_score_loss(y, probability))
        assert row["ece"] == pytest.approx(expected_calibration_error(y, probability))
        assert row["ece_mass"] == pytest.approx(expected_calibration_error(y, probability, kind="mass"))
        assert row["calibrator"]["rows"] == int((~np.isnan(held.y)).sum())
        assert (row["positives"], row["negatives"]) == (int(y.sum()), int((1 - y).sum()))
        assert row["prevalence"] == pytest.approx(y.mean())
        assert row["patients"] == len({patient for patient, use in zip(scored.patient, known, strict=True) if use})
        for name in ("auprc", "brier", "brier_skill"):
            assert row[f"{name}_ci95"][0] < row[name] < row[f"{name}_ci95"][1]
    json.dumps(table, allow_nan=False)


def test_auroc_is_to_the_last_bit_that_of_the_summary(make_arm) -> None:
    arm = make_arm()
    table, summary = measure(arm, replicates=100, seed=1), summarise(arm, replicates=100, seed=1)
    assert table["macro"]["auroc"] == summary["macro_auroc"]
    assert table["macro"]["ci95"] == summary["ci95"]
    assert table["macro"]["labels"] == summary["labels"]
    for label, row in summary["per_label"].items():
        assert (table["per_label"][label]["auroc"], table["per_label"][label]["ci95"]) == (row["auroc"], row["ci95"])
    assert table["refused"] == summary["refused"]
    assert table["low_support"] == summary["low_support"]


def test_hanley_and_mcneils_example(make_scored) -> None:
    # Radiology 1982, table I: 58 normal and 51 abnormal CT images rated 1 to 5; area 0.893, standard error 0.032.
    ratings = np.arange(1.0, 6.0)
    score = np.concatenate([np.repeat(ratings, (33, 6, 6, 11, 2)), np.repeat(ratings, (3, 2, 2, 11, 33))])
    row = measure([make_scored(np.repeat([0.0, 1.0], [58, 51]), score)], replicates=400, seed=0)["per_label"]["Edema"]
    assert row["auroc"] == pytest.approx(0.893, abs=5e-4)
    # Their formula adds a third of the squared ties where DeLong's adds a quarter, which gives 0.0307.
    assert (row["delong_ci95"][1] - row["delong_ci95"][0]) / (2 * 1.96) == pytest.approx(0.032, abs=1.5e-3)
    assert row["ci95"] == pytest.approx(row["delong_ci95"], abs=0.015)
    precision = (33 * 33 / 35 + 11 * 44 / 57 + 2 * 46 / 65 + 2 * 48 / 73 + 3 * 51 / 109) / 51
    assert row["auprc"] == pytest.approx(precision)
    point = row["operating_points"]["sensitivity at specificity 0.9"]
    assert (point["value"], point["threshold"], point["specificity"]) == (33 / 51, 5.0, 1 - 2 / 58)
    assert point["ci95"][0] < point["value"]


def test_macro_is_the_mean_and_micro_pools_the_cells(make_arm) -> None:
    arm = make_arm(rare=False)
    table = measure(arm, validation=make_arm("v", seed=1), replicates=100, seed=1)
    rows = table["per_label"].values()
    for name in ("auroc", "auprc", "brier", "brier_skill", "ece", "ece_floor"):
        assert table["macro"][name] == pytest.approx(np.mean([row[name] for row in rows]))
    name = "sensitivity at specificity 0.95"
    points = [row["operating_points"][name] for row in rows]
    assert table["macro"]["operating_points"][name]["value"] == pytest.approx(np.mean([p["value"] for p in points]))
    assert "threshold" not in table["macro"]["operating_points"][name]
    known = [~np.isnan(scored.y) for scored in arm]
    y = np.concatenate([scored.y[rows] for scored, rows in zip(arm, known, strict=True)])
    score = np.concatenate([scored.score[rows] for scored, rows in zip(arm, known, strict=True)])
    micro = table["micro"]
    assert micro["auroc"] == pytest.approx(roc_auc_score(y, score))
    assert micro["auprc"] == pytest.approx(average_precision_score(y, score))
    assert (micro["cells"], micro["labels"]) == (len(y), 2)
    assert micro["ci95"][0] < micro["auroc"] < micro["ci95"][1]


def test_calibrated_micro_does_not_care_about_the_scale_of_a_label(make_arm) -> None:
    arm, validation = make_arm(rare=False), make_arm("v", seed=1, rare=False)
    moved = [arm[0], replace(arm[1], score=100 * arm[1].score + 500)]
    moved_too = [validation[0], replace(validation[1], score=100 * validation[1].score + 500)]
    plain = measure(arm, validation=validation, replicates=20, seed=1)
    scaled = measure(moved, validation=moved_too, replicates=20, seed=1)
    assert scaled["micro"]["auroc"] < plain["micro"]["auroc"] - 0.1
    assert scaled["micro_calibrated"]["auroc"] == pytest.approx(plain["micro_calibrated"]["auroc"], abs=1e-4)
    assert scaled["micro"]["brier"] == pytest.approx(plain["micro"]["brier"], abs=1e-6)


def test_without_validation_there_are_no_probabilities(make_arm) -> None:
    table = measure(make_arm(), replicates=20, seed=1)
    row = table["per_label"]["Edema"]
    assert (row["brier"], row["ece"], row["ece_ci95"], row["calibrator"]) == (None, None, None, None)
    assert row["calibration_reason"] == "no validation patients to calibrate on"
    assert table["macro"]["calibrated_labels"] == 0
    assert table["micro_calibrated"]["auroc"] is None
    few = [replace(item, y=np.where(np.arange(120) < 8, item.y, np.nan)) for item in make_arm("v", seed=1)]
    reason = measure(make_arm(), validation=few, replicates=20, seed=1)["per_label"]["Edema"]["calibration_reason"]
    assert "at least 5 of either are needed" in reason


def test_refused_labels_say_why_and_still_count_in_micro(make_arm) -> None:
    arm = make_arm()
    lost = replace(arm[1], score=np.full(120, np.nan), reason="no ECG tower")
    table = measure([arm[0], lost, arm[2]], replicates=20, seed=1)
    assert table["per_label"]["AFIB"]["reason"] == "no ECG tower"
    assert table["per_label"]["Rare"]["reason"] == "1 positive, at least 2 of either are needed"
    assert table["per_label"]["Rare"]["operating_points"] == {}
    assert table["macro"]["labels"] == 1
    assert table["micro"]["labels"] == 2
    assert table["micro"]["cells"] == int((~np.isnan(arm[0].y)).sum()) + 120
    nothing = measure([lost], replicates=20, seed=1)
    assert nothing["macro"]["auroc"] is None
    assert nothing["micro"]["cells"] == 0
    json.dumps(nothing, allow_nan=False)


def test_one_patient_per_class_gives_figures_but_no_interval(make_scored) -> None:
    scored = make_scored([1, 1, 0, 0, 0], [5, 1, 2, 3, 0], patient=["a", "a", "b", "c", "d"])
    table = measure([scored], replicates=20, seed=0)
    for row in (table["per_label"]["Edema"], table["macro"], table["micro"]):
        assert row["auroc"] == pytest.approx(4 / 6)
        assert row["ci95"] is None
        assert row["auprc_ci95"] is None
        assert row["interval_reason"] == "all rows of a class belong to one patient"


def test_a_patient_in_validation_and_test_is_refused(make_arm) -> None:
    with pytest.raises(DataError, match="60 patients are both calibrated on and judged") as caught:
        measure(make_arm(), validation=make_arm(), replicates=10, seed=0)
    assert "t0" not in str(caught.value)
    arm = make_arm()
    with pytest.raises(DataError, match="scored twice"):
        measure([arm[0], arm[0]], replicates=10, seed=0)


def test_intervals_cover_the_truth_about_as_often_as_they_claim(make_scored) -> None:
    big = np.random.default_rng(99)
    large_y = np.repeat([0.0, 1.0], [200_000, 100_000])
    large = big.normal(size=300_000) + 1.2 * large_y
    truth = {
        "auprc": average_precision_score(large_y, large),
        "sensitivity": float((large[large_y == 1] >= np.quantile(large[large_y == 0], 0.9)).mean()),
    }
    covered, trials = dict.fromkeys(truth, 0), 120
    for seed in range(trials):
        y = np.repeat([0.0, 1.0], [100, 50])
        scored = make_scored(y, np.random.default_rng(seed).normal(size=150) + 1.2 * y)
        row = measure([scored], replicates=200, seed=seed)["per_label"]["Edema"]
        found = {
            "auprc": row["auprc_ci95"],
            "sensitivity": row["operating_points"]["sensitivity at specificity 0.9"]["ci95"],
        }
        for name, (low, high) in found.items():
            covered[name] += low <= truth[name] <= high
    assert all(0.88 <= count / trials <= 0.99 for count in covered.values()), covered


def test_the_mirrored_interval_of_a_calibration_error_covers_what_the_plain_one_misses() -> None:
    # Probabilities off by 0.3 in the logit: the calibration error over ten bins is 0.0617 in the limit.
    covered, trials = {"mirrored": 0, "plain": 0}, 100
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        logit = generator.normal(size=300)
        y = (generator.random(300) < 1 / (1 + np.exp(-(logit + 0.3)))).astype(float)
        people = [f"p{i:03}" for i in range(300)]
        resamples = resample_patients(people, ["s"] * 300, replicates=150, seed=seed)
        cells = Cells(y, logit, 1 / (1 + np.exp(-logit)), resamples.rows(people, ["s"] * 300))
        error = figures_of(cells, resamples)["ece"]
        for name, found in (
            ("mirrored", reverse_percentile_interval(error.value, error.replicates)),
            ("plain", percentile_interval(error.replicates)),
        ):
            assert found is not None
            covered[name] += found[0] <= 0.0617 <= found[1]
    assert covered["mirrored"] >= 0.84 * trials
    assert covered["plain"] <= 0.70 * trials


def test_replicates_of_calibration_are_those_of_resampled_rows(make_arm) -> None:
    scored = make_arm()[0]
    resamples = resample_patients(scored.patient, scored.site, replicates=15, seed=3)
    known = ~np.isnan(scored.y)
    unit = resamples.rows(scored.patient, scored.site)[known]
    y, p = scored.y[known], 1 / (1 + np.exp(-scored.score[known]))
    figures = figures_of(Cells(y, scored.score[known], p, unit), resamples)
    for replicate in range(15):
        rows = np.repeat(np.arange(len(y)), resamples.counts[unit, replicate])
        assert figures["brier"].replicates[replicate] == pytest.approx(brier_score_loss(y[rows], p[rows]))
        assert figures["ece"].replicates[replicate] == pytest.approx(expected_calibration_error(y[rows], p[rows]))
        skill = 1 - brier_score_loss(y[rows], p[rows]) / y[rows].var()
        assert figures["brier_skill"].replicates[replicate] == pytest.approx(skill)
        precision = average_precision_score(y[rows], scored.score[known][rows])
        assert figures["auprc"].replicates[replicate] == pytest.approx(precision)
