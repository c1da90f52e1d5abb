"""`more-model evaluate --dp` on a finished run: the claim stands beside the figures, with all that it holds under."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.private_fine_tuning import open_private_training
from more_model.cli import app
from more_model.evaluation import evaluate as evaluation
from privacy.accounting import epsilon

BUDGET = ["--dp", "--noise-multiplier", "3", "--delta", "1e-3", "--sampling-rate", "1", "--public-patients", "30"]


@pytest.fixture
def ask(miniature_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(evaluation, "installed_private_training", lambda: open_private_training)

    def run(*more: str) -> tuple[int, str]:
        given = [
            "evaluate", "--protocol", "cohort", "--data", str(miniature_run.out), "--out", str(tmp_path / "out"),
            "--checkpoint", str(miniature_run.out / "checkpoints" / "federated.safetensors"), "--replicates", "5",
            "--threads", "1", "--device", "cpu", "--epochs", "2",
        ]  # fmt: skip
        done = CliRunner().invoke(app, [*given, *more], env={"COLUMNS": "200"})
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


def test_a_private_evaluation_says_what_it_promises(ask: Any, tmp_path: Path) -> None:
    code, output = ask("--mode", "linear-probe", "--mode", "fine-tune", *BUDGET)
    assert code == 0, output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(r["mode"], r["variant"]) for r in summary["results"]] == [
        ("linear-probe", "private"), ("fine-tune", "lora, private")
    ]  # fmt: skip
    privacy = summary["privacy"]
    # Two trainings of two modalities, two epochs each.
    assert (privacy["steps"], privacy["unit"], privacy["noise_multiplier"]) == (8, "patient", 3.0)
    assert privacy["epsilon"] == epsilon(3.0, 1.0, 8, 1e-3).epsilon
    page = (tmp_path / "out" / "report.html").read_text()
    for text in (output, page):
        assert privacy["sentence"] in text
        assert privacy["ledger"]["says"] in text
        assert "computed in the clear" in text
    assert "No sampling" in page
    assert "[privacy]" in (tmp_path / "out" / "config.toml").read_text()


def test_wrong_combinations_are_told_at_once_and_before_anything_is_written(ask: Any, tmp_path: Path) -> None:
    code, output = ask("--mode", "fusion", "--fraction", "0.5", "--dp", "--epsilon", "8", "--noise-multiplier", "1")
    assert code == 2
    assert all(word in output for word in ("exactly one of epsilon", "delta", "sampling_rate", "public_patients"))
    code, output = ask("--mode", "fine-tune", "--fraction", "0.5", *BUDGET)
    assert code == 2
    assert "drawn class by class" in output
    assert not (tmp_path / "out").exists()
