"""The studies of one evaluation, in three splits, with labels on which nothing is left to decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from more_model.cohort_file import Cohort
from more_model.data.study import Split
from more_model.errors import ConfigError, DataError
from more_model.evaluation.embedded import Float64, LabelTask, ScoredLabel, UncertaintyPolicy
from more_model.evaluation.labelled import settled_targets
from more_model.evaluation.protocols.stored import CASE
from more_model.training.examples import Examples


@dataclass(frozen=True, slots=True)
class Bed:
    """What every mode of an evaluation works on. Labels are 0, 1 or not stated; uncertain ones are settled. Reports are
    left out: no mode reads them, and embedding them would take as long as the pictures."""

    tasks: tuple[LabelTask, ...]
    parts: Mapping[Split, Examples]

    @property
    def labels(self) -> list[str]:
        """Distinct labels in the order of the tasks."""
        return list(dict.fromkeys(task.label for task in self.tasks))

    def __getitem__(self, split: Split) -> Examples:
        return self.parts[split]

    def counts(self) -> dict[str, dict[str, int]]:
        """Patients and studies per split."""
        return {
            split.value: {
                "patients": len({(t.site, t.patient_id) for t in part.triplets}),
                "studies": len(part),
                "cases": len({(t.site, t.attributes.get(CASE) or row) for row, t in enumerate(part.triplets)}),
            }
            for split, part in self.parts.items()
        }


def make_bed(examples: Examples, tasks: Sequence[LabelTask], policy: UncertaintyPolicy) -> Bed:
    """Settles uncertain labels by ``policy`` and divides the examples.

    Raises:
        DataError: a patient is in more than one split.
    """
    splits: dict[tuple[str, str], set[Split]] = {}
    for triplet in examples.triplets:
        splits.setdefault((triplet.site, triplet.patient_id), set()).add(triplet.split)
    torn = sum(len(found) > 1 for found in splits.values())
    if torn:
        raise DataError(
            f"{torn} of {len(splits)} patients are in more than one of train, validation and test",
            remedy="split by patient",
            avoid="evaluate anyway: what was learnt of a patient would be counted as tested",
        )
    settled = with_settled_labels(examples, tasks, policy)
    return Bed(tuple(tasks), {split: settled.of_split(split) for split in Split})


def with_settled_labels(examples: Examples, tasks: Sequence[LabelTask], policy: UncertaintyPolicy) -> Examples:
    """The examples with the labels of ``tasks`` only, each 0, 1 or not stated, and without reports."""
    settled: dict[str, Float64] = {}
    for task, values in settled_targets(examples, tasks, policy).items():
        # One label may be asked of both modalities: policy ``published`` settles it where a row has the modality, and
        # says nothing of other rows.
        known = settled.get(task.label, values)
        settled[task.label] = np.where(np.isnan(known), values, known)
    triplets = tuple(
        replace(
            triplet,
            xray_report=None,
            ecg_report=None,
            labels={label: float(column[row]) for label, column in settled.items() if not np.isnan(column[row])},
        )
        for row, triplet in enumerate(examples.triplets)
    )
    return Examples(triplets, examples.source_of, examples.sources)


def tasks_of_cohort(cohort: Cohort, labels: Sequence[str], known: Sequence[LabelTask]) -> list[LabelTask]:
    """The questions that a cohort of triplets can be asked: those of a prompt set for which it states any label.

    Raises:
        ConfigError: one of ``labels`` that no patient states or no prompt words.
        DataError: none is left, or one of ``labels`` has no positive among the test patients.
    """
    triplets = cohort.examples.triplets
    stated = {label for triplet in triplets for label in triplet.labels}
    worded = {task.label for task in known}
    faults = [f"no patient of the cohort states {label!r}" for label in labels if label not in stated]
    faults += [f"the prompts do not word {label!r}" for label in labels if label in stated - worded]
    if faults:
        raise ConfigError("--label", faults, remedy=f"it has {', '.join(sorted(stated & worded))}")
    wanted = set(labels) or stated
    tasks = [task for task in known if task.label in wanted & stated]
    if not tasks:
        raise DataError(
            "the cohort states none of the labels that the prompts word",
            remedy="give a prompt set for its labels (--prompts)",
        )
    present = {label for t in triplets if t.split is Split.TEST for label, value in t.labels.items() if value == 1.0}
    if empty := [label for label in labels if label not in present]:
        raise DataError(
            f"labels without a single positive among the test patients: {', '.join(empty)}",
            remedy="name the other labels, each with --label, or take a cohort that has positives",
            avoid="fill in a figure: without positives there is none",
        )
    return tasks


def per_case(scored: ScoredLabel) -> ScoredLabel:
    """One row per case: the mean of its scores, in order of first appearance. A study that names no case is one.

    Raises:
        DataError: the studies of one case disagree about the label.
    """
    named = scored.attributes.get(CASE)
    if named is None:
        return scored
    case = [(site, name or row) for row, (site, name) in enumerate(zip(scored.site, named, strict=True))]
    first_row: dict[tuple[str, str | int], int] = {}
    for row, key in enumerate(case):
        first_row.setdefault(key, row)
    number = {key: place for place, key in enumerate(first_row)}
    rows = np.array([number[key] for key in case], dtype=np.intp)
    first = np.fromiter(first_row.values(), dtype=np.intp, count=len(first_row))
    if not np.array_equal(scored.y, scored.y[first][rows]):
        raise DataError(
            f"{scored.task.label}: studies of one case state different labels",
            remedy="a case is one examination with one set of labels; correct the table",
        )
    present = ~np.isnan(scored.score)
    total = np.bincount(rows[present], weights=scored.score[present], minlength=len(first))
    count = np.bincount(rows[present], minlength=len(first))
    mean: Float64 = np.divide(total, count, out=np.full(len(first), np.nan), where=count > 0)
    return replace(scored.select(first), score=mean)
