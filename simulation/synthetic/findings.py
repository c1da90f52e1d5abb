"""What is wrong with a patient: latent findings with plausible correlations, and how a reader states them.

Marginal prevalences are exact and correlations come from a Gaussian copula: a finding is present where a standard
normal variable, partly made of shared disease processes, passes the prevalence's quantile. The processes persist over
the visits of one patient, so do chronic findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from more_model.data.mimic_cxr import CHEXPERT_LABELS

#: The five PTB-XL superclasses and atrial fibrillation.
ECG_LABELS = ("NORM", "MI", "STTC", "CD", "HYP", "AFIB")

#: Findings of a film whose presence entails Lung Opacity.
OPACITIES = ("Consolidation", "Edema", "Pneumonia")

_PROCESSES = ("severity", "failure", "infection", "trauma", "pleura", "coronary")

#: Finding -> (usual prevalence, loadings on the shared processes).
_MODEL: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "Atelectasis": (0.18, {"severity": 0.62, "pleura": 0.3}),
    "Cardiomegaly": (0.21, {"severity": 0.5, "failure": 0.62}),
    "Consolidation": (0.15, {"severity": 0.52, "infection": 0.5}),
    "Edema": (0.18, {"severity": 0.55, "failure": 0.6}),
    "Enlarged Cardiomediastinum": (0.15, {"severity": 0.55, "failure": 0.3}),
    "Fracture": (0.13, {"severity": 0.45, "trauma": 0.6}),
    "Lung Lesion": (0.15, {"severity": 0.5}),
    "Lung Opacity": (0.1, {"severity": 0.55, "infection": 0.35}),
    "Pleural Effusion": (0.21, {"severity": 0.58, "failure": 0.4, "pleura": 0.35}),
    "Pleural Other": (0.13, {"severity": 0.5, "pleura": 0.5}),
    "Pneumonia": (0.17, {"severity": 0.5, "infection": 0.55}),
    "Pneumothorax": (0.13, {"severity": 0.48, "trauma": 0.45, "pleura": 0.2}),
    "Support Devices": (0.22, {"severity": 0.5, "failure": 0.25, "trauma": 0.2}),
    "MI": (0.2, {"severity": 0.2, "coronary": 0.6}),
    "STTC": (0.2, {"severity": 0.25, "coronary": 0.5}),
    "CD": (0.19, {"severity": 0.25, "failure": 0.3, "coronary": 0.2}),
    "HYP": (0.18, {"severity": 0.2, "failure": 0.6}),
    "AFIB": (0.17, {"severity": 0.3, "failure": 0.45}),
}

#: The findings that are drawn at random; No Finding and NORM follow from them.
DRAWN = tuple(_MODEL)

#: How much of each patient's luck is the same at every visit.
_PERSISTENCE = 0.7

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Presentation:
    """How a finding looks: ``side`` -1 patient's right, +1 patient's left, 0 both; ``severity`` in 0..1."""

    side: int
    severity: float


@dataclass(frozen=True, slots=True)
class VisitFindings:
    """Truth and reading of one visit.

    ``present`` is what is drawn in picture and tracing. ``film_labels`` and ``ecg_labels`` are what the readers state,
    in words and in the label tables: 1.0 present, 0.0 absent, -1.0 uncertain.
    """

    present: frozenset[str]
    looks: Mapping[str, Presentation]
    film_labels: Mapping[str, float]
    ecg_labels: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PatientLuck:
    """The part of a patient's random numbers that stays over the visits."""

    processes: NDArray[np.float64]
    own: NDArray[np.float64]


def draw_luck(rng: Generator) -> PatientLuck:
    """The standard normal numbers of one patient that persist."""
    return PatientLuck(rng.standard_normal(len(_PROCESSES)), rng.standard_normal(len(DRAWN)))


def prevalence(finding: str, case_mix: Mapping[str, float]) -> float:
    """Share of visits with the finding, before Lung Opacity is completed by the findings that entail it."""
    return min(_MODEL[finding][0] * case_mix.get(finding, 1.0), 0.9)


def draw_findings(
    rng: Generator, luck: PatientLuck, case_mix: Mapping[str, float], *, label_noise: float, uncertain_rate: float
) -> VisitFindings:
    """The findings of one visit and how they are read."""
    processes = _blend(luck.processes, rng)
    own = _blend(luck.own, rng)
    present: set[str] = set()
    for place, finding in enumerate(DRAWN):
        loadings = _MODEL[finding][1]
        shared = sum(loadings.get(name, 0.0) * processes[k] for k, name in enumerate(_PROCESSES))
        rest = (1.0 - sum(value**2 for value in loadings.values())) ** 0.5
        share = prevalence(finding, case_mix)
        if share > 0.0 and shared + rest * own[place] > _NORMAL.inv_cdf(1.0 - share):
            present.add(finding)
    looks = {name: Presentation(_side(name, rng), float(rng.random())) for name in DRAWN}
    film, ecg = _read(rng, present, label_noise, uncertain_rate)
    if present.intersection(OPACITIES):
        present.add("Lung Opacity")
    return VisitFindings(frozenset(present), looks, film, ecg)


def _blend(kept: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    fresh = rng.standard_normal(kept.shape)
    blended: NDArray[np.float64] = _PERSISTENCE**0.5 * kept + (1.0 - _PERSISTENCE) ** 0.5 * fresh
    return blended


def _side(finding: str, rng: Generator) -> int:
    luck = rng.random()
    if finding in ("Pleural Effusion", "Atelectasis", "Pleural Other"):
        return -1 if luck < 0.4 else (1 if luck < 0.75 else 0)
    if finding in ("Pneumonia", "Consolidation", "Lung Lesion", "Lung Opacity"):
        return -1 if luck < 0.6 else 1
    return -1 if luck < 0.5 else 1


def _read(
    rng: Generator, present: set[str], label_noise: float, uncertain_rate: float
) -> tuple[dict[str, float], dict[str, float]]:
    """What the readers state. Over-calls are rarer than misses so that prevalences stay about the same."""
    luck = rng.random((2, len(DRAWN)))
    stated: dict[str, float] = {}
    for place, finding in enumerate(DRAWN):
        is_there = finding in present
        wrong = luck[0, place] < (label_noise if is_there else 0.2 * label_noise)
        called = is_there != wrong
        hedged = finding in CHEXPERT_LABELS and luck[1, place] < uncertain_rate * (1.0 if called else 0.1)
        stated[finding] = -1.0 if hedged else float(called)
    return _film_labels(stated), _ecg_labels(stated)


def _film_labels(stated: Mapping[str, float]) -> dict[str, float]:
    film = {name: stated[name] for name in CHEXPERT_LABELS if name in stated}
    parts = [film[name] for name in (*OPACITIES, "Lung Opacity")]
    film["Lung Opacity"] = 1.0 if 1.0 in parts else (-1.0 if -1.0 in parts else 0.0)
    ill = any(value != 0.0 for name, value in film.items() if name != "Support Devices")
    film["No Finding"] = float(not ill)
    return {name: film[name] for name in CHEXPERT_LABELS}


def _ecg_labels(stated: Mapping[str, float]) -> dict[str, float]:
    ecg = {name: stated[name] for name in ECG_LABELS if name in stated}
    ecg["NORM"] = float(not any(ecg.values()))
    return {name: ecg[name] for name in ECG_LABELS}
