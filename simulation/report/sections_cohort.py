"""What was trained, and who took part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from more_model.report.blocks import Block, Cell, Facts, Section, Table, Words, section
from simulation.report.reading import number, part
from simulation.report.wording import (
    MISSING,
    auroc,
    count,
    duration,
    listing,
    modality_name,
    percent,
    plural,
    size,
    words_kind,
)

_SPLITS = ("train", "validation", "test")
_STATES = ("accepted", "late", "absent", "quarantined")
#: Incidents beyond this many are counted, not listed; `events.jsonl` has them all.
MOST_INCIDENTS = 20
#: Longer federations are shown by evenly spaced rounds.
MOST_ROUNDS = 30


def trained_section(summary: Mapping[str, Any]) -> Section | None:
    """The model, its base, and what the words were."""
    model, base = part(summary, "model"), part(summary, "base")
    items: list[tuple[str, str]] = []
    if model.get("preset"):
        items.append(
            (
                "Model",
                f"MoRE, preset “{model['preset']}”: one encoder each for chest X-ray, 12-lead ECG and report, aligned "
                "by their words",
            )
        )
    if number(model, "parameters") is not None:
        items.append(("Parameters", _parameters(model)))
    if number(model, "text_trainable_fraction") is not None:
        items.append(
            ("Text encoder", f"{percent(number(model, 'text_trainable_fraction'))} of its parameters are trained")
        )
    if model.get("normalisation"):
        items.append(("Normalisation", f"{model['normalisation']}"))
    if base:
        items.append(("Frozen base", ": ".join(str(base[key]) for key in ("kind", "explanation") if base.get(key))))
    if summary.get("text_kind"):
        items.append(("Words trained on", words_kind(summary["text_kind"])))
    seeds = summary.get("seeds") or ([summary["seed"]] if summary.get("seed") is not None else [])
    if seeds:
        items.append(("Seeds", ", ".join(str(seed) for seed in seeds)))
    return section("trained", "What was trained", [Facts(items) if items else None])


def _parameters(model: Mapping[str, Any]) -> str:
    words = f"{count(number(model, 'parameters'))} in all"
    if number(model, "trainable") is not None:
        words += f", {count(number(model, 'trainable'))} of them trained"
    if number(model, "trainable_fraction") is not None:
        words += f" ({percent(number(model, 'trainable_fraction'))})"
    return words


def cohort_section(summary: Mapping[str, Any]) -> Section | None:
    """Sites with their patients, labels, and each site's part in the rounds."""
    rounds = [entry for entry in summary.get("rounds") or [] if isinstance(entry, Mapping)]
    blocks: list[Block | None] = [
        _patients(summary),
        _refused(summary),
        _prevalence(summary),
        _attendance(rounds),
        *_incidents(rounds),
    ]
    blocks += [_never_there(summary, rounds), _rounds(rounds)]
    return section("cohort", "Who took part", blocks)


def _patients(summary: Mapping[str, Any]) -> Table | None:
    sites = part(summary, "cohort", "sites")
    if not sites:
        return None
    rows: list[list[Cell | str]] = []
    columns: list[list[float | None]] = []
    for site, facts in sites.items():
        values = [number(part(facts, "patients"), split) for split in _SPLITS]
        values.append(_total([number(part(facts, "triplets"), split) for split in _SPLITS]))
        values += [number(part(facts, "modalities"), kind) for kind in ("xray", "ecg", "both")]
        columns.append(values)
        rows.append([site, *(count(value) for value in values)])
    if len(rows) > 1:
        rows.append(["All sites", *(count(_total(column)) for column in zip(*columns, strict=True))])
    return Table(
        caption="Patients and studies of each site",
        head=("Site", *(f"{split.capitalize()} patients" for split in _SPLITS), "Studies", "X-ray", "ECG", "Both"),
        rows=rows,
        note="A patient belongs to one site and one split. A study is an X-ray, an ECG or both, with the words that "
        "belong to it.",
    )


def _total(values: Sequence[float | None]) -> float | None:
    """The sum of what is stated; None where nothing is."""
    stated = [value for value in values if value is not None]
    return sum(stated) if stated else None


def _refused(summary: Mapping[str, Any]) -> Table | None:
    sites = part(summary, "cohort", "sites")
    rows = [[site, str(reason), count(n)] for site in sites for reason, n in part(sites, site, "refused").items() if n]
    if not rows:
        return None
    return Table(
        "Files that could not be used and were left out", ("Site", "Reason", "Files"), rows, words=frozenset({1})
    )


