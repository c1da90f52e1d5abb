"""What a site store holds, in counts that a hospital can show: small numbers of people are not printed.

A count from 1 to ``minimum_count - 1`` is shown as ``<5``. Where exactly one part of a whole is small, it could be had
by subtraction, so the next smallest part reads ``hidden``. Zero is shown as zero. Blocks are linked: studies per
modality less the triplets that hold it give the rest, so a small count in one block hides its counterparts in others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from more_model.data.gate import NOT_DEIDENTIFIED, gate_name
from more_model.data.pairing import PairingRule, pair
from more_model.data.source_notes import CHANGED, SourceNotes
from more_model.data.store import SiteStore, StoredStudy
from more_model.data.store_files import read_gate
from more_model.data.study import Modality, Split, Triplet

Shown = int | str
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How often a label is stated as what; ``prevalence`` = present / stated, None where a count is not shown."""

    present: Shown
    absent: Shown
    uncertain: Shown
    prevalence: float | None


@dataclass(frozen=True, slots=True)
class DataReport:
    """Everything `more-client data-report` shows; counts are suppressed already.

    ``triplets``: by the modalities present. ``missing``: triplets that lack a part. ``left_out``: what pairing could
    not use. ``quarantine``: studies per reason. ``deidentification``: the check for identifiers that the studies
    passed. ``withheld``: studies that it kept out, per kind of finding. ``labels``: over X-rays and ECGs.
    ``corrections``: studies per code. ``gone``: stored studies that the last ingest found no source of any more.
    """

    site: str
    pairing: Mapping[str, Any]
    minimum_count: int
    patients: Shown
    studies: Mapping[str, Shown]
    triplets: Mapping[str, Shown]
    missing: Mapping[str, Shown]
    left_out: Mapping[str, Shown]
    quarantine: Mapping[str, Shown]
    deidentification: str
    withheld: Mapping[str, Shown]
    labels: Mapping[str, LabelCounts]
    corrections: Mapping[str, Shown]
    gone: Mapping[str, Shown]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema": SCHEMA, **asdict(self)}


def data_report(folder: Path, rule: PairingRule, *, minimum_count: int = 5) -> DataReport:
    """Pairs the studies of a store and counts. Raises `StoreError` for a damaged or missing store."""
    store = SiteStore.open_read(folder)
    records = store.records
    patients = {record.patient_id for record in records}
    # Splits do not change how a patient is paired, and this report is about the whole site.
    result = pair(records, rule, dict.fromkeys(patients, Split.TRAIN), store.site)
    kinds = {kind: result.counts.get(kind, 0) for kind in ("xray-and-ecg", "xray-only", "ecg-only")}
    others = {name: count for name, count in result.counts.items() if name not in {*kinds, "triplets", "patients"}}
    refusals = Counter(f"{entry.modality.value}: {entry.reason}" for entry in store.quarantine.values())
    notes, keys = SourceNotes.read(folder), store.keys()
    refusals |= Counter({f"{kind}: {CHANGED}": count for kind, count in notes.changed(keys).items()})
    corrections = Counter(kind for record in records for kind in _correction_kinds(record))
    found = Counter(kind for entry in store.quarantine.values() for kind in entry.found)
    quarantine = suppressed(dict(sorted(refusals.items())), minimum_count)
    studies = Counter(record.modality.value for record in records)
    triplets = _triplets_shown(kinds, minimum_count)
    missing = _missing_shown(result.triplets, triplets, minimum_count)
    left_out = {name: visible(count, minimum_count) for name, count in sorted(others.items()) if count}
    linked = [*triplets.values(), *missing.values(), *left_out.values()]
    show_totals = visible if all(isinstance(count, int) for count in linked) else _hidden
    return DataReport(
        site=store.site,
        pairing=rule.model_dump(mode="json"),
        minimum_count=minimum_count,
        patients=visible(len(patients), minimum_count),
        studies={modality.value: show_totals(studies[modality.value], minimum_count) for modality in Modality},
        triplets=triplets,
        missing=missing,
        left_out=left_out,
        quarantine=quarantine,
        deidentification=gate_name(read_gate(folder)),
        withheld=_withheld_shown(dict(sorted(found.items())), quarantine, minimum_count),
        labels=_labels(records, minimum_count),
        corrections={name: visible(count, minimum_count) for name, count in sorted(corrections.items())},
        gone={kind: visible(count, minimum_count) for kind, count in sorted(notes.gone(keys).items())},
    )


def suppressed(parts: Mapping[str, int], minimum_count: int) -> dict[str, Shown]:
    """The parts of one whole with small ones hidden, and a second one where subtraction would give the first away."""
    small = [name for name, count in parts.items() if 0 < count < minimum_count]
    shown: dict[str, Shown] = {name: visible(count, minimum_count) for name, count in parts.items()}
    others = [name for name, count in parts.items() if count and name not in small]
    if len(small) == 1 and others:
        shown[min(others, key=lambda name: parts[name])] = "hidden"
    return shown


