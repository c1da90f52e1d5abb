"""From the outcomes of the arms to summary.json: tables side by side, paired gaps, what each site gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from more_model.evaluation.summary import at_site, compare, compare_with_mean, summarise_mean
from more_model.model.inventory import Inventory
from more_model.run_folder import environment
from server.journal import RoundRecord, as_json
from simulation.cohort import cohort_summary, text_kind
from simulation.health import judged
from simulation.outcome import Outcome
from simulation.privacy_summary import privacy_summary
from simulation.workbench import Workbench

SCHEMA = 1


def build_summary(
    bench: Workbench,
    inventory: Inventory,
    outcomes: Mapping[str, Outcome],
    rounds: Sequence[RoundRecord],
    over_seeds: Mapping[str, Sequence[float | None]],
    *,
    privacy_curve: Mapping[str, Outcome] | None = None,
    other_rounds: Sequence[RoundRecord] = (),
    label_seeds: Mapping[str, Sequence[Mapping[str, float | None]]] | None = None,
) -> dict[str, Any]:
    """The content of summary.json (DESIGN section 8). ``other_rounds`` are those of further seeds: a site missing there
    makes the run partial, too. ``privacy_curve`` has the arms of `simulation.protection.curve_arms`.
    ``label_seeds`` has the AUROC per label of each arm, one mapping a seed."""
    config = bench.config
    arms = _arms(bench, outcomes, over_seeds, label_seeds or {})
    return {
        "schema": SCHEMA,
        "name": config.name,
        "status": _status([*rounds, *other_rounds]),
        "seed": config.seed,
        "seeds": [config.seed + number for number in range(config.seeds)],
        "synthetic": config.data.synthetic is not None,
        "text_kind": text_kind(bench.cohorts),
        "cohort": cohort_summary(bench.cohorts),
        "model": _model(bench, inventory),
        "base": {"kind": config.base.kind, "explanation": _base(bench)},
        "evaluation": {
            "prompts": bench.scorer.prompts.name,
            "uncertainty": config.evaluation.uncertainty,
            "replicates": config.evaluation.replicates,
        },
        "arms": arms,
        "gap": _gaps(bench, outcomes),
        "joining": _joining(bench, outcomes),
        "exchange": _exchange(inventory, rounds, len(bench.sites)),
        "privacy": privacy_summary(bench, outcomes, privacy_curve or {}, rounds),
        "federation": {
            "engine": config.federation.engine,
            "method": config.federation.method,
            "rounds": config.federation.rounds.rounds,
            "local_epochs": config.federation.local_epochs,
            "proximal_mu": config.training.proximal_mu,
        },
        "rounds": as_json(rounds),
        "environment": environment(),
    }


def local_arms(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Site name -> the outcome of its local arm."""
    prefix = "local-"
    return {name.removeprefix(prefix): outcome for name, outcome in outcomes.items() if name.startswith(prefix)}


def _arms(
    bench: Workbench,
    outcomes: Mapping[str, Outcome],
    over_seeds: Mapping[str, Sequence[float | None]],
    label_seeds: Mapping[str, Sequence[Mapping[str, float | None]]],
) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        table = {**outcome.table, "site_mean": site_mean(outcome.table)}
        values = [value for value in over_seeds.get(name, ()) if value is not None]
        if len(values) > 1:
            spread = float(np.std(values, ddof=1))
            table["over_seeds"] = {"macro_auroc": values, "mean": float(np.mean(values)), "sd": spread}
        if "health" in table:
            seeds = {"macro": values, "per_label": label_seeds.get(name, [])}
            table["health"] = judged(table["health"], seeds)
        if name.startswith("local-"):
            arms.setdefault("local", {})[name.removeprefix("local-")] = table
        else:
            arms[name] = table
    locals_ = local_arms(outcomes)
    if locals_:
        replicates, seed = bench.config.evaluation.replicates, bench.config.seed
        scored = [outcome.scores.zero_shot for outcome in locals_.values()]
        mean = summarise_mean(scored, replicates=replicates, seed=seed)
        arms["local"]["mean"] = {**mean, "site_mean": site_mean(mean)}
        probed = [outcome.scores.probe for outcome in locals_.values() if outcome.scores.probe]
        if probed:
            arms["local"]["mean"]["linear_probe"] = summarise_mean(probed, replicates=replicates, seed=seed)
    return arms


