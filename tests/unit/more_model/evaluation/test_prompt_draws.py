from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.auroc import auroc
from more_model.evaluation.bed import per_case
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.prompt_draws import prompt_draws, spread, wording_spread
from more_model.evaluation.prompt_sets import LabelPrompts, PromptSet
from more_model.evaluation.zero_shot import encode_prompts, zero_shot

EDEMA, MASS = LabelTask("Edema", "xray"), LabelTask("Mass", "xray")
STEADY = LabelPrompts(MASS, ("mass a", "mass b"), ("no mass a", "no mass b"))
TORN = LabelPrompts(EDEMA, ("edema right", "edema wrong"), ("nothing",))

#: Which way the wordings point: "right" along the finding, "wrong" against it, the two of a mass nearly alike.
POINTS = {
    "edema right": [1.0, 0, 0, 0],
    "edema wrong": [-1.0, 0, 0, 0],
    "nothing": [0, 0, 0, 1.0],
    "mass a": [0, 1.0, 0.1, 0],
    "mass b": [0, 1.0, -0.1, 0],
    "no mass a": [0, -1.0, 0, 0],
    "no mass b": [0, -1.0, 0.1, 0],
}


def encode(texts: list[str]) -> np.ndarray:
    return np.array([POINTS[text] for text in texts])


@pytest.fixture
def embedded(make_set):
    """Edema lies along the first axis, a mass along the second, both with noise."""
    generator = np.random.default_rng(0)
    y = {name: (generator.random(60) < 0.5).astype(float) for name in ("Edema", "Mass")}
    rows = 0.5 * generator.normal(size=(60, 4))
    rows[:, 0] += 2 * y["Edema"] - 1
    rows[:, 1] += 2 * y["Mass"] - 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return make_set(60, xray=rows.astype(np.float32), labels=y)


def test_wordings_that_disagree_flip_and_others_do_not(embedded) -> None:
    found = wording_spread(embedded, PromptSet("mine", (TORN, STEADY)), encode)
    assert found["flips"] == ["Edema"]
    edema, mass = found["per_label"]["Edema"], found["per_label"]["Mass"]
    assert edema["min"] < 0.2
    assert edema["max"] > 0.8
    assert mass["min"] > 0.8
    assert mass["sd"] < 0.05 < edema["sd"]
    assert found["macro"]["max"] == pytest.approx((edema["max"] + mass["max"]) / 2, abs=0.02)
    json.dumps(found, allow_nan=False)


def test_all_wordings_of_both_sides_are_the_ensemble(embedded) -> None:
    prompts = PromptSet("mine", (TORN, STEADY))
    found = prompt_draws(embedded, prompts, encode, draws=3, wordings=9)
    for scored in zero_shot(embedded, prompts, encode_prompts(prompts, encode)):
        assert found.per_label[scored.task.label] == (auroc(scored.y, scored.score).value,) * 3
    assert found.macro == pytest.approx([np.mean([values[0] for values in found.per_label.values()])] * 3)


