"""Pairing rules against small cohorts whose right answer can be read off, and against a brute-force count."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from more_model.data.pairing import PairingResult, PairingRule, pair
from more_model.data.store import StoredStudy
from more_model.data.study import Modality, Split, Triplet
from more_model.errors import DataError

START = datetime(2180, 3, 1, 12, 0)


class Cohort:
    """Collects studies, numbering rows as a store does; a day is given as days after START, None as no time."""

    def __init__(self) -> None:
        self.records: list[StoredStudy] = []
        self._rows = {Modality.XRAY: 0, Modality.ECG: 0}

    def add(self, modality: Modality, name: str, day: float | None, patient: str = "p", **fields: Any) -> Cohort:
        time = None if day is None else START + timedelta(days=day)
        row, self._rows[modality] = self._rows[modality], self._rows[modality] + 1
        group = fields.pop("group_id", name)
        labels = fields.pop("labels", {"Edema": 1.0})
        self.records.append(StoredStudy(modality, name, patient, group, time=time, row=row, labels=labels, **fields))
        return self

    def xray(self, name: str, day: float | None, patient: str = "p", **fields: Any) -> Cohort:
        return self.add(Modality.XRAY, name, day, patient, **fields)

    def ecg(self, name: str, day: float | None, patient: str = "p", **fields: Any) -> Cohort:
        return self.add(Modality.ECG, name, day, patient, **fields)

    def report(self, group: str, about: Modality, text: str, patient: str = "p", **fields: Any) -> Cohort:
        name = fields.pop("name", f"{about.value}-{group}")
        self.records.append(StoredStudy(Modality.REPORT, name, patient, group, describes=about, text=text, **fields))
        return self

    def pair(self, rule: PairingRule | None = None, split: Split = Split.TRAIN) -> PairingResult:
        patients = {record.patient_id for record in self.records}
        return pair(self.records, rule or PairingRule(), dict.fromkeys(patients, split), "north")

    def names(self, triplets: Sequence[Triplet]) -> list[tuple[str | None, str | None]]:
        by_row = {(record.modality, record.row): record.study_id for record in self.records}
        by_row[Modality.XRAY, None] = by_row[Modality.ECG, None] = None  # type: ignore[assignment]
        return [(by_row[Modality.XRAY, t.xray], by_row[Modality.ECG, t.ecg]) for t in triplets]


def test_closest_makes_one_pair_a_patient_and_keeps_the_rest() -> None:
    cohort = Cohort().xray("x1", 0).xray("x2", 10).ecg("e1", 3).ecg("e2", 12).ecg("e3", 300)
    cohort.xray("alone", 0, "q").ecg("far", 61, "r").xray("early", 0, "r")
    result = cohort.pair()
    assert cohort.names(result.triplets) == [
        ("x2", "e2"), ("x1", None), (None, "e1"), (None, "e3"), ("alone", None), ("early", None), (None, "far"),
    ]  # fmt: skip
    assert {triplet.site for triplet in result.triplets} == {"north"}
    assert result.counts["xray-and-ecg"] == 1
    assert result.counts["xray-only"] == result.counts["ecg-only"] == 3
    assert result.counts["patients"] == 3


def test_the_limit_of_days_is_inclusive() -> None:
    cohort = Cohort().xray("x", 0).ecg("e", 60)
    assert cohort.pair().counts["xray-and-ecg"] == 1
    assert cohort.pair(PairingRule(days=59.99)).counts["xray-and-ecg"] == 0


def test_ties_are_broken_by_time_then_id_whatever_the_order() -> None:
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        cohort = Cohort()
        adders = [
            lambda c: c.xray("b", 1), lambda c: c.xray("a", 1), lambda c: c.ecg("f", 2), lambda c: c.ecg("e", 0)
        ]  # fmt: skip
        for place in order:
            adders[place](cohort)
        assert cohort.names(cohort.pair().triplets)[0] == ("a", "e")


def test_unknown_time_never_pairs_and_is_counted() -> None:
    cohort = Cohort().xray("x", None).ecg("e", 0).xray("y", 0, "q").ecg("f", None, "q")
    for rule in (PairingRule(), PairingRule(rule="all-within")):
        result = cohort.pair(rule)
        assert result.counts["xray-and-ecg"] == 0
        assert result.counts["triplets"] == 4
        assert (result.counts["xray-without-time"], result.counts["ecg-without-time"]) == (1, 1)


def test_a_lateral_film_is_not_paired() -> None:
    cohort = (
        Cohort().xray("lateral", 0, attributes={"view": "LATERAL"}).ecg("e", 0).xray("pa", 5, attributes={"view": "PA"})
    )
    assert cohort.names(cohort.pair().triplets) == [("pa", "e"), ("lateral", None)]


def test_all_within_counts_calendar_days() -> None:
    # 12:00 on day 0 and 23:00 two days later are two calendar days but more than 48 hours apart.
    cohort = Cohort().xray("x1", 0).xray("x2", 1).ecg("e1", 2 + 11 / 24).ecg("e2", 3.4)
    result = cohort.pair(PairingRule(rule="all-within", days=2))
    assert cohort.names(result.triplets) == [("x1", "e1"), ("x2", "e1"), ("x2", "e2")]


def test_all_within_agrees_with_brute_force() -> None:
    numbers = random.Random(7)
    cohort = Cohort()
    for number in range(60):
        cohort.xray(f"x{number}", numbers.uniform(0, 400), str(number % 5))
        cohort.ecg(f"e{number}", numbers.uniform(0, 400), str(number % 7))
    xrays = [record for record in cohort.records if record.modality is Modality.XRAY]
    ecgs = [record for record in cohort.records if record.modality is Modality.ECG]
    expected = {
        (x.study_id, e.study_id)
        for x in xrays
        for e in ecgs
        if x.patient_id == e.patient_id and x.time and e.time and abs((x.time.date() - e.time.date()).days) <= 30
    }
    made = cohort.names(cohort.pair(PairingRule(rule="all-within", days=30)).triplets)
    assert {names for names in made if None not in names} == expected
    assert {x for x, _ in made} - {None} == {x.study_id for x in xrays}
    assert {e for _, e in made} - {None} == {e.study_id for e in ecgs}


def admissions(folder: Path, *rows: tuple[str, float, float]) -> PairingRule:
    lines = ["subject_id,hadm_id,admittime,dischtime,deathtime"]
    lines += [
        f"{patient},{number},{START + timedelta(days=first)},{START + timedelta(days=last)},"
        for number, (patient, first, last) in enumerate(rows)
    ]
    (folder / "admissions.csv").write_text("\n".join(lines) + "\n")
    return PairingRule(rule="admission-window", admissions=folder / "admissions.csv")


def test_admission_window_pairs_once_a_stay(tmp_path: Path) -> None:
    cohort = Cohort().xray("x1", 1).xray("x2", 3).ecg("e1", 2.5).xray("x3", 101).ecg("e2", 104).ecg("between", 50)
    result = cohort.pair(admissions(tmp_path, ("p", 100, 105), ("p", 0, 5), ("stranger", 0, 500)))
    assert cohort.names(result.triplets) == [("x2", "e1"), ("x3", "e2"), ("x1", None), (None, "between")]


def test_overlapping_stays_use_a_study_once(tmp_path: Path) -> None:
    cohort = Cohort().xray("x1", 2).ecg("e1", 2).xray("x2", 3).ecg("e2", 9)
    result = cohort.pair(admissions(tmp_path, ("p", 0, 5), ("p", 1, 10)))
    assert cohort.names(result.triplets) == [("x1", "e1"), ("x2", "e2")]


def test_a_wrong_admissions_table_is_refused(tmp_path: Path) -> None:
    cohort = Cohort().xray("x", 0).ecg("e", 0)
    with pytest.raises(DataError, match="has no stay of any of the 1 patients"):
        cohort.pair(admissions(tmp_path, ("stranger", 0, 5)))
    (tmp_path / "admissions.csv").write_text("subject_id,admittime\n1,2\n")
    with pytest.raises(DataError, match="no columns 'hadm_id', 'dischtime'"):
        cohort.pair(PairingRule(rule="admission-window", admissions=tmp_path / "admissions.csv"))


def test_words_belong_to_the_group_and_the_modality_of_the_same_patient() -> None:
    cohort = Cohort().xray("x", 0, group_id="g").ecg("e", 0, group_id="g").xray("other", 0, "q", group_id="g")
    cohort.report("g", Modality.XRAY, "large heart", attributes={"language": "en"}).report("g", Modality.ECG, "fast")
    pairs = {triplet.patient_id: triplet for triplet in cohort.pair().triplets}
    assert (pairs["p"].xray_report, pairs["p"].ecg_report) == ("large heart", "fast")
    assert pairs["p"].attributes == {"language": "en"}
    assert (pairs["q"].xray_report, pairs["q"].ecg_report) == (None, None)


def test_two_films_of_one_group_share_the_report() -> None:
    cohort = Cohort().xray("a", 0, group_id="g").xray("b", 0, group_id="g").report("g", Modality.XRAY, "clear")
    assert [triplet.xray_report for triplet in cohort.pair().triplets] == ["clear", "clear"]


def test_studies_with_neither_words_nor_labels_are_dropped_and_counted() -> None:
    cohort = Cohort().xray("bare", 0, labels={}).xray("told", 1, labels={}).ecg("bare", 0, labels={}).ecg("labelled", 9)
    cohort.report("told", Modality.XRAY, "clear").report("lost", Modality.ECG, "nobody's words")
    result = cohort.pair()
    assert cohort.names(result.triplets) == [("told", "labelled")]
    assert result.counts["xray-dropped-no-report-no-label"] == 1
    assert result.counts["ecg-dropped-no-report-no-label"] == 1
    assert result.counts["report-without-study"] == 1


def test_of_two_reports_the_first_by_id_is_taken() -> None:
    cohort = Cohort().xray("x", 0)
    cohort.report("x", Modality.XRAY, "second", name="r2").report("x", Modality.XRAY, "first", name="r1")
    result = cohort.pair()
    assert result.triplets[0].xray_report == "first"
    assert result.counts["report-superseded"] == 1


def test_labels_and_attributes_of_both_parts_are_merged() -> None:
    cohort = Cohort().xray("x", 0, labels={"A": 0.0, "B": -1.0, "C": 1.0}, attributes={"sex": "F", "view": "PA"})
    cohort.ecg("e", 0, labels={"A": -1.0, "B": 0.0, "C": 0.0, "D": 0.0}, attributes={"sex": "M", "device": "cart"})
    (triplet,) = cohort.pair().triplets
    assert triplet.labels == {"A": -1.0, "B": -1.0, "C": 1.0, "D": 0.0}
    assert triplet.attributes == {"sex": "F", "view": "PA", "device": "cart"}


def test_splits_come_from_the_patient_and_must_be_complete() -> None:
    cohort = Cohort().xray("x", 0).ecg("e", 500).xray("y", 0, "q")
    splits = {"p": Split.TEST, "q": Split.VALIDATION}
    result = pair(cohort.records, PairingRule(), splits, "north")
    assert [triplet.split for triplet in result.triplets] == [Split.TEST, Split.TEST, Split.VALIDATION]
    with pytest.raises(DataError, match="1 patients of the store have no split"):
        pair(cohort.records, PairingRule(), {"p": Split.TEST}, "north")


def test_admissions_go_with_their_rule_only() -> None:
    with pytest.raises(ValidationError, match="admissions is needed for"):
        PairingRule(rule="admission-window")
    with pytest.raises(ValidationError, match="admissions is needed for"):
        PairingRule(admissions=Path("a.csv"))
