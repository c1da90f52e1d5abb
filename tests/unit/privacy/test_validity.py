"""Designs whose epsilon would be false are refused, each with its reason and what to use instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from more_model.errors import ConfigError
from privacy.sensitivity import MODES
from privacy.validity import RULES, Design, check_design, design_faults, design_of

DECOUPLED, GROUPS, HOSPITAL = (design_of(mode) for mode in ("patient-decoupled", "patient-groups", "hospital"))
PER_STUDY = Design("per-example", "example", "study", "poisson", "add-remove", studies_per_patient=3)

BROKEN = [
    ("in-batch-contrast", replace(DECOUPLED, loss="in-batch-contrastive"), "2 n C"),
    ("in-batch-contrast", replace(GROUPS, clipped="example", adjacency="replace"), "patient-decoupled"),
    ("whole-batch-clip", replace(GROUPS, clipped="batch"), "2 C"),
    ("groups-mixed", replace(GROUPS, loss="in-batch-contrastive"), "group_info_nce"),
    ("queue", replace(DECOUPLED, loss="queue"), "public records"),
    ("batch-coupled", replace(DECOUPLED, loss="batch-coupled"), "one unit alone"),
    ("divisor", replace(DECOUPLED, divisor="realised"), "public expected number"),
    ("empty-step", replace(DECOUPLED, empty_step="skipped"), "noise alone"),
    ("empty-step", replace(DECOUPLED, empty_step="one-random-record"), "up to 2 C"),
    ("chunked-after-sampling", replace(GROUPS, sampling="poisson-then-chunked"), "groups as the things that are drawn"),
    ("groups-by-position", replace(GROUPS, group_assignment="by-position"), "keyed hash"),
    ("no-amplification", replace(DECOUPLED, sampling="shuffled"), "claims none"),
    ("no-amplification", replace(DECOUPLED, sampling="fixed-size"), "poisson_draw"),
    ("group-adjacency", replace(GROUPS, adjacency="add-remove"), "z = sigma / C"),
    ("accountant-relation", replace(GROUPS, accountant="opacus-prv"), "add-remove only"),
    ("accountant-relation", replace(GROUPS, accountant="rdp"), "privacy.accounting"),
    ("gdp", replace(DECOUPLED, accountant="opacus-gdp"), "too little"),
    ("study-as-patient", replace(PER_STUDY, claimed="patient"), "chosen_studies"),
    ("noise-from-seed", replace(DECOUPLED, noise="experiment-seed"), "subtracts"),
    ("weights-from-data", replace(HOSPITAL, weights="from-data"), "public, fixed weights"),
]


@pytest.mark.parametrize("mode", list(MODES))
def test_every_mode_is_valid_as_intended_and_agrees_with_its_contract(mode: Any) -> None:
    design = design_of(mode)
    check_design(design)
    contract = MODES[mode]
    assert (design.claimed, design.clipped, design.adjacency) == (contract.unit, contract.clipped, contract.adjacency)
    assert design.amplification is contract.sampled


@pytest.mark.parametrize(("name", "design", "words"), BROKEN)
def test_each_way_to_get_it_wrong_is_refused_and_explained(name: str, design: Design, words: str) -> None:
    assert name in [rule.name for rule in RULES if rule.broken(design)]
    with pytest.raises(ConfigError, match="Instead: ") as caught:
        check_design(design)
    assert words in str(caught.value)
    assert "it would be false" in caught.value.avoid


def test_every_rule_is_tried_above() -> None:
    assert {rule.name for rule in RULES} == {name for name, _, _ in BROKEN}


def test_naive_infonce_refused_with_all_its_faults_at_once() -> None:
    naive = Design(
        "in-batch-contrastive", "example", "patient", "shuffled", "replace", "opacus-prv",
        divisor="realised", noise="experiment-seed", studies_per_patient=5,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="6 faults"):
        check_design(naive)


def test_what_is_valid_is_not_refused() -> None:
    assert design_faults(PER_STUDY) == ()
    assert design_faults(replace(PER_STUDY, claimed="patient", studies_per_patient=1)) == ()
    # A hospital's update is clipped whole, so whatever happens inside is its own affair.
    assert design_faults(replace(HOSPITAL, loss="queue")) == ()
    assert design_faults(replace(DECOUPLED, accountant="opacus-prv")) == ()
    # One clipped batch, replace, everyone always there: little use, but true.
    whole = replace(GROUPS, loss="in-batch-contrastive", clipped="batch", sampling="everyone", amplification=False)
    assert design_faults(whole) == ()
