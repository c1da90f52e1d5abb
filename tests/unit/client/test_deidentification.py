"""`more-client ingest` with studies that name somebody: each is withheld for its own reason, the others are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from client.cli import app
from more_model.data.ingest import ingest
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import SiteStore
from more_model.data.study import Modality, Study
from privacy.deidentify.gate import RuleGate

SECRETS = ("617-555-0134", "Rumpel", "SCHMIDT", "04/03/2021")
ROWS = {
    "plain": "The lungs are clear.",
    "called": f"Edema. Findings were told to the ward at {SECRETS[0]}.",
    "named": "No effusion.",
    "written": "Large heart.",
    "dated": "Sinus rhythm.",
}
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def film(text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = Image.fromarray(np.add.outer(np.arange(400), np.arange(400)).astype(np.float32) / 8).convert("L")
    ImageDraw.Draw(image).text((20, 360), text, fill=255, font=ImageFont.load_default(16))
    return np.asarray(image)


def write_dicom(path: Path, pixels: np.ndarray[Any, np.dtype[np.uint8]], name: str) -> None:
    import pydicom
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "2.25.1"
    dataset.Modality, dataset.BodyPartExamined, dataset.PatientName = "DX", "CHEST", name
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Five patients: a report with a phone number, a film with a name in its header, one with a name written in it, a
    tracing with the date of its recording, and one patient with nothing of the kind."""
    for study, text in ROWS.items():
        write_dicom(
            tmp_path / f"{study}.dcm",
            film("SCHMIDT MARIA" if study == "written" else "L"),
            "Rumpel^Stiltskin" if study == "named" else "",
        )
        swing = np.sin(np.arange(500) / 7.0)[:, None] * (np.arange(12) + 1) * 20
        (tmp_path / f"{study}.dat").write_bytes(swing.astype("<i2").tobytes())
        stamp = " 10:11:12 04/03/2021" if study == "dated" else ""
        lines = [f"{study} 12 100 500{stamp}", *(f"{study}.dat 16 200/mV 16 0 0 0 0 {lead}" for lead in LEADS)]
        (tmp_path / f"{study}.hea").write_text("\n".join(lines) + "\n")
        (tmp_path / f"{study}.txt").write_text(text)
    rows = [f"p-{study},{study},{study}.dcm,{study}.txt,{study}" for study in ROWS]
    (tmp_path / "films.csv").write_text("\n".join(["pid,acc,film,words,tracing", *rows]) + "\n")
    (tmp_path / "SOURCES.toml").write_text(
        "[preprocessing]\nimage_size = 16\n"
        '[[sources]]\nkind = "table"\nmapping = { path = "films.csv", patient = "pid", study = "acc", xray = "film", '
        'report_file = "words" }\n'
        '[[sources]]\nkind = "table"\nmapping = { path = "films.csv", patient = "pid", study = "acc", '
        'ecg = "tracing" }\n'
    )
    return tmp_path


def ingested(site: Path, *more: object, ceiling: float = 0.5) -> Result:
    base = ("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north", "--ceiling", ceiling)
    return run(*base, *more)


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir()}


def quarantine(store: Path) -> dict[tuple[str, str], Any]:
    lines = map(json.loads, (store / "quarantine.jsonl").read_text().splitlines())
    return {(line["modality"], line["study_id"]): (line["reason"], line["found"]) for line in lines}


def test_each_is_withheld_for_its_reason_and_the_rest_is_stored_once(site: Path) -> None:
    first = ingested(site, "--json")
    assert first.exit_code == 0, first.output
    facts = json.loads(first.stdout)
    assert facts["stored"] == {"xray": 3, "report": 4, "ecg": 4}
    assert facts["refused"] == {"not-deidentified": 4}
    assert facts["withheld"] == {"burned-in-text": 1, "date": 1, "name": 1, "phone": 1}
    assert facts["deidentification"] == "rules 1"
    (called,) = [key for key in quarantine(site / "store") if key[0] == "report"]
    assert quarantine(site / "store") == {
        called: ("not-deidentified", {"phone": 1}),
        ("xray", "named"): ("not-deidentified", {"name": 1}),
        ("xray", "written"): ("not-deidentified", {"burned-in-text": 1}),
        ("ecg", "dated"): ("not-deidentified", {"date": 1}),
    }
    before = contents(site / "store")
    again = json.loads(ingested(site, "--json").stdout)
    assert (again["stored"], again["refused"], again["withheld"]) == ({}, facts["refused"], facts["withheld"])
    assert again["already_stored"] == facts["stored"]
    assert contents(site / "store") == before
    assert not any(secret.encode() in data for secret in SECRETS for data in before.values())


