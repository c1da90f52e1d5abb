"""Writes the files of one patient and returns the patient's rows for the tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from more_model.data.mimic_cxr import CHEXPERT_LABELS
from simulation.synthetic import tables
from simulation.synthetic.config import HospitalProfile, SynthConfig
from simulation.synthetic.film import Picture, take_film
from simulation.synthetic.findings import ECG_LABELS
from simulation.synthetic.heart import Tracing, record_ecg
from simulation.synthetic.patient import Film, Patient, Visit, plan_patient, stream
from simulation.synthetic.tables import Row, Table
from simulation.synthetic.wfdb_file import MISSING, digitise, write_record
from simulation.synthetic.words import compose_report, ecg_statements, examination_name

Rows = dict[Table, list[Row]]

_JPEG_QUALITY = 92
#: What MIMIC's carts write where there is no P wave to measure.
_NOT_MEASURED = 29_999

_VIEW_MEANINGS = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral", "LL": "left lateral"}


def write_patient(config: SynthConfig, hospital: HospitalProfile, subject_id: int, root: Path) -> Rows:
    """Draws and writes one patient under ``root``; returns the rows, in the order of the visits."""
    patient = plan_patient(config, hospital, subject_id)
    rows: Rows = {}
    _add(rows, tables.PATIENTS, (subject_id, hospital.name, patient.sex, patient.age_years, patient.anchor_year))
    for visit in patient.visits:
        words = stream(config.seed, subject_id, "words", visit.number)
        if visit.films:
            _write_examination(config, patient, visit, words, root, rows)
        if visit.ecg_study_id is not None:
            _write_ecg(config, patient, visit, visit.ecg_study_id, words, root, rows)
    return rows


def _add(rows: Rows, table: Table, row: Row) -> None:
    rows.setdefault(table, []).append(row)


def _write_examination(
    config: SynthConfig, patient: Patient, visit: Visit, words: Generator, root: Path, rows: Rows
) -> None:
    subject, study = patient.subject_id, visit.film_study_id
    folder = f"files/p{str(subject)[:2]}/p{subject}"
    _write_report(config, patient, visit, words, root, folder, rows)
    rng = stream(config.seed, subject, "film", visit.number)
    for film in visit.films:
        picture = take_film(
            rng,
            patient.hospital.scanner,
            visit.findings,
            view=film.view,
            sex=patient.sex,
            longer_px=config.image_px,
            difficulty=config.difficulty,
        )
        _write_pixels(config, patient, visit, film, picture, root, f"{folder}/s{study}/{film.dicom_id}")
        _add(rows, tables.METADATA, _metadata_row(patient, visit, film, picture))
        _add(rows, tables.SPLIT, (film.dicom_id, study, subject, patient.split))
        if config.dicom:
            path = f"{folder}/s{study}/{film.dicom_id}.dcm"
            _add(rows, tables.RECORD_LIST, (subject, study, film.dicom_id, path))
        for mark in picture.marks:
            place = (round(mark.x, 4), round(mark.y, 4), round(mark.radius, 4))
            _add(rows, tables.LESIONS, (film.dicom_id, mark.finding, *place))


def _write_pixels(
    config: SynthConfig, patient: Patient, visit: Visit, film: Film, picture: Picture, root: Path, stem: str
) -> None:
    if config.jpg:
        path = root / "mimic-cxr-jpg" / f"{stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = np.rint(picture.pixels * 255.0).astype(np.uint8)
        Image.fromarray(levels).save(path, format="JPEG", quality=_JPEG_QUALITY)
    if config.dicom:
        # Imported here: most cohorts have no DICOM files, and every worker process would pay for pydicom.
        from simulation.synthetic.dicom_file import write_film

        path = root / "mimic-cxr" / f"{stem}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_film(path, picture.pixels, patient, visit, film)


def _metadata_row(patient: Patient, visit: Visit, film: Film, picture: Picture) -> Row:
    name = examination_name([other.view for other in visit.films])
    height, width = picture.pixels.shape
    # As a number, so that leading zeros are lost exactly as in MIMIC.
    clock = float(visit.film_time.strftime("%H%M%S.%f")[:10])
    day = int(visit.film_time.strftime("%Y%m%d"))
    posture = "Recumbent" if film.view == "AP" else "Erect"
    return (
        film.dicom_id,
        patient.subject_id,
        visit.film_study_id,
        name,
        film.view,
        height,
        width,
        day,
        clock,
        name,
        _VIEW_MEANINGS[film.view],
        posture,
    )


def _write_report(
    config: SynthConfig, patient: Patient, visit: Visit, words: Generator, root: Path, folder: str, rows: Rows
) -> None:
    subject, study, labels = patient.subject_id, visit.film_study_id, visit.findings.film_labels
    views = [film.view for film in visit.films]
    style = patient.hospital.style
    report = compose_report(words, style, labels, visit.findings.looks, views=views, sex=patient.sex)
    if visit.has_report:
        path = root / "mimic-cxr" / folder / f"s{study}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(report.text.encode("ascii"))
        _add(rows, tables.STUDY_LIST, (subject, study, f"{folder}/s{study}.txt"))
    hard = config.difficulty
    blank = _blanked(words, labels, report.negated, hard.blank_rate, hard.blank_study_rate)
    _add(rows, tables.CHEXPERT, (subject, study, *tables.label_cells(blank, CHEXPERT_LABELS)))
    other = {name: (None if value is not None and words.random() < 0.02 else value) for name, value in blank.items()}
    _add(rows, tables.NEGBIO, (subject, study, *tables.label_cells(other, CHEXPERT_LABELS)))


def _blanked(
    rng: Generator, labels: Mapping[str, float], negated: frozenset[str], rate: float, study_rate: float
) -> dict[str, float | None]:
    """Labels with blanks: some of the negatives that no word speaks of, and now and then a whole study."""
    whole = rng.random() < study_rate
    luck = rng.random(len(labels))
    return {
        name: None
        if whole or (value == 0.0 and name not in negated and name != "No Finding" and luck[k] < rate)
        else value
        for k, (name, value) in enumerate(labels.items())
    }


def _write_ecg(
    config: SynthConfig, patient: Patient, visit: Visit, study: int, words: Generator, root: Path, rows: Rows
) -> None:
    subject, device = patient.subject_id, patient.hospital.device
    rng = stream(config.seed, subject, "ecg", visit.number)
    tracing = record_ecg(rng, device, visit.findings, config.difficulty)
    units = digitise(tracing.leads_mv)
    if rng.random() < config.bad_sample_rate:
        start = int(rng.integers(0, units.shape[1] - 200))
        units[int(rng.integers(units.shape[0])), start : start + int(rng.integers(20, 200))] = MISSING
    path = f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
    folder = (root / "mimic-iv-ecg" / path).parent
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, str(study), units)
    time = visit.ecg_time.strftime("%Y-%m-%d %H:%M:%S")
    labels = visit.findings.ecg_labels
    statements = ecg_statements(words, labels, tracing.waves)
    cart = device.cart_id_first + int(rng.integers(device.cart_count))
    reports: Row = statements + (None,) * (18 - len(statements))
    measured: Row = (device.bandwidth, device.filtering, *_measurements(tracing))
    _add(rows, tables.ECG_RECORDS, (subject, study, study, time, path))
    _add(rows, tables.ECG_MEASUREMENTS, (subject, study, cart, time, *reports, *measured))
    stated = tuple(int(labels[name]) for name in ECG_LABELS)
    _add(rows, tables.ECG_TRUTH, (study, subject, *stated))


def _measurements(tracing: Tracing) -> tuple[int, ...]:
    """rr_interval and the wave limits in milliseconds from the start of an average beat, the axes in degrees."""
    waves = tracing.waves
    start = waves.lead_in_s + 0.04

    def at(place: int, widths: float) -> int:
        return round(1000.0 * float(start + waves.delays_s[place] + widths * waves.widths_s[place]))

    onset, end = (_NOT_MEASURED, _NOT_MEASURED) if waves.fibrillating else (at(0, -2.2), at(0, 2.2))
    last = 4 if waves.block in ("left", "right") else 3
    axis = round(waves.axis_degrees)
    axes = (_NOT_MEASURED if waves.fibrillating else axis - 5, axis, axis - 10)
    return (round(1000.0 * tracing.rr_s), onset, end, at(1, -2.2), at(last, 2.2), at(6, 2.2), *axes)
