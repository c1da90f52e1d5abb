"""Curves and a few held-out studies with the reports that the model retrieves for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from more_model.data.study import Triplet
from more_model.evaluation.embedded import EmbeddedSet, ImageOrTrace
from simulation.arms import CurvePoint
from simulation.explained import explained_studies
from simulation.outcome import Outcome
from simulation.report.details import Example, ExplainedStudy, LearningPoint, ReportDetails
from simulation.scoring import roc_curves
from simulation.workbench import Workbench

_SHOWN_REPORTS = 3


def report_details(bench: Workbench, outcomes: Mapping[str, Outcome], examples: int) -> ReportDetails:
    """What the page draws beyond summary.json."""
    shown = {name: outcome for name, outcome in outcomes.items() if not name.startswith("local-")}
    return ReportDetails(
        rocs={name: roc_curves(outcome.scores.zero_shot) for name, outcome in shown.items()},
        learning={name: _learning(outcome.curve) for name, outcome in shown.items() if outcome.curve},
        examples=_examples(bench, outcomes["federated"].scores.test, examples) if "federated" in outcomes else [],
        explained=_explained(bench, outcomes["federated"]) if "federated" in outcomes else [],
    )


def _explained(bench: Workbench, federated: Outcome) -> list[ExplainedStudy]:
    return explained_studies(bench, bench.folder / "checkpoints" / "federated.safetensors", federated.scores)


def _learning(curve: tuple[CurvePoint, ...]) -> list[LearningPoint]:
    return [
        LearningPoint(point.segment / len(curve), f"round {point.segment}", point.loss, point.macro_auroc)
        for point in curve
    ]


def _examples(bench: Workbench, test: EmbeddedSet, count: int) -> list[Example]:
    """Every other one an X-ray and an ECG, as far as there are any, spread over the test set."""
    chosen: list[Example] = []
    modalities: tuple[ImageOrTrace, ImageOrTrace] = ("xray", "ecg")
    for place in range(count):
        for modality in (modalities[place % 2], modalities[1 - place % 2]):
            rows = np.flatnonzero(test.has(modality) & test.has("text"))
            if len(rows):
                row = int(rows[(place * 7919) % len(rows)])
                chosen.append(_example(bench, test, row, modality))
                break
    return chosen


def _example(bench: Workbench, test: EmbeddedSet, row: int, modality: ImageOrTrace) -> Example:
    triplets = bench.scorer.test.triplets
    candidates = np.flatnonzero(test.has(modality) & test.has("text"))
    similarity = test.text[candidates] @ test.embedding(modality)[row]
    retrieved: dict[str, float] = {}
    for place in np.argsort(-similarity, kind="stable"):
        words = _words(triplets[candidates[place]], modality)
        if words is not None:
            retrieved.setdefault(words, float(similarity[place]))
        if len(retrieved) == _SHOWN_REPORTS:
            break
    is_xray = modality == "xray"
    return Example(
        xray=bench.scorer.test.xrays([row])[0].numpy() if is_xray else None,
        ecg=None if is_xray else bench.scorer.test.ecgs([row])[0].numpy(),
        rate_hz=bench.config.model.resolved().preprocessing.ecg_rate_hz,
        report=_words(triplets[row], modality) or "",
        retrieved=list(retrieved.items()),
        site=triplets[row].site,
        what="X-ray to report" if is_xray else "ECG to report",
    )


def _words(triplet: Triplet, modality: ImageOrTrace) -> str | None:
    return triplet.xray_report if modality == "xray" else triplet.ecg_report
