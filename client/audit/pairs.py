"""How well a model joins each study with its own words: the quantity that training raises for whoever took part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from more_model.data.study import Modality, Triplet
from more_model.model.more import More
from more_model.training.embed import embed
from more_model.training.examples import Examples

Vector = npt.NDArray[np.float64]

PAIRED = (Modality.XRAY, Modality.ECG)


def of_modality(examples: Examples, modality: Modality) -> tuple[Examples, list[int]]:
    """The pairs of words and one modality, the other taken away, and which rows of ``examples`` they are."""
    rows = [row for row, triplet in enumerate(examples.triplets) if has_pair(triplet, modality)]
    alone = Examples(
        tuple(_only(examples.triplets[row], modality) for row in rows),
        tuple(examples.source_of[row] for row in rows),
        examples.sources,
    )
    return alone, rows


def has_pair(triplet: Triplet, modality: Modality) -> bool:
    """Whether a triplet has a study of ``modality`` and words about it."""
    if modality is Modality.XRAY:
        return triplet.xray is not None and triplet.xray_report is not None
    return triplet.ecg is not None and triplet.ecg_report is not None


def matched_margins(model: More, examples: Examples, words: Mapping[str, Any], threads: int) -> Vector:
    """Of every example, [n]: the similarity of study and own words minus its mean similarity to those of other
    patients, both ways, averaged over the modalities that the example has.

    The mean of the rest takes away what all pairs of a model have in common; what is left tells an example from others.
    """
    total, count = np.zeros(len(examples)), np.zeros(len(examples))
    for modality in PAIRED:
        alone, rows = of_modality(examples, modality)
        if len(rows) < 2:
            continue
        found = embed(model, alone, threads=threads, **words)
        study = found.xray if modality is Modality.XRAY else found.ecg
        similar = found.text.astype(np.float64) @ study.astype(np.float64).T
        patients = np.array([triplet.patient_id for triplet in alone.triplets])
        other = patients[:, None] != patients[None, :]
        rest = np.where(other, similar + similar.T, 0).sum(axis=1) / (2 * np.maximum(1, other.sum(axis=1)))
        total[rows] += np.diagonal(similar) - rest
        count[rows] += 1
    return np.asarray(total / np.maximum(1, count), dtype=np.float64)


def patient_means(examples: Examples, scores: Vector) -> dict[str, float]:
    """The mean score of each patient's examples: one number a patient, whatever the number of studies."""
    of_patient: dict[str, list[float]] = {}
    for triplet, score in zip(examples.triplets, scores, strict=True):
        of_patient.setdefault(triplet.patient_id, []).append(float(score))
    return {patient: float(np.mean(own)) for patient, own in of_patient.items()}


def _only(triplet: Triplet, modality: Modality) -> Triplet:
    if modality is Modality.XRAY:
        return replace(triplet, ecg=None, ecg_report=None)
    return replace(triplet, xray=None, xray_report=None)
