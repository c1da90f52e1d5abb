"""What each method says of itself, proven: exact in effective weights, linear in the updates, fit for secure sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.errors import ConfigError
from more_model.exchange import TensorDict, Update
from privacy.quantise import decode, tensor_grid
from privacy.secure_sum.compatibility import Choices, require_compatible
from privacy.secure_sum.coordinator import Coordinator, SecureSum
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.plan import Plan, terms_of
from privacy.secure_sum.prepare import Prepared, prepare
from privacy.secure_sum.site import Conditions, Site
from privacy.secure_sum.terms import Terms
from server.aggregation.mean import weighted_mean
from server.aggregation.methods import AGGREGATIONS, aggregation

Build = Callable[..., Any]
EXACT = [name for name, method in AGGREGATIONS.items() if method.exact]
LINEAR = [name for name, method in AGGREGATIONS.items() if method.linear]


def bits(tensors: TensorDict) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in tensors.items()}


@pytest.mark.parametrize("round_number", [1, 2])
@pytest.mark.parametrize("name", EXACT)
def test_mean_of_effective_weights_is_effective_weight_of_the_result(
    trained: Build, name: str, round_number: int
) -> None:
    sites = trained(name, round_number)
    combined = aggregation(name).combine(sites.start, sites.updates, sites.spec)
    sites.spec.check(combined)
    assert sites.gap(combined) < 1e-6
    # The sites did move what is compared.
    assert sites.gap(sites.start) > 0.05


def test_the_methods_that_are_exact_are_these() -> None:
    assert sorted(EXACT) == ["fedex", "fedsvd", "ffa", "rolora"]
    assert sorted(LINEAR) == ["fedit", "fedsvd", "ffa", "rolora"]


@pytest.mark.parametrize("name", sorted(AGGREGATIONS.keys() - set(EXACT)))
def test_the_others_leave_a_gap(trained: Build, name: str) -> None:
    sites = trained(name)
    assert sites.gap(aggregation(name).combine(sites.start, sites.updates, sites.spec)) > 1e-3


def test_without_its_correction_an_exact_method_would_leave_a_gap(trained: Build) -> None:
    sites = trained("fedex")
    assert sites.gap(weighted_mean(sites.start, sites.updates, sites.spec)) > 1e-3
    # And rolora is exact because only one factor moves: both at once, its own arithmetic is that of fedit.
    both = trained("fedit")
    assert both.gap(aggregation("rolora").combine(both.start, both.updates, both.spec)) > 1e-3


def as_one(sites: Any) -> Update:
    """The weighted mean of all updates, as the only update."""
    towers: dict[str, float] = {}
    sums: dict[str, Any] = {}
    for update in sites.updates:
        for tower, weight in update.weights.items():
            towers[tower] = towers.get(tower, 0.0) + weight
        for delta_name, delta in update.deltas.items():
            term = update.weights[delta_name.partition(".")[0]] * delta.astype(np.float64)
            sums[delta_name] = sums.get(delta_name, 0.0) + term
    deltas = {n: (total / towers[n.partition(".")[0]]).astype(np.float32) for n, total in sums.items()}
    return replace(sites.updates[0], site="sum of the sites", deltas=deltas, weights=dict.fromkeys(towers, 1.0))


def distance(sites: Any, one: TensorDict, other: TensorDict) -> float:
    """In effective weights and in what is no factor: a method may choose other factors of the same product."""
    products = [np.abs(sites.effective(one, m) - sites.effective(other, m)).max() for m in ("text.query", "xray.qkv")]
    return float(max(*products, np.abs(one["text.head.0.weight"] - other["text.head.0.weight"]).max()))


@pytest.mark.parametrize("round_number", [1, 2])
@pytest.mark.parametrize("name", sorted(AGGREGATIONS))
def test_linear_methods_and_only_those_need_no_more_than_the_mean(trained: Build, name: str, round_number: int) -> None:
    sites, method = trained(name, round_number), aggregation(name)
    whole = method.combine(sites.start, sites.updates, sites.spec)
    from_mean = method.combine(sites.start, [as_one(sites)], sites.spec)
    if method.linear:
        assert distance(sites, whole, from_mean) < 1e-6
    else:
        assert distance(sites, whole, from_mean) > 1e-3


class InMemory:
    def claim(self, run: str, number: int) -> None:
        """Every sum of this test is the first."""


def masked_sum(plan: Plan, terms: Terms, prepared: dict[str, Prepared]) -> SecureSum:
    """A whole secure sum of the sites in ``prepared``, none of which drops out."""
    identities = {name: Identity.generate() for name in prepared}
    roster = Roster({name: identity.public() for name, identity in identities.items()})
    conditions = Conditions(terms.agreement)
    sites = {name: Site(name, identities[name], roster, conditions, InMemory()) for name in prepared}
    coordinator = Coordinator(terms, roster)
    for name, site in sites.items():
        coordinator.receive_advertisement(site.advertise(terms, prepared[name].encoded.weights))
    participants = coordinator.close_advertising()
    for site in sites.values():
        coordinator.receive_shares(site.share(participants))
    for name, delivery in coordinator.close_sharing().items():
        coordinator.receive_masked(sites[name].mask(delivery, prepared[name].encoded))
    proposal = coordinator.close_masking()
    for site in sites.values():
        coordinator.receive_confirmation(site.confirm(proposal))
    request = coordinator.close_confirming()
    for site in sites.values():
        coordinator.receive_revealed(site.reveal(request))
    return coordinator.finish()


@pytest.mark.parametrize("round_number", [1, 2])
@pytest.mark.parametrize("name", LINEAR)
def test_a_secure_sum_gives_linear_methods_the_bits_of_the_plain_sum(
    trained: Build, name: str, round_number: int
) -> None:
    sites, method = trained(name, round_number, weights=(3, 5, 2, 4)), aggregation(name)
    upward = sites.spec.upward(round_number)
    plan = Plan(upward, {t.name: tensor_grid(4.0, 24) for t in upward.tensors}, clip_norm=1e3, rounding="nearest")
    terms = terms_of(
        plan, run="r", number=round_number, sites=[u.site for u in sites.updates], fingerprint_digest="f",
        word_bits=64, max_weight=9,
    )  # fmt: skip
    prepared = {
        u.site: prepare(u.deltas, {tower: int(w) for tower, w in u.weights.items() if w > 0}, plan, terms)
        for u in sites.updates
    }
    result = masked_sum(plan, terms, prepared)
    plain = {
        group: np.asarray(
            sum(p.encoded.words[group].astype(object) for p in prepared.values() if group in p.encoded.words)
            % 2**terms.word_bits
        ).astype("u8")
        for group in terms.words
    }
    assert result.sums.keys() == plain.keys()
    assert all(np.array_equal(result.sums[group], plain[group]) for group in plain)
    totals = {group: sum(weights.values()) for group, weights in result.weights.items()}
    mean = decode(result.sums, totals, upward, plan.grids)
    upward.check(mean)
    one = Update("sum of the sites", round_number, mean, dict.fromkeys(totals, 1.0), sites.spec.digest(), "")
    combined = method.combine(sites.start, [one], sites.spec)
    again = method.combine(sites.start, [replace(one, deltas=decode(plain, totals, upward, plan.grids))], sites.spec)
    assert bits(combined) == bits(again)
    # Off the sum in the clear by the rounding to the grid only.
    whole = method.combine(sites.start, sites.updates, sites.spec)
    assert distance(sites, combined, whole) < 1e-5


@pytest.mark.parametrize("name", sorted(AGGREGATIONS))
def test_secure_sums_refuse_exactly_what_is_not_linear(name: str) -> None:
    if aggregation(name).linear:
        require_compatible(Choices(aggregation=name))
    else:
        with pytest.raises(ConfigError, match=f"aggregation '{name}': it combines each site's A with the same site's"):
            require_compatible(Choices(aggregation=name))
