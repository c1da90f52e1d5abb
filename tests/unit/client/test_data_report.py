"""The data report: right counts, and small ones kept from sight."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from client.data_report import LabelCounts, data_report, render, suppressed
from more_model.data.gate import GateRecord
from more_model.data.pairing import PairingRule
from more_model.data.preprocessing import Preprocessing
from more_model.data.source_notes import Note, SourceNotes
from more_model.data.store import QuarantinedStudy, SiteStore, StoredStudy
from more_model.data.store_files import write_gate
from more_model.data.study import Modality

SMALL = Preprocessing(image_size=16, ecg_rate_hz=50, ecg_seconds=1)
START = datetime(2180, 1, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve patients with an X-ray and its report; eight of them an ECG 10 days later, two of these 100 days later."""
    with SiteStore.create(tmp_path / "s", "north", SMALL) as store:
        for number in range(12):
            name = str(number)
            labels = {"Edema": 1.0 if number < 6 else 0.0, "Mass": float(number < 2)}
            fields = {"patient_id": name, "group_id": name, "time": START}
            corrections = ("flat-lead:V3", "flat-lead:V4") if number < 7 else ()
            store.append(
                StoredStudy(Modality.XRAY, name, labels=labels, corrections=corrections, **fields),  # type: ignore[arg-type]
                np.zeros((16, 16), np.uint8),
            )
            store.append(StoredStudy(Modality.REPORT, name, describes=Modality.XRAY, text="clear", **fields))  # type: ignore[arg-type]
            if number < 8:
                days = 10 if number < 6 else 100
                fields["time"] = START + timedelta(days=days)
                ecg = StoredStudy(Modality.ECG, name, labels={"AF": -1.0}, **fields)  # type: ignore[arg-type]
                store.append(ecg, np.zeros((12, 50), np.float16))
        for number in range(7):
            store.refuse(QuarantinedStudy(Modality.ECG, f"q{number}", "too-short", "m", "/secret/path", "1:1"))
        store.refuse(QuarantinedStudy(Modality.XRAY, "q", "constant-image", "m", "/secret/path", "1:1"))
    return tmp_path / "s"


def test_counts_without_suppression(folder: Path) -> None:
    report = data_report(folder, PairingRule(days=60), minimum_count=1)
    assert report.patients == 12
    assert report.studies == {"xray": 12, "ecg": 8, "report": 12}
    assert report.triplets == {"xray-and-ecg": 6, "xray-only": 6, "ecg-only": 2}
    assert report.missing == {"no X-ray": 2, "no ECG": 6, "X-ray without report": 0, "ECG without report": 8}
    assert report.quarantine == {"ecg: too-short": 7, "xray: constant-image": 1}
    assert report.labels["Edema"] == LabelCounts(present=6, absent=6, uncertain=0, prevalence=0.5)
    assert report.labels["AF"] == LabelCounts(present=0, absent=0, uncertain=8, prevalence=0.0)
    assert report.corrections == {"flat-lead": 7}


def test_small_counts_cannot_be_read_or_computed(folder: Path) -> None:
    report = data_report(folder, PairingRule(days=60), minimum_count=5)
    assert report.triplets == {"xray-and-ecg": "hidden", "xray-only": "hidden", "ecg-only": "<5"}
    assert report.studies == {"xray": "hidden", "ecg": "hidden", "report": "hidden"}
    assert report.missing == {
        "no X-ray": "<5",
        "no ECG": "hidden",
        "X-ray without report": 0,
        "ECG without report": "hidden",
    }
    assert report.quarantine == {"ecg: too-short": "hidden", "xray: constant-image": "<5"}
    assert report.labels["Mass"] == LabelCounts(present="<5", absent="hidden", uncertain=0, prevalence=None)


