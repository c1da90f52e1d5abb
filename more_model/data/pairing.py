"""From stored studies to triplets: which X-ray and which ECG of a patient go together, and which words belong to them.

Pairing looks at one patient at a time, so it can never cross a split. Only studies that carry a report or a label take
part. X-rays other than frontal ones, studies without a time, and whatever the rule leaves over become partial triplets.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from more_model.data.stored_study import StoredStudy
from more_model.data.study import Modality, Split, Triplet
from more_model.errors import DataError

_FRONTAL = frozenset({"", "PA", "AP", "FRONTAL"})
_Pair = tuple[StoredStudy | None, StoredStudy | None]
_PairUp = Callable[[str, Sequence[StoredStudy], Sequence[StoredStudy]], list[_Pair]]


class PairingRule(BaseModel):
    """Which X-ray and ECG of a patient make a triplet.

    ``closest``: the two closest in time, at most ``days`` apart, once per patient. ``all-within``: every frontal X-ray
    with every ECG at most ``days`` calendar days apart (the published rule; one study appears in many triplets).
    ``admission-window``: the two closest within each stay of ``admissions`` (MIMIC-IV's ``admissions.csv`` or
    ``.csv.gz``), whatever ``days`` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["closest", "all-within", "admission-window"] = "closest"
    days: float = Field(default=60.0, ge=0.0)
    admissions: Path | None = None

    @model_validator(mode="after")
    def _admissions_belong(self) -> Self:
        if (self.rule == "admission-window") != (self.admissions is not None):
            raise ValueError('admissions is needed for, and only for, rule = "admission-window"')
        return self


@dataclass(frozen=True, slots=True)
class PairingResult:
    """Triplets ordered by patient, then row, and counts of what was made and what was left out."""

    triplets: list[Triplet]
    counts: Mapping[str, int]


def pair(records: Sequence[StoredStudy], rule: PairingRule, splits: Mapping[str, Split], site: str) -> PairingResult:
    """The triplets of one site.

    A report belongs to the studies of its patient that share its group and are of the modality it describes. Labels of
    both parts are merged (present before uncertain before absent, where they disagree); of attributes with the same
    name the X-ray's stands. Raises `DataError` where a patient has no split, and for a broken admissions table.
    """
    counts: Counter[str] = Counter()
    reports = _reports(records, counts)
    patients = _usable_by_patient(records, reports, counts)
    _refuse_unsplit(patients, splits)
    pair_up = _pair_up(rule, patients)
    triplets: list[Triplet] = []
    for patient in sorted(patients):
        xrays, ecgs = patients[patient]
        timed = [study for study in xrays if study.time and study.attributes.get("view", "").upper() in _FRONTAL]
        pairs = pair_up(patient, timed, [study for study in ecgs if study.time])
        triplets += [_triplet(pair, reports, splits[patient], site) for pair in _with_leftovers(pairs, xrays, ecgs)]
    _count(triplets, patients, counts)
    return PairingResult(triplets, dict(counts))


_Report = tuple[str, Mapping[str, str]]
_Reports = Mapping[tuple[str, str, Modality], _Report]


def _reports(records: Iterable[StoredStudy], counts: Counter[str]) -> dict[tuple[str, str, Modality], _Report]:
    """(patient, group, modality described) -> words and attributes; of several the first by study id."""
    chosen: dict[tuple[str, str, Modality], StoredStudy] = {}
    for record in records:
        if record.modality is not Modality.REPORT or record.describes is None or not record.text:
            continue
        key = (record.patient_id, record.group_id, record.describes)
        if key in chosen:
            counts["report-superseded"] += 1
        if key not in chosen or record.study_id < chosen[key].study_id:
            chosen[key] = record
    return {key: (record.text or "", record.attributes) for key, record in chosen.items()}


_OfPatient = dict[str, tuple[list[StoredStudy], list[StoredStudy]]]


def _usable_by_patient(records: Iterable[StoredStudy], reports: _Reports, counts: Counter[str]) -> _OfPatient:
    """Patient -> X-rays and ECGs with a report or a label, in order of rows."""
    patients: _OfPatient = {}
    described: set[tuple[str, str, Modality]] = set()
    for record in records:
        if record.modality is Modality.REPORT:
            continue
        key = (record.patient_id, record.group_id, record.modality)
        if key in reports:
            described.add(key)
        elif not record.labels:
            counts[f"{record.modality.value}-dropped-no-report-no-label"] += 1
            continue
        xrays, ecgs = patients.setdefault(record.patient_id, ([], []))
        (xrays if record.modality is Modality.XRAY else ecgs).append(record)
    counts["report-without-study"] = len(reports) - len(described)
    for xrays, ecgs in patients.values():
        xrays.sort(key=_row)
        ecgs.sort(key=_row)
    return patients


def _row(study: StoredStudy) -> int:
    return -1 if study.row is None else study.row


def _refuse_unsplit(patients: Iterable[str], splits: Mapping[str, Split]) -> None:
    missing = sum(patient not in splits for patient in patients)
    if missing:
        raise DataError(
            f"{missing} patients of the store have no split.",
            remedy="Assign splits over all studies of the store (assign_splits) before pairing.",
        )


