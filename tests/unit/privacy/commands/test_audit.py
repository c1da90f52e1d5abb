"""`more-privacy audit` through its command line, with a subject that needs no run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from privacy.audit.mechanism import Mechanism, hospital_mechanism
from privacy.commands.audit import audit


@pytest.fixture
def quick_level_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One mechanism instead of all; the rest of the level is as it is."""

    def one() -> tuple[Mechanism, ...]:
        return (hospital_mechanism(),)

    monkeypatch.setattr("privacy.audit.levels.mechanisms", one)


def invoke(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(audit)
    return CliRunner().invoke(app, list(arguments))


def test_without_a_run_the_mechanisms_are_tried_and_nothing_is_written(
    quick_level_one: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke()
    assert result.exit_code == 0, result.output
    assert "one round, hospital: the sum of all updates: CLAIM HOLDS" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_and_the_report_hold_the_same(quick_level_one: None, tmp_path: Path) -> None:
    result = invoke("--json", "--out", str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == written
    assert (tmp_path / "out" / "audit.html").is_file()


def test_a_broken_claim_is_written_down_and_ends_the_command(
    quick_level_one: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privacy.noise import standard_normal

    monkeypatch.setattr("privacy.noise.standard_normal", lambda count: standard_normal(count) / 4)
    result = invoke("--out", str(tmp_path))
    assert result.exit_code == 9
    assert "the claim is broken by: one round, hospital: the sum of all updates" in result.stderr
    assert json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))["broken"] == 1


def test_a_run_is_opened_at_its_site_and_reported_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from privacy.audit.subject import Claimed, Embedded

    opened: list[Any] = []

    class Subject:
        def name(self) -> str:
            return "toy"

        def claimed(self) -> Claimed:
            return Claimed("none", float("inf"), 0.0, "patient")

        def embeddings(self) -> Embedded:
            rows = np.random.default_rng(0).normal(size=(20, 4))
            return Embedded(rows, rows, np.arange(20))

    def open_run(run: Path, site: str | None, on_progress: Any) -> Subject:
        opened.extend([run, site])
        on_progress("embedding", 1, 2)
        return Subject()

    monkeypatch.setattr("privacy.audit.opening.open_run", open_run)
    result = invoke(str(tmp_path), "--site", "north", "--level", "5")
    assert result.exit_code == 0, result.output
    assert opened == [tmp_path, "north"]
    assert "Level 5." in result.stdout and "Level 1." not in result.stdout
    assert (tmp_path / "audit" / "audit.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--level", "2"], "level 2: needs a run"),
        (["--site", "north"], "--site without a run"),
        (["--canaries", "3"], "canaries 3"),
    ],
)
def test_what_cannot_be_audited_ends_with_code_2(arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
