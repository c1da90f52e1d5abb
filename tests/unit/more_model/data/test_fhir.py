"""DiagnosticReport resources as exports hold them: alone, in a Bundle, in NDJSON; signed or not, whole or damaged."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from more_model.data.fhir import FhirRule, read_fhir
from more_model.data.fhir_text import html_words, report_words
from more_model.errors import DataError, InputRefused

WORDS = "FINDINGS: The lungs are clear.\nIMPRESSION: Normal."


def attachment(text: str | bytes, kind: str | None = "text/plain") -> dict[str, str]:
    data = text.encode() if isinstance(text, str) else text
    return {"data": base64.b64encode(data).decode()} | ({"contentType": kind} if kind else {})


def report(own: str = "r1", **changes: Any) -> dict[str, Any]:
    """A signed report; None takes an element out."""
    whole = {
        "resourceType": "DiagnosticReport",
        "id": own,
        "status": "final",
        "subject": {"reference": "Patient/p1"},
        "identifier": [{"type": {"coding": [{"code": "ACSN"}]}, "system": "urn:x", "value": "A1"}],
        "effectiveDateTime": "2184-03-01T10:15:00+01:00",
        "presentedForm": [attachment(WORDS)],
    } | changes
    return {name: value for name, value in whole.items() if value is not None}


def read(path: Path, *resources: dict[str, Any], **rule: Any) -> tuple[list[Any], dict[str, int]]:
    """The studies of an NDJSON file with these resources, and the counts that are not zero."""
    file = path / "reports.ndjson"
    file.write_text("".join(json.dumps(resource) + "\n" for resource in resources))
    reading = read_fhir(FhirRule(**{"path": file, "describes": "xray", **rule}))
    return reading.studies, {code: count for code, count in reading.counts.items() if count}


def test_one_report(tmp_path: Path) -> None:
    [study], counts = read(tmp_path, report(language="de"))
    assert (study.modality, study.describes, study.study_id) == ("report", "xray", "xray-r1")
    assert (study.patient_id, study.group_id, study.text) == ("p1", "A1", WORDS)
    assert study.time == datetime(2184, 3, 1, 9, 15)  # UTC
    assert study.attributes == {"language": "de"}
    assert counts == {"report": 1}


def test_a_folder_of_json_files_and_bundles(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.json").write_text(json.dumps(report("r1")))
    entries = [
        {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "id": "p9"}},
        {"fullUrl": "urn:uuid:2", "resource": report("r2", subject={"reference": "urn:uuid:1"})},
        {"response": {"status": "404"}},
    ]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    (tmp_path / "deep" / "b.json").write_text(json.dumps(bundle), encoding="utf-8-sig")
    (tmp_path / "c.json").write_bytes(b'{"resourceType": "DiagnosticRep')
    (tmp_path / "d.json").write_text("[" * 100_000)
    (tmp_path / "e.ndjson").write_text(f"{json.dumps(report('r3'))}\n\n[1]\nnot json\n")
    reading = read_fhir(FhirRule(path=tmp_path, describes="ecg"))
    assert {study.study_id: study.patient_id for study in reading.studies} == {
        "ecg-r1": "p1",
        "ecg-r2": "p9",
        "ecg-r3": "p1",
    }
    assert (reading.counts["damaged-file"], reading.counts["damaged-line"]) == (2, 2)


@pytest.mark.parametrize("status", ["registered", "partial", "preliminary", "cancelled", "entered-in-error", None, 7])
def test_what_nobody_signed_is_left_out(tmp_path: Path, status: Any) -> None:
    assert read(tmp_path, report(status=status)) == ([], {"not-signed": 1})


@pytest.mark.parametrize("status", ["final", "amended", "corrected", "appended"])
def test_what_is_signed_is_taken(tmp_path: Path, status: str) -> None:
    assert len(read(tmp_path, report(status=status))[0]) == 1


def test_the_newest_version_of_a_report_stands(tmp_path: Path) -> None:
    old = report(meta={"lastUpdated": "2184-03-01T12:00:00Z"})
    new = report(
        status="corrected", meta={"lastUpdated": "2184-03-02T12:00:00Z"}, presentedForm=[attachment("Corrected.")]
    )
    for order in ((old, new), (new, old)):
        [study], counts = read(tmp_path, *order)
        assert (study.text, counts) == ("Corrected.", {"report": 1, "superseded": 1})
    withdrawn = report(status="entered-in-error", meta={"lastUpdated": "2184-03-03T12:00:00Z"})
    assert read(tmp_path, new, withdrawn)[0] == []


def test_patients_by_the_hospitals_number(tmp_path: Path) -> None:
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": "urn:other", "value": "x"}, {"system": "urn:mrn", "value": "4711"}],
    }
    [study], _ = read(tmp_path, report(), patient, patient_system="urn:mrn")
    assert study.patient_id == "4711"
    inline = {"identifier": {"system": "urn:mrn", "value": "4712"}}
    [study], _ = read(tmp_path, report(subject=inline), patient_system="urn:mrn", patient_prefix="h-")
    assert study.patient_id == "h-4712"
    assert read(tmp_path, report(), patient_system="urn:mrn") == ([], {"no-patient": 1})


@pytest.mark.parametrize(
    ("subject", "patient"),
    [
        ({"reference": "https://fhir.example.org/R4/Patient/77/_history/2"}, "77"),
        ({"reference": "Group/1"}, None),
        ({"reference": "#p1"}, None),
        ({"display": "somebody"}, None),
        (None, None),
        ("Patient/1", None),
    ],
)
def test_references_to_patients(tmp_path: Path, subject: Any, patient: str | None) -> None:
    contained = [{"resourceType": "Patient", "id": "p1"}]
    studies, counts = read(tmp_path, report(subject=subject, contained=contained))
    assert [study.patient_id for study in studies] == ([patient] if patient else [])
    assert counts == ({"report": 1} if patient else {"no-patient": 1})


def test_examinations_by_study_uid_or_by_an_untyped_accession_number(tmp_path: Path) -> None:
    imaging = {
        "resourceType": "ImagingStudy",
        "id": "i1",
        "identifier": [
            {"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.7"},
            {"system": "urn:ris", "value": "A7"},
        ],
    }
    tied = report(identifier=None, imagingStudy=[{"reference": "ImagingStudy/i1"}])
    assert read(tmp_path, tied, imaging, group="study-uid")[0][0].group_id == "1.2.840.7"
    assert read(tmp_path, imaging, tied, accession_system="urn:ris", study_prefix="n-")[0][0].group_id == "n-A7"
    assert read(tmp_path, tied, imaging) == ([], {"no-examination": 1})
    ordered = report(identifier=None, basedOn=[{"identifier": report()["identifier"][0]}])
    assert read(tmp_path, ordered)[0][0].group_id == "A1"


def test_only_the_codes_asked_for(tmp_path: Path) -> None:
    chest = report("r1", code={"coding": [{"system": "http://loinc.org", "code": "36643-5"}]})
    heart = report("r2", category=[{"coding": [{"code": "CUS"}]}])
    studies, counts = read(tmp_path, chest, heart, codes=("36643-5",))
    assert ([study.study_id for study in studies], counts) == (["xray-r1"], {"report": 1, "filtered-out": 1})


@pytest.mark.parametrize(
    ("stamps", "time"),
    [
        ({"effectiveDateTime": "2184-03-01"}, datetime(2184, 3, 1)),
        ({"effectiveDateTime": "2184-03"}, None),
        ({"effectiveDateTime": None, "effectivePeriod": {"start": "2184-03-01T08:00:00Z"}}, datetime(2184, 3, 1, 8)),
        ({"effectiveDateTime": None}, None),
        ({"effectiveDateTime": "first of March"}, None),
    ],
)
def test_times(tmp_path: Path, stamps: dict[str, Any], time: datetime | None) -> None:
    [study], counts = read(tmp_path, report(**stamps))
    assert study.time == time
    assert counts.get("time-unreadable", 0) == (stamps["effectiveDateTime"] == "first of March")


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"presentedForm": [attachment("<p>HTML</p>", "text/html; charset=utf-8"), attachment("Plain.")]}, "Plain."),
        ({"presentedForm": [attachment("<p>Clear&nbsp;lungs.</p>", "text/html")]}, "Clear lungs."),
        ({"presentedForm": [attachment("Größe".encode("latin-1"), "text/plain; charset=iso-8859-1")]}, "Größe"),
        ({"presentedForm": [attachment("Größe".encode("latin-1"), None)]}, "Größe"),
        ({"presentedForm": [attachment(b"%PDF-1.7", "application/pdf")], "conclusion": "Normal."}, "Normal."),
        (
            {"presentedForm": [{"url": "https://x"}], "text": {"status": "generated", "div": "<div>A<br/>B</div>"}},
            "A\nB",
        ),
    ],
)
def test_words_by_preference(elements: dict[str, Any], words: str) -> None:
    assert report_words(report(**{"presentedForm": None, **elements})) == words


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"presentedForm": [{"contentType": "text/plain", "data": "%%%"}]}, "damaged-attachment"),
        ({"presentedForm": [attachment(b"a\x00b")]}, "damaged-attachment"),
        ({"presentedForm": [attachment(b"%PDF-1.7", "application/pdf")]}, "form-not-text"),
        ({"presentedForm": [{"url": "https://example.org/report"}]}, "text-elsewhere"),
        ({"text": {"status": "empty", "div": "<div>No narrative</div>"}}, "no-text"),
        ({"conclusion": "x" * (2**20 + 1)}, "report-too-large"),
        ({"presentedForm": [attachment("x" * (2**20 + 1))]}, "report-too-large"),
        ({"conclusion": ["Normal."], "presentedForm": "text"}, "no-text"),
    ],
)
def test_refusals(tmp_path: Path, elements: dict[str, Any], reason: str) -> None:
    broken = report(**{"presentedForm": None, **elements})
    with pytest.raises(InputRefused) as refused:
        report_words(broken)
    assert refused.value.reason == reason
    assert read(tmp_path, broken) == ([], {reason: 1})


def test_html_is_only_read() -> None:
    page = (
        "<html><head><title>x</title><style>p{}</style></head><body><!-- c --><script>if (a<b) alert(1)</script>"
        "<p>The heart\n is &lt;normal&gt;.</p><table><tr><td>EF</td><td>60 %</td></tr></table><pre>A\nB</pre>"
        "<p>unclosed <b>bold"
    )
    assert html_words(page) == "The heart is <normal>.\nEF 60 %\nA\nB\nunclosed bold"


def test_a_folder_without_fhir_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a FHIR file nor a folder with any"):
        read_fhir(FhirRule(path=tmp_path, describes="xray"))


def test_reports_meet_their_films_at_ingest(tmp_path: Path) -> None:
    """As a source beside a table: one sources file, one group, one triplet."""
    import numpy as np
    from PIL import Image

    from more_model.data.pairing import PairingRule, pair
    from more_model.data.sources import load_sources, read_cohort
    from more_model.data.split import SplitRule, assign_splits
    from more_model.data.store import SiteStore

    Image.fromarray(np.add.outer(np.arange(40), np.arange(40)).astype(np.uint8)).save(tmp_path / "1.png")
    (tmp_path / "films.csv").write_text("pid,acc,film\np1,A1,1.png\n")
    (tmp_path / "reports.ndjson").write_text(json.dumps(report()) + "\n")
    (tmp_path / "SOURCES.toml").write_text(
        '[preprocessing]\nimage_size = 16\n[[sources]]\nkind = "table"\n'
        'mapping = { path = "films.csv", patient = "pid", study = "acc", xray = "film" }\n'
        '[[sources]]\nkind = "fhir"\npath = "reports.ndjson"\ndescribes = "xray"\n'
    )
    from more_model.data.ingest import ingest

    sources = load_sources(tmp_path / "SOURCES.toml")
    cohort = read_cohort(sources.sources)
    assert cohort.counts["2:fhir:report"] == 1
    ingest(cohort.studies, tmp_path / "store", "north", sources.preprocessing)
    records = SiteStore.open_read(tmp_path / "store").records
    [triplet] = pair(records, PairingRule(), assign_splits(records, SplitRule()), "north").triplets
    assert (triplet.xray, triplet.xray_report) == (0, "The lungs are clear. Normal.")
