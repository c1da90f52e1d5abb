"""The epsilon that each site has spent in a run and may spend, from public numbers alone.

The coordinator cannot look into a site's ledger, and must not. But what a round costs is agreed on before the run
(`privacy.rounds.round_plan`), so it can count. The count is of this run only, and of rounds that were charged once;
what binds is the ledger at the site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from privacy.claims import mode_claim
from privacy.rounds import RoundPlan, round_plan
from privacy.sensitivity import MODES, Mode
from server.federation_file import FederationFile

#: Codes with which a site says that its budget stands against a round.
BUDGET_CODES = frozenset({"BudgetExhausted", "epsilon-above-policy", "delta-above-policy"})


@dataclass(frozen=True, slots=True)
class SitePrivacy:
    """By plan, after ``rounds`` rounds: ``epsilon`` spent, of ``budget`` for the whole run with its spare rounds, both
    at ``delta`` and for the ``unit`` (patient or hospital)."""

    epsilon: float
    budget: float
    delta: float
    unit: str
    mode: Mode
    rounds: int


def site_privacy(federation: FederationFile, asked: Mapping[str, int]) -> dict[str, SitePrivacy]:
    """For every site of the federation file, asked in so many rounds; empty without differential privacy.

    A round counts as charged once its site was asked: a site charges before it trains, and a round that it refused or
    in which it was not heard of may have been charged all the same.

    Raises:
        ConfigError: a plan that cannot be made (`load_federation` refuses such a file).
    """
    settings = federation.privacy
    if not settings.on:
        return {}
    plans = {
        site: round_plan(settings, part.patients, rounds=federation.rounds.rounds, local_epochs=federation.local_epochs)
        for site, part in federation.sites.items()
    }
    return {site: _spent(plan, asked.get(site, 0)) for site, plan in plans.items()}


def _spent(plan: RoundPlan, rounds: int) -> SitePrivacy:
    steps = plan.accounted_steps * rounds
    spent = 0.0
    if steps:
        spent = mode_claim(plan.mode, plan.noise_multiplier, 1.0, plan.sampling_rate, steps, plan.delta).result.epsilon
    return SitePrivacy(spent, plan.claim().result.epsilon, plan.delta, MODES[plan.mode].unit, plan.mode, rounds)
