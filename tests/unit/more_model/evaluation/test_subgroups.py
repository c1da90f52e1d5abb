from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.auroc import auroc
from more_model.evaluation.subgroups import age_band, part_of, subgroup_tables
from more_model.evaluation.summary import summarise


@pytest.fixture
def make_arm(make_scored):
    """Two X-ray labels and an ECG label over 160 patients; the score is worth less for women."""

    def build(gap: float = 2.0, *, seed: int = 0, **attributes: list[str]):
        generator = np.random.default_rng(seed)
        female = np.arange(160) % 2 == 0
        given = {"sex": ["F" if one else "M" for one in female], **attributes}

        def label(name: str, modality: str):
            y = (generator.random(160) < 0.4).astype(float)
            signal = np.where(female, 2.0 - gap, 2.0)
            scored = make_scored(y, generator.normal(size=160) + signal * y, label=name, modality=modality)
            return replace(scored, attributes=given)

        return [label("Edema", "xray"), label("Mass", "xray"), label("AFIB", "ecg")]

    return build


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("0", "<40"),
        ("39.9", "<40"),
        ("40", "40-59"),
        ("79", "60-79"),
        ("80", "80+"),
        ("300", "80+"),
        ("", "unknown"),
        ("-1", "unknown"),
        ("nan", "unknown"),
        ("inf", "unknown"),
        ("091Y", "unknown"),
    ],
)
def test_age_bands(age: str, band: str) -> None:
    assert age_band(age) == band


def test_parts_are_read_from_the_attributes(make_scored) -> None:
    scored = replace(
        make_scored([1, 0, 1], [3, 2, 1], site=["north", "south", ""]),
        attributes={"sex": ["F", " male", "?"], "view": ["pa", "AP", ""]},
    )
    assert part_of(scored, "sex") == ["female", "male", "unknown"]
    assert part_of(scored, "view") == ["PA", "AP", "unknown"]
    assert part_of(scored, "site") == ["north", "south", "unknown"]
    assert part_of(scored, "age") == ["unknown"] * 3
    with pytest.raises(DataError, match="no division of patients is called 'scanner'"):
        part_of(scored, "scanner")


def test_a_part_has_its_own_figures_and_the_difference_to_the_rest(make_arm) -> None:
    arm = make_arm()
    table = subgroup_tables(arm, ["sex"], replicates=200, seed=1)
    women, men = table["divisions"]["sex"]["female"], table["divisions"]["sex"]["male"]
    rows = np.array([sex == "F" for sex in arm[0].attributes["sex"]])
    mine = [auroc(item.y[rows], item.score[rows]).value for item in arm]
    theirs = [auroc(item.y[~rows], item.score[~rows]).value for item in arm]
    assert women["macro_auroc"] == pytest.approx(np.mean(mine))
    assert women["per_label"]["Mass"]["auroc"] == mine[1]
    assert (women["rows"], women["patients"], women["labels"]) == (80, 80, 3)
    gap = women["difference"]
    assert gap["macro_auroc"] == pytest.approx(np.mean(mine) - np.mean(theirs))
    assert gap["per_label"]["AFIB"]["auroc"] == pytest.approx(mine[2] - theirs[2])
    assert gap["ci95"][0] < gap["macro_auroc"] < gap["ci95"][1] < 0
    assert men["difference"]["macro_auroc"] == pytest.approx(-gap["macro_auroc"])
    assert men["difference"]["ci95"] == pytest.approx([-end for end in reversed(gap["ci95"])])
    json.dumps(table, allow_nan=False)


def test_intervals_of_a_model_that_treats_both_alike_hold_zero_as_often_as_they_claim(make_arm) -> None:
    held, trials = 0, 100
    for seed in range(trials):
        found = subgroup_tables(make_arm(gap=0.0, seed=seed)[:1], ["sex"], replicates=150, seed=seed)
        low, high = found["divisions"]["sex"]["female"]["difference"]["ci95"]
        held += low < 0 < high
    assert 0.88 <= held / trials <= 0.99


