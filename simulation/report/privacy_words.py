"""What a run may say about privacy, in words: each epsilon with its unit, its delta and the change that it hides.

The numbers are those of ``summary["privacy"]``; only their meaning (what a guess can gain) is worked out here. No
epsilon is called safe: whether one is small enough is for those to judge who answer for the patients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from privacy.claims import MEANINGLESS_EPSILON, rounded_up
from simulation.report.reading import interval, number, part
from simulation.report.wording import MISSING, auroc, percent, plural

NOT_STATED = "not stated"

_HOW = {
    "patient-decoupled": "each patient is contrasted with its own studies and public records only; the gradient of a "
    "patient is clipped, and noise is added in every step, at the hospital",
    "patient-groups": "patients are contrasted inside fixed small groups; the gradient of a group is clipped, and "
    "noise is added in every step, at the hospital",
    "patient-shuffled": "as with groups of patients, each group once an epoch; nothing is counted on secret sampling",
    "hospital": "the whole update of a hospital is clipped and weighted by a public number; noise is added to the sum",
}

_TOOK_PART = {
    "patient": "whether one given patient took part",
    "hospital": "whether the updates of one given hospital were used",
}


def mechanism(summary: Mapping[str, Any]) -> str:
    """The privacy mode of the federated arm, ``none``, or `NOT_STATED`."""
    return str(part(summary, "privacy").get("mechanism") or NOT_STATED)


def is_private(summary: Mapping[str, Any]) -> bool:
    """Whether the run states an epsilon that can be printed: with its delta and its unit."""
    privacy = part(summary, "privacy")
    whole = all(number(privacy, key) is not None for key in ("epsilon", "delta")) and privacy.get("unit")
    return mechanism(summary) not in {"none", NOT_STATED} and bool(whole)


def mechanism_words(summary: Mapping[str, Any]) -> str:
    """The mode and how it works."""
    mode = mechanism(summary)
    return f"{mode}: {_HOW[mode]}" if mode in _HOW else mode


def short_claim(summary: Mapping[str, Any]) -> str:
    """``epsilon 7.99 per patient, delta 0.00001``; "no differential privacy" or "privacy not stated" without one."""
    if not is_private(summary):
        return "no differential privacy" if mechanism(summary) == "none" else "privacy not stated"
    privacy = part(summary, "privacy")
    delta = delta_words(number(privacy, "delta") or 0.0)
    return f"{epsilon_words(number(privacy, 'epsilon'))} per {privacy['unit']}, delta {delta}"


def epsilon_words(epsilon: float | None) -> str:
    """An epsilon, never below its value; None is infinite: without privacy."""
    return "without privacy" if epsilon is None else f"epsilon {rounded_up(epsilon)}"


def delta_words(delta: float) -> str:
    """A delta in plain decimals, three digits, never below its value."""
    places = 2 - math.floor(math.log10(delta)) if delta > 0 else 0
    # Twelve digits behind those shown: 1e-5 is not to become 0.0000101.
    shown = math.ceil(round(delta * 10.0**places, 12)) / 10.0**places
    return f"{shown:.{places}f}".rstrip("0") if places else "0"


def meaning(unit: str, epsilon: float, delta: float) -> str:
    """What the pair bounds, for somebody who has everything that was released and all other data."""
    if epsilon > MEANINGLESS_EPSILON:
        return (
            f"A bound in form only: a result may be {most_times(epsilon)} times as likely with the {unit} as without. "
            "Reconstruction of records may be hindered; about taking part nothing is promised."
        )
    guessed = _TOOK_PART.get(unit, "which of the two it was")
    return (
        f"Whatever is released is at most {most_times(epsilon)} times as likely with the {unit} as without, and the "
        f"reverse, up to a probability of {delta_words(delta)}. Who has everything that was released and all other "
        f"data, and guesses {guessed} where both were equally likely beforehand, is right in at most "
        f"{most_right(epsilon, delta)} of such cases; without looking, in half."
    )


def most_times(epsilon: float) -> str:
    """e^epsilon to three digits, rounded up; beyond what a person would call a bound, only that it is."""
    if epsilon > MEANINGLESS_EPSILON:
        return f"more than {math.exp(MEANINGLESS_EPSILON) // 1e6:.0f} million"
    ratio = math.exp(epsilon)
    unit = 10.0 ** (math.floor(math.log10(ratio)) - 2)
    shown = math.ceil(ratio / unit) * unit
    return f"{shown:,.0f}" if shown >= 100 else f"{shown:.3g}"


def most_right(epsilon: float, delta: float) -> str:
    """The largest share of right guesses between two equally likely neighbours, (e^epsilon + delta) / (1 + e^epsilon),
    in percent and rounded up (Wasserman and Zhou 2010; Kairouz, Oh and Viswanath 2015, arXiv 1311.0776)."""
    wrong = (1 - delta) / (1 + math.exp(epsilon))
    return f"{100 - math.floor(wrong * 1e4) / 100:.2f}\u00a0%"


def against(summary: Mapping[str, Any]) -> str:
    """From whom the claim protects."""
    privacy = part(summary, "privacy")
    if privacy.get("unit") != "hospital":
        return "whoever sees what leaves a hospital: the coordinator, the other hospitals, readers of the model"
    readers = "the other hospitals and readers of the global model"
    sums = part(privacy, "secure_sum")
    if not sums:
        return f"{readers}; not the coordinator, who receives each update before the noise is added"
    helpers = plural(int(number(sums, "colluders") or 0), "hospital")
    return f"{readers}; the coordinator, too, also with the help of {helpers}: it sees sums with noise only"


def terminal_lines(summary: Mapping[str, Any]) -> list[str]:
    """The claim, the secure sums and the privacy-utility curve, a line each."""
    privacy = part(summary, "privacy")
    if is_private(summary):
        first = f"Privacy ({mechanism(summary)}): {short_claim(summary)}; hidden: {privacy.get('neighbours')}"
    else:
        first = f"Privacy: {short_claim(summary).removeprefix('privacy ')}"
        first += "; what updates reveal about patients is not bounded" if mechanism(summary) == "none" else ""
    sums = part(privacy, "secure_sum")
    secure = [f"Secure sums: {sums.get('sites')} sites, {sums.get('threshold')} needed to unmask"] if sums else []
    points = [f"  {_point_words(point)}" for point in curve_points(summary)]
    return [first, *secure, *(["Macro AUROC by privacy:", *points] if points else [])]


def _point_words(point: Mapping[str, Any]) -> str:
    value, ends = number(point, "macro_auroc"), interval(point)
    known = auroc(value) if ends is None else f"{auroc(value)} ({ends[0]:.2f}–{ends[1]:.2f})"
    kept = share_words(point)
    return f"{point_name(point)}: {known}" + ("" if kept == MISSING else f", keeps {kept} of the gain")


def curve_points(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The privacy-utility curve from public data only (epsilon 0) over growing epsilons to no privacy (infinite)."""
    curve = part(summary, "privacy").get("curve")
    points = [part(point) for point in curve] if isinstance(curve, list) else []
    known = [point for point in points if "epsilon" in point]
    return sorted(known, key=lambda point: math.inf if point["epsilon"] is None else float(point["epsilon"]))


def point_name(point: Mapping[str, Any]) -> str:
    """``public data only``, ``epsilon 3.00`` or ``without privacy``."""
    return "public data only" if point["epsilon"] == 0 else epsilon_words(number(point, "epsilon"))


def share_words(point: Mapping[str, Any]) -> str:
    """Share of the gain over public data that a point keeps, with its interval; a dash where it cannot be said."""
    share = part(point, "share_of_gain")
    value, ends = number(share, "value"), interval(share)
    if value is None:
        return MISSING
    return percent(value) if ends is None else f"{percent(value)} ({percent(ends[0])} to {percent(ends[1])})"
