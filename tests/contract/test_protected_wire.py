"""What travels when updates are protected: every privacy mode, with secure sums and without, over a whole run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from flwr.app import Message

from client.flower_messages import tensors_of
from more_model.exchange import FACTS_RECORD, Tensors
from more_model.model.inventory import export_tensors
from privacy.ledger.ledger import open_ledger
from server.journal import RoundRecord
from simulation.flower_federation import client_app, train_over_grid
from simulation.flower_inprocess import InProcessGrid

if TYPE_CHECKING:
    from simulation.workbench import Workbench

ROUNDS = 2
SITES = ("site-1", "site-2", "site-3", "site-4")
BUDGET = 8.0
MODES: dict[str, dict[str, Any]] = {
    "none": {},
    "patient-decoupled": {"delta": 0.01, "sampling_rate": 0.5},
    "patient-groups": {"delta": 0.01, "sampling_rate": 0.5},
    "patient-shuffled": {"delta": 0.01, "expected_patients": 2},
    "hospital": {"delta": 1e-5, "public_weights": dict.fromkeys(SITES, 0.25)},
}
#: Rounded to the nearest: the sum can then be compared with one in the clear.
SUMS = {"rounding": "nearest", "clip_norm": 50.0}


@dataclass(frozen=True)
class Run:
    """One federated run and everything that crossed in it."""

    bench: Workbench
    messages: list[Message]
    records: list[RoundRecord]
    last: Tensors

    @property
    def up(self) -> list[Message]:
        """What the sites sent, introductions left out."""
        return [m for m in self.messages if m.metadata.reply_to_message_id and m.metadata.message_type != "query"]


def protection(mode: str, sums: bool) -> dict[str, Any]:
    privacy = {"mode": mode, **MODES[mode], **({} if mode == "none" else {"target_epsilon": BUDGET})}
    return {"privacy": privacy, "federation": {"secure_sum": SUMS if sums else None}}


def federate(bench: Workbench) -> Run:
    messages: list[Message] = []
    grid = InProcessGrid(client_app(bench), len(SITES), tap=lambda message: messages.append(copy.deepcopy(message)))
    trained, records = train_over_grid(bench, grid, "federated", 3)
    return Run(bench, messages, records, export_tensors(trained.model))


@pytest.fixture(scope="module", params=[(mode, sums) for mode in MODES for sums in (False, True)][1:], ids=str)
def run(
    request: pytest.FixtureRequest, protected_bench: Callable[..., Workbench], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    return federate(protected_bench(tmp_path_factory.mktemp("run"), protection(*request.param)))


def test_the_run_ends_with_every_site(run: Run) -> None:
    assert len(run.records) == ROUNDS
    assert {part.state for record in run.records for part in record.sites} == {"accepted"}
    assert not any(message.has_error() for message in run.messages)


def test_every_tensor_moved(run: Run) -> None:
    before = export_tensors(run.bench.assembled().model)
    assert all(not np.array_equal(before[name], run.last[name]) for name in run.last)


def test_weights_are_the_declared_ones_and_no_count_of_the_data_travels(run: Run) -> None:
    agreed = run.bench.protection("federated")
    for record in run.records:
        assert all(set(part.counts or {}) <= {"steps"} for part in record.sites)
    for message in run.up:
        facts = dict(message.content[FACTS_RECORD])
        if "counts" in facts:
            assert set(json.loads(facts["counts"])) <= {"steps"}
            assert json.loads(facts["weights"]) == agreed.declarations[facts["site"]].weights()


def test_a_site_without_x_rays_sends_nothing_of_that_tower(run: Run) -> None:
    for message in run.up:
        facts = dict(message.content[FACTS_RECORD])
        for name in tensors_of(message.content):
            assert not (facts["site"] == "site-1" and name.startswith("xray"))


def test_under_secure_sums_only_masked_integers_leave_a_site(run: Run) -> None:
    if run.bench.config.federation.secure_sum is None:
        assert all(array.dtype == np.float32 for message in run.up for array in tensors_of(message.content).values())
        return
    arrays = [array for message in run.up for array in tensors_of(message.content).values()]
    assert arrays and all(array.dtype == np.uint32 for array in arrays)
    # Masked integers look like noise over the whole range, whatever they hide.
    highest = np.concatenate(arrays).astype(np.float64) / 2**32
    assert 0.49 < highest.mean() < 0.51 and highest.max() > 0.99


def test_every_step_was_paid_for_and_no_more(run: Run) -> None:
    agreed = run.bench.protection("federated")
    assert bool(agreed.plans) == run.bench.config.privacy.on
    for site, plan in agreed.plans.items():
        folder = agreed.folder / "sites" / site
        key_digest = json.loads(_first_entry(folder / "ledger.sqlite"))["content"]["key"]
        witness = agreed.folder / "witnesses" / f"{site}.json"
        state = open_ledger(folder / "ledger.sqlite", witness, site=site, key_digest=key_digest).state()
        (account,) = state.accounts.values()
        assert sum(charge.steps for charge in state.charges_on(account.digest)) == plan.all_steps
        spent = state.spent(account.digest)
        assert 0.9 * BUDGET < spent.epsilon <= BUDGET
        assert spent.epsilon == pytest.approx(plan.claim().result.epsilon)


def _first_entry(path: Path) -> str:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as database:
        row = database.execute("SELECT * FROM entries ORDER BY number LIMIT 1").fetchone()
    return str(row[1])


def test_a_secure_sum_gives_what_the_same_updates_give_in_the_clear(
    protected_bench: Callable[..., Workbench], tmp_path: Path
) -> None:
    plain = federate(protected_bench(tmp_path / "plain", {"federation": {"secure_sum": SUMS, "rounds": {"rounds": 1}}}))
    clear = federate(protected_bench(tmp_path / "clear", {"federation": {"rounds": {"rounds": 1}}}))
    grid_step = SUMS["clip_norm"] / (2**19 - 1)
    agreed = plain.bench.protection("federated")
    updates = {str(message.content[FACTS_RECORD]["site"]): tensors_of(message.content) for message in clear.up}
    assembled = clear.bench.assembled()
    before, weights = export_tensors(assembled.model), agreed.weights.integers(100)
    for tensor in assembled.spec.tensors:
        # A site that has declared a modality counts with its weight, whatever it trained in this round.
        present = [site for site in SITES if agreed.declarations[site].weights()[tensor.tower] > 0]
        total = sum(weights[site] for site in present)
        changes = [weights[site] * updates[site].get(tensor.name, np.zeros(tensor.shape)) for site in present]
        mean = np.sum(changes, axis=0, dtype=np.float64) / total
        np.testing.assert_allclose(plain.last[tensor.name], before[tensor.name] + mean, rtol=0, atol=grid_step)
