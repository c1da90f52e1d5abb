"""What this project writes itself is recognised: stores, bases, checkpoints, synthetic cohorts."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from more_model.checkpoint import save_checkpoint
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import SiteStore
from more_model.doctor.examine import examine
from more_model.doctor.finding import Diagnosis, Severity, Verdict
from more_model.exchange import Fingerprint
from simulation.synthetic.config import SynthConfig
from simulation.synthetic.tree import write_cohort

Diagnose = Callable[[Path, str], Diagnosis]


def test_an_empty_store_and_an_open_one(tmp_path: Path, diagnose: Diagnose) -> None:
    SiteStore.create(tmp_path / "store", "north", Preprocessing()).close()
    (tmp_path / "store" / "index.jsonl").touch(mode=0o600)
    diagnosis = diagnose(tmp_path, "site-store")
    assert diagnosis.verdict is Verdict.UNUSABLE and "north" in diagnosis.release
    (tmp_path / "store" / "index.jsonl").chmod(0o600 | stat.S_IROTH)
    sentences = [found.sentence for found in diagnose(tmp_path, "site-store").findings]
    assert "Other users of this machine may read it." in sentences
    (tmp_path / "store" / "store.json").write_text("{}")
    assert "is damaged" in diagnose(tmp_path, "site-store").findings[0].sentence


def test_a_checkpoint_names_the_base_it_lacks(tmp_path: Path, diagnose: Diagnose) -> None:
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "federated.safetensors"
    base = tmp_path / "base"
    save_checkpoint(path, {}, method="ffa", public_seed=0, fingerprint=Fingerprint({}), base=base)
    diagnosis = diagnose(tmp_path, "checkpoint")
    assert diagnosis.release == "checkpoints: federated" and diagnosis.verdict is Verdict.USABLE
    assert "--base" in diagnosis.findings[0].remedy
    assert examine(path).diagnoses[0].counts == {"checkpoints": 1}
    base.mkdir()
    (base / "base.json").write_text("{}")
    assert diagnose(tmp_path / "checkpoints", "checkpoint").verdict is Verdict.READY
    broken = diagnose(tmp_path, "base")
    assert [found.sentence for found in broken.findings] == [
        "model.toml is missing.",
        "weights.safetensors is missing.",
        "tokenizer is missing.",
    ]


def test_a_run_directory_with_everything(miniature_run: Any, diagnose: Diagnose) -> None:
    root = miniature_run.out
    assert diagnose(root, "base").verdict is Verdict.READY
    assert diagnose(root, "checkpoint").verdict is Verdict.READY
    assert any(entry.kind == "site-store" and entry.verdict is Verdict.READY for entry in examine(root).diagnoses)


def test_a_synthetic_cohort_is_called_one_and_not_measured_against_the_releases(
    tmp_path: Path, diagnose: Diagnose
) -> None:
    write_cohort(SynthConfig(patients=8), tmp_path / "cohort")
    examination = examine(tmp_path)
    assert {entry.kind for entry in examination.diagnoses} >= {"synthetic", "mimic-cxr-jpg", "mimic-iv-ecg"}
    assert diagnose(tmp_path, "synthetic").counts["patients"] == 8
    for entry in examination.diagnoses:
        assert "synthetic" in entry.release
        assert not [found for found in entry.findings if found.severity is not Severity.NOTE], entry.kind
    alone = examine(tmp_path / "cohort" / "mimic-cxr-jpg").diagnoses[0]
    assert alone.release.startswith("a synthetic tree")
    (tmp_path / "cohort" / ".synthetic-complete.json").unlink()
    assert diagnose(tmp_path, "synthetic").verdict is Verdict.UNUSABLE


@pytest.fixture
def run() -> Callable[..., Any]:
    """The command, called as on the command line."""
    import typer

    from more_model.commands.doctor import doctor

    app = typer.Typer()
    app.command()(doctor)

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments))

    return call


def test_the_command_prints_text_or_json(trees: Callable[[str], Path], run: Callable[..., Any]) -> None:
    text = run("--data", str(trees("ptb-xl")))
    assert text.exit_code == 0
    assert "PTB-XL, an excerpt: usable" in text.stdout and "ptbxl-super can run" in text.stdout
    answer = run("--data", str(trees("ptb-xl")), "--json")
    assert json.loads(answer.stdout)["data"][0]["kind"] == "ptb-xl"


def test_the_command_ends_with_4_where_nothing_can_be_used(tmp_path: Path, run: Callable[..., Any]) -> None:
    nothing = run("--data", str(tmp_path))
    assert nothing.exit_code == 4 and "nothing in" in nothing.stderr
    (tmp_path / ".synthetic-started.json").write_text("{}")
    unusable = run("--data", str(tmp_path), "--json")
    assert unusable.exit_code == 4 and json.loads(unusable.stdout)["verdict"] == "unusable"
    assert "can be used as it lies there" in unusable.stderr