def site_mean(table: Mapping[str, Any]) -> dict[str, Any]:
    """The unweighted mean over sites of a table's AUROC: macro, and per label over the sites where it has a value."""
    macros = [site["macro_auroc"] for site in table["per_site"].values() if site["macro_auroc"] is not None]
    values: dict[str, list[float]] = {}
    for site in table["per_site"].values():
        for label, row in site["per_label"].items():
            if row["auroc"] is not None:
                values.setdefault(label, []).append(row["auroc"])
    return {
        "macro_auroc": float(np.mean(macros)) if macros else None,
        "sites": len(macros),
        "per_label": {
            label: {"auroc": float(np.mean(of_sites)), "sites": len(of_sites)} for label, of_sites in values.items()
        },
    }


def _gaps(bench: Workbench, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    replicates, seed = bench.config.evaluation.replicates, bench.config.seed
    gaps: dict[str, Any] = {}
    federated = outcomes.get("federated")
    if federated is None:
        return gaps
    mine = federated.scores.zero_shot
    if "centralized" in outcomes:
        theirs = outcomes["centralized"].scores.zero_shot
        gaps["federated_minus_centralized"] = compare(mine, theirs, replicates=replicates, seed=seed)
    others = [outcome.scores.zero_shot for outcome in local_arms(outcomes).values()]
    if others:
        gaps["federated_minus_local_mean"] = compare_with_mean(mine, others, replicates=replicates, seed=seed)
    if "base" in outcomes:
        gaps["federated_minus_base"] = compare(
            mine, outcomes["base"].scores.zero_shot, replicates=replicates, seed=seed
        )
    return gaps


def _joining(bench: Workbench, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """What each site gains on its own held-out patients over training alone."""
    federated, joining = outcomes.get("federated"), {}
    replicates, seed = bench.config.evaluation.replicates, bench.config.seed
    for site, alone in local_arms(outcomes).items():
        if federated is None:
            continue
        mine, theirs = at_site(federated.scores.zero_shot, site), at_site(alone.scores.zero_shot, site)
        gain = compare(mine, theirs, replicates=replicates, seed=seed)
        joining[site] = {
            "local": _macro_at(alone, site),
            "federated": _macro_at(federated, site),
            "gain": gain["macro_auroc"],
            "ci95": gain.get("ci95"),
            "labels": gain.get("labels"),
            "reason": gain.get("reason"),
        }
    return joining


def _macro_at(outcome: Outcome, site: str) -> float | None:
    value = outcome.table["per_site"].get(site, {}).get("macro_auroc")
    return None if value is None else float(value)


def _status(rounds: Sequence[RoundRecord]) -> str:
    short = any(part.state != "accepted" for record in rounds for part in record.sites)
    return "partial" if short else "complete"


def _base(bench: Workbench) -> str:
    """Where the base came from; that it shares no patient with the hospitals is said only where it was checked."""
    checked = bench.config.base.kind == "warm-up"
    return bench.base_origin + (" None of them is a patient of a hospital here." if checked else "")


def _model(bench: Workbench, inventory: Inventory) -> dict[str, Any]:
    model = bench.config.model.resolved()
    return {
        "preset": model.name,
        "parameters": inventory.total,
        "trainable": inventory.trainable,
        "trainable_fraction": inventory.trainable_fraction,
        "text_trainable_fraction": inventory.text_trainable_fraction,
        "normalisation": model.normalisation,
    }


def _exchange(inventory: Inventory, rounds: Sequence[RoundRecord], sites: int) -> dict[str, Any]:
    measured = [record.bytes_up for record in rounds]
    answers = sum(part.state == "accepted" for record in rounds for part in record.sites)
    return {
        "bytes_up_per_site_round": round(sum(measured) / answers) if answers else None,
        "bytes_down_per_site_round": inventory.exchanged_bytes,
        "full_model_bytes": inventory.full_model_bytes,
        "trainable_fraction": inventory.trainable_fraction,
        "share_of_full_model": inventory.exchanged_share,
        "bytes_up_total": sum(measured),
        "sites": sites,
    }
