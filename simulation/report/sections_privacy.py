"""What the run promises about privacy, to whom, what that cost, and what is not covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from more_model.report.blocks import Block, Cell, Facts, Section, Table, Words, section
from privacy.claims import rounded_up
from simulation.report import privacy_figure
from simulation.report.privacy_words import (
    NOT_STATED,
    against,
    curve_points,
    delta_words,
    is_private,
    meaning,
    mechanism,
    mechanism_words,
    point_name,
    share_words,
)
from simulation.report.reading import number, part
from simulation.report.wording import MISSING, count, difference, estimate, listing, plural

_NO_CLAIM = (
    "No differential privacy was used. Keeping data at a site does not by itself keep an update from revealing "
    "something about it."
)
_UNIT = {
    "patient": "each patient of a hospital, with all studies there",
    "hospital": "each hospital as a whole; no figure is stated for a single patient",
}


def privacy_section(summary: Mapping[str, Any], folder: Path) -> Section | None:
    """The protection as the run states it; nothing is claimed that it does not state."""
    return section("privacy", "Privacy", [*_promise(summary), *_cost(summary, folder), *_secure_sums(summary)])


def _promise(summary: Mapping[str, Any]) -> list[Block | None]:
    privacy = part(summary, "privacy")
    said_below = is_private(summary) and privacy.get("statement") == privacy.get("sentence")
    statement = Words(str(privacy["statement"])) if privacy.get("statement") and not said_below else None
    items = [("Mechanism", mechanism_words(summary))]
    if mechanism(summary) in {"none", NOT_STATED}:
        return [Words(_NO_CLAIM, "note"), statement, Facts(items)]
    if not is_private(summary):
        return [Words("No epsilon is stated, so none is claimed.", "note"), statement, Facts(items)]
    unit, epsilon, delta = str(privacy["unit"]), number(privacy, "epsilon") or 0.0, number(privacy, "delta") or 0.0
    items += [
        ("Protected", _UNIT.get(unit, unit)),
        (
            "Claim",
            str(privacy.get("sentence") or f"epsilon {rounded_up(epsilon)} per {unit} at delta {delta_words(delta)}"),
        ),
        ("What is hidden", f"the difference between data with {privacy.get('neighbours') or 'not stated'}"),
        ("In words", meaning(unit, epsilon, delta)),
        ("Against", against(summary)),
        ("Not covered", " ".join(map(str, _listed(privacy, "not_covered"))) or MISSING),
    ]
    return [
        statement,
        Facts(items),
        *(Words(str(warning), "note") for warning in _listed(privacy, "warnings")),
        _sites_table(summary),
        Words("The claim holds only if all of this is true:") if _listed(privacy, "assumptions") else None,
        _assumptions(privacy),
    ]


def _listed(values: Mapping[str, Any], key: str) -> list[Any]:
    listed = values.get(key)
    return listed if isinstance(listed, list) else []


def _assumptions(privacy: Mapping[str, Any]) -> Facts | None:
    """An assumption begins with what it is about, and a colon."""
    items = [str(sentence).partition(": ") for sentence in _listed(privacy, "assumptions")]
    return Facts([(head, rest) if rest else ("Also", head) for head, _, rest in items]) if items else None


def _sites_table(summary: Mapping[str, Any]) -> Table | None:
    sites, unit = part(summary, "privacy", "sites"), part(summary, "privacy").get("unit")
    rows: list[list[Cell | str]] = []
    for site in sites:
        values = part(sites, site)
        epsilon = number(values, "epsilon")
        rows.append(
            [
                site,
                MISSING if epsilon is None else rounded_up(epsilon),
                *(_figures(values, key) for key in ("noise_multiplier", "sampling_rate")),
                *(count(values.get(key)) for key in ("steps", "expected_units", "public_patients")),
            ]
        )
    if not rows:
        return None
    return Table(
        f"Epsilon per {unit} at each site, and what it was computed from",
        ("Site", "Epsilon", "Noise multiplier", "Sampling rate", "Steps counted", "Expected a step", "Patients stated"),
        rows,
        note="The claim of the run is that of the site with the largest epsilon. The noise multiplier is the standard "
        "deviation of the noise over the norm that one contribution may have. The number of patients is what the site "
        "declared in public; everyone may know it.",
    )


def _figures(values: Mapping[str, Any], key: str) -> str:
    value = number(values, key)
    return MISSING if value is None else f"{value:.4g}"


def _cost(summary: Mapping[str, Any], folder: Path) -> list[Block | None]:
    rows: list[list[Cell | str]] = [
        [
            Cell(_capital(point_name(point)), arm="federated")
            if point.get("arm") == "federated"
            else _capital(point_name(point)),
            estimate(point),
            difference(part(point, "gain")),
            share_words(point),
            _noise(part(point, "noise_multiplier")),
        ]
        for point in curve_points(summary)
    ]
    if not rows:
        return []
    table = Table(
        "What privacy cost: macro AUROC at each epsilon, with 95 % interval",
        ("Trained with", "Macro AUROC", "Minus public data only", "Share of the gain kept", "Noise multiplier"),
        rows,
        note="The gain is what training on the hospitals’ data adds to public data alone; its share is measured "
        "against training without privacy, and stated only where that gains something. Differences are paired on the "
        "same test patients. The epsilons are alternatives, each of a run of its own: whoever publishes several of "
        "the models has spent them together.",
    )
    return [privacy_figure.curve_figure(summary, folder), table]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _noise(multipliers: Mapping[str, Any]) -> str:
    """One figure, or the smallest and the largest where sites differ."""
    found = sorted({value for site in multipliers if (value := number(multipliers, site)) is not None})
    if not found:
        return MISSING
    return f"{found[0]:.3f}" if len(found) == 1 else f"{found[0]:.3f} to {found[-1]:.3f}"


def _secure_sums(summary: Mapping[str, Any]) -> list[Block | None]:
    sums = part(summary, "privacy", "secure_sum")
    if not sums:
        return []
    rounds = [part(entry) for entry in _listed(sums, "rounds")]
    disturbed = [entry for entry in rounds if any(entry.get(key) for key in ("lost", "withheld", "void"))]
    items = [
        ("Secure sums", str(sums.get("statement") or NOT_STATED)),
        ("Sites", f"{count(sums.get('sites'))}, of which {count(sums.get('threshold'))} are needed to unmask a sum"),
        ("Tolerated", f"{plural(int(sums.get('colluders') or 0), 'site')} working with the coordinator"),
        ("Arithmetic", f"integers modulo 2^{sums.get('word_bits')}; the masked sum is the plain sum bit for bit"),
        ("Rounds", f"{len(rounds)}, of which {len(disturbed)} lost a site or a sum"),
    ]
    return [Facts(items), _lost_table(disturbed)]


def _lost_table(disturbed: Sequence[Mapping[str, Any]]) -> Table | None:
    rows: list[list[Cell | str]] = []
    for entry in disturbed:
        lost = part(entry, "lost")
        hidden = listing([str(group) for group in _listed(entry, "withheld")]) or MISSING
        rows.append(
            [
                count(entry.get("round")),
                ", ".join(f"{site} ({stage})" for site, stage in lost.items()) or MISSING,
                "all: the round is void" if entry.get("void") else hidden,
            ]
        )
    if not rows:
        return None
    head = ("Round", "Sites lost (at which stage)", "Sums kept hidden")
    return Table("Rounds of secure summation that lost something", head, rows, words=frozenset({1, 2}))
