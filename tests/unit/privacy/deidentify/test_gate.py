"""The gate of an ingest: it looks at every part of a study, and one finding is enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from more_model.data.gate import StudyGate
from privacy.deidentify.gate import RuleGate, Verdict, verdict
from privacy.deidentify.notes import check_notes
from privacy.deidentify.wfdb import check_wfdb_header

HEADER = "r1 1 500 5000 10:11:12 04/03/2021\nr1.dat 16 200/mV 16 0 0 0 0 I\n# <subject_id>: 10000032\n"


def header_of(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in {"Modality": "DX", **values}.items():
        setattr(dataset, keyword, value)
    return dataset


def film_with(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    image = Image.new("L", (400, 400), 40)
    ImageDraw.Draw(image).text((20, 20), text, fill=255, font=ImageFont.load_default(14))
    return np.asarray(image, dtype=np.float32) / 255


CLEAN: dict[str, Any] = {
    "text": "Clear lungs.", "dataset": header_of(), "pixels": film_with("L"), "notes": {"jfif": 257},
    "headers": ["r1 1 500 5000\nr1.dat 16 200/mV 16 0 0 0 0 I\n"],
}  # fmt: skip


def test_a_study_without_findings_passes_and_one_without_parts_does_not() -> None:
    gate: StudyGate = RuleGate()
    assert gate.judge(**CLEAN) == {}
    assert gate.judge() == {"unreadable": 1}


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"text": "Mr. Smith told Mr. Jones"}, {"name": 2}),
        ({"dataset": header_of(PatientName="Doe^Jane")}, {"name": 1}),
        ({"pixels": film_with("SCHMIDT MARIA")}, {"burned-in-text": 1}),
        ({"notes": {"comment": b"film of Mr. Smith"}}, {"name": 1}),
        ({"headers": [*CLEAN["headers"], HEADER]}, {"date": 1, "record-number": 1}),
    ],
)
def test_every_part_is_looked_at(part: dict[str, Any], found: dict[str, int]) -> None:
    assert RuleGate().judge(**{**CLEAN, **part}) == found


@pytest.mark.parametrize(
    ("accepted", "part"),
    [
        ("PatientID", {"dataset": header_of(PatientID="77")}),
        ("burned-in-text", {"pixels": film_with("PORTABLE")}),
        ("subject_id", {"headers": [HEADER.replace(" 10:11:12 04/03/2021", "")]}),
        ("base_date", {"headers": [HEADER.partition("#")[0]]}),
    ],
)
def test_what_the_site_accepts_passes_and_nothing_else_does(accepted: str, part: dict[str, Any]) -> None:
    assert RuleGate().judge(**part)
    assert RuleGate(frozenset({accepted})).judge(**part) == {}
    assert RuleGate(frozenset({accepted})).judge(**part, text="Mr. Smith") == {"name": 1}


def test_headers_as_in_mimic_iv_ecg_pass_once_the_pseudonym_is_accepted() -> None:
    """A shifted date, and the subject id in a comment."""
    header = HEADER.replace("04/03/2021", "16/07/2131")
    assert RuleGate().judge(headers=[header]) == {"record-number": 1}
    assert RuleGate(frozenset({"subject_id"})).judge(headers=[header]) == {}


def test_private_elements_can_be_accepted_as_a_whole_but_names_and_what_cannot_be_read_cannot() -> None:
    dataset = header_of()
    dataset.private_block(0x0011, "maker", create=True).add_new(1, "LO", "setting")
    assert RuleGate().judge(dataset=dataset) == {"private-element": 1}
    accepted = frozenset({"private-element", "name", "unreadable"})
    assert RuleGate(accepted).judge(dataset=dataset) == {}
    assert RuleGate(accepted).judge(text="Mr. Smith") == {"name": 1}
    assert RuleGate(accepted).judge() == {"unreadable": 1}


def test_a_verdict_is_released_only_without_findings() -> None:
    assert verdict([]) == Verdict(True, {})


@pytest.mark.parametrize(
    ("notes", "kinds"),
    [
        ({0x0132: "2020:03:12 10:11:12"}, ["date"]),
        ({0x8825: 26}, ["address"]),
        ({"xmp": b"<x:creator>Dr. Smith</x:creator>"}, ["name"]),
        ({"icc_profile": b"Dr. Smith", "dpi": (72, 72), 0x0112: 1}, []),
    ],
)
def test_notes_of_pictures(notes: dict[Any, Any], kinds: list[str]) -> None:
    assert [finding.kind for finding in check_notes(notes)] == kinds


def test_a_wfdb_header_of_comments_alone_is_unreadable() -> None:
    assert [finding.kind for finding in check_wfdb_header("# nothing\n")] == ["unreadable"]
