"""`more-model assess` on one patient's files, on wrong ones, and on none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from more_model.base import load_base, save_base

Call = Callable[..., Any]
PARTS = ("xray", "ecg", "report")


@pytest.fixture
def asked(call: Call, prepared: Any, patient: Any, tmp_path: Path) -> Call:
    """``asked("xray", report=path)``: parts named are the patient's, others are the files given."""

    def run(*own: str, out: Path | None = None, options: tuple[str, ...] = (), **others: Path) -> Any:
        files = {**{part: getattr(patient, part) for part in own}, **others}
        words = [word for part, path in files.items() for word in (f"--{part}", path)]
        common = ("--reference", prepared.folder, "--checkpoint", prepared.checkpoint, "--threads", 1)
        return call("assess", *common, "--out", out or tmp_path / "out", *words, *options)

    return run


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 70), dtype=np.uint8)).save(path)
    return path


def test_the_three_inputs_together(asked: Call, patient: Any, tmp_path: Path) -> None:
    done = asked(*PARTS, options=("--json",))
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content == json.loads((tmp_path / "out" / "assess.json").read_text(encoding="utf-8"))
    assert list(content["inputs"]) == content["given"] == list(PARTS)
    assert content["for_research_use_only"] is True
    assert content["model"]["cohort"]["synthetic"] is True
    assert set(content["model"]["base"]) >= {"base weights", "tokenizer", "preprocessing"}
    page = (tmp_path / "out" / "assess.html").read_text(encoding="utf-8")
    assert "for research use only" in page
    assert "SYNTHETIC DATA" in page
    shown = page + done.stdout
    assert not [name for name in patient.identifiers if name in shown]
    assert str(patient.xray.parent) not in shown


def test_a_refused_part_does_not_stop_the_others(asked: Call, noise: Path, tmp_path: Path) -> None:
    done = asked("ecg", xray=noise, options=("--json",))
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["refused"]["xray"]["reason"] == "out-of-domain"
    far = [one for one in content["refused"]["xray"]["distances"] if one["distance"] > one["limit"]["value"]]
    assert "xray.appearance" in [one["measure"] for one in far]
    assert not any("xray" in one["parts"] for one in content["findings"])
    assert list(content["inputs"]) == ["ecg"]
    page = (tmp_path / "out" / "assess.html").read_text(encoding="utf-8")
    assert "The X-ray was refused, and nothing below rests on it." in page
    assert "What the model says from ECG" in page
    told = asked("ecg", xray=noise, options=("--overwrite",))
    assert "X-ray REFUSED (out-of-domain)" in told.stdout


def test_nothing_left_ends_with_the_code_of_a_refused_input(
    asked: Call, noise: Path, patient: Any, tmp_path: Path
) -> None:
    done = asked(xray=noise, ecg=patient.report)
    assert done.exit_code == 3
    assert "Nothing is left to judge from." in done.stderr
    assert "- X-ray (out-of-domain)" in done.stderr
    assert "- ECG (" in done.stderr
    assert "frontal chest film" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty-report"),
        ("INDICATION: cough.\n", "empty-report"),
        ("Sinusrhythmus, überdrehter Linkstyp, sonst unauffälliges Belastungselektrokardiogramm.", "unknown-words"),
    ],
)
def test_reports_that_cannot_be_understood(asked: Call, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "report.txt"
    path.write_text(text, encoding="utf-8")
    done = asked(report=path, options=("--about", "xray"))
    assert done.exit_code == 3
    assert f"- report ({reason})" in done.stderr


def test_what_a_report_is_about(asked: Call, prepared: Any, tmp_path: Path) -> None:
    words = next(
        triplet.ecg_report for site in prepared.cohort.sites for triplet in site.examples.triplets if triplet.ecg_report
    )
    path = tmp_path / "ecg.txt"
    path.write_text(words, encoding="utf-8")
    content = json.loads(asked(report=path, options=("--json",)).stdout)
    assert content["inputs"]["report"]["about"] == "ecg"
    assert {one["judged_from"] for one in content["findings"] if one["parts"]} == {"ecg"}


def test_corrections_are_told_in_words(asked: Call, patient: Any, tmp_path: Path) -> None:
    with Image.open(patient.xray) as film:
        film.convert("RGB").save(tmp_path / "colour.png")
    done = asked(xray=tmp_path / "colour.png", options=("--json",))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["inputs"]["xray"]["corrections"] == [
        {"code": "rgb-to-grey", "words": "A colour picture was turned to grey."}
    ]
    assert "A colour picture was turned to grey." in (tmp_path / "out" / "assess.html").read_text(encoding="utf-8")


def test_files_are_for_their_owner_alone_and_not_replaced_unasked(asked: Call, prepared: Any, tmp_path: Path) -> None:
    assert asked("report").exit_code == 0
    out = tmp_path / "out"
    for path in (out, prepared.folder, prepared.folder / "index"):
        assert path.stat().st_mode & 0o077 == 0
        assert all(file.stat().st_mode & 0o077 == 0 for file in path.iterdir())
    assert sorted(path.name for path in out.iterdir()) == ["assess.html", "assess.json"]
    again = asked("report")
    assert again.exit_code == 2
    assert "an assess.json is there already" in again.stderr
    assert asked("report", options=("--overwrite",)).exit_code == 0


def test_no_input_and_a_wrong_option_are_faults_of_the_call(asked: Call) -> None:
    done = asked(options=("--about", "ecg"))
    assert done.exit_code == 2
    assert "give at least one of --xray, --ecg and --report" in done.stderr
    assert "--about goes with --report only" in done.stderr


def test_another_model_than_the_reference_was_made_with(
    call: Call, prepared: Any, patient: Any, miniature_run: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    save_base(load_base(miniature_run.out / "workspace" / "base"), other)
    asked = ("--reference", prepared.folder, "--checkpoint", other, "--xray", patient.xray, "--out", tmp_path / "out")
    done = call("assess", *asked)
    assert done.exit_code == 6
    assert "was made with the model" in done.stderr
