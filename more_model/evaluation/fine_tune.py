"""Fine-tuning: one classifier per modality, trained on labels, and its scores on patients that it never saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from more_model.checkpoint import TrainedModel
from more_model.errors import DataError
from more_model.evaluation.bootstrap import Unit
from more_model.evaluation.classifier import Classifier, build_classifier
from more_model.evaluation.classifier_fit import Fit, fit, logits, steps_per_epoch
from more_model.evaluation.embedded import (
    Float64,
    ImageOrTrace,
    LabelTask,
    ScoredLabel,
    UncertaintyPolicy,
)
from more_model.evaluation.embedding import attribute_columns
from more_model.evaluation.label_share import draw_share, refusals, require_disjoint
from more_model.evaluation.labelled import LabelledStudies, labelled_studies, settled_targets, units_of
from more_model.evaluation.recipes import FineTuneRecipe
from more_model.training.examples import Examples
from more_model.training.loop import resolve_device
from more_model.training.seeds import derived_seed

_MODALITIES: tuple[ImageOrTrace, ...] = ("xray", "ecg")


@dataclass(frozen=True, slots=True, eq=False)
class TunedTower:
    """The classifier of one modality, its tasks in the order of its logits, and on how much it was trained."""

    classifier: Classifier
    tasks: tuple[LabelTask, ...]
    fit: Fit
    studies: int
    patients: int


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """The outcome for all tasks. ``refused`` says of the tasks without a classifier why there is none; ``trained_on``
    and ``validated_on`` are patients."""

    recipe: FineTuneRecipe
    tasks: tuple[LabelTask, ...]
    policy: UncertaintyPolicy
    towers: Mapping[ImageOrTrace, TunedTower]
    refused: Mapping[LabelTask, str]
    trained_on: frozenset[Unit]
    validated_on: frozenset[Unit]
    threads: int

    def scores(self, test: Examples) -> list[ScoredLabel]:
        """Logits for every task, over the examples that state its label (NaN where they lack its modality).

        The rows are those of `score_task` over the embedding of the same examples, so that arms stay paired.
        Raises DataError where a test patient was trained or validated on.
        """
        require_disjoint({"validation": self.validated_on, "test": units_of(test)})
        return self.calibration_scores(test)

    def calibration_scores(self, validation: Examples) -> list[ScoredLabel]:
        """Like `scores`, for the validation patients too: to calibrate by, never to report as a result."""
        require_disjoint({"training": self.trained_on, "the patients to score": units_of(validation)})
        answers = {task: np.full(len(validation), np.nan) for task in self.tasks}
        for modality, tower in self.towers.items():
            asked = [task for task in self.tasks if task.modality == modality]
            studies = labelled_studies(validation, modality, asked, self.policy)
            columns = logits(tower.classifier, studies, threads=self.threads)
            for place, task in enumerate(tower.tasks):
                answers[task][studies.rows] = columns[:, place]
        return self._labelled(validation, answers)

    def facts(self) -> dict[str, Any]:
        """What a report says about the training, ready for JSON."""
        return {
            "recipe": self.recipe.model_dump(),
            "towers": {
                modality: {
                    "labels": [task.label for task in tower.tasks],
                    "studies": tower.studies,
                    "patients": tower.patients,
                    "kept_epoch": tower.fit.kept,
                    "epochs": [asdict(epoch) for epoch in tower.fit.epochs],
                }
                for modality, tower in self.towers.items()
            },
        }

    def _labelled(self, examples: Examples, answers: Mapping[LabelTask, Float64]) -> list[ScoredLabel]:
        targets = settled_targets(examples, self.tasks, self.policy)
        patient, site = ([getattr(t, name) for t in examples.triplets] for name in ("patient_id", "site"))
        attributes = attribute_columns(examples)
        scored = []
        for task in self.tasks:
            whole = ScoredLabel(task, targets[task], answers[task], patient, site, self.refused.get(task), attributes)
            stated = whole.select(~np.isnan(whole.y))
            if stated.reason is None and np.isnan(stated.score).all():
                reason = f"fine-tuning: no row with this label has a study of modality {task.modality}"
                stated = replace(stated, reason=reason)
            scored.append(stated)
        return scored


def fine_tune(
    trained: TrainedModel,
    train: Examples,
    validation: Examples,
    tasks: Sequence[LabelTask],
    recipe: FineTuneRecipe,
    *,
    policy: UncertaintyPolicy = "ignore",
    seed: int = 0,
    fraction: float = 1.0,
    device: str = "auto",
    threads: int = 2,
    on_step: Callable[[int, int], None] | None = None,
) -> FineTuned:
    """Train a classifier for each modality that ``tasks`` ask about; ``trained`` is not changed.

    With recipe ``supervised`` only the architecture of ``trained`` is used. ``fraction`` in (0, 1] keeps that share of
    the training patients, class by class (`draw_share`); validation is never thinned. ``on_step`` gets steps done and
    the most there can be. The same seed gives the same bits on one kind of CPU.

    Raises:
        DataError: no task, a patient in training and validation, or a fraction outside (0, 1].
        RoundError: a loss that is not finite.
    """
    if not tasks:
        raise DataError("fine-tuning: there is no task to train for", remedy="name labels that the data states")
    require_disjoint({"training": units_of(train), "validation": units_of(validation)})
    plans: list[_Plan] = []
    refused: dict[LabelTask, str] = {}
    for modality in _MODALITIES:
        asked = [task for task in tasks if task.modality == modality]
        plan, reasons = _planned(train, validation, modality, asked, policy, fraction, seed)
        refused |= reasons
        plans += [plan] if plan.train.tasks else []
    steps = [recipe.epochs * steps_per_epoch(len(plan.train), recipe.batch_size) for plan in plans]
    towers: dict[ImageOrTrace, TunedTower] = {}
    for place, plan in enumerate(plans):
        progress = _after(sum(steps[:place]), sum(steps), on_step)
        towers[plan.train.modality] = _tuned(trained, plan, recipe, seed, device, threads, progress)
    seen = frozenset(units_of(train)), frozenset(units_of(validation))
    return FineTuned(recipe, tuple(tasks), policy, towers, refused, *seen, threads)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """One modality: the studies to train on and to validate with, about the same tasks."""

    train: LabelledStudies
    validation: LabelledStudies


def _planned(
    train: Examples,
    validation: Examples,
    modality: ImageOrTrace,
    asked: Sequence[LabelTask],
    policy: UncertaintyPolicy,
    fraction: float,
    seed: int,
) -> tuple[_Plan, dict[LabelTask, str]]:
    """The plan over the tasks that have both classes in the drawn share, and why the others are left out."""
    studies = labelled_studies(train, modality, asked, policy)
    drawn = studies.where(draw_share(studies.target, studies.units(), fraction, seed))
    reasons = refusals(drawn.target, asked, "fine-tuning")
    learnt = [task for task in asked if task not in reasons]
    return _Plan(drawn.about(learnt), labelled_studies(validation, modality, asked, policy).about(learnt)), reasons


def _tuned(
    trained: TrainedModel,
    plan: _Plan,
    recipe: FineTuneRecipe,
    seed: int,
    device: str,
    threads: int,
    on_step: Callable[[int], None] | None,
) -> TunedTower:
    own = derived_seed(seed, "fine-tuning", plan.train.modality)
    classifier = build_classifier(
        trained, plan.train.modality, len(plan.train.tasks), recipe.name, blocks=recipe.blocks, seed=own
    ).to(resolve_device(device))
    done = fit(classifier, plan.train, plan.validation, recipe, seed=own, threads=threads, on_step=on_step)
    return TunedTower(classifier, plan.train.tasks, done, len(plan.train), len(set(plan.train.units())))


def _after(before: int, total: int, on_step: Callable[[int, int], None] | None) -> Callable[[int], None] | None:
    """What one of several trainings calls with the number of its own steps."""
    return None if on_step is None else lambda done: on_step(before + done, total)
