from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.auroc import auroc
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.linear_probe import FALLBACK_STRENGTH, probe, probe_scores


def draw(n: int, seed: int, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, width))
    y = (features[:, 0] + features[:, 1] + generator.normal(size=n) > 0).astype(float)
    return features * 50.0 + 1000.0, y


def test_learns_a_linear_rule_and_chooses_on_validation() -> None:
    train, validation, test = draw(300, 0), draw(100, 1), draw(200, 2)
    result = probe_scores(*train, test[0], validation_features=validation[0], validation_labels=validation[1])
    assert result.chosen
    assert result.train_rows == 300
    assert auroc(test[1], result.scores).value > 0.85


def test_the_test_set_has_no_influence_on_the_fit() -> None:
    train, validation, test = draw(100, 0), draw(40, 1), draw(20, 2)

    def score(features: np.ndarray) -> np.ndarray:
        return probe_scores(*train, features, validation_features=validation[0], validation_labels=validation[1]).scores

    np.testing.assert_allclose(score(test[0])[:5], score(test[0][:5]), rtol=1e-12)


def test_validation_decides_the_strength() -> None:
    # With pure noise to fit, a validation set that agrees with the training labels wants the weakest regularisation.
    generator = np.random.default_rng(3)
    features, y = generator.normal(size=(60, 40)), generator.integers(0, 2, size=60).astype(float)
    weak = probe_scores(features, y, features, validation_features=features, validation_labels=y)
    assert weak.strength > 0.001
    fixed = probe_scores(features, y, features)
    assert (fixed.strength, fixed.chosen) == (FALLBACK_STRENGTH, False)
    lacking = probe_scores(features, y, features, validation_features=features[:3], validation_labels=np.ones(3))
    assert (lacking.strength, lacking.chosen) == (FALLBACK_STRENGTH, False)


def test_rows_without_label_or_features_are_left_out() -> None:
    (features, y), test = draw(100, 0), draw(30, 2)[0]
    padded = np.vstack([features, np.full((5, 8), np.nan), np.full((5, 8), 1e6)])
    labels = np.concatenate([y, np.ones(5), np.full(5, np.nan)])
    result = probe_scores(padded, labels, test)
    assert result.train_rows == 100
    np.testing.assert_array_equal(result.scores, probe_scores(features, y, test).scores)
    test[4] = np.nan
    assert np.isnan(probe_scores(features, y, test).scores).tolist() == [i == 4 for i in range(30)]


def test_constant_features_are_harmless() -> None:
    (features, y), test = draw(80, 0), draw(30, 2)[0]
    features[:, 5] = 0.1
    assert 0 < features[:, 5].std() < 1e-15  # rounding only: dividing by it would blow the column up
    test[:, 5] = 0.2
    assert np.abs(probe_scores(features, y, test).scores).max() < 100


def test_refuses_a_class_it_never_saw() -> None:
    features = np.eye(4)
    result = probe_scores(features, np.array([1.0, 0, 0, np.nan]), features)
    assert result.scores is None
    assert result.reason == "linear probe: in training 1 positive, at least 2 of either are needed"


def test_fractions_are_stratified_seeded_and_nested() -> None:
    (features, y), test = draw(200, 0), draw(10, 2)[0]
    tenth = probe_scores(features, y, test, fraction=0.1, seed=1)
    assert tenth.train_rows == round(0.1 * (y == 1).sum()) + round(0.1 * (y == 0).sum())
    np.testing.assert_array_equal(tenth.scores, probe_scores(features, y, test, fraction=0.1, seed=1).scores)
    assert (tenth.scores != probe_scores(features, y, test, fraction=0.1, seed=2).scores).any()
    with pytest.raises(DataError, match=r"fraction 0 is not in \(0, 1\]"):
        probe_scores(features, y, test, fraction=0)


def test_shapes_and_labels_are_checked() -> None:
    features, y = draw(20, 0)
    with pytest.raises(DataError, match="trained on 8 columns"):
        probe_scores(features, y, features[:, :3])
    with pytest.raises(DataError, match="labels of shape"):
        probe_scores(features, y[:3], features)
    with pytest.raises(DataError, match="labels other than 0, 1 and NaN"):
        probe_scores(features, np.where(y == 1, -1.0, y), features)


def test_probe_over_tasks(make_set) -> None:
    def part(n: int, seed: int):
        features, y = draw(n, seed, width=5)
        return make_set(
            n, seed=seed, xray_features=features.astype(np.float32), labels={"Edema": y, "Gone": np.full(n, np.nan)}
        )

    tasks = [LabelTask("Edema", "xray"), LabelTask("Edema", "ecg"), LabelTask("Gone", "xray")]
    from_xray, from_ecg, gone = probe(part(200, 0), part(80, 1), part(120, 2), tasks)
    assert auroc(from_xray.y, from_xray.score).value > 0.8
    assert auroc(from_ecg.y, from_ecg.score).value < 0.7
    assert len(gone.y) == 0
    assert gone.reason == "linear probe: no test row has features of modality xray"


def test_probe_refuses_what_was_not_trained(make_set) -> None:
    blank = np.full((20, 5), np.nan, dtype=np.float32)
    labels = {"AFIB": np.tile([0.0, 1.0], 10)}
    train = make_set(20, ecg_features=blank, labels=labels)
    test = make_set(20, labels=labels)
    (scored,) = probe(train, train, test, [LabelTask("AFIB", "ecg")])
    assert scored.reason == "linear probe: no training row has features of modality ecg"
    (fallback,) = probe(test, train, test, [LabelTask("AFIB", "ecg")])
    assert fallback.reason is None
    assert np.isfinite(fallback.score).all()
