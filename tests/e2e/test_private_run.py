"""A private run through the command line: claim, curve and report; killed and resumed; then audited."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from privacy.accounting import epsilon
from privacy.cli import app as privacy_app
from simulation.cli import app as simulation_app

PRIVACY = {"mode": "patient-decoupled", "target_epsilon": 8.0, "delta": 0.01, "sampling_rate": 0.5}


@dataclass(frozen=True)
class PrivateRun:
    """A finished run: its configuration, its directory and its summary."""

    config: Path
    out: Path
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def run(write_protected: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> PrivateRun:
    folder = tmp_path_factory.mktemp("private")
    # Two budgets are one composition more than one: the other is the run's own.
    config = write_protected(folder, {"privacy": PRIVACY, "privacy_curve": [8.0, 2.0]})
    out = folder / "run"
    result = CliRunner().invoke(
        simulation_app, ["run", str(config), "--out", str(out), "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return PrivateRun(config, out, json.loads((out / "summary.json").read_text(encoding="utf-8")))


def test_the_claim_of_every_site_follows_from_its_own_numbers(run: PrivateRun) -> None:
    privacy = run.summary["privacy"]
    assert (privacy["mechanism"], privacy["unit"], privacy["delta"]) == ("patient-decoupled", "patient", 0.01)
    for site in privacy["sites"].values():
        again = epsilon(site["noise_multiplier"], site["sampling_rate"], site["steps"], 0.01, "add-remove")
        assert site["epsilon"] == pytest.approx(again.epsilon)
        assert site["epsilon"] <= 8.0
    assert privacy["epsilon"] == max(site["epsilon"] for site in privacy["sites"].values())


def test_the_curve_runs_from_no_privacy_to_public_data_only(run: PrivateRun) -> None:
    curve = run.summary["privacy"]["curve"]
    assert [point["epsilon"] for point in curve] == [None, 8.0, 2.0, 0]
    assert [point["arm"] for point in curve][1::2] == ["federated", "base"]
    for point in curve:
        low, high = point["ci95"]
        assert low <= point["macro_auroc"] <= high
    noise = [max(point["noise_multiplier"].values()) for point in curve[1:3]]
    assert noise[0] < noise[1]
    assert curve[1]["macro_auroc"] == run.summary["arms"]["federated"]["macro_auroc"]
    assert "federated-epsilon-2" not in run.summary["arms"]


def test_the_page_says_what_is_promised(run: PrivateRun) -> None:
    page = (run.out / "report.html").read_text(encoding="utf-8")
    assert "privacy_curve" in page or "AUROC" in page
    assert "one patient, with all studies, more or less" in page


def test_no_loss_and_no_count_of_the_data_is_in_the_record_of_rounds(run: PrivateRun) -> None:
    for record in run.summary["rounds"]:
        assert record["loss"] is None
        assert all(set(site) <= {"state", "why", "steps"} for site in record["sites"].values())


def test_a_run_that_is_done_resumes_without_paying_again(run: PrivateRun) -> None:
    ledgers = sorted(run.out.glob("arms/*/sites/*/ledger.sqlite"))
    assert len(ledgers) == 2 * 4
    before = [ledger.read_bytes() for ledger in ledgers]
    result = CliRunner().invoke(
        simulation_app, ["run", str(run.config), "--out", str(run.out), "--resume"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert [ledger.read_bytes() for ledger in ledgers] == before


def test_the_run_can_be_audited(run: PrivateRun, tmp_path: Path) -> None:
    arguments = ["audit", str(run.out), "--canaries", "20", "--references", "2", "--out", str(tmp_path), "--json"]
    levels = [argument for level in ("2", "3", "4", "5") for argument in ("--level", level)]
    result = CliRunner().invoke(privacy_app, [*arguments, *levels], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {verdict["outcome"] for verdict in found["verdicts"]} <= {"holds", "says nothing"}
    assert {verdict["level"] for verdict in found["verdicts"]} == {2, 3, 4, 5}
    assert (tmp_path / "audit.html").is_file()
