"""Secure sums and patient-level privacy between real processes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from trees.deployment import Deployment, SiteData, command

from more_model.run_folder import RunFolder
from simulation.run import prepare
from simulation.settings import load_run_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SUMS = {"rounding": "nearest", "clip_norm": 50.0}
KINDS = ("xray", "ecg", "report")
ROUNDS, RUN_S = 2, 400.0


def last_digest(folder: Path) -> str:
    with sqlite3.connect(folder / "journal.sqlite") as database:
        return str(database.execute("SELECT checkpoint_sha256 FROM rounds ORDER BY round DESC").fetchone()[0])


def test_secure_sums_give_the_bits_of_the_simulation_and_no_update_leaves_in_the_clear(
    simulated: Callable[..., Any], module_folder: Path
) -> None:
    changes = {"partition": {"missing": None}, "federation": {"rounds": {"rounds": ROUNDS}, "secure_sum": SUMS}}
    simulation = simulated(ROUNDS, changes)
    bench = prepare(
        load_run_config(simulation.out.parent / "miniature.toml"), RunFolder(simulation.out), lambda *_: None
    )
    declared = bench.protection("federated").declarations
    sites = {name: SiteData(data.store, declared[name].patients, KINDS) for name, data in simulation.plan.sites.items()}
    plan = replace(simulation.plan, sites=sites, settings={"secure_sum": SUMS})
    with Deployment(module_folder / "sums", plan) as deployment:
        deployment.start_all()
        deployment.run_to_the_end(RUN_S)
        assert last_digest(deployment.run_folder) == last_digest(simulation.out / "arms" / "federated")
        for hospital in deployment.hospitals.values():
            left = {content["message"] for content in hospital.audit("released")}
            assert left == {"joined", "sum-stage"}, left
            assert json.loads(command("more-client", "audit", "verify", str(hospital.audit_log), "--json"))["whole"]


def test_private_patients_are_paid_for_at_every_site_and_the_budget_holds(
    simulated: Callable[..., Any], module_folder: Path
) -> None:
    simulation = simulated(ROUNDS, {"arms": ["base"], "partition": {"sites": 4, "missing": None}})
    stores = simulation.out / "workspace" / "sites"
    public = module_folder / "public.toml"
    public.write_text(tomli_w.dumps({"stores": [str(stores / "site-4")]}))
    privacy = {
        "mode": "patient-decoupled", "target_epsilon": 8.0, "delta": 1e-3, "sampling_rate": 0.2, "steps_per_round": 2,
    }  # fmt: skip
    plan = replace(
        simulation.plan,
        sites={name: SiteData(stores / name, 30, KINDS) for name in ("site-1", "site-2", "site-3")},
        settings={"privacy": privacy},
        site_settings={"public_bank": {"cohort": str(public), "negatives": 8}},
        allowance=("--mode", "patient-decoupled", "--epsilon", "8", "--max-rounds", "9"),
    )
    with Deployment(module_folder / "private", plan) as deployment:
        deployment.start_all()
        deployment.run_to_the_end(RUN_S)
        for name, hospital in deployment.hospitals.items():
            told = json.loads(command("more-client", "ledger", str(hospital.site_file), "--json"))
            (data_set,) = told["data_sets"]
            assert 7.0 < data_set["epsilon"] <= 8.0 == data_set["budget"], name
            assert data_set["unit"] == "patient" and [run["steps"] for run in data_set["runs"]] == [2 * ROUNDS]
        # Another run would cost as much again.
        deployment.run.line = (*deployment.run.line, "--new")
        deployment.run.start()
        assert deployment.run.process is not None and deployment.run.process.wait(RUN_S) == 7, deployment.logs()
        assert "refused (BudgetExhausted)" in deployment.run.text()
