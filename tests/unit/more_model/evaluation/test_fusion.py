"""Late fusion: learns from both halves, does without either, and comes back from disk as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from more_model.errors import DataError, EnvironmentFault, ExchangeError
from more_model.evaluation.auroc import auroc
from more_model.evaluation.embedded import EmbeddedSet, LabelTask, ScoredLabel
from more_model.evaluation.fitted_fusion import FittedFusion, load_fusion, save_fusion
from more_model.evaluation.fusion import FusionSettings, fit_fusion, fuse

MakeSet = Callable[..., EmbeddedSet]
EDEMA, MI = LabelTask("Edema", "xray"), LabelTask("MI", "ecg")
DIGEST = "ab" * 32


@pytest.fixture
def made(make_set: MakeSet) -> Callable[..., EmbeddedSet]:
    """Rows where Edema shows in both halves, with another noise in each, and MI in the ECG alone."""

    def build(n: int, seed: int, site: str, **parts: Any) -> EmbeddedSet:
        generator = np.random.default_rng(seed)
        edema, mi = generator.integers(0, 2, (2, n)).astype(float)
        xray, ecg = generator.normal(size=(n, 6)), generator.normal(size=(n, 4))
        xray[:, 0] += 1.6 * edema
        ecg[:, 0] += 1.6 * edema
        ecg[:, 1] += 2.5 * mi
        given = {"xray": xray.astype(np.float32), "ecg": ecg.astype(np.float32), "labels": {"Edema": edema, "MI": mi}}
        return make_set(n, site=[site] * n, **{**given, **parts})

    return build


@pytest.fixture
def sets(made: Callable[..., EmbeddedSet]) -> tuple[EmbeddedSet, EmbeddedSet, EmbeddedSet]:
    return made(500, 0, "north"), made(150, 1, "south"), made(600, 2, "east")


def value(scored: ScoredLabel) -> float:
    result = auroc(scored.y, scored.score).value
    assert result is not None
    return result


def without(part: EmbeddedSet, name: str, rows: slice) -> EmbeddedSet:
    matrix = getattr(part, name).copy()
    matrix[rows] = np.nan
    return replace(part, **{name: matrix})


def test_both_together_beat_either_and_each_contributes_what_it_has(sets: tuple[EmbeddedSet, ...]) -> None:
    result = fuse(*sets, [EDEMA, MI], FusionSettings())
    edema, mi = ([value(arm[place]) for arm in (result.both, result.xray_only, result.ecg_only)] for place in (0, 1))
    assert edema[0] > max(edema[1:]) + 0.03
    assert min(edema[1:]) > 0.8
    assert mi[2] > 0.9
    assert abs(mi[1] - 0.5) < 0.06
    assert [item.task for item in result.both] == [EDEMA, MI]
    assert len(result.validation[0].y) == 150


def test_dropout_teaches_to_do_without_the_other_half(make_set: MakeSet) -> None:
    """The X-ray's first column holds the finding under a disturbance that the ECG measures, its second the finding
    under another noise. Together first column minus ECG is perfect; alone the X-ray had better read its second."""

    def draw(n: int, seed: int, site: str) -> EmbeddedSet:
        generator = np.random.default_rng(seed)
        y = generator.integers(0, 2, n).astype(float)
        disturbance, noise = 4 * generator.normal(size=n), generator.normal(size=n)
        xray = np.stack([y + disturbance, y + noise], axis=1).astype(np.float32)
        ecg = disturbance[:, None].astype(np.float32)
        return make_set(n, site=[site] * n, xray=xray, ecg=ecg, labels={"Edema": y})

    parts = draw(600, 0, "north"), draw(200, 1, "south"), draw(800, 2, "east")
    off, on = (fuse(*parts, [EDEMA], FusionSettings(modality_dropout=share)) for share in (0.0, 0.3))
    assert value(off.both[0]) > 0.95
    assert value(off.xray_only[0]) < 0.65
    assert value(on.xray_only[0]) > value(off.xray_only[0]) + 0.05
    assert value(on.both[0]) > 0.7


def test_the_three_arms_are_over_the_rows_that_have_both(sets: tuple[EmbeddedSet, ...]) -> None:
    test = without(without(sets[2], "xray", slice(0, 100)), "ecg", slice(50, 200))
    result = fuse(sets[0], sets[1], test, [EDEMA], FusionSettings())
    for arm in (result.both, result.xray_only, result.ecg_only):
        assert list(arm[0].patient) == [f"p{row}" for row in range(200, 600)]
        assert np.isfinite(arm[0].score).all()
    whole = result.as_available[0]
    assert np.flatnonzero(np.isnan(whole.score)).tolist() == list(range(50, 100))
    np.testing.assert_allclose(whole.score[200:], result.both[0].score, rtol=1e-12)


def test_a_hidden_half_and_a_missing_one_are_the_same(sets: tuple[EmbeddedSet, ...]) -> None:
    fitted = fit_fusion(sets[0], sets[1], [EDEMA], FusionSettings())
    (hidden,) = fitted.scores(sets[2], [EDEMA], without_ecg=True)
    (missing,) = fitted.scores(without(sets[2], "ecg", slice(None)), [EDEMA])
    np.testing.assert_array_equal(hidden.score, missing.score)
    # A modality that a cohort does not have at all may come as a matrix without columns.
    none = replace(sets[2], ecg=np.empty((600, 0), dtype=np.float32))
    np.testing.assert_array_equal(fitted.scores(none, [EDEMA])[0].score, missing.score)


def test_trains_where_most_rows_lack_a_half(sets: tuple[EmbeddedSet, ...]) -> None:
    train = without(without(sets[0], "xray", slice(0, 240)), "ecg", slice(260, 500))
    result = fuse(train, sets[1], sets[2], [EDEMA], FusionSettings())
    assert value(result.both[0]) > 0.85
    alone = fuse(without(sets[0], "ecg", slice(None)), sets[1], sets[2], [EDEMA], FusionSettings())
    assert value(alone.both[0]) == value(alone.xray_only[0]) > 0.8


def test_probabilities_are_calibrated_in_every_condition(sets: tuple[EmbeddedSet, ...]) -> None:
    result = fuse(*sets, [EDEMA], FusionSettings())
    for arm in (result.both, result.xray_only, result.ecg_only):
        probability = 1 / (1 + np.exp(-arm[0].score))
        sure = probability > 0.5
        for side in (sure, ~sure):
            assert abs(probability[side].mean() - arm[0].y[side].mean()) < 0.1


def test_contributions_of_one_patient(sets: tuple[EmbeddedSet, ...]) -> None:
    fitted = fit_fusion(sets[0], sets[1], [EDEMA, MI], FusionSettings())
    xray, ecg = sets[2].xray[3], sets[2].ecg[3]
    together = fitted.contributions(xray, ecg)
    assert list(together) == [EDEMA, MI]
    arms = {"probability": {}, "without_xray": {"without_xray": True}, "without_ecg": {"without_ecg": True}}
    for field, hidden in arms.items():
        for scored in fitted.scores(sets[2], [EDEMA, MI], **hidden):
            expected = 1 / (1 + np.exp(-scored.score[3]))
            assert getattr(together[scored.task], field) == pytest.approx(expected)
    alone = fitted.contributions(None, ecg)[EDEMA]
    assert (alone.probability, alone.without_xray, alone.without_ecg) == (
        together[EDEMA].without_xray, together[EDEMA].without_xray, None
    )  # fmt: skip
    with pytest.raises(DataError, match="neither an X-ray nor an ECG"):
        fitted.contributions(None, None)
    with pytest.raises(DataError, match="ECG embeddings are 3 wide, trained on 4"):
        fitted.contributions(xray, ecg[:3])


def test_validation_chooses_the_strength_and_its_absence_the_fallback(sets: tuple[EmbeddedSet, ...]) -> None:
    settings = FusionSettings(strengths=(1e-6, 1.0))
    assert fit_fusion(sets[0], sets[1], [EDEMA], settings).strengths.tolist() == [1.0]
    unlabelled = replace(sets[1], labels={})
    assert fit_fusion(sets[0], unlabelled, [EDEMA], settings).strengths.tolist() == [0.01]
    nobody = sets[1].select(np.zeros(150, dtype=np.bool_))
    assert fit_fusion(sets[0], nobody, [EDEMA], settings).strengths.tolist() == [0.01]


def test_labels_that_are_not_stated_or_uncertain(sets: tuple[EmbeddedSet, ...]) -> None:
    edema = sets[0].labels["Edema"].copy()
    edema[:100], edema[100:200] = np.nan, -1.0
    train = replace(sets[0], labels={"Edema": edema, "MI": sets[0].labels["MI"]})
    rest = sets[0].select(np.arange(500) >= 200)
    hidden, dropped = (fit_fusion(part, sets[1], [EDEMA], FusionSettings()) for part in (train, rest))
    np.testing.assert_array_equal(hidden.weight, dropped.weight)
    as_zero = fit_fusion(train, sets[1], [EDEMA], FusionSettings(), policy="zero")
    assert (as_zero.weight != hidden.weight).any()


def test_a_share_of_the_patients(sets: tuple[EmbeddedSet, ...]) -> None:
    tenth, again, other, whole = (
        fit_fusion(sets[0], sets[1], [EDEMA], FusionSettings(), seed=seed, fraction=share).weight
        for seed, share in ((1, 0.1), (1, 0.1), (2, 0.1), (1, 1.0))
    )
    np.testing.assert_array_equal(tenth, again)
    assert (tenth != other).any()
    assert (tenth != whole).any()


def test_a_task_that_cannot_be_learnt_says_why(sets: tuple[EmbeddedSet, ...]) -> None:
    gone = LabelTask("Gone", "xray")
    labels = {**sets[0].labels, "Gone": np.ones(500)}
    test = replace(sets[2], labels={**sets[2].labels, "Gone": np.ones(600)})
    result = fuse(replace(sets[0], labels=labels), sets[1], test, [gone, MI], FusionSettings())
    assert result.both[0].reason == "fusion: in training 0 negatives, at least 2 of either are needed"
    assert value(result.both[1]) > 0.9
    assert result.fitted.tasks == (MI,)
    (unknown,) = result.fitted.scores(test, [EDEMA])
    assert unknown.reason == "fusion: this task was not trained for"
    nothing = without(without(test, "xray", slice(None)), "ecg", slice(None))
    assert result.fitted.scores(nothing, [MI])[0].reason == "fusion: no row with this label has an embedding"
    only = fuse(replace(sets[0], labels=labels), sets[1], test, [gone], FusionSettings())
    assert np.isnan(only.as_available[0].score).all()


def test_a_patient_in_two_sets_is_refused(sets: tuple[EmbeddedSet, ...]) -> None:
    train, validation, test = sets
    leaky = EmbeddedSet.concatenate([test, train.select(np.arange(500) < 3)])
    with pytest.raises(DataError, match="3 patients are both in training and in test"):
        fuse(train, validation, leaky, [EDEMA], FusionSettings())
    with pytest.raises(DataError, match="500 patients are both in training and in validation"):
        fit_fusion(train, train, [EDEMA], FusionSettings())
    with pytest.raises(DataError, match="no task"):
        fit_fusion(train, validation, [], FusionSettings())


@pytest.fixture
def fitted(sets: tuple[EmbeddedSet, ...]) -> FittedFusion:
    labels = {**sets[0].labels, "Gone": np.ones(500)}
    tasks = [EDEMA, LabelTask("Gone", "xray"), MI]
    return fit_fusion(replace(sets[0], labels=labels), sets[1], tasks, FusionSettings(modality_dropout=0.2))


def test_comes_back_from_disk_with_the_same_bits(
    fitted: FittedFusion, sets: tuple[EmbeddedSet, ...], tmp_path: Path
) -> None:
    path = tmp_path / "fusion.safetensors"
    save_fusion(path, fitted, model_digest=DIGEST)
    loaded = load_fusion(path, model_digest=DIGEST)
    np.testing.assert_array_equal(loaded.logits(sets[2].xray, sets[2].ecg), fitted.logits(sets[2].xray, sets[2].ecg))
    assert (loaded.tasks, dict(loaded.refused)) == (fitted.tasks, dict(fitted.refused))
    assert loaded.modality_dropout == 0.2
    np.testing.assert_array_equal(loaded.strengths, fitted.strengths)
    save_fusion(tmp_path / "again.safetensors", loaded, model_digest=DIGEST)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["again.safetensors", "fusion.safetensors"]


def test_only_for_the_model_that_it_was_fitted_on(fitted: FittedFusion, tmp_path: Path) -> None:
    path = tmp_path / "fusion.safetensors"
    save_fusion(path, fitted, model_digest=DIGEST)
    with pytest.raises(ExchangeError, match="embeddings of another model"):
        load_fusion(path, model_digest="cd" * 32)
    with pytest.raises(EnvironmentFault, match="no fusion"):
        load_fusion(tmp_path / "other.safetensors", model_digest=DIGEST)
    save_file(load_file(path), tmp_path / "plain.safetensors")
    with pytest.raises(ExchangeError, match="not a fusion that this version wrote"):
        load_fusion(tmp_path / "plain.safetensors", model_digest=DIGEST)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ExchangeError, match="cannot be read"):
        load_fusion(path, model_digest=DIGEST)
