"""Filling a site store from studies: once each, whatever was interrupted, the unusable ones set aside with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from more_model.data.convert import Converted, Refused, source_state
from more_model.data.convert_pool import convert_all
from more_model.data.gate import GateRecord, StudyGate, check_same_or_laxer, gate_name
from more_model.data.preprocessing import Preprocessing
from more_model.data.source_notes import CHANGED, CHANGED_WORDS, SourceNotes, judge, note_planned, suspects
from more_model.data.store import Key, QuarantinedStudy, SiteStore, StoredStudy
from more_model.data.store_files import read_gate, write_gate
from more_model.data.study import Study
from more_model.errors import DataError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of the studies given to one ingest.

    ``stored``, ``already_stored``: counts per modality. ``refused``: per reason, earlier refusals that still stand
    included. ``corrections``: studies per code, over what this ingest stored; ``nan_samples`` likewise. ``changed``:
    stored studies whose labels, time, patient or group differ in the sources now; the store keeps what it has.
    ``source_changed``, ``source_gone``: per modality, stored studies whose source holds something else now (the newer
    version is set aside, the store keeps what it has), and those that have none any more; of the whole store, not
    counted as refused.
    ``deidentification``: the gate that the studies passed, or "not checked". ``withheld``: of the refused studies, how
    many had findings of each kind that may name somebody (one study may have several).
    """

    studies: int
    stored: Mapping[str, int] = field(default_factory=dict)
    already_stored: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    corrections: Mapping[str, int] = field(default_factory=dict)
    nan_samples: int = 0
    changed: int = 0
    source_changed: Mapping[str, int] = field(default_factory=dict)
    source_gone: Mapping[str, int] = field(default_factory=dict)
    deidentification: str = gate_name(None)
    withheld: Mapping[str, int] = field(default_factory=dict)

    @property
    def refused_share(self) -> float:
        """Refused studies as a share of all given."""
        return sum(self.refused.values()) / self.studies if self.studies else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()}
        return {**plain, "refused_share": self.refused_share}


class CeilingExceeded(DataError):
    """More studies were refused than the ceiling allows; ``report`` holds what became of all of them."""

    def __init__(self, report: IngestReport, cause: str, *, remedy: str, avoid: str) -> None:
        self.report = report
        super().__init__(cause, remedy=remedy, avoid=avoid)

    def __reduce__(self) -> tuple[object, ...]:
        # A process that ingests hands it to the one that asked; the default would give __init__ the message alone.
        return _raised_elsewhere, (self.report, self.cause, self.remedy, self.avoid)


def _raised_elsewhere(report: IngestReport, cause: str, remedy: str, avoid: str) -> CeilingExceeded:
    return CeilingExceeded(report, cause, remedy=remedy, avoid=avoid)


