"""Combinations that need single updates are refused with the reason."""

from __future__ import annotations

from typing import get_args

import pytest

from more_model.errors import ConfigError
from more_model.lora_method import LoraMethod
from privacy.secure_sum.compatibility import AGGREGATIONS, Choices, conflicts, require_compatible
from server.aggregation.methods import AGGREGATIONS as OFFERED


@pytest.mark.parametrize("name", ["fedit", "ffa", "rolora", "fedsvd", "fed-sb"])
def test_linear_methods_are_allowed(name: str) -> None:
    require_compatible(Choices(aggregation=name, robust_rule="norm-bound", compression="int8"))


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        (Choices(aggregation="fedex"), "each site's A with the same site's B"),
        (Choices(aggregation="flexlora"), "each site's A with the same site's B"),
        (Choices(robust_rule="krum"), "compares or orders the single updates"),
        (Choices(robust_rule="trimmed-mean"), "compares or orders the single updates"),
        (Choices(robust_rule="median-norm-bound"), "bound at a public constant instead"),
        (Choices(compression="top-k"), "masks need one public set"),
        (Choices(compression="error-feedback"), "break the norm bound"),
        (Choices(update_checks=["cosine-to-aggregate"]), "the coordinator has only their sum"),
        (Choices(update_checks=["max-update-norm"]), "every site clips to the plan's norm instead"),
        (Choices(aggregation="new-method"), "nobody has decided"),
    ],
)
def test_what_needs_single_updates_is_refused(choices: Choices, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        require_compatible(choices)


def test_all_conflicts_at_once() -> None:
    choices = Choices("flora", "krum", "top-k", ["finite", "evaluate-each-update", "aggregate-on-public-set"])
    assert len(conflicts(choices)) == 5


def test_the_table_knows_every_method_of_this_project_and_agrees_with_it() -> None:
    assert set(get_args(LoraMethod)) <= set(AGGREGATIONS)
    for name, method in OFFERED.items():
        assert (AGGREGATIONS[name] is None) == method.linear, name
