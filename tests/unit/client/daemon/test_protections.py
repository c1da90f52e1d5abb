"""Patients protected one by one behind a daemon: the public bank, the ledger, and what a restart does to both."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tomli_w

from client.private_bank import PublicBank, bank_of_cohort
from client.site_keys import make_keys
from more_model.cohort_file import load_cohort
from more_model.evaluation.federated_terms import evaluation_terms
from more_model.exchange import Instruction
from more_model.score_exchange import Question
from more_model.training.examples import Examples
from privacy.ledger.ledger import Ledger
from privacy.rounds import round_plan
from privacy.settings import PrivacySettings
from simulation.public_bank import public_bank

if TYPE_CHECKING:
    from simulation.workbench import Workbench

PATIENTS, ROUNDS = 40, 2
ASKED = PrivacySettings(
    mode="patient-decoupled", noise_multiplier=1.0, delta=0.001, sampling_rate=0.2, steps_per_round=1, clip_norm=0.5
)
ONE_RUN = round_plan(ASKED, PATIENTS, rounds=ROUNDS, local_epochs=1).claim().result.epsilon
Instruct = Callable[..., Instruction]


@pytest.fixture
def private_site(miniature_bench: Workbench, new_site: Callable[..., Any]) -> Any:
    """Its ledger holds one run and a little more; its bank are the patients of another site, taken as public."""
    site = new_site("site-1")
    make_keys(site.folder, "site-1", patients=PATIENTS, modalities=("xray", "ecg", "report"))
    name_bank(site, miniature_bench, "site-2")
    site.policy["privacy"] = {
        "modes": ["patient-decoupled"], "epsilon": 1.05 * ONE_RUN, "delta": 0.001, "secure_sums": "allowed",
    }  # fmt: skip
    return site


def name_bank(site: Any, bench: Workbench, *sites: str) -> Path:
    stores = [str(bench.folder / "workspace" / "sites" / name) for name in sites]
    file: Path = site.folder / "public.toml"
    file.write_text(tomli_w.dumps({"stores": stores}))
    site.content["public_bank"] = {"cohort": "public.toml", "negatives": 16}
    return file


def private(instruct: Instruct, number: int = 1, **changes: Any) -> Instruction:
    return instruct(number, **{"privacy": ASKED.model_dump_json(), "rounds": ROUNDS, **changes})


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def ledger_of(site: Any) -> Ledger:
    return Ledger(site.folder / "records" / "ledger.sqlite", site.folder / "witness" / "ledger")


def steps_charged(site: Any) -> int:
    (account,) = ledger_of(site).state().accounts.values()
    return sum(charge.reserved for charge in account.charges.values())


def test_rounds_are_charged_until_the_budget_holds_no_more(
    private_site: Any, here: Callable[..., Any], instruct: Instruct, caplog: pytest.LogCaptureFixture
) -> None:
    start = instruct().tensors
    with here(private_site) as daemon:
        for number in range(1, ROUNDS + 1):
            answer = daemon.train(private(instruct, number))
            assert answer.kind == "update" and json.loads(answer.facts["counts"]) == {"steps": 1.0}
            assert json.loads(answer.facts["weights"])["text"] == PATIENTS
            assert any(np.any(answer.arrays[name]) for name in start) and steps_charged(private_site) == number
        with caplog.at_level(logging.WARNING):
            refused = daemon.train(private(instruct, run="a second run"))
    assert refused.facts["refusal"] == "BudgetExhausted" and "Nothing was charged" in caplog.text
    spent = ledger_of(private_site).spent(next(iter(ledger_of(private_site).state().accounts)))
    assert ONE_RUN <= spent.epsilon <= 1.05 * ONE_RUN
    assert steps_charged(private_site) == ROUNDS


def test_after_a_restart_whatever_is_asked_first_finds_the_run_as_it_was_agreed(
    private_site: Any, here: Callable[..., Any], instruct: Instruct, caplog: pytest.LogCaptureFixture
) -> None:
    asked, terms = private(instruct), evaluation_terms("chexpert_ecg")
    question = Question("federated", 1, "test", asked.tensors, terms.digest(), asked.spec_digest, asked.fingerprint)
    rule = {"terms": [terms.digest()], "minimum_count": 2, "counts_are_public": True}
    private_site.policy["evaluation"] = rule
    with here(private_site) as daemon:
        first = daemon.train(asked)
        assert first.kind == "update"
    with here(private_site) as daemon:
        assert daemon.ask("evaluate", question.facts(), question.tensors).kind == "evaluation"
        assert same(daemon.train(asked).arrays, first.arrays) and steps_charged(private_site) == 1
    with here(private_site) as daemon, caplog.at_level(logging.WARNING):
        stage = daemon.ask("sum-stage", {"run": "federated", "stage": "share"})
        assert stage.facts["refusal"] == "ExchangeError" and "agreed to no secure sums in this run" in caplog.text
        other = ASKED.model_copy(update={"clip_norm": 5.0}).model_dump_json()
        assert daemon.train(private(instruct, 2, privacy=other)).facts["refusal"] == "ExchangeError"
        assert daemon.train(private(instruct, 2)).kind == "update" and steps_charged(private_site) == 2
    private_site.policy["evaluation"] = {**rule, "counts_are_public": False}
    private_site.write_policy()
    with here(private_site) as daemon:
        answer = daemon.ask("evaluate", question.facts(), question.tensors)
        assert answer.facts["refusal"] == "evaluation-not-allowed"
    assert len(private_site.audit("agreed")) == 1


def test_without_a_bank_of_strangers_nothing_is_agreed_to(
    private_site: Any,
    miniature_bench: Workbench,
    here: Callable[..., Any],
    instruct: Instruct,
    caplog: pytest.LogCaptureFixture,
) -> None:
    named = private_site.content.pop("public_bank")
    with here(private_site) as daemon, caplog.at_level(logging.WARNING):
        assert daemon.train(private(instruct)).facts["refusal"] == "ConfigError"
        assert "the site file names none" in caplog.text
    private_site.content["public_bank"] = named
    name_bank(private_site, miniature_bench, "site-1", "site-2")
    with here(private_site) as daemon, caplog.at_level(logging.WARNING):
        assert daemon.train(private(instruct)).facts["refusal"] == "ConfigError"
        assert "holds patients of this site" in caplog.text
    assert private_site.audit("agreed") == [] and not (private_site.folder / "records" / "ledger.sqlite").exists()
    name_bank(private_site, miniature_bench, "site-2")
    with here(private_site) as daemon, caplog.at_level(logging.INFO):
        assert daemon.train(private(instruct)).kind == "update"
        (private_site.folder / "public.toml").unlink()
        assert daemon.train(private(instruct, 2)).kind == "update", "opened once"


def test_the_bank_is_that_of_the_simulation(miniature_bench: Workbench, tmp_path: Path) -> None:
    stores = [str(miniature_bench.folder / "workspace" / "sites" / name) for name in ("site-2", "site-3")]
    (tmp_path / "public.toml").write_text(tomli_w.dumps({"stores": stores}))
    choice = miniature_bench.config.public_bank.model_copy(
        update={"cohort": tmp_path / "public.toml", "negatives": 7, "refresh_every": 2}
    )
    config = miniature_bench.config.model_copy(update={"public_bank": choice})
    simulated = public_bank(config, tmp_path)
    preprocessing = config.model.resolved().preprocessing
    ours = bank_of_cohort(tmp_path / "public.toml", preprocessing=preprocessing, negatives=7, refresh_every=2)
    examples: Examples = load_cohort(tmp_path / "public.toml").examples
    assert isinstance(ours, PublicBank) and ours.examples.digest() == simulated.examples.digest() == examples.digest()
    assert replace(ours, examples=simulated.examples) == simulated