def _pair_up(rule: PairingRule, patients: Iterable[str]) -> _PairUp:
    match rule.rule:
        case "closest":
            limit = timedelta(days=rule.days)
            return lambda _patient, xrays, ecgs: _closest(xrays, ecgs, limit)
        case "all-within":
            return lambda _patient, xrays, ecgs: _all_within(xrays, ecgs, rule.days)
        case "admission-window":
            from more_model.data.admissions import read_admissions

            assert rule.admissions is not None
            stays = read_admissions(rule.admissions, set(patients))
            return lambda patient, xrays, ecgs: _in_stays(xrays, ecgs, stays.get(patient, ()))


def _time(study: StoredStudy) -> datetime:
    assert study.time is not None
    return study.time


def _closest(xrays: Sequence[StoredStudy], ecgs: Sequence[StoredStudy], limit: timedelta) -> list[_Pair]:
    """The pair with the smallest distance; of equal distances the earliest X-ray, then the smallest ids."""
    best: tuple[timedelta, datetime, str, str] | None = None
    chosen: list[_Pair] = []
    for xray in xrays:
        for ecg in ecgs:
            distance = abs(_time(xray) - _time(ecg))
            rank = (distance, _time(xray), xray.study_id, ecg.study_id)
            if distance <= limit and (best is None or rank < best):
                best, chosen = rank, [(xray, ecg)]
    return chosen


def _all_within(xrays: Sequence[StoredStudy], ecgs: Sequence[StoredStudy], days: float) -> list[_Pair]:
    ordered = sorted(ecgs, key=lambda ecg: (_time(ecg).toordinal(), _row(ecg)))
    ordinals = [_time(ecg).toordinal() for ecg in ordered]
    pairs: list[_Pair] = []
    for xray in xrays:
        day = _time(xray).toordinal()
        within = ordered[bisect_left(ordinals, day - days) : bisect_right(ordinals, day + days)]
        pairs += [(xray, ecg) for ecg in within]
    return pairs


def _in_stays(
    xrays: Sequence[StoredStudy], ecgs: Sequence[StoredStudy], stays: Sequence[tuple[datetime, datetime]]
) -> list[_Pair]:
    """The closest pair of each stay; where stays overlap, a study is used by the earliest only."""
    pairs: list[_Pair] = []
    used: set[tuple[Modality, str]] = set()
    for stay in stays:
        found = _closest(_free_within(xrays, stay, used), _free_within(ecgs, stay, used), timedelta.max)
        used |= {(study.modality, study.study_id) for pair in found for study in pair if study is not None}
        pairs += found
    return pairs


def _free_within(
    studies: Sequence[StoredStudy], stay: tuple[datetime, datetime], used: Collection[tuple[Modality, str]]
) -> list[StoredStudy]:
    free = (study for study in studies if (study.modality, study.study_id) not in used)
    return [study for study in free if stay[0] <= _time(study) <= stay[1]]


def _with_leftovers(pairs: Sequence[_Pair], xrays: Sequence[StoredStudy], ecgs: Sequence[StoredStudy]) -> list[_Pair]:
    used_xrays = {xray.study_id for xray, _ in pairs if xray is not None}
    used_ecgs = {ecg.study_id for _, ecg in pairs if ecg is not None}
    complete = sorted(pairs, key=lambda pair: tuple(-1 if study is None else _row(study) for study in pair))
    alone: list[_Pair] = [(xray, None) for xray in xrays if xray.study_id not in used_xrays]
    return [*complete, *alone, *((None, ecg) for ecg in ecgs if ecg.study_id not in used_ecgs)]


def _triplet(pair: _Pair, reports: _Reports, split: Split, site: str) -> Triplet:
    xray, ecg = pair
    present = [study for study in pair if study is not None]
    words = [reports.get((study.patient_id, study.group_id, study.modality)) for study in present]
    of_modality = {study.modality: found[0] for study, found in zip(present, words, strict=True) if found}
    # Later mappings win: the report's facts (its language) give way to the ECG's, these to the X-ray's.
    facts = [found[1] for found in reversed(words) if found] + [study.attributes for study in reversed(present)]
    return Triplet(
        patient_id=present[0].patient_id,
        site=site,
        split=split,
        xray=None if xray is None else xray.row,
        ecg=None if ecg is None else ecg.row,
        xray_report=of_modality.get(Modality.XRAY),
        ecg_report=of_modality.get(Modality.ECG),
        labels=_merged_labels(present),
        attributes={name: value for part in facts for name, value in part.items()},
    )


def _merged_labels(studies: Sequence[StoredStudy]) -> Mapping[str, float]:
    if len(studies) == 1:
        return studies[0].labels
    merged: dict[str, float] = {}
    for study in studies:
        for label, value in study.labels.items():
            # 1 (present) beats -1 (uncertain) beats 0 (absent).
            merged[label] = max(merged.get(label, 0.0), value, key=lambda number: (abs(number), number))
    return merged


def _count(triplets: Sequence[Triplet], patients: _OfPatient, counts: Counter[str]) -> None:
    kinds = Counter((triplet.xray is not None, triplet.ecg is not None) for triplet in triplets)
    counts["triplets"] = len(triplets)
    counts["xray-and-ecg"], counts["xray-only"], counts["ecg-only"] = (
        kinds[True, True],
        kinds[True, False],
        kinds[False, True],
    )
    counts["xray-without-time"] = sum(study.time is None for xrays, _ in patients.values() for study in xrays)
    counts["ecg-without-time"] = sum(study.time is None for _, ecgs in patients.values() for study in ecgs)
    counts["patients"] = len(patients)
