"""Projection heads: one step without privacy names its batch, a private one does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.audit.leaks import head_leaks
from client.audit.retrain import retrained
from client.audit.site import AuditedSite, open_site
from client.private_contrast import Contrast
from more_model.cohort_file import load_cohort
from more_model.model.inventory import export_tensors
from more_model.training.examples import Examples
from more_model.training.seeds import derived_seed
from privacy.audit.leaks import head_leak
from privacy.audit.subject import HeadLeak


@pytest.fixture(scope="module")
def private_leaks(private_site: AuditedSite) -> dict[str, HeadLeak]:
    return head_leaks(private_site)


@pytest.fixture(scope="module")
def open_leaks(open_run: AuditedSite) -> dict[str, HeadLeak]:
    return head_leaks(open_run)


def updates(leaks: dict[str, HeadLeak], update: str) -> list[HeadLeak]:
    return [leak for name, leak in leaks.items() if name.endswith(update)]


def test_one_step_without_privacy_names_who_was_in_it(open_leaks: dict[str, HeadLeak]) -> None:
    leaks = updates(open_leaks, "one step, no privacy")
    assert len(leaks) == 2
    for leak in leaks:
        found = head_leak("", leak)
        assert found.rank == len(leak.members) < found.width
        assert found.by_span.value == 1.0


def test_a_private_step_does_not(private_leaks: dict[str, HeadLeak]) -> None:
    leaks = updates(private_leaks, "one step, private (z = 1)")
    assert len(leaks) == 2
    for leak in leaks:
        assert np.linalg.matrix_rank(leak.gradient) == leak.gradient.shape[1]
        assert not leak.covered_by_claim


def test_the_private_step_has_the_noise_that_it_says(
    private_site: AuditedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = private_site.recipe
    assert recipe.plan is not None
    loud = replace(private_site, recipe=replace(recipe, plan=replace(recipe.plan, noise_multiplier=300.0)))
    units = min(recipe.training.batch_size, len(private_site.members))

    def noise() -> float:
        (xray, _) = updates(head_leaks(loud), "one step, private (z = 300)")
        return float(xray.gradient.std()) * units

    stated = 300.0 * recipe.privacy.clip_norm
    # The noise in the bank's embeddings is carried back to the same parameters: it comes on top, and differs each time.
    assert noise() > 0.9 * stated
    own = {f"model.{name}" for name, _ in loud.start.named_parameters()}
    monkeypatch.setattr(
        Contrast, "carried_back", lambda _contrast, gradient: {n: g for n, g in gradient.items() if n in own}
    )
    assert noise() == pytest.approx(stated, rel=0.1)


def test_a_round_is_what_really_leaves(open_run: AuditedSite, open_leaks: dict[str, HeadLeak]) -> None:
    seed = derived_seed(open_run.seed, "audit", "round")
    model = retrained(
        open_run.start, open_run.members, open_run.recipe, site=open_run.name, words=open_run.words, seed=seed, rounds=1
    )
    name = "xray.head.0.weight"
    moved = export_tensors(model)[name].astype(np.float64) - export_tensors(open_run.start)[name]
    leak = open_leaks["X-ray head, a whole round as sent"]
    assert np.array_equal(leak.gradient, moved)
    assert len(leak.members) == sum(triplet.xray is not None for triplet in open_run.members.triplets)
    assert not leak.covered_by_claim


def test_the_claim_covers_the_round_alone(private_leaks: dict[str, HeadLeak]) -> None:
    covered = {name for name, leak in private_leaks.items() if leak.covered_by_claim}
    assert covered == {"X-ray head, a whole round as sent", "ECG head, a whole round as sent"}


def test_hospital_privacy_promises_nothing_of_a_patient(claim_privacy: Callable[..., Path]) -> None:
    run = claim_privacy("hospital")
    leaks = head_leaks(open_site(run, load_cohort(run).sites[0].name))
    assert "X-ray head, a whole round as released" in leaks
    assert not any("private (" in name or leak.covered_by_claim for name, leak in leaks.items())


def test_a_run_without_a_bank_has_no_private_step(open_run: AuditedSite, open_leaks: dict[str, HeadLeak]) -> None:
    assert open_run.recipe.bank is None
    assert not [name for name in open_leaks if "private (" in name]


def test_with_a_bank_the_noise_is_said_to_be_stated(open_run: AuditedSite, private_site: AuditedSite) -> None:
    with_bank = replace(private_site, recipe=replace(open_run.recipe, bank=private_site.recipe.bank))
    assert updates(head_leaks(with_bank), "one step, private (z = 1, stated)")


def test_groups_are_clipped_as_groups(claim_privacy: Callable[..., Path]) -> None:
    run = claim_privacy("patient-groups")
    site = open_site(run, load_cohort(run).sites[0].name)
    leaks = updates(head_leaks(site), "one step, private (z = 1)")
    assert all(np.isfinite(leak.gradient).all() for leak in leaks) and leaks


def test_a_site_without_ecgs_has_no_ecg_head_to_attack(open_run: AuditedSite) -> None:
    def blind(examples: Examples) -> Examples:
        return replace(examples, triplets=tuple(replace(t, ecg=None, ecg_report=None) for t in examples.triplets))

    site = replace(open_run, members=blind(open_run.members).trainable(), outsiders=blind(open_run.outsiders))
    assert {name.split(",")[0] for name in head_leaks(site)} == {"X-ray head"}
