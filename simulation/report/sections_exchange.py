"""What was sent, the limits of the run, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from more_model.report.blocks import Facts, Section, Words, section
from simulation.report.details import ReportDetails
from simulation.report.reading import arms, interval, number, part
from simulation.report.wording import count, percent, size


def exchange_section(summary: Mapping[str, Any]) -> Section | None:
    """Bytes per site and round against a full model."""
    exchange = part(summary, "exchange")
    up, down, full = (
        number(exchange, key) for key in ("bytes_up_per_site_round", "bytes_down_per_site_round", "full_model_bytes")
    )
    items = [
        ("Sent by a site per round", _with_bytes(up)),
        ("Received by a site per round", _with_bytes(down)),
        ("The full model would be", _with_bytes(full)),
        ("Share of a full-model exchange", percent(_share(exchange, up, full))),
        ("Tensors that may leave a site", count(_how_many(exchange.get("tensors")))),
        ("Parameters trained", percent(number(exchange, "trainable_fraction"))),
    ]
    shown = [(term, words) for term, words in items if words != "–"]
    lead = Words(
        "A site sends only changes to the adapters (LoRA), the projection heads and the small input layers that the "
        "exchange specification "
        "names. Images, signals, reports and the full model stay where they are."
    )
    return section("exchange", "What was sent", [lead, Facts(shown) if shown else None])


def _how_many(tensors: object) -> object:
    return len(tensors) if isinstance(tensors, list | dict) else tensors


def _share(exchange: Mapping[str, Any], up: float | None, full: float | None) -> float | None:
    stated = number(exchange, "share_of_full_model")
    return stated if stated is not None else up / full if up is not None and full else None


def _with_bytes(n_bytes: float | None) -> str:
    if n_bytes is None or n_bytes < 1000:
        return size(n_bytes)
    return f"{size(n_bytes)} ({count(n_bytes)} bytes)"


def limits(summary: Mapping[str, Any], details: ReportDetails) -> list[str]:
    """What this run cannot show, most important first."""
    found = ["For research use only. Not a medical device; not for diagnosis, triage or any decision about a patient."]
    if summary.get("synthetic"):
        found.append(
            "All patients are synthetic: pictures, signals and words were generated. The figures show that the method "
            "works as built, not how "
            "it would do on real patients."
        )
    elif details.examples:
        found.append("The examples show studies and words of test patients: treat this file as you treat patient data.")
    seeds = summary.get("seeds") or [summary.get("seed")]
    if len(seeds) == 1:
        found.append(
            "One training run (one seed). The intervals cover the choice of test patients, not how a second training "
            "would differ."
        )
    if any(interval(values) is not None for values in arms(summary).values()):
        found.append(
            "Many intervals are shown; at 95 %, about one in twenty misses its true value even if everything is right."
        )
    found.append(
        "The federation ran on one machine. Networks, outages and disagreements between real hospitals were not part "
        "of it."
    )
    found.append(
        "Labels may be wrong or incomplete, and labels that are uncertain or not stated were handled by rule (see "
        "config.toml)."
    )
    return found


def environment_section(summary: Mapping[str, Any]) -> Section | None:
    """Versions and settings that reproduce the run."""
    environment = part(summary, "environment")
    items = [
        (str(key).replace("_", " ").capitalize(), _plain(value))
        for key, value in environment.items()
        if value not in (None, "", {})
    ]
    return section("environment", "How to reproduce it", [Facts(items) if items else None])


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value)
    return value if isinstance(value, str) else json.dumps(value)
