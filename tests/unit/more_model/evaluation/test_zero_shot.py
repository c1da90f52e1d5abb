from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.prompt_sets import LabelPrompts, PromptSet
from more_model.evaluation.zero_shot import class_prompt_scores, encode_prompts, zero_shot, zero_shot_scores

EDEMA = LabelTask("Edema", "xray")
TWO_SIDED = PromptSet("mine", (LabelPrompts(EDEMA, ("edema.", "oedema."), ("no edema.",), "CXR: "),))


def test_hand_computed() -> None:
    # Positive prompts 45 degrees either side of x average to x; the negative prompt is y.
    positive = np.array([[1.0, 1.0], [5.0, -5.0]])
    negative = np.array([[0.0, 2.0]])
    scores = zero_shot_scores(np.array([[1.0, 0.0], [0.0, 3.0], [0.6, 0.8]]), positive, negative)
    np.testing.assert_allclose(scores, [1.0, -1.0, -0.2], atol=1e-12)


def test_missing_embeddings_score_nan_and_others_are_untouched() -> None:
    rows = np.array([[np.nan, np.nan], [1.0, 0.0]])
    scores = zero_shot_scores(rows, np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]]))
    assert np.isnan(scores[0])
    assert scores[1] == 2.0


def test_prompts_that_cancel_out_say_nothing() -> None:
    scores = zero_shot_scores(np.eye(2), np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(scores, [0.0, -1.0])


def test_class_prompts_hand_computed() -> None:
    scores = class_prompt_scores(np.array([[1.0, 0.0, 0.0]]), [np.eye(3)[:1], np.eye(3)[1:2], -np.eye(3)[:1]])
    np.testing.assert_allclose(scores, [[1 - (0 - 1) / 2, 0 - (1 - 1) / 2, -1 - (1 + 0) / 2]])


def test_two_exclusive_classes_give_the_two_sided_score() -> None:
    generator = np.random.default_rng(0)
    rows, first, second = generator.normal(size=(7, 4)), generator.normal(size=(3, 4)), generator.normal(size=(2, 4))
    by_class = class_prompt_scores(rows, [first, second])
    np.testing.assert_allclose(by_class[:, 0], zero_shot_scores(rows, first, second))
    np.testing.assert_allclose(by_class[:, 1], -by_class[:, 0])


def test_empty_sides_and_other_widths_are_refused() -> None:
    with pytest.raises(DataError, match="one side of a label has no prompt"):
        zero_shot_scores(np.eye(2), np.eye(2), np.empty((0, 2)))
    with pytest.raises(DataError, match="prompts are 3 wide, embeddings 2"):
        zero_shot_scores(np.eye(2), np.eye(3), np.eye(3))
    with pytest.raises(DataError, match="at least two"):
        class_prompt_scores(np.eye(2), [np.eye(2)])


def test_every_wording_is_encoded_once_with_its_prefix() -> None:
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> np.ndarray:
        calls.append(texts)
        return np.array([[len(text), 1.0] for text in texts])

    directions = encode_prompts(TWO_SIDED, encode)
    assert calls == [["CXR: edema.", "CXR: oedema.", "CXR: no edema."]]
    np.testing.assert_array_equal(directions[EDEMA].positive, [[11, 1], [12, 1]])
    np.testing.assert_array_equal(directions[EDEMA].negative, [[14, 1]])
    with pytest.raises(DataError, match=r"answered 3 prompts with an array of shape \(2, 4\)"):
        encode_prompts(TWO_SIDED, lambda texts: np.ones((2, 4)))


def encode_by_sign(texts: list[str]) -> np.ndarray:
    return np.array([[-1.0, 0, 0, 0] if "no " in text else [1.0, 0, 0, 0] for text in texts])


def test_zero_shot_scores_the_rows_that_state_the_label(make_set) -> None:
    labels = {"Edema": np.array([1.0, 0.0, -1.0, np.nan])}
    embedded = make_set(4, labels=labels)
    directions = encode_prompts(TWO_SIDED, encode_by_sign)
    (ignored,) = zero_shot(embedded, TWO_SIDED, directions)
    assert ignored.task == EDEMA
    assert ignored.y.tolist() == [1.0, 0.0]
    assert ignored.site == ["south", "north"]
    np.testing.assert_allclose(ignored.score, 2 * embedded.xray[:2, 0], atol=1e-6)
    (as_positive,) = zero_shot(embedded, TWO_SIDED, directions, policy="one")
    assert as_positive.y.tolist() == [1.0, 0.0, 1.0]


def test_zero_shot_says_when_the_modality_is_absent(make_set) -> None:
    embedded = make_set(3, xray=np.empty((3, 0), dtype=np.float32), labels={"Edema": np.array([1.0, 0.0, 1.0])})
    (scored,) = zero_shot(embedded, TWO_SIDED, encode_prompts(TWO_SIDED, encode_by_sign))
    assert scored.reason == "no row with this label has an embedding of modality xray"
    assert scored.y.tolist() == [1.0, 0.0, 1.0]


def test_zero_shot_with_exclusive_classes(make_set) -> None:
    tasks = [LabelTask(name, "ecg") for name in ("NORM", "MI", "CD")]
    prompts = PromptSet("mine", tuple(LabelPrompts(task, (task.label,), ()) for task in tasks), exclusive=True)
    directions = encode_prompts(prompts, lambda texts: np.eye(4)[: len(texts)])
    ecg = np.eye(4, dtype=np.float32)[[2, 0, 1]]
    labels = {"NORM": np.array([0.0, 1, 0]), "MI": np.array([0.0, 0, 1]), "CD": np.array([1.0, 0, 0])}
    scored = zero_shot(make_set(3, ecg=ecg, labels=labels), prompts, directions)
    assert [one.task for one in scored] == tasks
    for one in scored:
        np.testing.assert_allclose(one.score, np.where(one.y == 1, 1.0, -0.5))
