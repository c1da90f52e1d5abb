"""Stored studies whose files change or go: said at the next ingest, never silently taken over."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from more_model.data.ingest import IngestReport, ingest
from more_model.data.preprocessing import Preprocessing
from more_model.data.source_notes import CHANGED, NAME, SourceNotes
from more_model.data.store import SiteStore
from more_model.data.study import Modality, Study

SMALL = Preprocessing(image_size=16, ecg_rate_hz=50, ecg_seconds=2)
KEPT = ("index.jsonl", "xray.bin")


def draw(path: Path, shade: int = 0) -> Path:
    from PIL import Image

    grey = np.add.outer(np.arange(40), np.arange(40) + shade).astype(np.uint8)
    Image.fromarray(grey).save(path)
    return path


def later(path: Path, seconds: int) -> None:
    """Sets the file's time, which may else be the same within the clock's resolution."""
    os.utime(path, ns=(seconds * 10**9, seconds * 10**9))


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Two films and their reports, one in a file and one as text."""
    (tmp_path / "b.txt").write_text("FINDINGS: Clear.", encoding="utf-8")
    film = [Study(Modality.XRAY, n, f"p{n}", n, source=draw(tmp_path / f"{n}.png", 9)) for n in "ab"]
    words = [
        Study(Modality.REPORT, "a", "pa", "a", text="FINDINGS: Edema.", describes=Modality.XRAY),
        Study(Modality.REPORT, "b", "pb", "b", source=tmp_path / "b.txt", describes=Modality.XRAY),
    ]
    return [*film, *words]


def run(studies: list[Study], folder: Path) -> IngestReport:
    return ingest(studies, folder / "s", "north", SMALL)


def kept(folder: Path) -> list[bytes]:
    return [(folder / "s" / name).read_bytes() for name in KEPT]


def listed(folder: Path) -> list[str]:
    text = (
        (folder / "s" / "quarantine.jsonl").read_text(encoding="utf-8")
        if (folder / "s" / "quarantine.jsonl").exists()
        else ""
    )
    return [line for line in text.splitlines() if CHANGED in line]


def test_nothing_is_said_where_nothing_changed(studies: list[Study], tmp_path: Path) -> None:
    run(studies, tmp_path)
    before = (tmp_path / "s" / NAME).read_bytes()
    report = run(studies, tmp_path)
    assert (report.source_changed, report.source_gone, listed(tmp_path)) == ({}, {}, [])
    assert (tmp_path / "s" / NAME).read_bytes() == before
    assert stat.S_IMODE((tmp_path / "s" / NAME).stat().st_mode) == 0o600


def test_a_changed_film_and_a_changed_report_are_set_aside_and_not_taken_over(
    studies: list[Study], tmp_path: Path
) -> None:
    run(studies, tmp_path)
    before = kept(tmp_path)
    later(draw(tmp_path / "a.png", 90), 2_000_000_000)
    studies[2] = replace(studies[2], text="FINDINGS: No edema after all.")
    for _ in range(2):
        report = run(studies, tmp_path)
        assert report.source_changed == {"xray": 1, "report": 1}
        assert (report.stored, report.refused, report.already_stored) == ({}, {}, {"xray": 2, "report": 2})
        assert kept(tmp_path) == before
        assert len(listed(tmp_path)) == 2, "listed once, however often it is seen"
    assert str(tmp_path / "a.png") in listed(tmp_path)[0]
    assert SiteStore.open_read(tmp_path / "s").quarantine == {}, "what is stored is used as before"


def test_a_file_that_cannot_be_read_any_more_has_changed(studies: list[Study], tmp_path: Path) -> None:
    run(studies, tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert run(studies, tmp_path).source_changed == {"xray": 1}


def test_a_copied_or_touched_file_is_no_change(studies: list[Study], tmp_path: Path) -> None:
    run(studies, tmp_path)
    later(tmp_path / "a.png", 2_000_000_000)
    (tmp_path / "b.txt").write_text("FINDINGS:   Clear.", encoding="utf-8")
    assert run(studies, tmp_path).source_changed == {}
    notes = SourceNotes.read(tmp_path / "s").notes
    assert notes[Modality.XRAY, "a"].state.endswith(":2000000000000000000"), "it is not read again next time"


def test_a_file_that_is_put_back_is_no_change_any_more(studies: list[Study], tmp_path: Path) -> None:
    run(studies, tmp_path)
    earlier = (tmp_path / "a.png").read_bytes()
    later(draw(tmp_path / "a.png", 90), 2_000_000_000)
    assert run(studies, tmp_path).source_changed == {"xray": 1}
    (tmp_path / "a.png").write_bytes(earlier)
    assert run(studies, tmp_path).source_changed == {}


def test_gone_studies_are_counted_stay_stored_and_may_come_back(studies: list[Study], tmp_path: Path) -> None:
    run(studies, tmp_path)
    before = kept(tmp_path)
    (tmp_path / "a.png").rename(tmp_path / "away.png")
    report = run([study for study in studies if study.study_id != "b"], tmp_path)
    assert report.source_gone == {"xray": 2, "report": 1}
    assert kept(tmp_path) == before
    assert b'"gone":true' in (tmp_path / "s" / NAME).read_bytes()
    (tmp_path / "away.png").rename(tmp_path / "a.png")
    report = run(studies, tmp_path)
    assert (report.source_gone, report.source_changed) == ({}, {})


def test_a_change_is_not_forgotten_while_the_file_is_away(studies: list[Study], tmp_path: Path) -> None:
    run(studies, tmp_path)
    later(draw(tmp_path / "a.png", 90), 2_000_000_000)
    run(studies, tmp_path)
    (tmp_path / "a.png").rename(tmp_path / "away.png")
    assert run(studies, tmp_path).source_gone == {"xray": 1}
    (tmp_path / "away.png").rename(tmp_path / "a.png")
    report = run(studies, tmp_path)
    assert (report.source_gone, report.source_changed) == ({}, {"xray": 1})
    assert len(listed(tmp_path)) == 1


def test_a_store_of_an_earlier_version_is_watched_from_its_next_ingest_on(studies: list[Study], tmp_path: Path) -> None:
    run(studies, tmp_path)
    (tmp_path / "s" / NAME).unlink()
    assert run(studies, tmp_path).source_changed == {}
    later(draw(tmp_path / "a.png", 90), 2_000_000_000)
    assert run(studies, tmp_path).source_changed == {"xray": 1}


def test_a_note_that_a_crash_cut_is_written_over(studies: list[Study], tmp_path: Path) -> None:
    run(studies[:2], tmp_path)
    path = tmp_path / "s" / NAME
    path.write_bytes(path.read_bytes()[:-7])
    assert run(studies, tmp_path).source_changed == {}
    assert set(SourceNotes.read(tmp_path / "s").notes) == {(s.modality, s.study_id) for s in studies}
