"""What summary.json says of privacy: the claim of every site, the secure sums, and what each budget costs in AUROC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from more_model.evaluation.bootstrap import mean_over_labels, percentile_interval, replicate_aurocs, resample_arms
from more_model.evaluation.embedded import Float64
from more_model.evaluation.summary import Arm, compare
from privacy.rounds import RoundPlan, weakest
from privacy.secure_sum.settings import SumSettings
from privacy.secure_sum.terms import usual_threshold
from server.journal import RoundRecord, is_void
from simulation.outcome import Outcome
from simulation.protection import WITHOUT_PRIVACY, ArmProtection, curve_arms
from simulation.workbench import Workbench

_NONE = (
    "No differential privacy and no secure aggregation were used: the coordinator sees each site's update in the "
    "clear. Only LoRA and projection-head updates travelled; that alone is no privacy guarantee."
)
_SUMS_ONLY = (
    "No differential privacy was used. The coordinator saw the sum of the sites' updates and no single one; what the "
    "sum itself, and the finished model, tell about a patient is not bounded."
)
#: Whatever the mode. The simulation itself breaks these rules to be able to measure.
_NOT_COVERED = (
    "The AUROC figures, curves and health checks of this page were computed on held-out patients in the clear. A real "
    "federation that published them would release more than the epsilon above covers.",
    "The number of training patients of each site (to two digits) and which kinds of studies it has are public, and "
    "so is who took part in which round.",
    "Settings that were chosen by looking at these patients' results (learning rate, clipping norm, rounds) are "
    "outside the epsilon.",
    "Whoever holds the trained model can still run it on a patient's studies; the epsilon bounds what the model tells "
    "about who was in its training data.",
)


def privacy_summary(
    bench: Workbench,
    outcomes: Mapping[str, Outcome],
    curve: Mapping[str, Outcome],
    rounds: Sequence[RoundRecord],
) -> dict[str, Any]:
    """``privacy`` of summary.json, about the arm ``federated`` and those of the curve."""
    agreed = bench.protection("federated")
    sums = None if agreed.sums is None else _sums(agreed.sums, len(bench.sites), rounds)
    if not agreed.privacy.on:
        return {"mechanism": "none", "statement": _NONE if sums is None else _SUMS_ONLY, "secure_sum": sums}
    claims = {site: plan.claim() for site, plan in agreed.plans.items()}
    claim = weakest(claims)
    return {
        "mechanism": agreed.privacy.mode,
        "statement": claim.sentence,
        "sentence": claim.sentence,
        "unit": claim.unit,
        "neighbours": claim.neighbours,
        "epsilon": claim.result.epsilon,
        "delta": claim.result.delta,
        "accountant": claim.result.accountant,
        "warnings": [*claim.warnings, *_trust(agreed)],
        "assumptions": list(claim.result.assumptions),
        "sites": {
            site: _site(plan, claims[site].result.epsilon, agreed.declarations[site].patients)
            for site, plan in agreed.plans.items()
        },
        "not_covered": list(_NOT_COVERED),
        "secure_sum": sums,
        "curve": _curve(bench, outcomes, curve) if bench.config.privacy_curve else None,
    }


def _site(plan: RoundPlan, epsilon: float, patients: int) -> dict[str, Any]:
    return {
        "epsilon": epsilon,
        "noise_multiplier": plan.noise_multiplier,
        "sampling_rate": plan.sampling_rate,
        "steps": plan.all_steps,
        "expected_units": None if plan.schedule is None else plan.schedule.expected_units,
        "public_patients": patients,
    }


def _trust(agreed: ArmProtection) -> list[str]:
    if agreed.privacy.mode != "hospital":
        return []
    if agreed.sums is not None:
        return ["The noise is spread over the sites: it protects the sum, not an update before it is masked."]
    return ["The coordinator adds the noise: it sees each update before, and must be trusted with it."]


def _sums(settings: SumSettings, sites: int, rounds: Sequence[RoundRecord]) -> dict[str, Any]:
    threshold = usual_threshold(sites, settings.colluders)
    return {
        "statement": (
            f"The coordinator saw only sums over the sites, as long as at most {settings.colluders} of them work "
            f"together with it. {threshold} of {sites} sites are needed to unmask a sum, and no sum over fewer than "
            f"{settings.minimum_contributors} is ever revealed."
        ),
        "sites": sites,
        "threshold": threshold,
        "colluders": settings.colluders,
        "word_bits": settings.word_bits,
        "bits": settings.bits,
        "rounds": [
            {
                "round": record.round,
                "void": is_void(record),
                "lost": {part.site: part.why or part.state for part in record.sites if part.state != "accepted"},
            }
            for record in rounds
        ],
    }


def _curve(bench: Workbench, outcomes: Mapping[str, Outcome], curve: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """From no privacy over the budgets, falling, to public data only. Points whose arm was not trained are left out."""
    base = outcomes.get("base")
    if base is None:
        return []
    found = {**curve, **{name: outcome for name, outcome in outcomes.items() if name == "federated"}}
    arms = dict.fromkeys(arm for arm in (WITHOUT_PRIVACY, "federated", *curve_arms(bench.config)) if arm in found)
    points = [_point(bench, arm, found[arm], base, curve.get(WITHOUT_PRIVACY)) for arm in arms]
    points.sort(key=lambda point: -np.inf if point["epsilon"] is None else -point["epsilon"])
    public = {"epsilon": 0, "arm": "base", **_figure(base), "gain": None, "share_of_gain": None}
    return [*points, {**public, "noise_multiplier": None}]


def _point(bench: Workbench, arm: str, outcome: Outcome, base: Outcome, without: Outcome | None) -> dict[str, Any]:
    agreed = bench.protection(arm)
    draws: dict[str, Any] = {"replicates": bench.config.evaluation.replicates, "seed": bench.config.seed}
    mine, public = outcome.scores.zero_shot, base.scores.zero_shot
    gain = compare(mine, public, **draws)
    share = None
    if without is not None and outcome is not without:
        share = share_of_gain(mine, without.scores.zero_shot, public, **draws)
    return {
        "epsilon": _budget(agreed),
        "arm": arm,
        **_figure(outcome),
        "gain": {"macro_auroc": gain["macro_auroc"], "ci95": gain.get("ci95")},
        "share_of_gain": share,
        "noise_multiplier": {site: plan.noise_multiplier for site, plan in agreed.plans.items()} or None,
    }


def _budget(agreed: ArmProtection) -> float | None:
    """The epsilon that was asked for, or else the one that the noise gives; None without privacy."""
    if not agreed.plans:
        return None
    spent = weakest({site: plan.claim() for site, plan in agreed.plans.items()}).result.epsilon
    return agreed.privacy.target_epsilon or spent


def _figure(outcome: Outcome) -> dict[str, Any]:
    return {"macro_auroc": outcome.table["macro_auroc"], "ci95": outcome.table["ci95"]}


def share_of_gain(mine: Arm, without: Arm, public: Arm, *, replicates: int, seed: int) -> dict[str, Any] | None:
    """(mine - public) / (without - public) in macro AUROC, with a paired percentile interval over patients.

    None where the gain without privacy is not clear of zero: a share of nothing is not a number.
    """
    resamples = resample_arms([mine, without, public], replicates=replicates, seed=seed)
    tasks = [
        triple
        for triple in zip(mine, without, public, strict=True)
        if all(not np.isnan(replicate_aurocs(scored, resamples)).all() for scored in triple)
    ]
    draws = [_macro([triple[place] for triple in tasks], resamples) for place in range(3)]
    gain, kept = draws[1] - draws[2], draws[0] - draws[2]
    interval = percentile_interval(gain)
    if interval is None or interval[0] <= 0:
        return None
    values = [compare(arm, public, replicates=replicates, seed=seed)["macro_auroc"] for arm in (mine, without)]
    return {"value": values[0] / values[1], "ci95": list(percentile_interval(kept / gain) or ()) or None}


def _macro(arm: Arm, resamples: Any) -> Float64:
    return mean_over_labels(np.stack([replicate_aurocs(scored, resamples) for scored in arm]))
