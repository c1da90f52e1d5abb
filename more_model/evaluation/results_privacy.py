"""What a report says about the privacy budget that classifiers were trained from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from more_model.report.blocks import Facts, Section, Table, Words, section


def privacy_section(privacy: Mapping[str, Any] | None) -> Section | None:
    """The claim, the numbers that it follows from, and every condition under which it holds; None without a budget."""
    if privacy is None:
        return None
    facts = [
        ("Unit", privacy["unit"]),
        ("Adjacency", f"{privacy['adjacency']}: {privacy['neighbours']}"),
        ("Epsilon, all private results together", epsilon_text(privacy["epsilon"])),
        ("Delta", f"{privacy['delta']:g}"),
        ("Noise multiplier", f"{privacy['noise_multiplier']:g}"),
        ("Clipping norm", f"{privacy['clip_norm']:g}"),
        ("Sampling rate", f"{privacy['sampling_rate']:g}"),
        ("Steps, all private trainings together", f"{privacy['steps']:,}"),
        ("Training patients, as published", f"{privacy['public_patients']:,}"),
        ("Accountant", privacy["accountant"]),
    ]
    conditions = [[sentence] for sentence in (*privacy["assumptions"], *privacy["notes"])]
    return section(
        "privacy",
        "Privacy of the training patients",
        [
            Words(privacy["sentence"]),
            *(Words(warning, "note") for warning in privacy["warnings"]),
            Words(privacy["ledger"]["says"], "" if privacy["ledger"]["charged"] else "note"),
            Facts(facts),
            Table("What this holds under, and what it does not cover", ["Condition"], conditions, words=frozenset({0})),
        ],
    )


def privacy_lines(privacy: Mapping[str, Any] | None) -> list[str]:
    """The same for a terminal, without the conditions."""
    if privacy is None:
        return []
    return [
        f"  privacy: {privacy['sentence']}",
        f"    adjacency {privacy['adjacency']}; noise multiplier {privacy['noise_multiplier']:g}, clipping norm "
        f"{privacy['clip_norm']:g}, sampling rate {privacy['sampling_rate']:g}, {privacy['steps']} steps; "
        f"{privacy['accountant']}",
        *(f"    {sentence}" for sentence in (*privacy["warnings"], privacy["ledger"]["says"], *privacy["notes"])),
    ]


def epsilon_text(value: float) -> str:
    """Two decimals, never below the value: rounded to nearest it could print less than what holds."""
    return f"{math.ceil(value * 100) / 100:.2f}"
