"""Splits by keyed hash and by column; patients on two sites."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter

import pytest
from pydantic import ValidationError

from more_model.data.split import SplitRule, assign_splits, hash_split, patient_site_conflicts
from more_model.data.study import Modality, Split, Study
from more_model.errors import DataError


def study(patient: str, modality: Modality = Modality.XRAY, site: str = "", **attributes: str) -> Study:
    return Study(modality, "s", patient, "g", site=site, attributes=attributes)


def test_the_hash_is_the_documented_one() -> None:
    rule = SplitRule(key="federation", validation=0.3, test=0.3)
    for patient in ("10000032", "ä", ""):
        digest = hmac.new(b"federation", patient.encode(), hashlib.sha256).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        expected = Split.TEST if place < 0.3 else Split.VALIDATION if place < 0.6 else Split.TRAIN
        assert hash_split(patient, rule) is expected


def test_shares_are_kept_and_the_key_matters() -> None:
    patients = [study(str(number)) for number in range(4000)]
    first = assign_splits(patients, SplitRule(validation=0.1, test=0.2, key="a"))
    second = assign_splits(patients, SplitRule(validation=0.1, test=0.2, key="b"))
    counts = Counter(first.values())
    # Three standard deviations of a binomial of 4000.
    assert abs(counts[Split.TEST] - 800) < 76
    assert abs(counts[Split.VALIDATION] - 400) < 57
    assert first != second
    assert first == assign_splits(reversed(patients), SplitRule(validation=0.1, test=0.2, key="a"))


def test_all_studies_of_a_patient_share_the_split_of_the_column() -> None:
    studies = [
        study("a", official_split="test"),
        study("a", Modality.ECG),
        study("b", official_split="validation"),
        study("c", official_split="train"),
        study("only-ecg", Modality.ECG),
    ]
    rule = SplitRule(kind="column", column="official_split")
    splits = assign_splits(studies, rule)
    assert (splits["a"], splits["b"], splits["c"]) == (Split.TEST, Split.VALIDATION, Split.TRAIN)
    assert splits["only-ecg"] is hash_split("only-ecg", rule)


def test_a_patient_in_two_splits_is_refused_without_its_id() -> None:
    studies = [study("secret-1", split="train"), study("secret-1", split="test"), study("b", split="test")]
    with pytest.raises(DataError, match="puts 1 of 2 patients into more than one split") as caught:
        assign_splits(studies, SplitRule(kind="column"))
    assert "secret" not in str(caught.value)


def test_unknown_words_and_an_absent_column_are_refused() -> None:
    with pytest.raises(DataError, match="holds words that are no split: holdout"):
        assign_splits([study("a", split="holdout")], SplitRule(kind="column"))
    with pytest.raises(DataError, match="No study has the attribute 'fold'"):
        assign_splits([study("a")], SplitRule(kind="column", column="fold"))


def test_no_studies_no_splits() -> None:
    assert assign_splits([], SplitRule()) == {}


@pytest.mark.parametrize("shares", [{"validation": 0.5, "test": 0.5}, {"validation": -0.1}, {"test": 1.0}, {"key": ""}])
def test_rules_that_leave_nobody_to_train_on(shares: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SplitRule.model_validate(shares)


def test_a_patient_on_two_sites_is_refused_without_its_id() -> None:
    studies = [study("secret-1", site="north"), study("secret-1", Modality.ECG, site="south"), study("b", site="south")]
    with pytest.raises(DataError, match=r"1 patients appear at more than one site .*north, south") as caught:
        patient_site_conflicts(studies)
    assert "secret" not in str(caught.value)


def test_an_unstated_site_is_no_conflict() -> None:
    patient_site_conflicts([study("a", site="north"), study("a", Modality.ECG), study("b", site="south")])
