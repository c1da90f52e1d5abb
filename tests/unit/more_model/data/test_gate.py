"""A gate in an ingest: what it withholds is not stored, whatever happens, and a store remembers which gate it was."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.data.gate import GateRecord, StudyGate
from more_model.data.ingest import CeilingExceeded, IngestReport, ingest
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import SiteStore
from more_model.data.store_files import read_gate
from more_model.data.study import Modality, Study
from more_model.errors import EnvironmentFault, StoreError

SMALL = Preprocessing(image_size=16, ecg_rate_hz=50, ecg_seconds=1)
SECRET = "Rumpelstiltskin"


@dataclass(frozen=True)
class WordGate:
    """Looks for one word in texts and WFDB headers, and for a patient name in DICOM headers."""

    rules: str = "words 1"
    accepted: frozenset[str] = frozenset()

    def judge(self, **parts: Any) -> Mapping[str, int]:
        words = [parts["text"] or "", *parts["headers"], str((parts["notes"] or {}).get("comment", ""))]
        named = "word" not in self.accepted and sum(SECRET in text for text in words)
        header = parts["dataset"] is not None and bool(parts["dataset"].get("PatientName"))
        dark = parts["pixels"] is not None and float(parts["pixels"].mean()) < 0.1
        return {
            kind: int(count)
            for kind, count in {"word": named, "header": header and "header" not in self.accepted, "dark": dark}.items()
            if count
        }


class Stumbling(WordGate):
    def judge(self, **parts: Any) -> Mapping[str, int]:
        raise ValueError(f"cannot read {SECRET}")


class Lacking(WordGate):
    def judge(self, **parts: Any) -> Mapping[str, int]:
        raise EnvironmentFault("The Python package 'scipy' is needed.")


def report(name: str, text: str, about: Modality = Modality.XRAY) -> Study:
    return Study(Modality.REPORT, name, f"p-{name}", f"g-{name}", text=text, describes=about)


@pytest.fixture
def studies(tmp_path: Path, write_dicom: Any, write_wfdb: Any, beating_mv: Any) -> list[Study]:
    """One of each that passes, and one of each that does not."""
    from PIL import Image

    ramp = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint16) * 30
    levels = (ramp // 40).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "clean.jpg")
    Image.fromarray(levels).save(tmp_path / "named.jpg", comment=SECRET.encode())
    films = {
        "dicom": write_dicom(ramp, "a.dcm", PatientName="", PatientID=""),
        "dicom-named": write_dicom(ramp, "b.dcm"),
        "jpeg": tmp_path / "clean.jpg",
        "jpeg-named": tmp_path / "named.jpg",
    }
    records = {name: write_wfdb(beating_mv(), name=name) for name in ("plain", "named")}
    with records["named"].with_suffix(".hea").open("a") as stream:
        stream.write(f"# seen by {SECRET}\n")
    return [
        *(Study(Modality.XRAY, name, f"p-{name}", f"g-{name}", source=path) for name, path in films.items()),
        *(Study(Modality.ECG, name, f"p-{name}", f"g-{name}", source=path) for name, path in records.items()),
        report("clean", "FINDINGS: Clear."),
        # The name stands outside of what would be kept.
        report("signed", f"ATTENDING: {SECRET}\nFINDINGS: Clear."),
        report("ecg-signed", f"Sinus rhythm. {SECRET}", Modality.ECG),
    ]


def filled(studies: list[Study], folder: Path, gate: StudyGate | None, **options: Any) -> IngestReport:
    return ingest(studies, folder, "north", SMALL, gate=gate, ceiling=1.0, **options)


def stored(folder: Path) -> set[str]:
    return {record.study_id for record in SiteStore.open_read(folder).records}


def test_what_a_gate_finds_is_counted_and_kept_out_of_every_file(studies: list[Study], tmp_path: Path) -> None:
    counted = filled(studies, tmp_path / "s", WordGate())
    assert counted.refused == {"not-deidentified": 5}
    assert counted.withheld == {"header": 1, "word": 4}
    assert counted.deidentification == "words 1"
    assert stored(tmp_path / "s") == {"dicom", "jpeg", "plain", "clean"}
    entries = SiteStore.open_read(tmp_path / "s").quarantine
    assert {key[1]: entry.found for key, entry in entries.items()} == {
        "dicom-named": {"header": 1}, "jpeg-named": {"word": 1}, "named": {"word": 1},
        "signed": {"word": 1}, "ecg-signed": {"word": 1},
    }  # fmt: skip
    assert {entry.message for entry in entries.values()} == {
        "The study may still name somebody (word 1).",
        "The study may still name somebody (header 1).",
    }
    assert all(SECRET.encode() not in path.read_bytes() for path in (tmp_path / "s").iterdir())


def test_without_a_gate_everything_is_stored_and_the_store_says_so(studies: list[Study], tmp_path: Path) -> None:
    counted = filled(studies, tmp_path / "s", None)
    assert (counted.refused, counted.withheld, counted.deidentification) == ({}, {}, "not checked")
    assert len(stored(tmp_path / "s")) == len(studies)
    assert read_gate(tmp_path / "s") is None


def test_the_pixels_reach_the_gate_at_full_size(tmp_path: Path, write_dicom: Any) -> None:
    dark = np.zeros((48, 64), np.uint8)
    dark[0, 0] = 255
    path = write_dicom(dark, PatientName="", WindowCenter=128, WindowWidth=256)
    counted = filled([Study(Modality.XRAY, "x", "p", "g", source=path)], tmp_path / "s", WordGate())
    assert counted.withheld == {"dark": 1}


def test_a_second_ingest_changes_nothing(studies: list[Study], tmp_path: Path) -> None:
    first = filled(studies, tmp_path / "s", WordGate())
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    second = filled(studies, tmp_path / "s", WordGate())
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before
    assert (second.refused, second.withheld, second.already_stored) == (first.refused, first.withheld, first.stored)


def test_the_ceiling_counts_withheld_studies_too(studies: list[Study], tmp_path: Path) -> None:
    with pytest.raises(CeilingExceeded, match=r"5 of 9 studies .* not-deidentified \(5\)") as caught:
        ingest(studies, tmp_path / "s", "north", SMALL, gate=WordGate(), ceiling=0.5)
    assert caught.value.report.withheld == {"header": 1, "word": 4}
    # A simulation ingests in other processes, which hand the error back.
    handed = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - it was made here
    assert (handed.report, handed.explain()) == (caught.value.report, caught.value.explain())


def test_a_gate_that_fails_withholds_and_a_missing_package_ends_the_ingest(
    studies: list[Study], tmp_path: Path
) -> None:
    counted = filled(studies, tmp_path / "s", Stumbling())
    assert counted.withheld == {"gate-failed": len(studies)}
    assert counted.stored == {}
    assert SECRET.encode() not in (tmp_path / "s" / "quarantine.jsonl").read_bytes()
    for study in studies:
        with pytest.raises(EnvironmentFault, match="scipy"):
            filled([study], tmp_path / f"lacking-{study.modality}-{study.study_id}", Lacking())


def test_a_study_that_cannot_be_read_keeps_the_readers_reason(tmp_path: Path) -> None:
    counted = filled([report("empty", f"INDICATION: {SECRET}")], tmp_path / "s", WordGate())
    assert (counted.refused, counted.withheld) == ({"empty-report": 1}, {})


def test_a_laxer_gate_tries_withheld_studies_again(studies: list[Study], tmp_path: Path) -> None:
    filled(studies, tmp_path / "s", WordGate())
    lax = WordGate(accepted=frozenset({"word"}))
    counted = filled(studies, tmp_path / "s", lax)
    assert counted.stored == {"xray": 1, "ecg": 1, "report": 2}
    assert counted.withheld == {"header": 1}
    assert read_gate(tmp_path / "s") == GateRecord("words 1", ("word",))
    unchecked = filled(studies, tmp_path / "s", None)
    assert unchecked.stored == {"xray": 1} and read_gate(tmp_path / "s") is None


@pytest.mark.parametrize(
    ("before", "now", "cause"),
    [
        (None, WordGate(), "stored without a check for identifiers; now it is to be words 1"),
        (WordGate(), WordGate(rules="words 2"), r"stored under other rules \(words 1\); now it is to be words 2"),
        (WordGate(accepted=frozenset({"word"})), WordGate(), r"\(words 1, accepted: word\)"),
        (WordGate(accepted=frozenset({"word"})), WordGate(accepted=frozenset({"header"})), "accepted: header"),
    ],
)
def test_studies_that_might_not_pass_now_are_not_vouched_for(
    studies: list[Study], tmp_path: Path, before: StudyGate | None, now: StudyGate, cause: str
) -> None:
    filled(studies, tmp_path / "s", before)
    files = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with pytest.raises(StoreError, match=cause):
        filled(studies, tmp_path / "s", now)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == files


def test_an_empty_store_takes_any_gate(tmp_path: Path) -> None:
    """As an ingest leaves one that was killed before its first commit, or that withheld everything."""
    filled([report("a", SECRET)], tmp_path / "s", WordGate(accepted=frozenset({"header"})))
    counted = filled([report("a", SECRET)], tmp_path / "s", WordGate(rules="words 2"))
    assert counted.withheld == {"word": 1} and read_gate(tmp_path / "s") == GateRecord("words 2")


def test_stores_of_earlier_versions_count_as_unchecked(tmp_path: Path) -> None:
    filled([report("a", "Clear."), report("empty", "INDICATION: ")], tmp_path / "s", None)
    manifest = json.loads((tmp_path / "s" / "store.json").read_text())
    del manifest["deidentification"]
    (tmp_path / "s" / "store.json").write_text(json.dumps(manifest))
    lines = (tmp_path / "s" / "quarantine.jsonl").read_text()
    assert '"found"' in lines and read_gate(tmp_path / "s") is None
    with pytest.raises(StoreError, match="without a check"):
        filled([], tmp_path / "s", WordGate())
    (tmp_path / "s" / "store.json").write_text("[]")
    with pytest.raises(StoreError, match="damaged"):
        read_gate(tmp_path / "s")


def test_comments_in_the_headers_of_segments_are_seen(tmp_path: Path, write_wfdb: Any, beating_mv: Any) -> None:
    one = write_wfdb(beating_mv(), name="seg1")
    (tmp_path / "whole.hea").write_text("whole/1 12 500 5000\nseg1 5000\n")
    study = Study(Modality.ECG, "e", "p", "g", source=tmp_path / "whole")
    assert filled([study], tmp_path / "clean", WordGate()).stored == {"ecg": 1}
    with one.with_suffix(".hea").open("a") as stream:
        stream.write(f"# {SECRET}\n")
    assert filled([study], tmp_path / "named", WordGate()).withheld == {"word": 1}


@pytest.mark.shared_data
def test_the_header_of_a_dicom_tracing_is_seen(shared_data: Path, tmp_path: Path) -> None:
    import pydicom

    dataset = pydicom.dcmread(shared_data / "odd" / "dicom" / "waveform_ecg.dcm")
    for name, withheld in (("", {}), ("Doe^Jane", {"header": 1})):
        dataset.PatientName = name
        dataset.save_as(tmp_path / "tracing.dcm")
        study = Study(Modality.ECG, "e", "p", "g", source=tmp_path / "tracing.dcm")
        assert filled([study], tmp_path / f"store{name}", WordGate()).withheld == withheld
