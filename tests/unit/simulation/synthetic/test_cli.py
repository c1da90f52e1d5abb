"""``more-sim synth`` from the command line."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from simulation.cli import app

SMALL = ["--patients", "3", "--hospitals", "2", "--image-px", "32", "--workers", "1"]


def test_json_report_and_a_second_run_that_keeps_the_tree(tmp_path):
    out = str(tmp_path / "c")
    first = CliRunner().invoke(app, ["synth", "--out", out, *SMALL, "--json"])
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert report["synthetic"] is True
    assert report["patients"] == 3
    assert list(report["hospitals"]) == ["academic", "harbour"]
    assert not report["kept"]
    assert json.loads(CliRunner().invoke(app, ["synth", "--out", out, *SMALL, "--json"]).stdout)["kept"]


def test_table_says_synthetic_and_names_hospitals_and_labels(tmp_path):
    result = CliRunner().invoke(app, ["synth", "--out", str(tmp_path / "c"), *SMALL])
    assert result.exit_code == 0
    assert "SYNTHETIC" in result.stdout
    assert "harbour" in result.stdout
    assert "Pneumothorax" in result.stdout


def test_impossible_settings_end_with_exit_code_2_and_every_fault(tmp_path):
    result = CliRunner().invoke(app, ["synth", "--out", str(tmp_path / "c"), "--patients", "0", "--image-px", "5"])
    assert result.exit_code == 2
    assert "patients" in result.stderr
    assert "image_px" in result.stderr
    assert not (tmp_path / "c").exists()


def test_a_foreign_folder_ends_with_exit_code_4(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(app, ["synth", "--out", str(tmp_path), *SMALL])
    assert result.exit_code == 4
    assert "What to do" in result.stderr
