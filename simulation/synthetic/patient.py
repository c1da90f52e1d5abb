"""Who a synthetic patient is and what happens when: ids, dates, visits, findings. Nothing is drawn here yet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.random import Generator

from simulation.synthetic.config import FIRST_SUBJECT, VISIT_STRIDE, HospitalProfile, SynthConfig
from simulation.synthetic.findings import PatientLuck, VisitFindings, draw_findings, draw_luck

#: Study ids have eight digits, of which the first tells films (5) from tracings (4).
_STUDY_SPACE = 10_000_000
#: Coprime with the space, so that an affine map deals every id once; the factor scatters neighbours.
_SCATTER = 6_180_339

#: Independent random streams of one patient: what is drawn in one never shifts another.
STREAMS = ("plan", "film", "ecg", "words")


@dataclass(frozen=True, slots=True)
class Film:
    """One picture of an examination; ``view`` is PA, AP, LATERAL or LL."""

    dicom_id: str
    view: str


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit. ``films`` is empty where the X-ray is missing, ``ecg_study_id`` None where the ECG is."""

    number: int
    findings: VisitFindings
    film_study_id: int
    film_time: datetime
    films: tuple[Film, ...]
    has_report: bool
    ecg_study_id: int | None
    ecg_time: datetime


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient with all visits. ``age_years`` is the age at the first visit; dates are shifted as in MIMIC."""

    subject_id: int
    hospital: HospitalProfile
    sex: str
    age_years: int
    anchor_year: int
    split: str
    visits: tuple[Visit, ...]


def stream(seed: int, subject_id: int, name: str, visit: int = 0) -> Generator:
    """The random numbers of one patient for one purpose; they depend on these arguments only."""
    return np.random.default_rng([seed, subject_id, STREAMS.index(name), visit])


def study_id(seed: int, subject_id: int, visit: int, first_digit: int) -> int:
    """An eight-digit study id that no other visit of the cohort has; it carries no order in time."""
    place = (subject_id - FIRST_SUBJECT) * VISIT_STRIDE + visit
    offset = int.from_bytes(hashlib.sha256(f"{seed}/{first_digit}".encode()).digest()[:4], "big")
    return first_digit * _STUDY_SPACE + (_SCATTER * place + offset) % _STUDY_SPACE


def dicom_id(seed: int, film_study_id: int, number: int) -> str:
    """Forty hexadecimal digits in five dashed groups, as MIMIC-CXR names its images."""
    digits = hashlib.sha256(f"film/{seed}/{film_study_id}/{number}".encode()).hexdigest()[:40]
    return "-".join(digits[k : k + 8] for k in range(0, 40, 8))


def plan_patient(config: SynthConfig, hospital: HospitalProfile, subject_id: int) -> Patient:
    """Draws everything about a patient except pixels, samples and words."""
    rng = stream(config.seed, subject_id, "plan")
    luck = draw_luck(rng)
    sex = "F" if rng.random() < 0.5 else "M"
    age = int(np.clip(rng.normal(62, 16), 18, 91))
    when = datetime(int(rng.integers(2110, 2190)), 1, 1) + timedelta(days=int(rng.integers(365)))
    split = _split(rng)
    visits: list[Visit] = []
    for number in range(config.max_visits):
        more = rng.random() < config.extra_visit_rate
        if number > 0 and not more:
            break
        visits.append(_plan_visit(config, hospital, subject_id, number, when, rng, luck))
        when += timedelta(days=int(rng.integers(500, 1000)))
    return Patient(subject_id, hospital, sex, age, visits[0].film_time.year, split, tuple(visits))


def _split(rng: Generator) -> str:
    place = rng.random()
    return "train" if place < 0.7 else ("validate" if place < 0.8 else "test")


def _plan_visit(
    config: SynthConfig,
    hospital: HospitalProfile,
    subject_id: int,
    number: int,
    day: datetime,
    rng: Generator,
    luck: PatientLuck,
) -> Visit:
    hard = config.difficulty
    findings = draw_findings(
        rng, luck, hospital.case_mix, label_noise=hard.label_noise, uncertain_rate=hard.uncertain_rate
    )
    film_study = study_id(config.seed, subject_id, number, 5)
    film_time = day + timedelta(seconds=int(rng.integers(86_400)), milliseconds=int(rng.integers(1000)))
    ecg_time = (film_time + _ecg_delay(rng, config.far_ecg_rate)).replace(second=0, microsecond=0)
    has_film, has_ecg = _what_exists(config, hospital, rng)
    ecg_study = study_id(config.seed, subject_id, number, 4) if has_ecg else None
    has_report = bool(rng.random() >= _rate(config.missing_report, hospital.missing_report))
    views = _views(config, hospital, findings, rng)
    films = tuple(Film(dicom_id(config.seed, film_study, k), view) for k, view in enumerate(views)) if has_film else ()
    return Visit(number, findings, film_study, film_time, films, has_report, ecg_study, ecg_time)


def _rate(override: float | None, own: float) -> float:
    return own if override is None else override


def _what_exists(config: SynthConfig, hospital: HospitalProfile, rng: Generator) -> tuple[bool, bool]:
    """Whether a visit has an X-ray and an ECG. A visit with neither would not be one: it keeps the likelier."""
    miss_film = _rate(config.missing_xray, hospital.missing_xray)
    miss_ecg = _rate(config.missing_ecg, hospital.missing_ecg)
    luck = rng.random(2)
    has_film, has_ecg = bool(luck[0] >= miss_film), bool(luck[1] >= miss_ecg)
    if not has_film and not has_ecg:
        has_film = miss_film <= miss_ecg
        has_ecg = not has_film
    return has_film and (config.jpg or config.dicom), has_ecg and config.ecg


def _ecg_delay(rng: Generator, far_rate: float) -> timedelta:
    far, span, sign = rng.random(3)
    days = 70.0 + 150.0 * span if far < far_rate else 14.0 * span**3
    return timedelta(days=float(days if sign < 0.6 else -days))


def _views(config: SynthConfig, hospital: HospitalProfile, findings: VisitFindings, rng: Generator) -> tuple[str, ...]:
    """Bedside (AP) films are commoner in sicker patients, standing (PA) ones have the lateral view."""
    luck = rng.random(3)
    burden = len(findings.present.intersection(("Support Devices", "Edema", "Pneumothorax")))
    rate = hospital.scanner.ap_rate
    frontal = "AP" if luck[0] < rate + 0.4 * (1.0 - rate) * rate * burden else "PA"
    if luck[1] >= config.lateral_rate:
        return (frontal,)
    return (frontal, "LATERAL" if luck[2] < 0.7 else "LL")
