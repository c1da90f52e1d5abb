"""Latent findings, their reading, and that picture, tracing and words agree with them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from simulation.synthetic.config import Difficulty, EcgDevice, Scanner, WritingStyle
from simulation.synthetic.film import take_film
from simulation.synthetic.findings import (
    CHEXPERT_LABELS,
    DRAWN,
    ECG_LABELS,
    Presentation,
    VisitFindings,
    draw_findings,
    draw_luck,
)
from simulation.synthetic.heart import Tracing, record_ecg
from simulation.synthetic.hospitals import BUILT_IN
from simulation.synthetic.phrases import PHRASES
from simulation.synthetic.words import compose_report

FILM_FINDINGS = tuple(name for name in DRAWN if name in CHEXPERT_LABELS)
LOOKS = {name: Presentation(-1, 0.6) for name in DRAWN}

#: A word or two by which a reader of the report recognises each finding.
KEYWORDS = {
    "Atelectasis": r"atelectasis|volume loss",
    "Cardiomegaly": r"cardiomegaly|cardiac enlargement|heart size is borderline",
    "Consolidation": r"consolidation",
    "Edema": r"edema",
    "Enlarged Cardiomediastinum": r"widening|widened|enlarged cardiomediastinum",
    "Fracture": r"fracture",
    "Lung Lesion": r"lesion|nodule",
    "Pleural Effusion": r"effusion",
    "Pleural Other": r"pleural thickening|plaques",
    "Pneumonia": r"pneumonia",
    "Pneumothorax": r"pneumothorax",
    "Support Devices": r"device|pacemaker|lines or tubes",
}


def only(*present: str) -> VisitFindings:
    return VisitFindings(frozenset(present), LOOKS, {}, {})


def film_of(*present: str, side: int = -1) -> tuple[np.ndarray, list[tuple[str, float, float, float]]]:
    looks = {name: Presentation(side, 0.6) for name in DRAWN}
    picture = take_film(
        np.random.default_rng(3),
        Scanner(noise=0.0, marker=""),
        VisitFindings(frozenset(present), looks, {}, {}),
        view="PA",
        sex="M",
        longer_px=96,
        difficulty=Difficulty(nuisance=0.0),
    )
    return picture.pixels, [(mark.finding, mark.x, mark.y, mark.radius) for mark in picture.marks]


def ecg_of(*present: str, seed: int = 0) -> Tracing:
    quiet = EcgDevice(mains_mv=0.0, wander_mv=0.0, muscle_mv=0.0)
    return record_ecg(np.random.default_rng(seed), quiet, only(*present), Difficulty())


@pytest.mark.parametrize("hospital", BUILT_IN, ids=lambda profile: profile.name)
def test_every_label_is_common_enough_to_be_measured(hospital):
    rng = np.random.default_rng(0)
    visits = [
        draw_findings(rng, draw_luck(rng), hospital.case_mix, label_noise=0.02, uncertain_rate=0.05)
        for _ in range(1500)
    ]
    for label in CHEXPERT_LABELS:
        assert 0.06 < np.mean([visit.film_labels[label] == 1.0 for visit in visits]) < 0.6, label
    for label in ECG_LABELS:
        assert 0.06 < np.mean([visit.ecg_labels[label] == 1.0 for visit in visits]) < 0.6, label


def test_no_finding_and_normal_ecg_mean_that_nothing_else_is_stated():
    rng = np.random.default_rng(1)
    for _ in range(400):
        visit = draw_findings(rng, draw_luck(rng), {}, label_noise=0.05, uncertain_rate=0.2)
        film, ecg = visit.film_labels, visit.ecg_labels
        ill = any(film[name] != 0.0 for name in CHEXPERT_LABELS if name not in ("No Finding", "Support Devices"))
        assert film["No Finding"] == float(not ill)
        assert ecg["NORM"] == float(not any(ecg[name] for name in ECG_LABELS if name != "NORM"))
        if 1.0 in (film["Consolidation"], film["Pneumonia"], film["Edema"]):
            assert film["Lung Opacity"] == 1.0
        assert tuple(film) == CHEXPERT_LABELS
        assert tuple(ecg) == ECG_LABELS


def test_heart_failure_findings_go_together():
    rng = np.random.default_rng(2)
    visits = [draw_findings(rng, draw_luck(rng), {}, label_noise=0.0, uncertain_rate=0.0) for _ in range(1500)]

    def lift(one: str, other: str) -> float:
        has = np.array([[name in visit.present for name in (one, other)] for visit in visits])
        return float(has.all(axis=1).mean() / has.mean(axis=0).prod())

    assert lift("Cardiomegaly", "Edema") > 1.7
    assert lift("Cardiomegaly", "Pleural Effusion") > 1.5
    assert lift("Cardiomegaly", "HYP") > 1.3
    assert lift("Fracture", "Pneumothorax") > 1.5


def test_without_noise_the_reading_is_the_truth():
    rng = np.random.default_rng(5)
    for _ in range(100):
        visit = draw_findings(rng, draw_luck(rng), {}, label_noise=0.0, uncertain_rate=0.0)
        stated = {name for name, value in (visit.film_labels | visit.ecg_labels).items() if value == 1.0}
        assert stated - {"No Finding", "NORM"} == set(visit.present)


@pytest.mark.parametrize("finding", [name for name in FILM_FINDINGS if name != "Enlarged Cardiomediastinum"])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_finding_changes_the_picture_where_its_mark_is(finding, side):
    normal, no_marks = film_of()
    ill, marks = film_of(finding, side=side)
    assert no_marks == []
    assert {mark[0] for mark in marks} == {finding}
    rows, columns = np.mgrid[0:96, 0:96] / 96.0
    near = np.zeros((96, 96), dtype=bool)
    for _, x, y, radius in marks:
        assert 0.0 <= x <= 1.0
        assert 0.0 <= y <= 1.0
        near |= (columns - x) ** 2 + (rows - y) ** 2 < (1.25 * radius) ** 2
    change = np.abs(ill - normal)
    assert change[near].mean() > 0.02
    assert change[near].mean() > 2.5 * change[~near].mean()


def test_a_wide_mediastinum_and_a_large_heart_are_wider():
    normal, _ = film_of()
    wide, _ = film_of("Enlarged Cardiomediastinum")
    heart, _ = film_of("Cardiomegaly")
    upper, lower = slice(24, 32), slice(56, 64)
    middle = slice(28, 68)
    assert wide[upper, middle].mean() > normal[upper, middle].mean() + 0.02
    assert heart[lower, middle].mean() > normal[lower, middle].mean() + 0.02


def test_a_pneumothorax_is_dark_and_on_its_side():
    normal, _ = film_of()
    right, _ = film_of("Pneumothorax", side=-1)
    darker = normal - right
    assert darker[20:45, :48].max() > 0.1
    assert np.abs(darker[:, 52:]).max() < 0.02


def test_hypertrophy_raises_voltages():
    plain, tall = ecg_of().leads_mv, ecg_of("HYP").leads_mv
    sokolow = [float(-lead[2].min() + lead[6].max()) for lead in (plain, tall)]
    assert sokolow[1] > sokolow[0] + 0.8


def test_fibrillation_is_irregular_and_has_no_p_wave():
    from scipy.signal import find_peaks

    def spread(tracing: Tracing) -> float:
        peaks, _ = find_peaks(tracing.leads_mv[1], height=0.6 * tracing.leads_mv[1].max(), distance=120)
        return float(np.std(np.diff(peaks)) / np.mean(np.diff(peaks)))

    assert spread(ecg_of("AFIB")) > 0.12
    assert spread(ecg_of()) < 0.08
    assert not ecg_of("AFIB").waves.amplitudes_mv[:, 0].any()


@pytest.mark.parametrize("seed", range(6))
def test_conduction_disease_lengthens_and_infarct_removes_r_waves(seed):
    block, plain = ecg_of("CD", seed=seed).waves, ecg_of(seed=seed).waves
    if block.block == "first-degree":
        assert block.widths_s[2] > 1.1 * plain.widths_s[2]
        assert block.delays_s[0] < plain.delays_s[0] - 0.02
    else:
        assert np.abs(block.amplitudes_mv[:, 4]).max() > 0.2 > np.abs(plain.amplitudes_mv[:, 4]).max()
    infarct = ecg_of("MI", seed=seed).waves
    assert (infarct.amplitudes_mv[:, 1] - plain.amplitudes_mv[:, 1]).min() < -0.15
    assert infarct.territory in ("anterior", "inferior", "lateral")
    changed = ecg_of("STTC", seed=seed).waves
    assert (changed.amplitudes_mv[:, 6] - plain.amplitudes_mv[:, 6]).min() < -0.1


def stated_sentences(text: str) -> list[str]:
    """Sentences of FINDINGS and IMPRESSION that do not deny anything."""
    body = " ".join(re.split(r"FINDINGS:|IMPRESSION:", text, maxsplit=1)[1].split())
    sentences = [sentence.strip().lower() for sentence in re.split(r"\.(?: |$)|IMPRESSION:", body)]
    return [sentence for sentence in sentences if not re.match(r"(there is )?no ", sentence)]


@pytest.mark.parametrize("hospital", BUILT_IN, ids=lambda profile: profile.name)
def test_words_say_what_the_labels_say(hospital):
    rng = np.random.default_rng(7)
    for _ in range(60):
        visit = draw_findings(rng, draw_luck(rng), hospital.case_mix, label_noise=0.05, uncertain_rate=0.2)
        labels = visit.film_labels
        report = compose_report(rng, hospital.style, labels, visit.looks, views=("AP",), sex="F")
        stated = " . ".join(stated_sentences(report.text))
        for finding, pattern in KEYWORDS.items():
            said = re.search(pattern, stated) is not None
            assert said == (labels[finding] != 0.0), (finding, labels[finding], report.text)
        assert all(labels[name] == 0.0 for name in report.negated)
        if "IMPRESSION:" in report.text and labels["No Finding"] == 1.0:
            assert re.search(r"no acute|normal chest", report.text, re.I)


def test_uncertain_findings_are_hedged():
    labels = dict.fromkeys(CHEXPERT_LABELS, 0.0) | {"Pneumothorax": -1.0}
    for seed in range(20):
        style = WritingStyle(no_findings_rate=0.0, no_impression_rate=0.0)
        text = compose_report(np.random.default_rng(seed), style, labels, LOOKS, views=("PA",), sex="M").text
        sentences = [sentence for sentence in stated_sentences(text) if "pneumothorax" in sentence]
        assert sentences
        assert all(re.search(r"possible|skin fold or", sentence) for sentence in sentences)


def test_reports_have_mimics_layout_and_some_lack_a_section():
    rng = np.random.default_rng(0)
    labels = dict.fromkeys(CHEXPERT_LABELS, 0.0) | {"Edema": 1.0, "Lung Opacity": 1.0}
    style = WritingStyle(no_findings_rate=0.3, no_impression_rate=0.3, addendum_rate=0.2)
    texts = [compose_report(rng, style, labels, LOOKS, views=("PA",), sex="M").text for _ in range(100)]
    assert all(len(line) <= 79 for text in texts for line in text.splitlines())
    assert all("___" in text for text in texts)
    having = [("FINDINGS:" in text, "IMPRESSION:" in text) for text in texts]
    assert {(True, True), (True, False), (False, True)} == set(having)
    amended = [text for text in texts if "ADDENDUM" in text]
    assert amended
    assert all(text.index("ADDENDUM") < text.index("_" * 70) < text.index("FINAL REPORT") for text in amended)


def test_sides_in_words_are_the_sides_in_the_picture():
    labels = dict.fromkeys(CHEXPERT_LABELS, 0.0) | {"Pneumothorax": 1.0}
    text = compose_report(np.random.default_rng(0), WritingStyle(), labels, LOOKS, views=("PA",), sex="M").text
    assert "right" in text.lower()
    assert "left" not in text.lower()
    _, marks = film_of("Pneumothorax", side=-1)
    assert marks[0][1] < 0.5


def test_every_film_finding_has_phrases():
    assert set(PHRASES) == set(FILM_FINDINGS)
    assert all(phrase.present and phrase.uncertain and phrase.absent and phrase.summary for phrase in PHRASES.values())
