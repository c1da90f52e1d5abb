"""From outcomes to summary.json: status, gaps, what a site gains, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.model.inventory import take_inventory
from server.journal import Participation, RoundRecord
from simulation.compare import build_summary, local_arms
from simulation.outcome import Outcome
from simulation.scoring import only_trained
from simulation.workbench import Workbench

ALL = (Participation("site-1", "accepted"), Participation("site-2", "accepted"), Participation("site-3", "accepted"))
WHOLE = [RoundRecord(1, ALL, 1.5, 0.6, 3000, 1.0), RoundRecord(2, ALL, 1.2, 0.7, 3000, 1.0)]


@pytest.fixture(scope="module")
def scored(miniature_bench: Workbench) -> dict[str, Outcome]:
    """Two untrained models scored on the miniature's test patients; the probe is left out for speed."""
    choice = miniature_bench.scorer.choice.model_copy(update={"linear_probe": False, "retrieval": False})
    scorer = replace(miniature_bench.scorer, choice=choice)
    models = {"base": miniature_bench.assembled().model, "random_encoder": miniature_bench.random_model()}
    scores = {name: scorer.score(model) for name, model in models.items()}
    return {name: Outcome(scorer.table(scores[name]), scores[name], ()) for name in models}


def summary_of(
    bench: Workbench,
    outcomes: Mapping[str, Outcome],
    rounds: Sequence[RoundRecord] = (),
    over_seeds: Mapping[str, Sequence[float | None]] | None = None,
) -> dict[str, Any]:
    return build_summary(bench, take_inventory(bench.assembled().model), outcomes, rounds, over_seeds or {})


def test_the_same_scores_give_a_gap_of_nothing(miniature_bench: Workbench, scored: dict[str, Outcome]) -> None:
    same = scored["base"]
    summary = summary_of(miniature_bench, {"federated": same, "centralized": same, "local-site-1": same}, WHOLE)
    for name in ("federated_minus_centralized", "federated_minus_local_mean"):
        gap = summary["gap"][name]
        assert (gap["macro_auroc"], gap["ci95"], gap["paired"]) == (0.0, [0.0, 0.0], True)
    assert summary["joining"]["site-1"]["gain"] == 0.0
    assert set(summary["joining"]) == {"site-1"}


def test_a_gap_is_the_difference_of_the_arms_and_has_its_sign(
    miniature_bench: Workbench, scored: dict[str, Outcome]
) -> None:
    arms = {"federated": scored["base"], "centralized": scored["random_encoder"], "base": scored["random_encoder"]}
    summary = summary_of(miniature_bench, arms, WHOLE)
    gap = summary["gap"]["federated_minus_centralized"]
    wanted = scored["base"].table["macro_auroc"] - scored["random_encoder"].table["macro_auroc"]
    assert gap["macro_auroc"] == pytest.approx(wanted, abs=1e-12)
    assert wanted != 0
    low, high = gap["ci95"]
    assert low <= gap["macro_auroc"] <= high
    assert summary["gap"]["federated_minus_base"] == gap


def test_local_arms_stand_by_site_with_their_mean(miniature_bench: Workbench, scored: dict[str, Outcome]) -> None:
    arms = {"local-site-1": scored["base"], "local-site-2": scored["random_encoder"]}
    summary = summary_of(miniature_bench, arms)
    assert set(summary["arms"]) == {"local"}
    assert set(summary["arms"]["local"]) == {"site-1", "site-2", "mean"}
    values = [scored[name].table["macro_auroc"] for name in ("base", "random_encoder")]
    assert summary["arms"]["local"]["mean"]["macro_auroc"] == pytest.approx(np.mean(values), abs=1e-12)
    assert set(local_arms(arms)) == {"site-1", "site-2"}
    # Without a federated arm there is nothing to compare.
    assert (summary["gap"], summary["joining"], summary["status"]) == ({}, {}, "complete")


def test_what_a_site_gains_is_measured_on_its_own_patients(
    miniature_bench: Workbench, scored: dict[str, Outcome]
) -> None:
    arms = {"federated": scored["base"], "local-site-2": scored["random_encoder"]}
    joining = summary_of(miniature_bench, arms, WHOLE)["joining"]["site-2"]
    assert joining["federated"] == scored["base"].table["per_site"]["site-2"]["macro_auroc"]
    assert joining["local"] == scored["random_encoder"].table["per_site"]["site-2"]["macro_auroc"]
    assert joining["gain"] == pytest.approx(joining["federated"] - joining["local"], abs=1e-12)


