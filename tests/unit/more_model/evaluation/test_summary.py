from __future__ import annotations

import json

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.auroc import auroc
from more_model.evaluation.summary import at_site, compare, compare_means, compare_with_mean, summarise, summarise_mean


@pytest.fixture
def make_arm(make_scored):
    """Three labels (one of them of the ECG, one with a single positive) over 80 rows of 40 patients at two sites."""

    def build(noise: float, *, seed: int = 0):
        truth, model = np.random.default_rng(0), np.random.default_rng(seed)
        patient = [f"p{i // 2}" for i in range(80)]
        site = ["north" if i < 48 else "south" for i in range(80)]

        def label(name: str, modality: str, share: float):
            y = (truth.random(80) < share).astype(float)
            y[truth.random(80) < 0.1] = np.nan
            score = np.nan_to_num(y) + noise * model.normal(size=80)
            return make_scored(y, score, label=name, modality=modality, patient=patient, site=site)

        rare = make_scored([1.0] + [0.0] * 79, model.normal(size=80), label="Rare", patient=patient, site=site)
        return [label("Edema", "xray", 0.4), label("AFIB", "ecg", 0.3), rare]

    return build


def test_summary_has_figures_support_intervals_and_refusals(make_arm) -> None:
    arm = make_arm(1.0)
    table = summarise(arm, replicates=200, seed=1)
    edema = table["per_label"]["Edema"]
    assert edema["auroc"] == auroc(arm[0].y, arm[0].score).value
    assert edema["positives"] == int((arm[0].y == 1).sum())
    assert edema["negatives"] == int((arm[0].y == 0).sum())
    assert edema["modality"] == "xray"
    assert edema["ci95"][0] < edema["auroc"] < edema["ci95"][1]
    assert table["per_label"]["Rare"]["auroc"] is None
    assert table["per_label"]["Rare"]["ci95"] is None
    assert table["refused"] == [{"label": "Rare", "reason": "1 positive, at least 2 of either are needed"}]
    assert table["macro_auroc"] == pytest.approx((edema["auroc"] + table["per_label"]["AFIB"]["auroc"]) / 2)
    assert table["ci95"][0] < table["macro_auroc"] < table["ci95"][1]
    assert table["labels"] == 2
    json.dumps(table, allow_nan=False)


def test_macro_interval_is_narrower_than_that_of_one_label(make_arm) -> None:
    table = summarise(make_arm(1.0)[:2], replicates=300, seed=1)
    widths = [high - low for low, high in (row["ci95"] for row in table["per_label"].values())]
    assert table["ci95"][1] - table["ci95"][0] < max(widths)


def test_per_site_is_what_that_site_would_find_alone(make_arm) -> None:
    arm = make_arm(1.0)
    table = summarise(arm, replicates=100, seed=1)
    assert set(table["per_site"]) == {"north", "south"}
    alone = summarise(at_site(arm, "south"), replicates=100, seed=1)
    south = table["per_site"]["south"]
    assert {key: alone[key] for key in south} == south
    assert south["per_label"]["Rare"]["reason"].startswith("0 positives")
    assert south["labels"] == 2


def test_order_of_rows_does_not_matter(make_arm, make_scored) -> None:
    arm = make_arm(1.0)
    order = np.random.default_rng(1).permutation(80)
    shuffled = [
        make_scored(
            scored.y[order],
            scored.score[order],
            label=scored.task.label,
            modality=scored.task.modality,
            patient=[scored.patient[i] for i in order],
            site=[scored.site[i] for i in order],
        )
        for scored in arm
    ]
    assert summarise(arm, replicates=100, seed=1) == summarise(shuffled, replicates=100, seed=1)


def test_identical_arms_differ_by_exactly_nothing(make_arm) -> None:
    gap = compare(make_arm(1.0), make_arm(1.0), replicates=100, seed=1)
    assert gap["macro_auroc"] == 0.0
    assert gap["ci95"] == [0.0, 0.0]
    assert gap["paired"] is True
    assert gap["labels"] == ["Edema", "AFIB"]
    json.dumps(gap, allow_nan=False)


