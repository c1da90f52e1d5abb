"""Which studies the report explains: the clearest case of the finding that is ranked best, never a normal one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from more_model.checkpoint import load_checkpoint
from more_model.evaluation.auroc import auroc
from simulation.explained import explained_studies

if TYPE_CHECKING:
    from simulation.workbench import Workbench


def test_the_clearest_case_of_the_best_ranked_finding_is_explained(
    miniature_run: Any, miniature_bench: Workbench
) -> None:
    checkpoint = miniature_run.out / "checkpoints" / "federated.safetensors"
    scorer = miniature_bench.scorer
    scores = scorer.score(load_checkpoint(checkpoint).model)
    found = explained_studies(miniature_bench, checkpoint, scores)
    assert [study.explanation.modality for study in found] == ["xray", "ecg"]
    for study in found:
        modality = study.explanation.modality
        ranked = {
            item.task.label: value
            for item in scores.zero_shot
            if item.task.modality == modality and (value := auroc(item.y, item.score).value) is not None
        }
        assert study.label not in ("No Finding", "NORM")
        assert ranked[study.label] == max(ranked[label] for label in ranked if label not in ("No Finding", "NORM"))
        arrays = [
            (scorer.test.xrays([row]) if modality == "xray" else scorer.test.ecgs([row]))[0].numpy()
            for row, triplet in enumerate(scorer.test.triplets)
            if triplet.labels.get(study.label) == 1.0
            and (triplet.xray if modality == "xray" else triplet.ecg) is not None
        ]
        assert any(np.array_equal(study.explanation.study, array) for array in arrays)


def test_nothing_is_explained_where_nothing_was_ranked(miniature_run: Any, miniature_bench: Workbench) -> None:
    checkpoint = miniature_run.out / "checkpoints" / "federated.safetensors"
    scores = miniature_bench.scorer.score(load_checkpoint(checkpoint).model)
    refused = [replace(item, reason="too few") for item in scores.zero_shot]
    assert explained_studies(miniature_bench, checkpoint, replace(scores, zero_shot=refused)) == []
