"""Fine-tuning learns, moves only what a recipe names, stops in time, and tests nobody whom it trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from more_model.base import tensor_digest
from more_model.checkpoint import TrainedModel
from more_model.errors import ConfigError, DataError, RoundError
from more_model.evaluation import classifier_fit
from more_model.evaluation.auroc import auroc
from more_model.evaluation.classifier import build_classifier
from more_model.evaluation.embedded import LabelTask, score_task
from more_model.evaluation.embedding import embedded_set
from more_model.evaluation.fine_tune import FineTuned, fine_tune
from more_model.evaluation.recipes import FineTuneRecipe, recipe
from more_model.model.lora import trainable_names
from more_model.training.examples import Examples

Toys = Callable[..., Examples]
Build = Callable[..., TrainedModel]
TASKS = [LabelTask("lines", "xray"), LabelTask("rows", "xray"), LabelTask("rows", "ecg")]
RECIPES = ["published", "lora", "supervised"]


def short(name: str, **changes: Any) -> FineTuneRecipe:
    return recipe(name, {"learning_rate": 1e-2, "epochs": 12, "patience": 12, "batch_size": 16, **changes})


@pytest.fixture(scope="module")
def parts(labelled_toys: Toys) -> tuple[Examples, Examples, Examples]:
    """Training, validation and test patients of three sites."""
    return (
        labelled_toys(96, seed=0, site="north"),
        labelled_toys(32, seed=1, site="south"),
        labelled_toys(48, seed=2, site="east"),
    )


def tuned(trained: TrainedModel, parts: tuple[Examples, ...], chosen: FineTuneRecipe, **options: Any) -> FineTuned:
    tasks = options.pop("tasks", TASKS)
    return fine_tune(trained, parts[0], parts[1], tasks, chosen, device="cpu", threads=1, **options)


@pytest.fixture(scope="module", params=RECIPES)
def learnt(request: pytest.FixtureRequest, toy_model: Build, parts: tuple[Examples, ...]) -> FineTuned:
    return tuned(toy_model(), parts, short(request.param))


def test_beats_chance_on_patients_that_it_never_saw(learnt: FineTuned, parts: tuple[Examples, ...]) -> None:
    scored = learnt.scores(parts[2])
    assert [item.task for item in scored] == TASKS
    assert [item.reason for item in scored] == [None] * 3
    assert all(auroc(item.y, item.score).value > 0.85 for item in scored)


def test_scores_are_over_the_rows_of_the_frozen_modes(
    learnt: FineTuned, toy_model: Build, parts: tuple[Examples, ...]
) -> None:
    triplets = tuple(replace(t, attributes={"view": f"v{row}"}) for row, t in enumerate(parts[2].triplets))
    triplets = (replace(triplets[0], labels={"lines": -1.0}), *triplets[1:])
    test = replace(parts[2], triplets=triplets)
    trained = toy_model()
    embedded = embedded_set(
        trained.model, test, ["lines", "rows"], tokenizer=trained.tokenizer, max_tokens=64, threads=1
    )
    for item in learnt.scores(test):
        frozen = score_task(embedded, item.task, "ignore", lambda rows: np.zeros(len(rows)))
        np.testing.assert_array_equal(item.y, frozen.y)
        assert (list(item.patient), list(item.site)) == (list(frozen.patient), list(frozen.site))
        assert item.attributes == frozen.attributes
        lacking = ~embedded.has(item.task.modality)[~np.isnan(embedded.target(item.task.label, "ignore"))]
        np.testing.assert_array_equal(np.isnan(item.score), lacking)


def test_says_what_it_trained_on(learnt: FineTuned) -> None:
    facts = learnt.facts()
    assert facts["recipe"]["name"] == learnt.recipe.name
    # Every third patient lacks the ECG, every third the X-ray.
    assert (facts["towers"]["xray"]["patients"], facts["towers"]["ecg"]["studies"]) == (64, 64)
    course = facts["towers"]["xray"]
    losses = [epoch["validation_loss"] for epoch in course["epochs"]]
    assert course["kept_epoch"] == int(np.argmin(losses)) + 1


@pytest.mark.parametrize("name", RECIPES)
def test_moves_what_the_recipe_opens_and_no_byte_of_the_rest(
    toy_model: Build, parts: tuple[Examples, ...], name: str
) -> None:
    trained = toy_model(normalisation="batch")
    before = tensor_digest(trained.model.state_dict().items())
    result = tuned(trained, parts, short(name, epochs=2), tasks=TASKS[2:], seed=3)
    assert tensor_digest(trained.model.state_dict().items()) == before
    classifier = result.towers["ecg"].classifier
    fresh = build_classifier(
        trained, "ecg", 1, result.recipe.name, blocks=3, seed=derived("ecg", 3)
    ).state_dict()  # fmt: skip
    moved = {key for key, tensor in classifier.state_dict().items() if not torch.equal(tensor, fresh[key])}
    trains = set(trainable_names(classifier))
    statistics = {key for key in fresh if "running" in key or "batches" in key}
    assert moved & trains >= {key for key in trains if key.endswith("weight")}
    # The classifier is in the optimiser (in the released code it was not).
    assert {"linear.weight", "linear.bias"} <= moved
    assert moved - trains <= {key for key in statistics if name == "supervised" or key.startswith("tower.head.")}


def derived(modality: str, seed: int) -> int:
    from more_model.training.seeds import derived_seed

    return derived_seed(seed, "fine-tuning", modality)


def test_the_same_seed_gives_the_same_bits(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        tuned(toy_model(), parts, short("lora", epochs=2), tasks=TASKS[2:], seed=seed).scores(parts[2])[0].score
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(first, again)
    assert (first[~np.isnan(first)] != other[~np.isnan(other)]).all()


def test_stops_after_patience_and_restores_the_best_epoch(
    toy_model: Build, parts: tuple[Examples, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = short("published", patience=3)  # a constant learning rate: two epochs of twelve are two epochs of two
    losses: Iterator[float] = iter([0.9, 0.5, *(0.9, 0.5, 0.6, 0.5, 0.7, 0.1)])
    monkeypatch.setattr(classifier_fit, "validation_loss", lambda *_, **__: next(losses))
    two = tuned(toy_model(), parts, chosen.model_copy(update={"epochs": 2}), tasks=TASKS[2:])
    stopped = tuned(toy_model(), parts, chosen, tasks=TASKS[2:])
    assert (len(stopped.towers["ecg"].fit.epochs), stopped.towers["ecg"].fit.kept) == (5, 2)
    np.testing.assert_array_equal(stopped.scores(parts[2])[0].score, two.scores(parts[2])[0].score)
    assert not stopped.towers["ecg"].classifier.training


def test_without_validation_labels_the_last_epoch_is_kept(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    silent = parts[1].where(lambda triplet: triplet.ecg is None)
    result = tuned(toy_model(), (parts[0], silent), short("published", epochs=4, patience=1), tasks=TASKS[2:])
    fit = result.towers["ecg"].fit
    assert (fit.kept, [epoch.validation_loss for epoch in fit.epochs]) == (4, [None] * 4)


def test_nobody_is_tested_who_was_trained_on(learnt: FineTuned, parts: tuple[Examples, ...]) -> None:
    mixed = Examples.merged([parts[2], parts[0].where(lambda triplet: triplet.patient_id == "north-7")])
    with pytest.raises(DataError, match="1 patients are both in training and in the patients to score") as caught:
        learnt.scores(mixed)
    assert "north-7" not in str(caught.value)
    with pytest.raises(DataError, match="32 patients are both in validation and in test"):
        learnt.scores(parts[1])
    assert all(auroc(item.y, item.score).value > 0.8 for item in learnt.calibration_scores(parts[1]))


def test_nobody_is_validated_who_is_trained_on(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    with pytest.raises(DataError, match="96 patients are both in training and in validation"):
        tuned(toy_model(), (parts[0], parts[0]), short("published"))
    with pytest.raises(DataError, match="no task"):
        tuned(toy_model(), parts, short("published"), tasks=[])


def test_a_label_is_ignored_where_it_is_not_stated(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    """Each study states one of the two labels."""
    triplets = tuple(
        replace(t, labels={"rows": t.labels["rows"]} if row % 8 < 4 else {"lines": t.labels["lines"]})
        for row, t in enumerate(parts[0].triplets)
    )
    result = tuned(toy_model(), (replace(parts[0], triplets=triplets), parts[1]), short("lora"), tasks=TASKS[:2])
    assert result.towers["xray"].studies == 64
    assert all(auroc(item.y, item.score).value > 0.8 for item in result.scores(parts[2]))


def test_a_share_of_the_labels_is_drawn_by_patient(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    result = tuned(toy_model(), parts, short("published", epochs=1), tasks=TASKS[2:], fraction=0.25)
    assert result.towers["ecg"].patients == 16
    with pytest.raises(DataError, match="fraction 0"):
        tuned(toy_model(), parts, short("published"), fraction=0.0)


def test_tasks_that_cannot_be_learnt_say_why(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    tasks = [LabelTask("rows", "ecg"), LabelTask("unheard", "ecg"), LabelTask("lines", "xray")]
    no_xray = parts[0].where(lambda triplet: triplet.xray is None)
    result = tuned(toy_model(), (no_xray, parts[1]), short("published", epochs=1), tasks=tasks)
    rows, unheard, lines = result.scores(parts[2].where(lambda triplet: triplet.ecg is None))
    assert rows.reason == "fine-tuning: no row with this label has a study of modality ecg"
    assert unheard.reason == "fine-tuning: in training 0 positives and 0 negatives, at least 2 of either are needed"
    assert lines.reason == unheard.reason
    assert np.isnan(lines.score).all()
    assert len(lines.y) == 16


def test_progress_counts_both_towers(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    seen: list[tuple[int, int]] = []
    tuned(toy_model(), parts, short("published", epochs=2), on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 16) for done in range(1, 17)]


@dataclass(frozen=True)
class OneAtATime:
    """An array that may be read by row, never as a whole."""

    rows: np.ndarray[Any, Any]

    def __getitem__(self, row: int) -> np.ndarray[Any, Any]:
        assert isinstance(row, int)
        return self.rows[row]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class OnDisk:
    xrays: OneAtATime
    ecgs: OneAtATime


def test_reads_the_stores_batch_by_batch(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    stored = tuple(
        replace(part, sources=(OnDisk(OneAtATime(part.sources[0].xrays), OneAtATime(part.sources[0].ecgs)),))
        for part in parts
    )
    result = tuned(toy_model(), stored, short("published", epochs=1))
    assert len(result.scores(stored[2])) == 3


def test_weights_of_rare_classes_are_off_by_default(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    assert not recipe("published").class_weights
    rare = parts[0].where(lambda triplet: triplet.labels["rows"] == 0.0 or int(triplet.patient_id[-1]) < 3)
    plain, weighted = (
        tuned(toy_model(), (rare, parts[1]), short("published", epochs=4, class_weights=flag), tasks=TASKS[2:])
        for flag in (False, True)
    )
    assert np.nanmean(weighted.scores(parts[2])[0].score) > np.nanmean(plain.scores(parts[2])[0].score)


def test_a_loss_that_is_not_finite_is_an_error(toy_model: Build, parts: tuple[Examples, ...]) -> None:
    trained = toy_model()
    trained.model.ecg.head[0].weight.data.fill_(float("nan"))
    with pytest.raises(RoundError, match="not finite"):
        tuned(trained, parts, short("published"), tasks=TASKS[2:])


@pytest.mark.parametrize(("studies", "size", "steps"), [(2, 32, 1), (3, 2, 1), (33, 32, 2), (65, 32, 3), (1, 32, 1)])
def test_no_batch_of_one(studies: int, size: int, steps: int) -> None:
    assert classifier_fit.steps_per_epoch(studies, size) == steps


def test_recipes_are_named_and_checked() -> None:
    published = recipe("published")
    assert (published.learning_rate, published.weight_decay, published.epochs, published.patience) == (
        3e-5,
        0.02,
        20,
        3,
    )
    assert recipe("lora").learning_rate > published.learning_rate
    assert recipe("lora", {"epochs": 2}).epochs == 2
    with pytest.raises(ConfigError, match="there are published, lora, supervised"):
        recipe("magic")
    with pytest.raises(ConfigError, match="no such setting"):
        recipe("lora", {"epoch": 2})