def test_the_largest_gap_is_named_with_how_many_were_compared(make_arm) -> None:
    ages = [str(30 + 20 * (i // 40)) for i in range(160)]
    found = subgroup_tables(make_arm(age=ages), replicates=100, seed=1)
    gap = found["largest_gap"]
    assert (gap["division"], gap["compared"]) == ("sex", 6)
    assert gap["sentence"].startswith("The largest gap is that of sex ")
    assert "largest of 6 comparisons" in gap["sentence"]
    assert list(found["divisions"]["age"]) == ["<40", "40-59", "60-79", "80+"]
    sizes = [
        abs(part["difference"]["macro_auroc"])
        for division in ("sex", "age")
        for part in found["divisions"][division].values()
    ]
    assert abs(gap["macro_auroc"]) == max(sizes)


def test_what_is_not_known_is_shown_but_not_compared(make_arm) -> None:
    ages = ["50"] * 100 + [""] * 60
    parts = subgroup_tables(make_arm(age=ages), ["age"], replicates=50, seed=1)["divisions"]["age"]
    assert list(parts) == ["40-59", "unknown"]
    assert parts["unknown"]["macro_auroc"] is not None
    assert "not known" in parts["unknown"]["difference"]["reason"]
    assert "macro_auroc" in parts["40-59"]["difference"]


def test_small_parts_and_single_parts_are_refused(make_arm) -> None:
    ages = ["50"] * 151 + ["30"] * 9
    found = subgroup_tables(make_arm(age=ages), ["age", "site"], replicates=50, seed=1)
    young, older = found["divisions"]["age"]["<40"], found["divisions"]["age"]["40-59"]
    assert young == {"rows": 9, "patients": 9, "reason": "9 patients, at least 10 are needed"}
    assert older["difference"] == {"reason": "9 other patients, at least 10 are needed"}
    assert found["divisions"]["site"]["north"]["difference"] == {"reason": "0 other patients, at least 10 are needed"}
    assert found["largest_gap"] is None


def test_a_view_divides_labels_of_xrays_only(make_arm) -> None:
    views = ["PA"] * 80 + ["AP"] * 80
    parts = subgroup_tables(make_arm(view=views), ["view"], replicates=50, seed=1)["divisions"]["view"]
    assert list(parts["PA"]["per_label"]) == ["Edema", "Mass"]
    assert parts["PA"]["difference"]["labels"] == 2


def test_a_part_without_positives_says_so(make_arm) -> None:
    arm = make_arm()
    rows = np.array([sex == "F" for sex in arm[0].attributes["sex"]])
    arm[0] = replace(arm[0], y=np.where(rows, 0.0, arm[0].y))
    women = subgroup_tables(arm, ["sex"], replicates=50, seed=1)["divisions"]["sex"]["female"]
    assert women["refused"] == [{"label": "Edema", "reason": "0 positives, at least 2 of either are needed"}]
    assert set(women["difference"]["per_label"]) == {"Mass", "AFIB"}


def test_the_whole_as_one_part_is_the_plain_summary(make_arm) -> None:
    arm = make_arm()
    part = subgroup_tables(arm, ["site"], replicates=50, seed=1)["divisions"]["site"]["north"]
    whole = summarise(arm, replicates=50, seed=1)
    assert {key: part[key] for key in ("macro_auroc", "ci95", "per_label")} == {
        key: whole[key] for key in ("macro_auroc", "ci95", "per_label")
    }


def test_refusals(make_arm) -> None:
    arm = make_arm()
    with pytest.raises(DataError, match="scored twice"):
        subgroup_tables([arm[0], arm[0]], replicates=10, seed=0)
    with pytest.raises(DataError, match="no division"):
        subgroup_tables(arm, ["hospital"], replicates=10, seed=0)