def test_nothing_that_was_found_is_printed(site: Path) -> None:
    text, report = ingested(site), run("data-report", "--store", site / "store", "--minimum-count", 1)
    failed = ingested(site, ceiling=0.01)
    assert (text.exit_code, report.exit_code, failed.exit_code) == (0, 0, 4)
    assert "Check for identifiers: rules 1" in text.stdout and "Check for identifiers: rules 1" in report.stdout
    assert "not-deidentified (4)" in failed.stderr
    assert "burned-in-text" in text.stdout and "xray: not-deidentified" in report.stdout
    for result in (text, report, failed):
        assert not any(secret in result.output for secret in SECRETS)


def test_several_processes_withhold_the_same(site: Path) -> None:
    rows = (site / "films.csv").read_text().splitlines()
    more = [row.replace("p-", "q-").replace(",", ",again-", 1) for row in rows[1:]]
    (site / "films.csv").write_text("\n".join([*rows, *more]) + "\n")
    facts = json.loads(ingested(site, "--json", "--workers", 2).stdout)
    assert facts["withheld"] == {"burned-in-text": 2, "date": 2, "name": 2, "phone": 2}
    assert sum(facts["stored"].values()) == 22


def test_what_was_looked_at_can_be_accepted_and_is_recorded(site: Path) -> None:
    ingested(site)
    wider = json.loads(ingested(site, "--accept", "burned-in-text", "--accept", "base_date", "--json").stdout)
    assert wider["stored"] == {"xray": 1, "ecg": 1}
    assert wider["withheld"] == {"name": 1, "phone": 1}
    assert wider["deidentification"] == "rules 1, accepted: base_date, burned-in-text"
    narrower = ingested(site)
    assert narrower.exit_code == 5
    assert "Ingest into a new folder" in narrower.stderr


def test_without_the_check_the_store_says_so_for_ever(site: Path) -> None:
    result = ingested(site, "--no-deidentification-check", "--json")
    facts = json.loads(result.stdout)
    assert (facts["refused"], facts["deidentification"]) == ({}, "not checked")
    assert json.loads((site / "store" / "store.json").read_text())["deidentification"] is None
    shown = json.loads(run("data-report", "--store", site / "store", "--json").stdout)
    assert (shown["deidentification"], shown["withheld"]) == ("not checked", {})
    assert "Check for identifiers: not checked" in run("data-report", "--store", site / "store").stdout
    checked = ingested(site)
    assert checked.exit_code == 5 and "stored without a check for identifiers" in checked.stderr


@pytest.mark.shared_data
def test_published_studies_pass_or_are_withheld_for_what_they_bear(shared_data: Path, tmp_path: Path) -> None:
    """PTB-XL and LUDB headers state no date, the Challenge's do; the films of children bear side markers at most, the
    teaching cases a caption with a name."""
    groups = {
        "ptbxl": ("ecg", sorted((shared_data / "ecg" / "ptbxl").rglob("*_lr.hea"))[:12]),
        "ludb": ("ecg", sorted((shared_data / "ecg" / "ludb").rglob("*.hea"))[:12]),
        "ningbo": ("ecg", sorted((shared_data / "ecg" / "challenge" / "cinc-ningbo").glob("*.hea"))),
        "gwcmc": ("xray", sorted((shared_data / "xray" / "images" / "gwcmc").glob("*.*"))[:12]),
        "vqarad": ("xray", sorted((shared_data / "xray" / "images" / "vqarad").glob("*.*"))[:6]),
    }
    dated = [path for path in groups["ningbo"][1] if "-" in path.read_text().splitlines()[0]]
    assert 0 < len(dated) < len(groups["ningbo"][1])
    studies = [
        Study(Modality(kind), f"{name}-{path.stem}", f"p-{path.stem}", f"g-{path.stem}", site=name, source=path)
        for name, (kind, paths) in groups.items()
        for path in paths
    ]
    small = Preprocessing(image_size=16, ecg_rate_hz=50, ecg_seconds=2)
    report = ingest(studies, tmp_path / "s", "north", small, gate=RuleGate(), ceiling=1.0)
    assert report.withheld == {"burned-in-text": 6, "date": len(dated)}
    assert report.refused["not-deidentified"] == 6 + len(dated)
    withheld = {
        key[1].partition("-")[0] for key, entry in SiteStore.open_read(tmp_path / "s").quarantine.items() if entry.found
    }
    assert withheld == {"ningbo", "vqarad"}