def test_rows_of_one_case_are_merged_before_they_are_ranked(embedded) -> None:
    case = [str(row // 2) for row in range(60)]
    pairs = replace(
        embedded,
        site=["north"] * 60,
        attributes={"case": case},
        labels={"Mass": np.repeat(embedded.labels["Mass"][::2], 2)},
    )
    prompts = PromptSet("mine", (STEADY,))
    (scored,) = zero_shot(pairs, prompts, encode_prompts(prompts, encode))
    whole = per_case(scored)
    assert len(whole.y) == 30
    merged = prompt_draws(pairs, prompts, encode, draws=1, wordings=9, merged=per_case)
    assert merged.macro == (auroc(whole.y, whole.score).value,)
    assert merged.macro != prompt_draws(pairs, prompts, encode, draws=1, wordings=9).macro


def test_a_draw_of_one_wording_is_that_wording(embedded) -> None:
    found = prompt_draws(embedded, PromptSet("mine", (TORN,)), encode, draws=12, wordings=1)
    alone = set()
    for wording in TORN.positive:
        prompts = PromptSet("mine", (LabelPrompts(EDEMA, (wording,), TORN.negative),))
        (scored,) = zero_shot(embedded, prompts, encode_prompts(prompts, encode))
        alone.add(auroc(scored.y, scored.score).value)
    assert set(found.per_label["Edema"]) == alone


def test_draws_repeat_and_do_not_depend_on_other_labels(embedded) -> None:
    both, one = PromptSet("mine", (TORN, STEADY)), PromptSet("mine", (STEADY,))
    first = prompt_draws(embedded, both, encode, draws=8, wordings=1)
    assert prompt_draws(embedded, both, encode, draws=8, wordings=1) == first
    assert prompt_draws(embedded, one, encode, draws=8, wordings=1).per_label["Mass"] == first.per_label["Mass"]
    later = prompt_draws(embedded, both, encode, draws=3, wordings=1, seed=5)
    assert later.per_label["Edema"] == first.per_label["Edema"][5:]


def test_half_of_the_wordings_by_default_and_at_least_one(embedded) -> None:
    halves = prompt_draws(embedded, PromptSet("mine", (TORN, STEADY)), encode, draws=10)
    singles = prompt_draws(embedded, PromptSet("mine", (TORN, STEADY)), encode, draws=10, wordings=1)
    assert halves.per_label == singles.per_label  # half of two, and half of one rounded up
    assert halves.wordings is None
    content = halves.to_dict()
    assert content["macro"]["values"] == list(halves.macro)
    assert content["per_label"]["Mass"]["max"] == max(halves.per_label["Mass"])
    json.dumps(content, allow_nan=False)


def test_exclusive_sets_draw_a_wording_per_class(make_set) -> None:
    tasks = [LabelTask(name, "ecg") for name in ("NORM", "MI", "CD")]
    labels = tuple(LabelPrompts(task, (f"{task.label} a", f"{task.label} b"), ()) for task in tasks)
    prompts = PromptSet("mine", labels, exclusive=True)
    kind = np.arange(30) % 3
    truth = {task.label: (kind == place).astype(float) for place, task in enumerate(tasks)}
    embedded = make_set(30, ecg=np.eye(4, dtype=np.float32)[kind], labels=truth)

    def of_class(texts: list[str]) -> np.ndarray:
        return np.array([np.eye(4)[["NORM", "MI", "CD"].index(text.split()[0])] for text in texts])

    found = wording_spread(embedded, prompts, of_class, draws=4)
    assert found["macro"] == {"min": 1.0, "max": 1.0, "mean": 1.0, "sd": 0.0}
    assert found["flips"] == []


def test_labels_without_a_value_are_refused_with_a_reason(embedded, make_set) -> None:
    rare = LabelPrompts(LabelTask("Rare", "xray"), ("mass a",), ("no mass a",))
    embedded.labels["Rare"] = np.array([1.0] + [0.0] * 59)
    unasked = LabelPrompts(LabelTask("Unasked", "xray"), ("mass a",), ("no mass a",))
    found = prompt_draws(embedded, PromptSet("mine", (STEADY, rare, unasked)), encode, draws=2)
    assert list(found.per_label) == ["Mass"]
    assert found.refused == {
        "Rare": "1 positive, at least 2 of either are needed",
        "Unasked": "no row with this label has an embedding of modality xray",
    }
    nothing = make_set(4, xray=np.empty((4, 0), dtype=np.float32), labels={"Mass": np.array([1.0, 1, 0, 0])})
    empty = wording_spread(nothing, PromptSet("mine", (STEADY,)), encode)
    assert empty["macro"] == {"min": None, "max": None, "mean": None, "sd": None}
    assert [entry["label"] for entry in empty["refused"]] == ["Mass"]


def test_the_uncertainty_policy_decides_the_rows(make_set) -> None:
    labels = {"Mass": np.array([1.0, 1.0, 0.0, -1.0, 0.0])}
    rows = np.array([[0, 1, 0, 0], [0, 0.8, 0.6, 0], [0, -1, 0, 0], [0, 1, 0, 0], [0, 0.6, 0.8, 0]], dtype=np.float32)
    embedded = make_set(5, xray=rows, labels=labels)
    prompts = PromptSet("mine", (STEADY,))
    assert prompt_draws(embedded, prompts, encode, draws=1).macro == (1.0,)
    assert prompt_draws(embedded, prompts, encode, draws=1, policy="zero").macro[0] < 1.0


def test_refuses_no_draws(embedded) -> None:
    with pytest.raises(DataError, match="0 draws"):
        prompt_draws(embedded, PromptSet("mine", (STEADY,)), encode, draws=0)
    with pytest.raises(DataError, match="of 0 wordings"):
        prompt_draws(embedded, PromptSet("mine", (STEADY,)), encode, wordings=0)


def test_spread_by_hand() -> None:
    assert spread([0.4, 0.6]) == {"min": 0.4, "max": 0.6, "mean": 0.5, "sd": pytest.approx(0.02**0.5)}
    assert spread([0.7])["sd"] == 0.0
