"""The modes that train on labels, under one privacy budget: a linear probe and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from more_model.data.study import Split
from more_model.evaluation.bed import per_case
from more_model.evaluation.bootstrap import Unit
from more_model.evaluation.embedded import ScoredLabel
from more_model.evaluation.label_share import require_disjoint
from more_model.evaluation.labelled import units_of
from more_model.evaluation.modes import Evaluated, Outcome
from more_model.evaluation.private_fine_tune import fine_tune_privately
from more_model.evaluation.private_probe import PROBE_EPOCHS, PROBE_SETTINGS, probe_privately
from more_model.evaluation.private_training import OpenPrivateTraining, PrivateTraining
from more_model.evaluation.recipes import FineTuneRecipe, recipe
from more_model.evaluation.settings import CHECKPOINT, EvaluationSettings, Mode
from more_model.progress import OnProgress
from more_model.training.settings import TrainingSettings

NOTES = (
    "Protected are the training patients, against whatever is made of the classifiers. The patients who are validated "
    "and tested on are not: their scores, AUROC, thresholds and calibration are computed in the clear.",
    "The checkpoint is taken as given: what its own training gave away about the same patients comes on top of this "
    "epsilon. (With protocol cohort, a checkpoint of that run was trained on these very patients.)",
    "Every planned step ran and the last weights are kept; stopping early, or keeping the best epoch, would look at "
    "patients once more. No class weights, no augmentation; one study of each patient, chosen by a secret key.",
    "Which labels are asked about counts as public (name them with --label), and so does every setting of this "
    "evaluation. Counts of patients and studies in this report are exact and outside this epsilon.",
    "No random encoder and no supervised model was trained beside it: each would take a share of the budget. What "
    "privacy costs is seen beside the same evaluation without --dp, and beside zero-shot, which needs no label.",
)


@dataclass(frozen=True, slots=True)
class _Planned:
    """One classifier for each modality that is asked about; ``recipe`` is None for the probe. ``steps`` are of each
    modality."""

    recipe: FineTuneRecipe | None
    epochs: int
    steps: int

    @property
    def name(self) -> str:
        return "probe" if self.recipe is None else self.recipe.name

    @property
    def schedule(self) -> TrainingSettings:
        return PROBE_SETTINGS if self.recipe is None else self.recipe.schedule()

    def facts(self) -> dict[str, Any]:
        """What a report says about the training, ready for JSON."""
        used = ("learning_rate", "weight_decay", "warmup_fraction", "final_rate_fraction")
        rates = {name: getattr(self.schedule, name) for name in used}
        return {"recipe": {"name": self.name, "epochs": self.epochs, **rates}, "steps_per_modality": self.steps}


def private_outcomes(
    model: Evaluated, settings: EvaluationSettings, opened: OpenPrivateTraining | None, on_progress: OnProgress
) -> Iterator[Outcome]:
    """The outcomes of every mode that trains on labels, all from one budget; none without ``settings.privacy``.

    Raises:
        ConfigError: terms, a model or a ledger that private training cannot use.
        RoundError: the site's ledger refuses the steps.
        DataError: a patient in two splits.
    """
    terms = settings.privacy
    if terms is None or opened is None:
        return
    require_disjoint({split.value: units_of(model.bed[split]) for split in Split})
    planned = _planned(settings, terms.steps)
    modalities = len({task.modality for task in model.bed.tasks})
    patients: frozenset[Unit] = frozenset(units_of(model.bed[Split.TRAIN]))
    with opened(terms, modalities * sum(part.steps for part in planned), patients) as budget:
        for part in planned:
            run = _probed if part.recipe is None else _fine_tuned
            yield run(model, settings, part, budget, on_progress)


def _planned(settings: EvaluationSettings, steps: Callable[[int], int]) -> list[_Planned]:
    overrides = {} if settings.epochs is None else {"epochs": settings.epochs}
    planned = []
    for mode in settings.modes:
        if mode == "linear-probe":
            epochs = settings.epochs or PROBE_EPOCHS
            planned.append(_Planned(None, epochs, steps(epochs)))
        elif mode == "fine-tune":
            chosen = [recipe(name, overrides) for name in settings.recipes]
            planned += [_Planned(one, one.epochs, steps(one.epochs)) for one in chosen]
    return planned


def _probed(
    model: Evaluated,
    settings: EvaluationSettings,
    part: _Planned,
    budget: PrivateTraining,
    on_progress: OnProgress,
) -> Outcome:
    test, held = probe_privately(
        model.embedded(Split.TRAIN), [model.embedded(split) for split in (Split.TEST, Split.VALIDATION)],
        model.bed.tasks, budget, steps=part.steps, threads=settings.threads, on_progress=on_progress,
    )  # fmt: skip
    return _outcome("linear-probe", "private", test, held, part, budget)


def _fine_tuned(
    model: Evaluated,
    settings: EvaluationSettings,
    part: _Planned,
    budget: PrivateTraining,
    on_progress: OnProgress,
) -> Outcome:
    assert part.recipe is not None
    tuned = fine_tune_privately(
        model.trained, model.bed, part.recipe, budget, steps=part.steps, seed=settings.seed, device=settings.device,
        threads=settings.threads, on_progress=on_progress,
    )  # fmt: skip
    test, held = tuned.scores(model.bed[Split.TEST]), tuned.calibration_scores(model.bed[Split.VALIDATION])
    return _outcome("fine-tune", f"{part.name}, private", test, held, part, budget)


def _outcome(
    mode: Mode, how: str, test: list[ScoredLabel], held: list[ScoredLabel], part: _Planned, budget: PrivateTraining
) -> Outcome:
    return Outcome(
        mode, CHECKPOINT, how, None, 0, [per_case(item) for item in test], [per_case(item) for item in held],
        facts=part.facts(), privacy={**budget.facts(), "notes": list(NOTES)},
    )  # fmt: skip
