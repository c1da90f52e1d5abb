"""One evaluation from end to end: a protocol's studies, one checkpoint, every mode asked for, one run directory."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from more_model.checkpoint import TrainedModel, load_checkpoint
from more_model.cohort_file import load_cohort
from more_model.data.reading import collector_at_rest
from more_model.data.study import Modality, Split
from more_model.errors import ConfigError
from more_model.evaluation.bed import Bed, make_bed, tasks_of_cohort
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.modes import Evaluated, Outcome, run_modes
from more_model.evaluation.private_modes import private_outcomes
from more_model.evaluation.private_training import installed_private_training
from more_model.evaluation.prompt_sets import PromptSet, available_prompts, load_prompts
from more_model.evaluation.protocols.protocol import Blank, ProtocolChoice, check_cohort
from more_model.evaluation.protocols.registry import protocol, protocol_names
from more_model.evaluation.protocols.stored import CASE, of_splits, stored_examples
from more_model.evaluation.regression import one_blas_thread
from more_model.evaluation.results import build_summary
from more_model.evaluation.results_page import write_results_page
from more_model.evaluation.settings import EvaluationSettings
from more_model.progress import OnProgress
from more_model.run_folder import RunFolder, open_run_folder
from more_model.training.loop import resolve_device
from more_model.training.words import PREFIX

#: The protocol that is no data set: the triplets of a cohort file, with both modalities of a patient side by side.
COHORT = "cohort"
COHORT_PROMPTS = "chexpert_ecg"


@dataclass(frozen=True, slots=True)
class Source:
    """Whose studies they are, for the report: ``facts`` are counts, ``notes`` sentences that a reader has to know.
    ``blank`` is what a label that is not mentioned counts as, None where every study states every label."""

    bed: Bed
    title: str
    subset: str
    facts: dict[str, Any]
    notes: tuple[str, ...]
    blank: Blank | None
    synthetic: bool


def evaluate(
    settings: EvaluationSettings, out: Path, *, resume: bool, overwrite: bool, on_progress: OnProgress
) -> dict[str, Any]:
    """Run one evaluation into ``out``; returns the content of ``summary.json``.

    Raises:
        ConfigError: an unknown protocol, subset or label, a prompt set that lacks one of the labels.
        DataError: a cohort that gives no trustworthy figure (a patient in train and test, a label without positives).
        ExchangeError: the checkpoint belongs to another architecture or base.
        EnvironmentFault: a privacy budget, and nothing installed that keeps it.
    """
    _require_known(settings.protocol)
    opened_private = None if settings.privacy is None else installed_private_training()
    folder = open_run_folder(out, settings, resume=resume, overwrite=overwrite)
    trained = load_checkpoint(settings.checkpoint, base=settings.base, device=resolve_device(settings.device))
    folder.event("checkpoint read", digest=trained.digest)
    opened = _opened_cohort if settings.protocol == COHORT else _opened_protocol
    source, prompts = opened(settings, trained, folder, on_progress)
    folder.event("studies ready", counts=source.bed.counts())
    asked = Evaluated(trained, source.bed, settings.threads)
    outcomes = []
    with one_blas_thread():
        for outcome in chain(
            run_modes(asked, prompts, settings, on_progress),
            private_outcomes(asked, settings, opened_private, on_progress),
        ):
            folder.event("scored", outcome=outcome.name)
            outcomes.append(outcome)
        on_progress("intervals", 0, 1)
        summary = build_summary(settings, asked, source, outcomes, prompts)
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


def _opened_protocol(
    settings: EvaluationSettings, trained: TrainedModel, folder: RunFolder, on_progress: OnProgress
) -> tuple[Source, PromptSet | None]:
    known = protocol(settings.protocol)
    subset = known.subset_of(settings.choice)
    with collector_at_rest():
        cohort = known.read(settings.data, settings.choice)
    tasks = _chosen(cohort.tasks, settings.labels, known.name)
    prompts = _prompts(settings, known.prompts, tasks)
    check_cohort(replace(cohort, tasks=tasks), f"{known.name} ({subset})")
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
    blank = settings.blank if known.leaves_blanks or settings.uncertainty == "published" else None
    return Source(bed, known.title, subset, facts, cohort.notes, blank, synthetic=False), prompts


def _chosen(tasks: Sequence[LabelTask], labels: Sequence[str], name: str) -> tuple[LabelTask, ...]:
    known = list(dict.fromkeys(task.label for task in tasks))
    if missing := [label for label in labels if label not in known]:
        faults = [f"{name} has no label {label!r}" for label in missing]
        raise ConfigError("--label", faults, remedy=f"it has {', '.join(known)}")
    return tuple(task for task in tasks if not labels or task.label in labels)


def _opened_cohort(
    settings: EvaluationSettings, trained: TrainedModel, _folder: RunFolder, _on_progress: OnProgress
) -> tuple[Source, PromptSet | None]:
    _refuse_choices(settings.choice)
    cohort = load_cohort(settings.data, preprocessing=trained.config.preprocessing)
    tasks = tasks_of_cohort(cohort, settings.labels, load_prompts(settings.prompts or COHORT_PROMPTS).tasks)
    bed = make_bed(cohort.examples, tasks, settings.uncertainty)
    facts = {"sites": {site.name: len(site.examples) for site in cohort.sites}}
    notes = ("Triplets of a cohort file, split by patient as in the training that it belongs to.",)
    blank = settings.blank if settings.uncertainty == "published" else None
    source = Source(bed, "Cohort", "test", facts, notes, blank=blank, synthetic=cohort.synthetic)
    return source, _prompts(settings, COHORT_PROMPTS, tasks)


def _refuse_choices(choice: ProtocolChoice) -> None:
    """What may be chosen within a protocol has no meaning for a cohort; ``seed`` is everyone's."""
    usual = ProtocolChoice(seed=choice.seed).model_dump()
    if foreign := [name for name, value in choice.model_dump().items() if value != usual[name]]:
        raise ConfigError(f"protocol {COHORT}", [f"{name} cannot be chosen here" for name in foreign])


def _prompts(settings: EvaluationSettings, usual: str, tasks: Sequence[LabelTask]) -> PromptSet | None:
    """The prompts of some tasks, prefixed as the texts that the model was trained on; None where none are needed."""
    if "zero-shot" not in settings.modes:
        return None
    name = settings.prompts or usual
    if not name:
        raise ConfigError(
            "--prompts",
            [f"protocol {settings.protocol} brings no prompts of its own, and zero-shot needs them"],
            remedy=f"name a set ({', '.join(available_prompts())}) or a .toml file, or leave out --mode zero-shot",
        )
    labels = list(dict.fromkeys(task.label for task in tasks))
    prompts = load_prompts(name, required=labels).about(tasks)
    return prompts.with_prefix({m.value: f"{PREFIX[m]} " for m in (Modality.XRAY, Modality.ECG)})


def _write_predictions(path: Path, outcomes: Sequence[Outcome]) -> None:
    """One line per case, label and outcome; patients are named, so the file is the owner's alone."""
    path.touch(mode=0o600)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["outcome", "label", "modality", "site", "patient", "case", "truth", "score"])
        for outcome in outcomes:
            for item in outcome.test:
                cases = item.attributes.get(CASE, [""] * len(item.y))
                of_task = [outcome.name, item.task.label, item.task.modality]
                for site, patient, case, truth, score in zip(
                    item.site, item.patient, cases, item.y, item.score, strict=True
                ):
                    writer.writerow([*of_task, site, patient, case, int(truth), f"{score:.6g}"])
