"""Reports: what the rules find in made-up ones, and that they leave clean ones alone."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from trees.made_up_reports import made_up_reports

from privacy.deidentify.finding import Finding, counts
from privacy.deidentify.reports import check_report


def spans(text: str) -> list[tuple[str, int, int]]:
    found = []
    for finding in check_report(text):
        start, end = finding.place.removeprefix("characters ").split("-")
        found.append((finding.kind, int(start), int(end)))
    return found


def kinds(text: str) -> list[str]:
    return [finding.kind for finding in check_report(text)]


def test_recall_on_made_up_reports_of_every_kind() -> None:
    made, touched, named_rightly = Counter[str](), Counter[str](), Counter[str]()
    for report in made_up_reports(200, seed=2):
        hits = {kind for kind, start, end in spans(report.text) if start < report.end and end > report.start}
        made[report.kind] += 1
        touched[report.kind] += bool(hits)
        named_rightly[report.kind] += report.kind in hits
    assert len(made) == 8
    assert {kind: touched[kind] / made[kind] for kind in made if touched[kind] < 0.98 * made[kind]} == {}
    assert {kind: named_rightly[kind] / made[kind] for kind in made if named_rightly[kind] < 0.95 * made[kind]} == {}


def test_made_up_reports_hold_nothing_but_their_one_identifier() -> None:
    """Otherwise a rule that fires everywhere would look like recall."""
    elsewhere = [
        report.text[start:end]
        for report in made_up_reports(100, seed=3)
        for _, start, end in spans(report.text)
        if end <= report.start or start >= report.end
    ]
    assert elsewhere == []


def test_reports_of_the_synthetic_cohort_are_clean(tmp_path: Path) -> None:
    from simulation.synthetic.config import SynthConfig
    from simulation.synthetic.tree import write_cohort

    config = SynthConfig(patients=40, seed=8, hospitals=3, image_px=32)
    write_cohort(config, tmp_path / "cohort")
    reports = [path.read_text(encoding="utf-8") for path in (tmp_path / "cohort").rglob("s*.txt")]
    assert len(reports) >= 30
    assert counts(finding for report in reports for finding in check_report(report)) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "___ year old man. Chest radiograph ___. Discussed with Dr. ___ at ___ on ___.",
        "[**Name**] seen on [**2101-3-4**], XXXX, [REDACTED], <NAME>, <DATE_2>, patient: [NAME 1]",
        "PATIENT NAME:\nHISTORY: cough.\nATTENDING:\nFINAL REPORT",
        "A 12 Fr. Chest tube. MR CHEST, DR Thorax in 2 Ebenen. MS Lung. Swan-Ganz catheter, Kerley B lines.",
        "Lesion of 4.5. May represent a granuloma, grade 2. May be followed. 3.2 x 4.1 cm, 1/2, 120/80, EF 55-60%.",
        "Fractures of ribs 5/6/7, T10/11/12, C5/6. FEV1 2.51. Strength 4/5. Window -600/1500.",
        "Confirmed by CT. Confirmed by MRI. "
        "Read by Dr. ___. Befundet von Dr. med. ___. Sehr geehrter Herr Kollege, Frau Kollegin.",
        "89-year-old woman, 65 y/o, 120 pack-years, 95% of predicted, aged 12, temperature 98.6 F.",
        "Unchanged since 2019. Film of 2003. In the next century: 03/04/2150, 2147-12-30.",
        "Mark the spot. Grace period. May Be. Hans has a Hampton hump.",
        "Sinusrhythmus, Lagetyp normal, QT 412 ms, PQ 162 ms, Herzfrequenz 72/min, Z. n. Bypass 1998.",
        "Patient: Supine. PATIENT: PORTABLE. Technologist: None. Physician: Unavailable",
        "MARKED CARDIOMEGALY. SMALL LEFT EFFUSION. JOHN BIRCH FRACTURE? LONG STANDING.",
    ],
)
def test_sentences_that_name_nobody(text: str) -> None:
    assert [text[start:end] for _, start, end in spans(text)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sarah Smith was seen.", ["name"]),
        ("SCHMIDT, MARIA", ["name"]),
        ("Schmidt, Maria", ["name"]),
        ("John A. Doe", ["name"]),
        ("informed dr. miller by phone", ["name"]),
        ("DR. LEE", ["name"]),
        ("[Name: John Smith] <id 1234567>", ["name", "record-number"]),
        ("Dictated by:\n  John Smith", ["name"]),
        ("J. Brown, M.D.", ["name"]),
        ("Frau Prof. Dr. med. Anna-Lena von der Heide", ["name"]),
        ("Herr Müller, geb. 12.03.1956, Hauptstraße 12, 10115 Berlin", ["name", "date", "address", "address"]),
        ("am 3.4. und vom 12.03. bis heute", ["date", "date"]),
        ("on 3/14, dated 12/03", ["date", "date"]),
        ("Next visit 12/03/2027.", ["date"]),
        ("pager 91234, Durchwahl: 4711", ["phone", "phone"]),
        ("call 617\u2011555\u20111234 or 617\u00a0555\u00a01234", ["phone", "phone"]),
        ("Mr. Smith (MRN 1234567), seen 2021-03-04", ["name", "record-number", "date"]),
        ("93F with cough", ["age-over-89"]),
    ],
)
def test_sentences_that_do(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Smith was told.",
        "maria schmidt came in",
        "Wojciech Brzęczyszczykiewicz",
        "the mayor of Springfield, shot twice",
    ],
)
def test_known_limits_stay_known(text: str) -> None:
    """Documented as not found; when a rule learns one of these, the documentation has to say so."""
    assert kinds(text) == []


def test_a_finding_holds_no_text() -> None:
    (finding,) = check_report("Mr. Smith")
    assert finding == Finding("name", "characters 4-9")


def test_a_text_without_end_counts_as_unreadable() -> None:
    assert kinds("a " * 1_000_001) == ["unreadable"]


def test_a_hostile_text_is_checked_in_time_that_grows_with_its_length() -> None:
    """Long runs that patterns could try in many ways; a quadratic rule would not end within the test's time limit."""
    for text in ("A" * 50_000, "1 " * 25_000, "Dr. " * 12_000, "a-" * 25_000, "1.1." * 12_000, "A. " * 16_000):
        check_report(text)


@pytest.mark.shared_data
def test_published_ecg_reports_and_case_questions_are_clean(shared_data: Path) -> None:
    texts = []
    for table, column in (("ecg/ecg_records.csv", "report_text"), ("xray/xray_questions.csv", "question")):
        with (shared_data / table).open(encoding="utf-8", newline="") as stream:
            texts += [row[column] for row in csv.DictReader(stream) if row[column]]
    assert len(texts) > 900
    assert counts(finding for text in texts for finding in check_report(text)) == {}
