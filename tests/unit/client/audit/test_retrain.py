"""Training a site once more: with the run's settings and noise, in its rounds, and without touching the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.audit.retrain import retrained
from client.audit.site import AuditedSite, open_site
from more_model.base import assemble, load_base
from more_model.cohort_file import load_cohort
from more_model.errors import ConfigError
from more_model.model.inventory import export_tensors
from privacy.hospital import update_norm


def trained(site: AuditedSite, **more: Any) -> dict[str, Any]:
    keywords: dict[str, Any] = {"site": site.name, "words": site.words, "seed": 1, "rounds": 1, **more}
    return export_tensors(retrained(site.start, site.members, site.recipe, **keywords))


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def changed(site: AuditedSite, after: dict[str, Any]) -> dict[str, Any]:
    return {name: after[name] - before for name, before in export_tensors(site.start).items()}


def test_without_privacy_equal_seeds_give_equal_bits(open_run: AuditedSite) -> None:
    before = export_tensors(open_run.start)
    first = trained(open_run)
    assert equal(first, trained(open_run))
    assert not equal(first, trained(open_run, seed=2))
    assert equal(before, export_tensors(open_run.start))


def test_all_rounds_of_the_run_are_trained(open_run: AuditedSite) -> None:
    seen: list[tuple[int, int]] = []
    two = trained(open_run, rounds=None, on_round=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert not equal(two, trained(open_run))


def test_with_privacy_no_two_trainings_are_alike(private_site: AuditedSite) -> None:
    assert not equal(trained(private_site), trained(private_site))


def test_the_noise_of_the_claim_is_in_it(private_site: AuditedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of hardly anything but noise: every entry of the private gradient has spread z C / expected units."""
    import client.private_training

    gradients: list[np.ndarray[Any, Any]] = []
    step = client.private_training.private_step

    def noted(*arguments: Any, **keywords: Any) -> Any:
        private = step(*arguments, **keywords)
        gradients.append(np.concatenate([tensor.numpy().ravel() for tensor in private.gradient.values()]))
        return private

    monkeypatch.setattr(client.private_training, "private_step", noted)
    recipe = private_site.recipe
    assert recipe.plan is not None and recipe.plan.schedule is not None
    loud = replace(recipe, plan=replace(recipe.plan, optimiser_steps=1, noise_multiplier=200.0), rounds=1)
    trained(replace(private_site, recipe=loud))
    assert len(gradients) == 1
    expected = 200.0 * recipe.privacy.clip_norm / recipe.plan.schedule.expected_units
    assert gradients[0].std() == pytest.approx(expected, rel=0.05)


def test_hospital_privacy_clips_and_noises_the_whole_update(claim_privacy: Callable[..., Path]) -> None:
    run = claim_privacy("hospital", clip_norm=0.01)
    site = open_site(run, load_cohort(run).sites[0].name)
    recipe, share = site.recipe, 1 / 3
    assert recipe.plan is not None
    quiet = replace(site, recipe=replace(recipe, plan=replace(recipe.plan, noise_multiplier=1e-6)))
    assert update_norm(changed(quiet, trained(quiet))) == pytest.approx(share * 0.01, rel=1e-2)
    moved = np.concatenate([tensor.ravel() for tensor in changed(site, trained(site)).values()])
    assert moved.std() == pytest.approx(1.0 * share * 0.01, rel=0.05)


@pytest.mark.parametrize("mode", ["patient-decoupled", "patient-groups"])
def test_room_for_canaries_leaves_rate_and_noise_alone(
    claim_privacy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    import client.audit.retrain

    run = claim_privacy(mode)
    site = open_site(run, load_cohort(run).sites[0].name)
    assert site.recipe.plan is not None and site.recipe.plan.schedule is not None
    own, seen = site.recipe.plan.schedule, []

    def noted(*arguments: Any, **keywords: Any) -> None:
        seen.append((arguments[5], keywords["noise_multiplier"], keywords["steps"]))

    monkeypatch.setattr(client.audit.retrain, "train_privately", noted)
    trained(site, expected_extra=8.0)
    (planned, noise, steps) = seen[0]
    assert (planned.sampling_rate, noise, steps) == (own.sampling_rate, 1.0, 2)
    assert planned.units == own.units + (8 if mode == "patient-decoupled" else 2)
    assert planned.expected_units / planned.units == pytest.approx(own.expected_units / own.units)


def test_a_patient_mode_without_a_bank_is_refused(private_site: AuditedSite) -> None:
    bare = replace(private_site, recipe=replace(private_site.recipe, bank=None))
    with pytest.raises(ConfigError, match="needs the bank of public records"):
        trained(bare)


def test_only_what_travels_in_a_round_trains_in_it(miniature_run: Any, open_run: AuditedSite) -> None:
    built = assemble(load_base(miniature_run.out / "workspace" / "base"), "rolora", 0)
    site = replace(open_run, start=built.model, recipe=replace(open_run.recipe, spec=built.spec))
    moved = {name for name, change in changed(site, trained(site)).items() if np.any(change)}
    assert any(".lora_B." in name for name in moved)
    assert not any(".lora_A." in name for name in moved)