def reported_site(folder: Path, both: int, xray_only: int, ecg_only: int, unreported: int = 0) -> Path:
    """One triplet a patient; every study has a report, but for ``unreported`` further X-rays, which pairing drops."""
    with SiteStore.create(folder, "north", SMALL) as store:
        for number in range(both + xray_only + ecg_only):
            kinds = [Modality.XRAY] * (number < both + xray_only) + [Modality.ECG] * (
                number < both or number >= both + xray_only
            )
            for kind in kinds:
                study = StoredStudy(kind, str(number), patient_id=str(number), group_id=str(number), time=START)
                shape, dtype = ((16, 16), np.uint8) if kind is Modality.XRAY else ((12, 50), np.float16)
                store.append(study, np.zeros(shape, dtype))
                words = {"modality": Modality.REPORT, "study_id": f"{kind}-{number}", "text": "clear"}
                store.append(replace(study, **words, describes=kind))  # type: ignore[arg-type]
        for number in range(unreported):
            name = f"bare-{number}"
            bare = StoredStudy(Modality.XRAY, name, patient_id="0", group_id=name, time=START)
            store.append(bare, np.zeros((16, 16), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("site", "neighbour"),
    [((33, 0, 3), (34, 0, 2)), ((33, 3, 0), (34, 2, 0)), ((3, 20, 10), (2, 20, 11)), ((30, 3, 4), (30, 4, 3))],
)
def test_no_block_tells_a_site_from_a_neighbour_with_another_small_count(
    tmp_path: Path, site: tuple[int, int, int], neighbour: tuple[int, int, int]
) -> None:
    first, second = (
        data_report(reported_site(tmp_path / name, *kinds), PairingRule()).as_dict()
        for name, kinds in (("a", site), ("b", neighbour))
    )
    assert first == second
    assert first["patients"] == sum(site)


def test_studies_dropped_by_pairing_cannot_be_had_by_subtraction(tmp_path: Path) -> None:
    few, fewer = (
        data_report(reported_site(tmp_path / str(count), 30, 10, 0, unreported=count), PairingRule())
        for count in (3, 2)
    )
    assert few == fewer
    assert few.left_out["xray-dropped-no-report-no-label"] == "<5"
    many = data_report(reported_site(tmp_path / "many", 30, 10, 0, unreported=6), PairingRule())
    assert many.studies == {"xray": 46, "ecg": 30, "report": 70}


def test_the_pairing_rule_is_followed(folder: Path) -> None:
    report = data_report(folder, PairingRule(days=100), minimum_count=1)
    assert report.triplets["xray-and-ecg"] == 8
    assert report.pairing["days"] == 100


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({"a": 0, "b": 7}, {"a": 0, "b": 7}),
        ({"a": 4, "b": 7, "c": 9}, {"a": "<5", "b": "hidden", "c": 9}),
        ({"a": 4, "b": 1, "c": 9}, {"a": "<5", "b": "<5", "c": 9}),
        ({"a": 4, "b": 0}, {"a": "<5", "b": 0}),
        ({"a": 5}, {"a": 5}),
        ({}, {}),
    ],
)
def test_suppression(parts: dict[str, int], shown: dict[str, object]) -> None:
    assert suppressed(parts, 5) == shown


def test_text_and_json_hold_no_paths_and_no_small_counts(folder: Path) -> None:
    report = data_report(folder, PairingRule())
    text, data = render(report), json.dumps(report.as_dict())
    assert "Site north, 12 patients (pairing: closest, 60 days)" in text
    assert "Mass" in text and "hidden" in text
    for shown in (text, data):
        assert "secret" not in shown
    assert json.loads(data)["schema"] == 1


def test_an_empty_store_is_reported(tmp_path: Path) -> None:
    SiteStore.create(tmp_path, "north", SMALL).close()
    report = data_report(tmp_path, PairingRule())
    assert report.patients == 0
    assert "Labels\n  none" in render(report)


def withholding(folder: Path, kinds: list[tuple[str, ...]]) -> Path:
    """A store whose X-rays were all withheld, each with findings of these kinds."""
    with SiteStore.create(folder, "north", SMALL) as store:
        for number, found in enumerate(kinds):
            facts = (Modality.XRAY, str(number), "not-deidentified", "m", "/secret/path", "1:1")
            store.refuse(QuarantinedStudy(*facts, found=dict.fromkeys(found, 2), gate="rules 1"))
    write_gate(folder, GateRecord("rules 1"))
    return folder


def test_withheld_studies_are_counted_by_what_was_found(tmp_path: Path) -> None:
    store = withholding(tmp_path / "s", [("name",)] * 6 + [("name", "date")] * 5)
    report = data_report(store, PairingRule())
    assert report.withheld == {"date": 5, "name": 11}
    assert report.quarantine == {"xray: not-deidentified": 11}
    assert report.deidentification == "rules 1"
    assert "Withheld because they may name somebody\n  date         5\n  name        11" in render(report)


def test_the_kinds_of_withheld_studies_do_not_give_small_counts_away(tmp_path: Path) -> None:
    one, other = (
        data_report(withholding(tmp_path / str(few), [("name",)] * (10 - few) + [("date",)] * few), PairingRule())
        for few in (2, 3)
    )
    assert one.withheld == {"date": "<5", "name": "hidden"}
    assert one == other
    small = data_report(withholding(tmp_path / "small", [("name", "date")] * 2), PairingRule())
    assert small.withheld == {"date": "<5", "name": "<5"}


def test_changed_and_gone_sources_are_counted(folder: Path) -> None:
    notes = SourceNotes.read(folder)
    for number in range(12):
        notes.note((Modality.XRAY, str(number)), Note("1:1", changed=number < 6, gone=number >= 10))
    notes.note((Modality.XRAY, "never stored"), Note("1:1", changed=True))
    notes.save()
    report = data_report(folder, PairingRule(), minimum_count=1)
    assert report.quarantine["xray: changed-since-stored"] == 6
    assert report.gone == {"xray": 2}
    assert data_report(folder, PairingRule(), minimum_count=5).gone == {"xray": "<5"}
    assert "no longer among the sources" in render(report)