def render(report: DataReport) -> str:
    """The report as plain text."""
    rule = report.pairing
    days = "" if rule["rule"] == "admission-window" else f", {rule['days']:g} days"
    lines = [
        f"Site {report.site}, {report.patients} patients (pairing: {rule['rule']}{days})",
        f"Check for identifiers: {report.deidentification}",
    ]
    blocks = {
        "Studies stored": report.studies,
        "Triplets": report.triplets,
        "Triplets lacking a part": report.missing,
        "Not used in pairs": report.left_out,
        "Quarantined": report.quarantine,
        "Withheld because they may name somebody": report.withheld,
        "Corrected by the readers": report.corrections,
        "Stored, and no longer among the sources": report.gone,
    }
    for title, counts in blocks.items():
        lines += ["", title, *(_columns(counts) or ["  none"])]
    return "\n".join([*lines, "", "Labels", *_label_lines(report.labels)])


def _columns(counts: Mapping[str, Shown]) -> list[str]:
    width = max(map(len, counts), default=0)
    return [f"  {name:<{width}}  {count:>8}" for name, count in counts.items()]


def _label_lines(labels: Mapping[str, LabelCounts]) -> list[str]:
    if not labels:
        return ["  none"]
    width = max(*map(len, labels), len("label"))
    lines = [f"  {'label':<{width}}  {'present':>8}  {'absent':>8}  {'uncertain':>9}  prevalence"]
    for name, row in labels.items():
        share = "-" if row.prevalence is None else f"{row.prevalence:.1%}"
        lines.append(f"  {name:<{width}}  {row.present:>8}  {row.absent:>8}  {row.uncertain:>9}  {share:>10}")
    return lines


def _correction_kinds(record: StoredStudy) -> set[str]:
    # A code may carry details after a colon ("flat-lead:V3"): one study counts once for its kind.
    return {code.partition(":")[0] for code in record.corrections}


def visible(count: int, minimum_count: int) -> Shown:
    """A count by itself, hidden where it is small."""
    return f"<{minimum_count}" if 0 < count < minimum_count else count


def _hidden(count: int, minimum_count: int) -> Shown:
    return "hidden" if count >= minimum_count else visible(count, minimum_count)


def _triplets_shown(kinds: Mapping[str, int], minimum_count: int) -> dict[str, Shown]:
    # Where every patient has one triplet the number of patients is their sum, so one visible part beside a small one
    # narrows it: all are shown or none.
    show = _hidden if any(0 < count < minimum_count for count in kinds.values()) else visible
    return {name: show(count, minimum_count) for name, count in kinds.items()}


def _withheld_shown(found: Mapping[str, int], quarantine: Mapping[str, Shown], minimum_count: int) -> dict[str, Shown]:
    # The same studies as in the quarantine, divided another way: one side would give the other away.
    others = [count for reason, count in quarantine.items() if reason.endswith(f": {NOT_DEIDENTIFIED}")]
    small = any(count < minimum_count for count in found.values()) or not all(isinstance(n, int) for n in others)
    return {kind: (_hidden if small else visible)(count, minimum_count) for kind, count in found.items()}


def _missing_shown(triplets: Sequence[Triplet], kinds: Mapping[str, Shown], minimum_count: int) -> dict[str, Shown]:
    show = visible if all(isinstance(count, int) for count in kinds.values()) else _hidden
    unreported = {name: show(count, minimum_count) for name, count in _unreported(triplets).items()}
    return {"no X-ray": kinds["ecg-only"], "no ECG": kinds["xray-only"], **unreported}


def _unreported(triplets: Sequence[Triplet]) -> dict[str, int]:
    return {
        "X-ray without report": sum(triplet.xray is not None and triplet.xray_report is None for triplet in triplets),
        "ECG without report": sum(triplet.ecg is not None and triplet.ecg_report is None for triplet in triplets),
    }


def _labels(records: Sequence[StoredStudy], minimum_count: int) -> dict[str, LabelCounts]:
    counts: dict[str, Counter[float]] = {}
    for record in records:
        if record.modality is not Modality.REPORT:
            for label, value in record.labels.items():
                counts.setdefault(label, Counter())[value] += 1
    return {label: _label_counts(counts[label], minimum_count) for label in sorted(counts)}


def _label_counts(values: Counter[float], minimum_count: int) -> LabelCounts:
    parts = {"present": values[1.0], "absent": values[0.0], "uncertain": values[-1.0]}
    shown = suppressed(parts, minimum_count)
    whole = all(isinstance(count, int) for count in shown.values())
    return LabelCounts(
        present=shown["present"],
        absent=shown["absent"],
        uncertain=shown["uncertain"],
        prevalence=parts["present"] / sum(parts.values()) if whole else None,
    )
