from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.embedded import EmbeddedSet, LabelTask, score_task, settle_uncertain


def test_has_tells_missing_rows_apart(make_set) -> None:
    ecg = np.eye(3, dtype=np.float32)
    ecg[1] = np.nan
    embedded = make_set(3, ecg=ecg, report=["a", None, "b"], xray=np.empty((3, 0), dtype=np.float32))
    assert embedded.has("ecg").tolist() == [True, False, True]
    assert embedded.has("report").tolist() == [True, False, True]
    assert embedded.has("text").all()
    assert not embedded.has("xray").any()
    assert embedded.has_features("xray").all()


def test_select_by_mask_and_by_index_agree(make_set) -> None:
    embedded = make_set(5, labels={"Edema": np.array([1, 0, -1, np.nan, 1.0])})
    by_mask = embedded.select(np.array([True, False, False, True, True]))
    by_index = embedded.select(np.array([0, 3, 4]))
    assert by_mask.patient == by_index.patient == ["p0", "p3", "p4"]
    assert by_mask.report == ["report 0", "report 3", "report 4"]
    np.testing.assert_array_equal(by_mask.text, embedded.text[[0, 3, 4]])
    np.testing.assert_array_equal(by_mask.labels["Edema"], by_index.labels["Edema"])
    assert embedded.select(np.array([4, 0])).patient == ["p4", "p0"]


def test_select_refuses_a_mask_of_another_length(make_set) -> None:
    with pytest.raises(DataError, match="mask of 2 rows for a set of 5"):
        make_set(5).select(np.array([True, False]))


def test_concatenate_fills_what_a_site_does_not_have(make_set) -> None:
    first = make_set(2, labels={"Edema": np.array([1.0, 0.0])})
    nothing = np.empty((3, 0), dtype=np.float32)
    second = make_set(3, xray=nothing, xray_features=nothing, labels={"AFIB": np.array([0.0, 1.0, -1.0])})
    both = EmbeddedSet.concatenate([first, second])
    assert len(both) == 5
    assert both.has("xray").tolist() == [True, True, False, False, False]
    assert both.xray.shape == (5, 4)
    np.testing.assert_array_equal(both.labels["Edema"], [1, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(both.labels["AFIB"], [np.nan, np.nan, 0, 1, -1])
    np.testing.assert_array_equal(both.ecg, np.concatenate([first.ecg, second.ecg]))


def test_concatenate_refuses_other_widths(make_set) -> None:
    with pytest.raises(DataError, match=r"xray has different widths \[4, 6\]"):
        EmbeddedSet.concatenate([make_set(2), make_set(2, width=6)])
    with pytest.raises(DataError, match="nothing to concatenate"):
        EmbeddedSet.concatenate([])


def test_row_counts_must_agree(make_set) -> None:
    with pytest.raises(DataError, match=r"label Edema.*2"):
        make_set(3, labels={"Edema": np.zeros(2)})


@pytest.mark.parametrize(("policy", "expected"), [("ignore", np.nan), ("zero", 0.0), ("one", 1.0)])
def test_uncertain_labels_follow_the_policy(policy, expected) -> None:
    values = np.array([1.0, 0.0, -1.0, np.nan])
    np.testing.assert_array_equal(settle_uncertain(values, policy), [1.0, 0.0, expected, np.nan])
    assert values[2] == -1.0


def test_attributes_follow_their_rows(make_set) -> None:
    first = make_set(3, labels={"Edema": np.array([1.0, np.nan, 0.0])}, attributes={"sex": ["f", "m", ""]})
    assert first.select(np.array([2, 0])).attributes == {"sex": ["", "f"]}
    both = EmbeddedSet.concatenate([first, make_set(2, attributes={"view": ["PA", "AP"]})])
    assert both.attributes == {"sex": ["f", "m", "", "", ""], "view": ["", "", "", "PA", "AP"]}
    scored = score_task(first, LabelTask("Edema", "xray"), "ignore", lambda rows: np.arange(float(len(rows))))
    assert scored.attributes == {"sex": ["f", ""]}
    assert scored.select(np.array([False, True])).attributes == {"sex": [""]}
    assert scored.select(np.array([1, 0])).score.tolist() == [1.0, 0.0]


def test_attributes_need_a_value_a_row(make_set, make_scored) -> None:
    with pytest.raises(DataError, match=r"attribute sex.*2"):
        make_set(3, attributes={"sex": ["f", "m"]})
    with pytest.raises(DataError, match="patient, site and attributes differ in length"):
        replace(make_scored([1, 0], [0.1, 0.2]), attributes={"sex": ["f"]})


def test_odd_label_values_are_refused() -> None:
    with pytest.raises(DataError, match=r"Edema: label values \[0.5\]"):
        settle_uncertain(np.array([0.0, 0.5]), "ignore", label="Edema")


def test_score_task_takes_the_rows_that_state_the_label_whatever_the_model_does(make_set) -> None:
    embedded = make_set(4, labels={"Edema": np.array([1.0, np.nan, -1.0, 0.0])})
    task = LabelTask("Edema", "xray")
    scored = score_task(embedded, task, "ignore", lambda rows: np.full(len(rows), np.nan))
    refused = score_task(embedded, task, "ignore", lambda rows: "no such tower")
    assert scored.patient == refused.patient == ["p0", "p3"]
    assert scored.y.tolist() == [1.0, 0.0]
    assert scored.reason is None
    assert refused.reason == "no such tower"
    assert np.isnan(refused.score).all()


def test_scored_label_refuses_unsettled_labels(make_scored) -> None:
    with pytest.raises(DataError, match="y holds values other than 0, 1 and NaN"):
        make_scored([1, -1], [0.1, 0.2])
    with pytest.raises(DataError, match="differ in length"):
        make_scored([1, 0], [0.1])