def ingest(
    studies: Sequence[Study],
    store_path: Path,
    site: str,
    preprocessing: Preprocessing,
    *,
    ceiling: float = 0.05,
    workers: int = 1,
    gate: StudyGate | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Converts what the store does not hold yet; the store's bytes do not depend on ``workers``.

    May be killed at any time and run again: stored studies are skipped, refused ones only tried again after their file
    changed. Raises `CeilingExceeded` at the end where more than ``ceiling`` (a share of all studies given) are refused
    (what could be stored is stored), `StoreError` for another site or preprocessing, `EnvironmentFault` for a full disk
    or a missing package.

    A stored study whose source has changed is never replaced: the newer version is listed in the quarantine and
    counted. Stored studies whose source is gone are counted as well. See `more_model.data.source_notes`.

    ``gate`` withholds studies that may name somebody: they are refused as "not-deidentified" and tried again under
    another gate. A store remembers its gate; it takes a laxer one (for what comes then), any other is a `StoreError`.
    """
    record = None if gate is None else GateRecord.of(gate)
    with _opened(store_path, site, preprocessing) as store:
        _agree_on_gate(store, record)
        todo, tally = _plan(studies, store, record)
        notes = _noted(
            studies, todo, store, lambda again: convert_all(again, preprocessing, workers=workers, gate=gate)
        )
        before = {(entry.modality, entry.study_id) for entry in store.records}
        tally.source_changed, tally.source_gone = notes.changed(before), notes.gone(before)
        outcomes = convert_all(todo, preprocessing, workers=workers, gate=gate)
        for done, (study, outcome) in enumerate(zip(todo, outcomes, strict=True), start=len(studies) - len(todo) + 1):
            _keep(store, study, outcome, tally, record)
            if progress is not None:
                progress(done, len(studies))
    report = _report(len(studies), tally, record)
    _refuse_above_ceiling(report, ceiling, store_path)
    return report


@dataclass(slots=True)
class _Tally:
    stored: Counter[str] = field(default_factory=Counter)
    already_stored: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    corrections: Counter[str] = field(default_factory=Counter)
    nan_samples: int = 0
    changed: int = 0
    source_changed: Counter[str] = field(default_factory=Counter)
    source_gone: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)

    def refuse(self, entry: QuarantinedStudy) -> None:
        self.refused[entry.reason] += 1
        self.withheld.update(entry.found.keys())


def _report(studies: int, tally: _Tally, record: GateRecord | None) -> IngestReport:
    return IngestReport(
        studies=studies,
        stored=dict(tally.stored),
        already_stored=dict(tally.already_stored),
        refused=dict(tally.refused),
        corrections=dict(tally.corrections),
        nan_samples=tally.nan_samples,
        changed=tally.changed,
        source_changed=dict(tally.source_changed),
        source_gone=dict(tally.source_gone),
        deidentification=gate_name(record),
        withheld=dict(sorted(tally.withheld.items())),
    )


def _agree_on_gate(store: SiteStore, record: GateRecord | None) -> None:
    before = read_gate(store.folder)
    if before == record:
        return
    if store.records:
        check_same_or_laxer(store.folder, before, record)
    # Before the first study of the new gate is stored: after a crash a store may claim less than is true, never more.
    write_gate(store.folder, record)


def _noted(
    studies: Sequence[Study],
    todo: Sequence[Study],
    store: SiteStore,
    read: Callable[[Sequence[Study]], Iterable[Converted | Refused]],
) -> SourceNotes:
    """The notes of the store, brought up to date; a source that has changed is set aside in the quarantine list."""
    notes = SourceNotes.read(store.folder)
    stored = {(record.modality, record.study_id): record for record in store.records}
    doubtful = suspects(notes, studies, stored)
    outcomes = read([study for study, _ in doubtful])
    for (study, state), outcome in zip(doubtful, outcomes, strict=True):
        if judge(notes, study, state, stored[study.modality, study.study_id], outcome):
            source = "" if study.source is None else str(study.source)
            entry = QuarantinedStudy(study.modality, study.study_id, CHANGED, CHANGED_WORDS, source, state)
            store.refuse(entry)
    # The list first: a crash in between finds the same change again, and does not forget to list it.
    store.commit()
    note_planned(notes, todo)
    return notes


def _keep(
    store: SiteStore, study: Study, outcome: Converted | Refused, tally: _Tally, record: GateRecord | None
) -> None:
    if isinstance(outcome, Refused):
        entry = _refusal(study, outcome, record)
        store.refuse(entry)
        tally.refuse(entry)
        return
    store.append(_record(study, outcome), outcome.array)
    tally.stored[study.modality.value] += 1
    # Codes may carry details after a colon ("flat-lead:V3"); counted is the kind.
    tally.corrections.update({code.partition(":")[0] for code in outcome.corrections})
    tally.nan_samples += outcome.nan_samples


def _opened(path: Path, site: str, preprocessing: Preprocessing) -> SiteStore:
    if (path / "store.json").exists():
        return SiteStore.open_append(path, preprocessing=preprocessing, site=site)
    return SiteStore.create(path, site, preprocessing)


def _plan(studies: Sequence[Study], store: SiteStore, record: GateRecord | None) -> tuple[list[Study], _Tally]:
    """The studies to convert, and a tally of those that need no work: stored already, or refused as before."""
    records: dict[Key, StoredStudy] = {(record.modality, record.study_id): record for record in store.records}
    quarantine = store.quarantine
    todo: list[Study] = []
    tally = _Tally()
    planned: set[Key] = set()
    for study in studies:
        key = (study.modality, study.study_id)
        if key in planned:
            raise DataError(
                f"The id of a {study.modality.value} study is given twice to one ingest.",
                remedy="Ids must be unique within a modality; see study_prefix of a table mapping.",
            )
        planned.add(key)
        if key in records:
            tally.already_stored[study.modality.value] += 1
            tally.changed += _differs(study, records[key])
        elif key in quarantine and _still_refused(quarantine[key], study, record):
            tally.refuse(quarantine[key])
        else:
            todo.append(study)
    return todo, tally


def _still_refused(entry: QuarantinedStudy, study: Study, record: GateRecord | None) -> bool:
    same_gate = not entry.gate or entry.gate == gate_name(record)
    return same_gate and entry.source_state == source_state(study)


def _differs(study: Study, record: StoredStudy) -> bool:
    now = (study.labels, study.time, study.patient_id, study.group_id)
    return now != (record.labels, record.time, record.patient_id, record.group_id)


def _record(study: Study, outcome: Converted) -> StoredStudy:
    # A store belongs to one site, but a simulation may divide it again by the site that the source stated.
    stated = {"site": study.site} if study.site else {}
    return StoredStudy(
        modality=study.modality,
        study_id=study.study_id,
        patient_id=study.patient_id,
        group_id=study.group_id,
        time=study.time,
        labels=study.labels,
        attributes={**stated, **outcome.attributes, **study.attributes},
        describes=study.describes,
        text=outcome.text,
        corrections=outcome.corrections,
    )


def _refusal(study: Study, outcome: Refused, record: GateRecord | None) -> QuarantinedStudy:
    return QuarantinedStudy(
        study.modality,
        study.study_id,
        outcome.reason,
        outcome.message,
        source="" if study.source is None else str(study.source),
        source_state=source_state(study),
        found=outcome.found,
        gate=gate_name(record) if outcome.found else "",
    )


def _refuse_above_ceiling(report: IngestReport, ceiling: float, store_path: Path) -> None:
    if report.refused_share <= ceiling:
        return
    refused = Counter(report.refused)
    commonest = ", ".join(f"{reason} ({count})" for reason, count in refused.most_common(5))
    raise CeilingExceeded(
        report,
        f"{refused.total()} of {report.studies} studies ({report.refused_share:.1%}) were refused, above the ceiling "
        f"of {ceiling:.1%}. Commonest reasons: {commonest}.",
        remedy=f"Look at {store_path / 'quarantine.jsonl'}, mend the cause (a disk not mounted, access rights, the "
        "wrong column) and run the same command again; all usable studies are stored already.",
        avoid="delete the refused files from the data set: the cause is often access, not the data.",
    )
