"""What each selection of a patient's parts says about a finding, before calibration.

X-ray and ECG are fused (`more_model.evaluation.fusion`). The report stands beside them as a regression of its own, and
the logits are added: where labels were read from reports, a report all but states them, and in one common regression it
takes the weight away from the studies. (Demo, test patients, X-ray findings from the X-ray alone: macro AUROC 0.748
with the report as a third part of one regression, 0.774 with a regression of the X-ray alone.)

A report speaks of its own kind of study only: one about an ECG has no say on a finding of the X-ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from more_model.assess.parts import Part, Selection
from more_model.data.study import Modality
from more_model.evaluation.embedded import EmbeddedSet, Float32, Float64, LabelTask, ScoredLabel, score_task
from more_model.evaluation.fitted_fusion import FittedFusion, load_fusion, save_fusion
from more_model.evaluation.fusion import FusionSettings, fit_fusion

STUDIES_FILE = "studies.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Patients:
    """``studies`` holds X-ray and ECG of n triplets and their labels; ``reports`` the text embedding [n, width] of the
    report about either, rows of NaN where there is none."""

    studies: EmbeddedSet
    reports: Mapping[Modality, Float32]

    def parts(self, kind: Modality) -> Mapping[Part, Float32]:
        """The three matrices [n, ...] that speak of a finding of ``kind``."""
        return {Part.XRAY: self.studies.xray, Part.ECG: self.studies.ecg, Part.REPORT: self.reports[kind]}


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Fitted on training patients: ``studies`` over X-ray and ECG, ``reports`` a regression for each kind of report."""

    studies: FittedFusion
    reports: Mapping[Modality, FittedFusion]

    def refusal(self, task: LabelTask, chosen: Selection) -> str | None:
        """Why nothing is said about ``task`` from ``chosen``, or None."""
        needed = [self.reports[Modality(task.modality)]] if Part.REPORT in chosen else []
        needed += [self.studies] if chosen != (Part.REPORT,) else []
        reasons = [fitted.refused.get(task, "not trained for") for fitted in needed if task not in fitted.tasks]
        return reasons[0] if reasons else None

    def logits(self, task: LabelTask, parts: Mapping[Part, Float32], chosen: Selection) -> Float64:
        """Float64 [n] from the matrices [n, ...] of ``parts``, of which only ``chosen`` are looked at; NaN for rows
        that lack one of them. `refusal` has to be None. A sum of logits counts the base rate twice: calibrate it.

        Raises:
            DataError: embeddings of another width than was fitted on.
        """
        hidden = {part: matrix if part in chosen else np.full_like(matrix, np.nan) for part, matrix in parts.items()}
        total = np.zeros(len(hidden[Part.XRAY]))
        if chosen != (Part.REPORT,):
            total += self.studies.logits(hidden[Part.XRAY], hidden[Part.ECG])[:, self.studies.tasks.index(task)]
        if Part.REPORT in chosen:
            fitted, nothing = self.reports[Modality(task.modality)], np.empty((len(total), 0))
            total += fitted.logits(hidden[Part.REPORT], nothing)[:, fitted.tasks.index(task)]
        complete = np.all([~np.isnan(hidden[part]).any(axis=1) for part in chosen], axis=0)
        return np.where(complete, total, np.nan)

    def scores(self, patients: Patients, tasks: Sequence[LabelTask], chosen: Selection) -> list[ScoredLabel]:
        """Logits over the rows that state a label and have every part of ``chosen``; with a reason where there is no
        score."""
        return [self._scored(patients, task, chosen) for task in tasks]

    def _scored(self, patients: Patients, task: LabelTask, chosen: Selection) -> ScoredLabel:
        parts, refused = patients.parts(Modality(task.modality)), self.refusal(task, chosen)
        complete = np.all([~np.isnan(parts[part]).any(axis=1) for part in chosen], axis=0)
        rows = patients.studies.select(np.asarray(complete, dtype=np.bool_))
        stated = ~np.isnan(rows.target(task.label, "ignore"))

        def score(_part: EmbeddedSet) -> Float64 | str:
            if refused is not None:
                return refused
            return self.logits(task, {part: matrix[complete][stated] for part, matrix in parts.items()}, chosen)

        return score_task(rows, task, "ignore", score)


def fit_evidence(train: Patients, validation: Patients, tasks: Sequence[LabelTask]) -> Evidence:
    """Learns from ``train``; ``validation`` chooses how strongly to regularise.

    Raises:
        DataError: no task, or a patient in both.
    """
    studies = fit_fusion(train.studies, validation.studies, tasks, FusionSettings())
    reports = {}
    for kind in (Modality.XRAY, Modality.ECG):
        of_kind = [task for task in tasks if task.modality == kind]
        if of_kind:
            learnt, held = (_report_only(patients, kind) for patients in (train, validation))
            reports[kind] = fit_fusion(learnt, held, of_kind, FusionSettings())
    return Evidence(studies, reports)


def _report_only(patients: Patients, kind: Modality) -> EmbeddedSet:
    """The report in the place of the X-ray, nothing in that of the ECG: a fusion of one half is a plain regression."""
    nothing = np.empty((len(patients.studies), 0), dtype=np.float32)
    return replace(patients.studies, xray=patients.reports[kind], ecg=nothing)


def report_file(kind: Modality) -> str:
    """The file of the regression over reports about ``kind``."""
    return f"reports-{kind.value}.safetensors"


def save_evidence(folder: Path, evidence: Evidence, *, model_digest: str) -> None:
    """Writes one file a regression."""
    save_fusion(folder / STUDIES_FILE, evidence.studies, model_digest=model_digest)
    for kind, fitted in evidence.reports.items():
        save_fusion(folder / report_file(kind), fitted, model_digest=model_digest)


def load_evidence(folder: Path, kinds: Sequence[Modality], *, model_digest: str) -> Evidence:
    """What `save_evidence` wrote.

    Raises:
        EnvironmentFault: a file is missing.
        ExchangeError: a file is damaged, or was fitted on embeddings of another model.
    """
    reports = {kind: load_fusion(folder / report_file(kind), model_digest=model_digest) for kind in kinds}
    return Evidence(load_fusion(folder / STUDIES_FILE, model_digest=model_digest), reports)