def _prevalence(summary: Mapping[str, Any]) -> Table | None:
    prevalence = part(summary, "cohort", "label_prevalence")
    rows: list[list[Cell | str]] = []
    for label in prevalence:
        positives, negatives = (number(part(prevalence, label), key) for key in ("positives", "negatives"))
        share = (
            positives / (positives + negatives)
            if positives is not None and negatives is not None and positives + negatives
            else None
        )
        rows.append([label, count(positives), count(negatives), percent(share)])
    if not rows:
        return None
    return Table("Labels in the whole cohort", ("Label", "Positives", "Negatives", "Share positive"), rows)


def _attendance(rounds: Sequence[Mapping[str, Any]]) -> Table | None:
    """How often each site's update was accepted, late, absent or quarantined."""
    sites = list(dict.fromkeys(site for entry in rounds for site in part(entry, "sites")))
    if not sites:
        return None
    rows: list[list[Cell | str]] = []
    for site in sites:
        entries = [part(entry, "sites", site) for entry in rounds if part(entry, "sites", site)]
        cells = [sum(entry.get("state") == state for entry in entries) for state in _STATES]
        pairs = [sum(number(entry, key) or 0.0 for entry in entries) for key in ("pairs_xray", "pairs_ecg")]
        marked = [
            Cell(count(n), tone="warn" if n and state != "accepted" else "")
            for n, state in zip(cells, _STATES, strict=True)
        ]
        rows.append([site, f"{cells[0]} of {len(rounds)}", *marked[1:], count(pairs[0]), count(pairs[1])])
    return Table(
        caption=f"Part taken in {plural(len(rounds), 'round')} of federated training",
        head=("Site", "Accepted", "Late", "Absent", "Quarantined", "X-ray pairs trained", "ECG pairs trained"),
        rows=rows,
        note="A pair is one X-ray or ECG with its words; pairs count again in every round. Updates are averaged per "
        "encoder over the "
        "sites that trained it.",
    )


def _incidents(rounds: Sequence[Mapping[str, Any]]) -> list[Table | Words | None]:
    rows = [
        [
            f"Round {entry.get('round', MISSING)}",
            site,
            str(facts.get("state")),
            str(facts.get("why") or "no reason given"),
        ]
        for entry in rounds
        for site, facts in ((site, part(entry, "sites", site)) for site in part(entry, "sites"))
        if facts.get("state") != "accepted"
    ]
    if not rounds:
        return []
    if not rows:
        return [Words("Every update of every round was used.")]
    short = list(dict.fromkeys(row[1] for row in rows))
    left_out = (
        f" The first {MOST_INCIDENTS} of {len(rows)}; events.jsonl has them all." if len(rows) > MOST_INCIDENTS else ""
    )
    table = Table(
        caption="Rounds in which a site’s update was not used",
        head=("Round", "Site", "State", "Why"),
        rows=rows[:MOST_INCIDENTS],
        note=left_out.strip(),
        words=frozenset({1, 2, 3}),
    )
    return [
        Words(f"Some rounds ran with fewer sites than expected: {listing(short)} missed at least one.", tone="note"),
        table,
    ]


def _never_there(summary: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> Words | None:
    """Sites that have patients and yet appear in no round: easily overlooked, because no row mentions them."""
    seen = {site for entry in rounds for site in part(entry, "sites")}
    unseen = [site for site in part(summary, "cohort", "sites") if site not in seen] if rounds else []
    return Words(f"In the cohort, but asked in no round: {listing(unseen)}.", tone="note") if unseen else None


def _rounds(rounds: Sequence[Mapping[str, Any]]) -> Table | None:
    if not rounds:
        return None
    every = -(-len(rounds) // MOST_ROUNDS)
    shown = [entry for index, entry in enumerate(rounds) if index % every == 0 or index == len(rounds) - 1]
    rows = [_round_row(entry) for entry in shown]
    note = f"Every {every}th round and the last one are shown." if every > 1 else ""
    return Table(
        "Round by round",
        ("Round", "Updates used", "Loss", "Macro AUROC (validation)", "Sent by sites", "Time"),
        rows,
        note=note,
    )


def _round_row(entry: Mapping[str, Any]) -> list[Cell | str]:
    sites = part(entry, "sites")
    used = sum(part(sites, site).get("state") == "accepted" for site in sites)
    loss = number(entry, "loss")
    return [
        str(entry.get("round", MISSING)),
        Cell(f"{used} of {len(sites)}", tone="warn" if used < len(sites) else ""),
        MISSING if loss is None else f"{loss:.3f}",
        auroc(number(entry, "macro_auroc")),
        size(number(entry, "bytes_up")),
        duration(number(entry, "seconds")),
    ]


def modalities_present(summary: Mapping[str, Any]) -> list[str]:
    """The kinds of study that any site brought, as shown to people."""
    sites = part(summary, "cohort", "sites")
    return [
        modality_name(kind)
        for kind in ("xray", "ecg")
        if any(number(part(sites, site, "modalities"), kind) for site in sites)
    ]
