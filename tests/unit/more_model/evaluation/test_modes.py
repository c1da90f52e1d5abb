"""The modes of an evaluation on toy patients: who is asked what, on whose studies, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.checkpoint import TrainedModel
from more_model.data.study import Split
from more_model.errors import ConfigError
from more_model.evaluation import modes
from more_model.evaluation.bed import Bed
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.modes import Evaluated, Outcome, draws, probes, run_modes
from more_model.evaluation.prompt_sets import LabelPrompts, PromptSet
from more_model.evaluation.settings import EvaluationSettings
from more_model.training.examples import Examples

LINES, ROWS = LabelTask("lines", "xray"), LabelTask("rows", "ecg")
PROMPTS = PromptSet(
    "toys",
    (LabelPrompts(LINES, ("large heart",), ("clear",)), LabelPrompts(ROWS, ("infarction",), ("sinus rhythm",))),
)  # fmt: skip


def asked_for(*names: str, **changes: Any) -> EvaluationSettings:
    given = {"protocol": "cohort", "data": "d", "checkpoint": "c", "modes": names, "threads": 1, "seeds": 2, **changes}
    return EvaluationSettings.model_validate(given)


@pytest.fixture(scope="module")
def bed(labelled_toys: Callable[..., Examples]) -> Bed:
    """Twenty-four patients to train on, twelve each to validate and test with; every third lacks the X-ray or ECG."""

    def part(count: int, seed: int, split: Split) -> Examples:
        toys = labelled_toys(count, seed=seed, site=split.value)
        return replace(toys, triplets=tuple(replace(t, split=split) for t in toys.triplets))

    sizes = {Split.TRAIN: (24, 0), Split.VALIDATION: (12, 1), Split.TEST: (12, 2)}
    return Bed((LINES, ROWS), {split: part(*size, split) for split, size in sizes.items()})


@pytest.fixture(scope="module")
def trained(toy_model: Callable[..., TrainedModel]) -> TrainedModel:
    return toy_model()


def outcomes(trained: TrainedModel, bed: Bed, settings: EvaluationSettings) -> list[Outcome]:
    return list(run_modes(Evaluated(trained, bed, threads=1), PROMPTS, settings, lambda *_: None))


def test_zero_shot_asks_as_many_random_encoders_as_seeds_and_calibrates_the_first(
    trained: TrainedModel, bed: Bed
) -> None:
    found = outcomes(trained, bed, asked_for("zero-shot"))
    assert [o.name for o in found] == [
        "zero-shot, checkpoint", "zero-shot, random encoder", "zero-shot, random encoder, draw 2"
    ]  # fmt: skip
    assert [o.encoder_seed for o in found] == [None, 0, 1]
    assert [bool(o.validation) for o in found] == [True, True, False]
    first, second = (o.test[0].score for o in found[1:])
    assert not np.array_equal(first, second)
    assert [o.model for o in outcomes(trained, bed, asked_for("zero-shot", baselines=False))] == ["checkpoint"]


def test_a_probe_is_fitted_once_and_scores_validation_and_test_apart(trained: TrainedModel, bed: Bed) -> None:
    [found] = outcomes(trained, bed, asked_for("linear-probe", fractions=(1.0,), baselines=False))
    assert found.variant == "100 % of labels"
    for scored, split in ((found.test, Split.TEST), (found.validation, Split.VALIDATION)):
        for item in scored:
            assert set(item.site) == {split.value}
            assert list(item.patient) == [t.patient_id for t in bed[split].triplets]
    # The test scores are those of a probe that never saw the test patients beside validation ones.
    model = Evaluated(trained, bed, threads=1)
    train, validation, test = (model.embedded(split) for split in Split)
    alone = modes.probe(train, validation, test, bed.tasks)
    np.testing.assert_allclose(found.test[0].score, alone[0].score)


def test_draws_and_random_encoders_of_a_probe(trained: TrainedModel, bed: Bed, monkeypatch: Any) -> None:
    settings = asked_for("linear-probe", fractions=(0.5, 1.0))
    assert draws(settings) == [(0.5, 0), (0.5, 1), (1.0, 0)]
    encoder = Evaluated(trained, bed, 1, encoder_seed=4)
    assert [probes(settings, encoder, number) for number in (0, 1)] == [[(0.5, 0), (1.0, 0)], [(0.5, 1), (1.0, 1)]]
    monkeypatch.setattr(modes, "PROBED_WITH_EVERY_ENCODER", 23)
    assert [probes(settings, encoder, number) for number in (0, 1)] == [draws(settings), []]


def test_other_draws_train_on_other_labels(trained: TrainedModel, bed: Bed) -> None:
    settings = asked_for("linear-probe", fractions=(0.5,), baselines=False)
    first, second = outcomes(trained, bed, settings)
    assert (first.draw, second.draw, second.name) == (0, 1, "linear-probe, checkpoint, 50 % of labels, draw 2")
    assert not np.array_equal(first.test[0].score, second.test[0].score)


def test_fine_tuning_takes_the_epochs_asked_for_and_adds_a_supervised_model(trained: TrainedModel, bed: Bed) -> None:
    settings = asked_for("fine-tune", fractions=(1.0,), recipes=("lora",), epochs=1, device="cpu")
    tuned, supervised = outcomes(trained, bed, settings)
    assert (tuned.model, tuned.variant) == ("checkpoint", "lora, 100 % of labels")
    assert (supervised.model, supervised.variant) == ("supervised", "100 % of labels")
    for outcome in (tuned, supervised):
        assert [len(tower["epochs"]) for tower in outcome.facts["towers"].values()] == [1, 1]


def test_fusion_scores_pairs_and_everyone(trained: TrainedModel, bed: Bed) -> None:
    found = outcomes(trained, bed, asked_for("fusion", baselines=False))
    assert [o.how for o in found] == ["both", "X-ray only", "ECG only", "as available"]
    assert [len(o.test[0].y) for o in found] == [4, 4, 4, 12]
    assert [bool(o.validation) for o in found] == [False, False, False, True]


def test_fusion_without_pairs_is_refused_before_anything_is_embedded(trained: TrainedModel, bed: Bed) -> None:
    films = replace(bed[Split.TEST], triplets=tuple(replace(t, ecg=None) for t in bed[Split.TEST].triplets))
    single = replace(bed, parts={**bed.parts, Split.TEST: films})
    model = Evaluated(trained, single, threads=1)
    with pytest.raises(ConfigError, match="no test patient has both an X-ray and an ECG"):
        next(run_modes(model, PROMPTS, asked_for("zero-shot", "fusion"), lambda *_: None))
    assert model._embedded == {}


def test_studies_and_texts_are_embedded_once(trained: TrainedModel, bed: Bed) -> None:
    model = Evaluated(trained, bed, threads=1)
    assert model.embedded(Split.TEST) is model.embedded(Split.TEST)
    assert model.encode(["large heart"]) is model.encode(["large heart"])
    assert list(model.embedded(Split.TEST).labels) == ["lines", "rows"]


def test_without_training_studies_a_probe_and_fine_tuning_say_so(trained: TrainedModel, bed: Bed) -> None:
    bare = replace(bed, parts={**bed.parts, Split.TRAIN: bed[Split.TRAIN].where(lambda _: False)})
    settings = asked_for("linear-probe", "fine-tune", fractions=(1.0,), recipes=("lora",), epochs=1, baselines=False)
    probed, tuned = outcomes(trained, bare, settings)
    assert all("no training row has features" in str(item.reason) for item in probed.test)
    assert all("in training 0 positives and 0 negatives" in str(item.reason) for item in tuned.test)
