"""Two studies of the test patients, explained: what the report of a run shows of the federated model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from more_model.checkpoint import load_checkpoint
from more_model.evaluation.auroc import auroc
from more_model.evaluation.embedded import ImageOrTrace, ScoredLabel
from more_model.explain.explanation import explain_pair
from simulation.report.details import ExplainedStudy
from simulation.scoring import ArmScores
from simulation.workbench import Workbench

_NORMAL = ("No Finding", "NORM")


def explained_studies(bench: Workbench, checkpoint: Path, scores: ArmScores) -> list[ExplainedStudy]:
    """For each modality the finding that the model ranks best, in the patient with it whom it scores highest.

    Normality is no finding: there is no place to look at. Nothing for a modality where no finding has an AUROC, or
    where the prompts have no negative side to contrast with.
    """
    trained = load_checkpoint(checkpoint, base=bench.base_folder, device=bench.device)
    modalities: tuple[ImageOrTrace, ImageOrTrace] = ("xray", "ecg")
    found = []
    for modality in modalities:
        asked = {
            entry.task: entry
            for entry in bench.scorer.prompts.labels
            if entry.negative and entry.task.label not in _NORMAL
        }
        best = _ranked_best(
            [item for item in scores.zero_shot if item.task.modality == modality and item.task in asked]
        )
        if best is None:
            continue
        row, prompts = _clearest_row(best, scores), asked[best.task]
        test = bench.scorer.test
        explanation = explain_pair(
            trained,
            xray=test.xrays([row])[0].numpy() if modality == "xray" else None,
            ecg=test.ecgs([row])[0].numpy() if modality == "ecg" else None,
            words=prompts.positive[0],
            contrast=prompts.negative[0],
        )
        found.append(ExplainedStudy(best.task.label, test.triplets[row].site, explanation))
    return found


def _ranked_best(scored: Sequence[ScoredLabel]) -> ScoredLabel | None:
    values = {place: auroc(item.y, item.score).value for place, item in enumerate(scored) if item.reason is None}
    known = {place: value for place, value in values.items() if value is not None}
    return scored[max(known, key=lambda place: known[place])] if known else None


def _clearest_row(scored: ScoredLabel, scores: ArmScores) -> int:
    """The row of the test set with the highest score among those that have the finding."""
    stated = np.flatnonzero(~np.isnan(scores.test.target(scored.task.label, "ignore")))
    present = np.where((scored.y == 1.0) & ~np.isnan(scored.score), scored.score, -np.inf)
    return int(stated[int(present.argmax())])
