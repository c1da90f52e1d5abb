"""One evaluation from end to end: a protocol's studies, one checkpoint, every mode asked for, one run directory."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more_model.checkpoint import TrainedModel, load_checkpoint
from more_model.cohort_file import load_cohort
from more_model.data.study import Modality, Split
from more_model.errors import ConfigError
from more_model.evaluation.bed import Bed, make_bed, tasks_of_cohort
from more_model.evaluation.modes import Outcome, run_modes
from more_model.evaluation.prompt_sets import PromptSet, load_prompts
from more_model.evaluation.protocols.protocol import EvaluationCohort, check_cohort
from more_model.evaluation.protocols.registry import protocol, protocol_names
from more_model.evaluation.protocols.stored import of_splits, stored_examples
from more_model.evaluation.results import build_summary
from more_model.evaluation.results_page import write_results_page
from more_model.evaluation.settings import EvaluationSettings
from more_model.progress import OnProgress
from more_model.run_folder import RunFolder, open_run_folder
from more_model.training.loop import resolve_device
from more_model.training.words import PREFIX

#: The protocol that is no data set: the triplets of a cohort file, with both modalities of a patient side by side.
COHORT = "cohort"


@dataclass(frozen=True, slots=True)
class Source:
    """Whose studies they are, for the report: ``facts`` are counts, ``notes`` sentences that a reader has to know."""

    bed: Bed
    title: str
    subset: str
    facts: dict[str, Any]
    notes: tuple[str, ...]
    synthetic: bool


def evaluate(
    settings: EvaluationSettings, out: Path, *, resume: bool, overwrite: bool, on_progress: OnProgress
) -> dict[str, Any]:
    """Run one evaluation into ``out``; returns the content of ``summary.json``.

    Raises:
        ConfigError: an unknown protocol, subset or label, a prompt set that lacks one of the labels.
        DataError: a cohort that gives no trustworthy figure (a patient in train and test, a label without positives).
        ExchangeError: the checkpoint belongs to another architecture or base.
    """
    _require_known(settings.protocol)
    folder = open_run_folder(out, settings, resume=resume, overwrite=overwrite)
    trained = load_checkpoint(settings.checkpoint, base=settings.base, device=resolve_device(settings.device))
    folder.event("checkpoint read", digest=trained.digest)
    source, prompts = _opened(settings, trained, folder, on_progress)
    folder.event("studies ready", counts=source.bed.counts())
    outcomes = []
    for outcome in run_modes(trained, source.bed, prompts, settings, on_progress):
        folder.event("scored", outcome=outcome.name)
        outcomes.append(outcome)
    on_progress("intervals", 0, 1)
    summary = build_summary(settings, trained, source, outcomes, prompts)
    _write_predictions(folder.path / "predictions.csv", outcomes)
    folder.write_json("summary.json", summary)
    write_results_page(folder.path, summary)
    folder.event("finished")
    on_progress("intervals", 1, 1)
    return summary


def _require_known(name: str) -> None:
    if name != COHORT and name not in protocol_names():
        known = ", ".join([*protocol_names(), COHORT])
        raise ConfigError(f"--protocol {name}", [f"there is no such protocol; there are {known}"])


def _opened(
    settings: EvaluationSettings, trained: TrainedModel, folder: RunFolder, on_progress: OnProgress
) -> tuple[Source, PromptSet]:
    if settings.protocol == COHORT:
        return _opened_cohort(settings)
    known = protocol(settings.protocol)
    subset = known.subset_of(settings.choice)
    cohort = known.read(settings.data, settings.choice)
    tasks = [task for task in cohort.tasks if not settings.labels or task.label in settings.labels]
    missing = [label for label in settings.labels if label not in {task.label for task in cohort.tasks}]
    if missing:
        faults = [f"{known.name} has no label {label!r}" for label in missing]
        raise ConfigError("--labels", faults, remedy=f"it has {', '.join(task.label for task in cohort.tasks)}")
    prompts = _prompts(settings.prompts or known.prompts, [task.label for task in tasks])
    check_cohort(_of_tasks(cohort, tuple(tasks)), f"{known.name} ({subset})")
    # Only probes and fine-tuning need training studies, and CheXpert has 190,000 of them.
    splits = (Split.VALIDATION, Split.TEST) if set(settings.modes) == {"zero-shot"} else tuple(Split)
    examples, counts = stored_examples(
        of_splits(cohort, *splits),
        trained.config.preprocessing,
        folder.workspace / "store",
        workers=settings.workers,
        ceiling=settings.quarantine_ceiling,
        progress=lambda done, total: on_progress("reading files", done, total),
    )
    bed = make_bed(examples, tasks, settings.uncertainty)
    facts = {"protocol": dict(cohort.facts), **{name: counts[name] for name in ("studies", "stored", "refused")}}
    return Source(bed, known.title, subset, facts, cohort.notes, synthetic=False), prompts


def _opened_cohort(settings: EvaluationSettings) -> tuple[Source, PromptSet]:
    cohort = load_cohort(settings.data)
    known = load_prompts(settings.prompts or "chexpert_ecg")
    tasks = tasks_of_cohort(cohort, settings.labels, known.tasks)
    bed = make_bed(cohort.examples, tasks, settings.uncertainty)
    facts = {"sites": {site.name: len(site.examples) for site in cohort.sites}}
    notes = ("Triplets of a cohort file, split by patient as in the training that it belongs to.",)
    labels = [task.label for task in tasks]
    prompts = _prompts(settings.prompts or "chexpert_ecg", labels)
    return Source(bed, "Cohort", "test", facts, notes, cohort.synthetic), prompts


def _prompts(name: str, labels: Sequence[str]) -> PromptSet:
    """The prompts of some labels, prefixed as the texts that the model was trained on."""
    prompts = load_prompts(name, required=labels).only(labels)
    return prompts.with_prefix({m.value: f"{PREFIX[m]} " for m in (Modality.XRAY, Modality.ECG)})


def _of_tasks(cohort: EvaluationCohort, tasks: tuple[Any, ...]) -> EvaluationCohort:
    return EvaluationCohort(cohort.studies, cohort.split, tasks, cohort.case, cohort.facts, cohort.notes)


def _write_predictions(path: Path, outcomes: Sequence[Outcome]) -> None:
    """One line per case, label and outcome; patients are named, so the file is the owner's alone."""
    path.touch(mode=0o600)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["outcome", "label", "modality", "site", "patient", "case", "truth", "score"])
        for outcome in outcomes:
            for item in outcome.test:
                cases = item.attributes.get("case", [""] * len(item.y))
                for row in range(len(item.y)):
                    writer.writerow(
                        [
                            outcome.name,
                            item.task.label,
                            item.task.modality,
                            item.site[row],
                            item.patient[row],
                            cases[row],
                            int(item.y[row]),
                            f"{item.score[row]:.6g}",
                        ]
                    )
