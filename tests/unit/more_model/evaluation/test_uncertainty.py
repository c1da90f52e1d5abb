from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.embedded import LabelTask, settle_labels, settle_uncertain
from more_model.evaluation.linear_probe import probe
from more_model.evaluation.prompt_sets import LabelPrompts, PromptSet
from more_model.evaluation.uncertainty import apply_published, settled
from more_model.evaluation.zero_shot import encode_prompts, zero_shot

EDEMA, EFFUSION, AFIB = LabelTask("Edema", "xray"), LabelTask("Effusion", "xray"), LabelTask("AFIB", "ecg")
NAN = np.nan


@pytest.fixture
def mixed(make_set):
    """Five rows: the third hedges on an X-ray label, the fourth on the ECG label, the fifth has no X-ray."""
    xray = np.tile(np.array([1.0, 0, 0, 0], dtype=np.float32), (5, 1))
    xray[4] = NAN
    labels = {
        "Edema": np.array([1.0, NAN, -1.0, 0.0, NAN]),
        "Effusion": np.array([NAN, 0.0, 1.0, 1.0, NAN]),
        "AFIB": np.array([0.0, 1.0, 1.0, -1.0, NAN]),
    }
    return make_set(5, xray=xray, labels=labels)


def test_published_by_hand() -> None:
    labels = {
        "Edema": np.array([1.0, NAN, -1.0, 0.0, NAN]),
        "Effusion": np.array([NAN, 0.0, 1.0, -1.0, NAN]),
    }
    result = apply_published(labels)
    np.testing.assert_array_equal(result["Edema"], [1, 0, NAN, NAN, 0])
    np.testing.assert_array_equal(result["Effusion"], [0, 0, NAN, NAN, 0])
    assert labels["Edema"][2] == -1.0
    assert apply_published({}) == {}


def test_which_rows_are_dropped_depends_on_the_labels_asked_for() -> None:
    edema, effusion = np.array([1.0, 0.0]), np.array([-1.0, 1.0])
    np.testing.assert_array_equal(apply_published({"Edema": edema})["Edema"], [1, 0])
    np.testing.assert_array_equal(apply_published({"Edema": edema, "Effusion": effusion})["Edema"], [NAN, 0])


def test_published_refuses_odd_input() -> None:
    with pytest.raises(DataError, match=r"Edema: label values \[0.5\]"):
        apply_published({"Edema": np.array([0.5, 1.0])})
    with pytest.raises(DataError, match="different numbers of rows"):
        apply_published({"Edema": np.zeros(2), "Effusion": np.zeros(3)})
    with pytest.raises(DataError, match="one label alone cannot be settled"):
        settle_uncertain(np.array([1.0, 0.0]), "published", label="Edema")


def test_settle_labels_takes_every_policy() -> None:
    labels = {"Edema": np.array([1.0, -1.0, NAN]), "Effusion": np.array([0.0, 1.0, 1.0])}
    np.testing.assert_array_equal(settle_labels(labels, "one")["Edema"], [1, 1, NAN])
    np.testing.assert_array_equal(settle_labels(labels, "published")["Effusion"], [0, NAN, 1])


def test_xray_and_ecg_labels_are_settled_apart(mixed) -> None:
    result = settled(mixed, [EDEMA, EFFUSION, AFIB], "published")
    np.testing.assert_array_equal(result.labels["Edema"], [1, 0, NAN, 0, NAN])
    np.testing.assert_array_equal(result.labels["Effusion"], [0, 0, NAN, 1, NAN])
    np.testing.assert_array_equal(result.labels["AFIB"], [0, 1, 1, NAN, 0])


def test_presence_can_be_stated_whatever_the_model_made_of_the_rows(mixed) -> None:
    present = {"xray": np.array([True, True, True, False, True]), "ecg": np.ones(5, dtype=bool)}
    result = settled(mixed, [EDEMA, EFFUSION], "published", present=present)
    np.testing.assert_array_equal(result.labels["Edema"], [1, 0, NAN, NAN, 0])
    assert set(result.labels) == {"Edema", "Effusion"}


def test_other_policies_and_unknown_labels(mixed) -> None:
    result = settled(mixed, [EDEMA, LabelTask("Mass", "xray")], "zero")
    np.testing.assert_array_equal(result.labels["Edema"], [1, NAN, 0, 0, NAN])
    assert "Mass" not in settled(mixed, [EDEMA, LabelTask("Mass", "xray")], "published").labels
    with pytest.raises(DataError, match="asked of two modalities: Edema"):
        settled(mixed, [EDEMA, LabelTask("Edema", "ecg")], "published")


def test_zero_shot_follows_the_published_policy(mixed) -> None:
    prompts = PromptSet("mine", tuple(LabelPrompts(task, ("yes",), ("no",)) for task in (EDEMA, EFFUSION, AFIB)))
    directions = encode_prompts(prompts, lambda texts: np.eye(4)[: len(texts)])
    edema, effusion, afib = zero_shot(mixed, prompts, directions, policy="published")
    assert (edema.patient, edema.y.tolist()) == (["p0", "p1", "p3"], [1.0, 0.0, 0.0])
    assert (effusion.patient, effusion.y.tolist()) == (["p0", "p1", "p3"], [0.0, 0.0, 1.0])
    assert (afib.patient, afib.y.tolist()) == (["p0", "p1", "p2", "p4"], [0.0, 1.0, 1.0, 0.0])


def test_a_probe_is_trained_and_tested_on_the_same_rule(make_set) -> None:
    generator = np.random.default_rng(0)
    labels = {name: generator.choice([1.0, 0.0, -1.0, NAN], size=80, p=[0.4, 0.3, 0.1, 0.2]) for name in ("Edema", "B")}
    raw = make_set(80, labels=labels)
    tasks = [EDEMA, LabelTask("B", "xray")]
    by_policy = probe(raw, raw, raw, tasks, policy="published")
    by_hand = make_set(80, labels=apply_published(labels))
    for mine, theirs in zip(by_policy, probe(by_hand, by_hand, by_hand, tasks), strict=True):
        np.testing.assert_array_equal(mine.y, theirs.y)
        np.testing.assert_array_equal(mine.score, theirs.score)
    assert len(by_policy[0].y) == int(((labels["Edema"] != -1) & (labels["B"] != -1)).sum())
