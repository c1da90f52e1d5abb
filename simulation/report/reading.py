"""Tolerant reading of a summary: any optional part may be absent, and a number may be refused (null)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: The arms in the order in which they are shown; local models are shown through their mean.
ARM_ORDER = ("centralized", "federated", "local", "random_encoder")

#: Fewer positives or negatives than this and arms or sites should not be ranked by the label.
FEW_CASES = 10


def part(summary: Any, *keys: str) -> dict[str, Any]:
    """The mapping found by following ``keys``; empty where any of them is missing or is not a mapping."""
    found: Any = summary
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def number(values: Mapping[str, Any], key: str) -> float | None:
    """A finite number, or None where it is absent, null, or not a number."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def interval(values: Mapping[str, Any]) -> tuple[float, float] | None:
    """The two ends of ``ci95``, or None where there is no usable interval."""
    ends = values.get("ci95")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return None
    low, high = (number({"end": end}, "end") for end in ends)
    return None if low is None or high is None else (low, high)


def arms(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every arm that has results, in display order; ``local`` stands for the mean of the local models."""
    results = part(summary, "arms")
    names = [*ARM_ORDER, *(name for name in results if name not in ARM_ORDER)]
    found = {name: part(results, name, "mean") if name == "local" else part(results, name) for name in names}
    return {name: values for name, values in found.items() if values}


def local_models(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The model that each site trained alone, by site."""
    local = part(summary, "arms", "local")
    return {site: part(local, site) for site in local if site != "mean" and part(local, site)}


def labels(summary: Mapping[str, Any]) -> list[str]:
    """Every label that any arm was tested on, in the order of first mention."""
    seen: dict[str, None] = {}
    for values in arms(summary).values():
        seen.update(dict.fromkeys(part(values, "per_label")))
    return list(seen)


def label_facts(summary: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Positives, negatives, modality of a label, from the first arm that states them (all share one test set)."""
    facts: dict[str, Any] = {}
    for values in arms(summary).values():
        stated = part(values, "per_label", label)
        for key in ("positives", "negatives", "modality"):
            if stated.get(key) is not None:
                facts.setdefault(key, stated[key])
    return facts


def few_cases(facts: Mapping[str, Any]) -> bool:
    """Whether a label has too few positives or negatives to rank anything by it; False where they are not stated."""
    counts = [number(facts, key) for key in ("positives", "negatives")]
    return any(count is not None and count < FEW_CASES for count in counts)
