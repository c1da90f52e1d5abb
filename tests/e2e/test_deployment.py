"""Coordinator and three hospitals as processes of their own, with TLS and node keys: the simulation's bits."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trees.deployment import Deployment, command

from more_model.checkpoint import load_checkpoint
from server.status.evaluations import read_evaluations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROUNDS = 2
RUN_S = 300.0


def checkpoints(folder: Path) -> list[tuple[int, str]]:
    with sqlite3.connect(folder / "journal.sqlite") as database:
        return list(database.execute("SELECT round, checkpoint_sha256 FROM rounds ORDER BY round"))


@pytest.fixture(scope="module")
def simulation(simulated: Callable[..., Any]) -> Any:
    return simulated(ROUNDS)


@pytest.fixture(scope="module")
def ended(simulation: Any, module_folder: Path) -> Iterator[Deployment]:
    """The federation that was deployed and ran to its end; its services are still up."""
    plan = replace(simulation.plan, settings={"evaluation": {"split": "test"}})
    with Deployment(module_folder / "f", plan) as deployment:
        deployment.start_all()
        deployment.run_to_the_end(RUN_S)
        yield deployment


def test_the_result_is_that_of_the_simulation_bit_for_bit(ended: Deployment, simulation: Any) -> None:
    simulated = checkpoints(simulation.out / "arms" / "federated")
    assert len(simulated) == ROUNDS and checkpoints(ended.run_folder) == simulated
    outcome = ended.outcome()
    assert outcome["checkpoint_sha256"] == simulated[-1][1]
    assert (outcome["status"], outcome["rounds"], outcome["short_rounds"]) == ("complete", ROUNDS, 0)


def test_every_site_took_part_with_the_towers_it_has(ended: Deployment) -> None:
    rounds = json.loads(command("more-server", "rounds", str(ended.coordinator), "--json"))["rounds"]
    for closed in rounds:
        assert {site: part["state"] for site, part in closed["sites"].items()} == dict.fromkeys(
            ended.hospitals, "accepted"
        )
        assert closed["sites"]["site-1"]["pairs_ecg"] == 0 < closed["sites"]["site-1"]["pairs_xray"]
        assert closed["sites"]["site-2"]["pairs_xray"] == 0 < closed["sites"]["site-2"]["pairs_ecg"]


def test_every_round_was_measured_and_the_best_one_kept(ended: Deployment) -> None:
    measured = read_evaluations(ended.run_folder)
    assert [result.round for result in measured] == [0, 1, 2]
    assert all(set(result.sites) == set(ended.hospitals) for result in measured)
    best = max(measured, key=lambda result: (result.macro.value or 0.0, -result.round))
    assert ended.outcome()["best_round"] == best.round


def test_the_models_can_be_taken_out(ended: Deployment, module_folder: Path) -> None:
    out = module_folder / "exported"
    command("more-server", "export", str(ended.coordinator), "--to", str(out))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "complete" and len(summary["rounds"]) == ROUNDS
    for name in ("last", "best"):
        assert load_checkpoint(out / "checkpoints" / f"{name}.safetensors", base=ended.plan.base).adapted


def test_every_answer_stands_in_the_audit_log_of_its_site(ended: Deployment) -> None:
    for hospital in ended.hospitals.values():
        verified = json.loads(command("more-client", "audit", "verify", str(hospital.audit_log), "--json"))
        assert verified["whole"], verified
        updates = [content for content in hospital.audit("released") if content["message"] == "update"]
        assert [content["round"] for content in updates] == list(range(1, ROUNDS + 1))


def test_the_status_tells_of_the_end(ended: Deployment) -> None:
    status = json.loads(command("more-server", "status", str(ended.coordinator), "--json"))
    assert status["round"] == ROUNDS and status["state"] == "ended"
    assert {site["site"]: site["round_state"] for site in status["sites"]} == dict.fromkeys(ended.hospitals, "accepted")


def test_a_run_that_has_ended_is_not_run_again(ended: Deployment) -> None:
    again = json.loads(command("more-server", "run", "--federation", str(ended.coordinator), "--json").splitlines()[-1])
    assert again == ended.outcome()