@pytest.mark.parametrize("state", ["absent", "quarantined", "refused"])
def test_a_run_on_fewer_sites_is_partial_and_its_bytes_are_per_answer(
    miniature_bench: Workbench, scored: dict[str, Outcome], state: str
) -> None:
    short = [WHOLE[0], RoundRecord(2, (*ALL[:2], Participation("site-3", state, "why")), 1.2, 0.7, 2000, 1.0)]
    summary = summary_of(miniature_bench, {"federated": scored["base"]}, short)
    assert summary["status"] == "partial"
    assert summary["rounds"][1]["sites"]["site-3"] == {"state": state, "why": "why"}
    assert summary["exchange"]["bytes_up_per_site_round"] == 1000
    assert summary["exchange"]["bytes_up_total"] == 5000
    assert summary_of(miniature_bench, {"federated": scored["base"]}, WHOLE)["status"] == "complete"


def test_without_rounds_nothing_was_sent(miniature_bench: Workbench, scored: dict[str, Outcome]) -> None:
    exchange = summary_of(miniature_bench, {"base": scored["base"]})["exchange"]
    assert exchange["bytes_up_per_site_round"] is None
    assert exchange["bytes_up_total"] == 0
    assert exchange["bytes_down_per_site_round"] == miniature_bench.assembled().spec.nbytes


def test_several_seeds_give_mean_and_spread(miniature_bench: Workbench, scored: dict[str, Outcome]) -> None:
    seeds = {"federated": [0.7, 0.8, None], "base": [0.6]}
    arms = summary_of(miniature_bench, {"federated": scored["base"], "base": scored["base"]}, WHOLE, seeds)["arms"]
    spread = arms["federated"]["over_seeds"]
    assert spread["macro_auroc"] == [0.7, 0.8]
    assert spread["mean"] == pytest.approx(0.75)
    assert spread["sd"] == pytest.approx(0.1 / 2**0.5)
    assert "over_seeds" not in arms["base"]


def test_scores_on_other_patients_are_never_compared(miniature_bench: Workbench, scored: dict[str, Outcome]) -> None:
    from more_model.errors import DataError

    cut = [item.select(np.arange(len(item.y)) > 0) for item in scored["random_encoder"].scores.zero_shot]
    other = replace(scored["random_encoder"], scores=replace(scored["random_encoder"].scores, zero_shot=cut, probe=[]))
    with pytest.raises(DataError, match="not scored on the same rows"):
        summary_of(miniature_bench, {"federated": scored["base"], "centralized": other}, WHOLE)


def test_the_privacy_statement_claims_nothing(miniature_bench: Workbench, scored: dict[str, Outcome]) -> None:
    privacy = summary_of(miniature_bench, {"base": scored["base"]})["privacy"]
    assert privacy["mechanism"] == "none"
    assert "No differential privacy" in privacy["statement"]
    assert "epsilon" not in privacy


def test_a_site_missing_in_a_later_seed_makes_the_run_partial(miniature_bench: Workbench) -> None:
    lost = RoundRecord(1, (Participation("site-1", "absent", "no answer"), *ALL[1:]), 1.5, 0.6, 2000, 1.0)
    inventory = take_inventory(miniature_bench.assembled().model)
    assert build_summary(miniature_bench, inventory, {}, WHOLE, {}, other_rounds=[lost])["status"] == "partial"
    assert build_summary(miniature_bench, inventory, {}, WHOLE, {}, other_rounds=WHOLE)["status"] == "complete"


def test_a_hospital_has_no_say_on_a_modality_it_never_trained(
    miniature_bench: Workbench, scored: dict[str, Outcome]
) -> None:
    training = miniature_bench.training_examples()
    no_ecg = replace(training, triplets=tuple(replace(t, ecg=None, ecg_report=None) for t in training.triplets))
    kept = only_trained(scored["base"].scores, no_ecg, "site-1")
    of_modality = {m: [item for item in kept.zero_shot if item.task.modality == m] for m in ("xray", "ecg")}
    assert all(item.reason and np.isnan(item.score).all() for item in of_modality["ecg"])
    assert not any(item.reason for item in of_modality["xray"])