def test_the_difference_is_that_of_the_macro_figures_and_changes_sign(make_arm) -> None:
    good, bad = make_arm(0.3), make_arm(3.0)
    gap = compare(good, bad, replicates=300, seed=1)
    first, second = (summarise(arm, replicates=300, seed=1) for arm in (good, bad))
    assert gap["macro_auroc"] == pytest.approx(first["macro_auroc"] - second["macro_auroc"])
    assert gap["ci95"][0] > 0
    back = compare(bad, good, replicates=300, seed=1)
    assert back["macro_auroc"] == -gap["macro_auroc"]
    assert back["ci95"] == pytest.approx([-gap["ci95"][1], -gap["ci95"][0]])


def test_pairing_narrows_the_interval_of_similar_arms(make_arm, make_scored) -> None:
    arm = make_arm(1.0)[:2]
    nudge = np.random.default_rng(2)
    similar = [
        make_scored(
            scored.y,
            scored.score + 0.05 * nudge.normal(size=80),
            label=scored.task.label,
            modality=scored.task.modality,
            patient=scored.patient,
            site=scored.site,
        )
        for scored in arm
    ]
    gap = compare(arm, similar, replicates=300, seed=1)["ci95"]
    alone = summarise(arm, replicates=300, seed=1)["ci95"]
    assert gap[1] - gap[0] < 0.25 * (alone[1] - alone[0])


def test_mean_over_several_arms(make_arm) -> None:
    federated, locals_ = make_arm(0.5), [make_arm(1.0, seed=1), make_arm(2.0, seed=2)]
    mean = summarise_mean(locals_, replicates=100, seed=1)
    each = [summarise(arm, replicates=100, seed=1)["macro_auroc"] for arm in locals_]
    assert mean["macro_auroc"] == pytest.approx(np.mean(each))
    assert mean["per_label"]["Edema"]["arms"] == 2
    gap = compare_with_mean(federated, locals_, replicates=100, seed=1)
    whole = summarise(federated, replicates=100, seed=1)["macro_auroc"]
    assert gap["macro_auroc"] == pytest.approx(whole - np.mean(each))
    assert gap["ci95"][0] < gap["macro_auroc"] < gap["ci95"][1]


def test_means_over_seeds_of_two_models_are_compared_paired(make_arm) -> None:
    strong, stronger, weak = make_arm(1.0), make_arm(1.6), make_arm(0.3)
    options = {"replicates": 100, "seed": 1}
    assert compare_means([strong], [weak], **options) == compare(strong, weak, **options)
    both = compare_means([strong, stronger], [weak, weak], **options)
    singles = [compare(arm, weak, **options)["macro_auroc"] for arm in (strong, stronger)]
    assert both["macro_auroc"] == pytest.approx(np.mean(singles))
    assert both["ci95"][0] < both["macro_auroc"] < both["ci95"][1]
    assert compare_means([strong, weak], [weak, strong], **options)["ci95"] == pytest.approx([0.0, 0.0])


def test_an_arm_that_cannot_score_a_label_has_no_say_on_it(make_arm, make_scored) -> None:
    federated, complete, without_ecg = make_arm(0.5), make_arm(1.0, seed=1), make_arm(1.0, seed=2)
    ecg = without_ecg[1]
    without_ecg[1] = make_scored(
        ecg.y,
        np.full(80, np.nan),
        label="AFIB",
        modality="ecg",
        patient=ecg.patient,
        site=ecg.site,
        reason="no ECG",
    )
    mean = summarise_mean([complete, without_ecg], replicates=50, seed=1)["per_label"]
    assert (mean["Edema"]["arms"], mean["AFIB"]["arms"]) == (2, 1)
    only = summarise(complete, replicates=50, seed=1)["per_label"]["AFIB"]["auroc"]
    assert mean["AFIB"]["auroc"] == only
    assert compare(federated, without_ecg, replicates=50, seed=1)["labels"] == ["Edema"]
    refused = summarise(without_ecg, replicates=50, seed=1)["per_label"]["AFIB"]
    assert refused["reason"] == "no ECG"
    assert refused["positives"] == int((ecg.y == 1).sum())


