"""What an audit takes from a run directory, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.audit.site import AuditedSite, open_site, patients_of
from more_model.cohort_file import load_cohort
from more_model.data.study import Split
from more_model.errors import ConfigError, DataError, EnvironmentFault


def training_patients(run: Path) -> dict[str, int]:
    return {site.name: len(patients_of(site.examples.of_split(Split.TRAIN))) for site in load_cohort(run).sites}


def test_the_smallest_site_is_the_default(miniature_run: Any, open_run: AuditedSite) -> None:
    sizes = training_patients(miniature_run.out)
    assert sizes[open_run.name] == min(sizes.values())


def test_a_named_site_is_taken(miniature_run: Any) -> None:
    for name in training_patients(miniature_run.out):
        site = open_site(miniature_run.out, name)
        assert site.name == name
        assert {triplet.site for triplet in site.members.triplets} == {name}


def test_an_unknown_site_is_refused_with_the_known_ones(miniature_run: Any) -> None:
    known = ", ".join(sorted(training_patients(miniature_run.out)))
    with pytest.raises(ConfigError, match=known):
        open_site(miniature_run.out, "nowhere")


def test_members_trained_and_outsiders_did_not(open_run: AuditedSite) -> None:
    assert {triplet.split for triplet in open_run.members.triplets} == {Split.TRAIN}
    assert {triplet.split for triplet in open_run.outsiders.triplets} <= {Split.VALIDATION, Split.TEST}
    assert not set(patients_of(open_run.members)) & set(patients_of(open_run.outsiders))
    assert {triplet.split for triplet in open_run.test.triplets} == {Split.TEST}


def test_a_run_without_privacy_claims_nothing(open_run: AuditedSite) -> None:
    assert (open_run.claim.mode, open_run.claim.epsilon) == ("none", math.inf)
    assert open_run.recipe.plan is None


def test_a_claim_is_the_one_of_the_summary(private_site: AuditedSite) -> None:
    claim = private_site.claim
    assert (claim.mode, claim.epsilon, claim.delta, claim.unit) == ("patient-decoupled", 7.5, 1e-3, "patient")
    assert private_site.recipe.plan is not None
    assert private_site.recipe.plan.optimiser_steps == 2
    assert private_site.recipe.bank is not None


def test_the_unit_of_hospital_privacy_is_the_hospital(claim_privacy: Callable[..., Path]) -> None:
    run = claim_privacy("hospital")
    assert open_site(run, load_cohort(run).sites[0].name).claim.unit == "hospital"


@pytest.mark.parametrize("figure", ["noise_multiplier", "sampling_rate", "steps"])
def test_a_claim_about_another_training_is_refused(decoupled_run: Path, tmp_path: Path, figure: str) -> None:
    run = Path(shutil.copytree(decoupled_run, tmp_path / "run"))
    name = load_cohort(run).sites[0].name
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    summary["privacy"]["sites"][name][figure] *= 2
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    with pytest.raises(DataError, match=f"another {figure} than"):
        open_site(run, name)


def test_privacy_without_a_figure_for_the_site_is_refused(decoupled_run: Path) -> None:
    with pytest.raises(DataError, match="states no privacy of site"):
        open_site(decoupled_run, load_cohort(decoupled_run).sites[-1].name)


def test_an_unfinished_run_is_refused(miniature_run: Any, tmp_path: Path) -> None:
    run = Path(shutil.copytree(miniature_run.out, tmp_path / "run"))
    (run / "checkpoints" / "federated.safetensors").unlink()
    with pytest.raises(EnvironmentFault, match="there is no checkpoint"):
        open_site(run, None)
    shutil.rmtree(run / "workspace" / "base")
    with pytest.raises(EnvironmentFault, match="the base of the run"):
        open_site(run, None)