def test_rows_that_a_diverged_model_left_without_score_are_counted(make_scored) -> None:
    y, score = [1, 1, 1, 0, 0, 0], [3, 2, np.nan, 1, 0, np.nan]
    row = summarise([make_scored(y, score)], replicates=50, seed=0)["per_label"]["Edema"]
    assert (row["auroc"], row["positives"], row["unscored"]) == (1.0, 2, 2)
    lost = summarise([make_scored(y, [np.nan] * 6)], replicates=50, seed=0)
    assert lost["macro_auroc"] is None
    assert lost["ci95"] is None
    assert "6 rows with a label got no score" in lost["per_label"]["Edema"]["reason"]
    assert lost["reason"] == "no label has enough positives and negatives"


def test_rows_scored_by_one_arm_only_do_not_enter_the_difference(make_scored) -> None:
    y = [1, 1, 1, 0, 0, 0]
    first = make_scored(y, [3, 2, -9, 1, 0, -1])
    second = make_scored(y, [3, 2, np.nan, 1, 0, -1])
    gap = compare([first], [second], replicates=50, seed=0)
    assert gap["macro_auroc"] == 0.0
    assert gap["per_label"]["Edema"]["positives"] == 2


def test_arms_of_other_rows_are_refused(make_scored) -> None:
    first, other = make_scored([1, 1, 0, 0], [4, 3, 2, 1]), make_scored([1, 0, 1, 0], [4, 3, 2, 1])
    with pytest.raises(DataError, match=r"Edema \(xray\): the arms were not scored on the same rows"):
        compare([first], [other], replicates=10, seed=0)
    with pytest.raises(DataError, match="tasks scored twice in one arm: Edema"):
        summarise([first, first], replicates=10, seed=0)


def test_a_label_asked_of_two_modalities_keeps_both_figures(make_scored) -> None:
    pair = [make_scored([1, 1, 0, 0], [4, 3, 2, 1]), make_scored([1, 1, 0, 0], [1, 2, 3, 4], modality="ecg")]
    table = summarise(pair, replicates=20, seed=0)
    assert {name: row["auroc"] for name, row in table["per_label"].items()} == {"Edema (xray)": 1.0, "Edema (ecg)": 0.0}


def test_one_patient_per_class_gives_a_figure_but_no_interval(make_scored) -> None:
    scored = make_scored([1, 1, 0, 0, 0], [5, 1, 2, 3, 0], patient=["a", "a", "b", "c", "d"])
    table = summarise([scored], replicates=50, seed=0)
    row = table["per_label"]["Edema"]
    assert row["auroc"] == pytest.approx(4 / 6)
    assert row["ci95"] is None
    assert row["interval_reason"] == "all rows of a class belong to one patient"
    assert table["ci95"] is None


def test_small_support_is_flagged(make_scored) -> None:
    few = make_scored([1] * 9 + [0] * 30, range(39), label="Few")
    enough = make_scored([1] * 10 + [0] * 29, range(39), label="Enough")
    table = summarise([few, enough], replicates=20, seed=0)
    assert table["low_support"] == ["Few"]
    gap = compare([few, enough], [few, enough], replicates=20, seed=0)
    assert gap["low_support"] == ["Few"]


def test_dropped_replicates_are_counted(make_scored) -> None:
    scored = make_scored([1, 1, 0, 0, 0, 0, 0, 0], range(8))
    row = summarise([scored], replicates=400, seed=0)["per_label"]["Edema"]
    assert 20 < row["dropped_replicates"] < 80
