"""Which patient is trained on, validated on, tested on: decided once per patient, before anything is paired."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from more_model.data.study import Split
from more_model.errors import DataError

_WORDS = {"validate": Split.VALIDATION, "val": Split.VALIDATION, **{split.value: split for split in Split}}


class OfPatient(Protocol):
    """A study, stored or not."""

    @property
    def patient_id(self) -> str: ...

    @property
    def attributes(self) -> Mapping[str, str]: ...


class OfSite(Protocol):
    """A study that names its site."""

    @property
    def patient_id(self) -> str: ...

    @property
    def site(self) -> str: ...


class SplitRule(BaseModel):
    """``hash``: shares of patients by a keyed hash. ``column``: the split that the data set states in the attribute
    ``column``; patients for whom it states none follow the hash.

    Sites that use the same ``key`` put a patient whom they share into the same split; another key draws another split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hash", "column"] = "hash"
    validation: float = Field(default=0.1, ge=0.0, lt=1.0)
    test: float = Field(default=0.2, ge=0.0, lt=1.0)
    key: str = Field(default="more-fed", min_length=1)
    column: str = "split"

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.test >= 1.0:
            raise ValueError("validation and test together must leave patients to train on (sum below 1)")
        return self


def hash_split(patient_id: str, rule: SplitRule) -> Split:
    """HMAC-SHA256 of the patient id under ``rule.key``; its first 8 bytes as a fraction of 2**64 fall into the test
    share, then the validation share, then training.
    """
    digest = hmac.digest(rule.key.encode(), patient_id.encode(), "sha256")
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < rule.test:
        return Split.TEST
    return Split.VALIDATION if place < rule.test + rule.validation else Split.TRAIN


def assign_splits(studies: Iterable[OfPatient], rule: SplitRule) -> dict[str, Split]:
    """Patient id -> split, over all studies of every modality, in order of first appearance.

    Raises `DataError` (with counts, never ids) where a column puts a patient into two splits or states an unknown word.
    """
    stated: dict[str, set[Split]] = {}
    unknown: set[str] = set()
    for study in studies:
        splits = stated.setdefault(study.patient_id, set())
        word = study.attributes.get(rule.column, "") if rule.kind == "column" else ""
        if word and word not in _WORDS:
            unknown.add(word)
        elif word:
            splits.add(_WORDS[word])
    if unknown:
        raise DataError(
            f"The split column {rule.column!r} holds words that are no split: {', '.join(sorted(unknown)[:8])}.",
            remedy="Known words are train, validation (validate, val) and test; rename others in the table mapping.",
        )
    torn = sum(len(splits) > 1 for splits in stated.values())
    if torn:
        raise DataError(
            f"The split column {rule.column!r} puts {torn} of {len(stated)} patients into more than one split.",
            remedy='Split by patient: use another column, or kind = "hash".',
            avoid="keep such a split: what the model saw of a patient in training would be counted as tested.",
        )
    if rule.kind == "column" and not any(stated.values()):
        raise DataError(
            f"No study has the attribute {rule.column!r} that the split is to follow.",
            remedy='Name the attribute of the data set (MIMIC-CXR: "official_split"), or use kind = "hash".',
        )
    return {patient: next(iter(splits), None) or hash_split(patient, rule) for patient, splits in stated.items()}


def patient_site_conflicts(studies: Iterable[OfSite]) -> None:
    """Raises `DataError` where a patient appears at two sites (counts, never ids); a blank site is no site."""
    sites: dict[str, set[str]] = {}
    for study in studies:
        if study.site:
            sites.setdefault(study.patient_id, set()).add(study.site)
    shared = [names for names in sites.values() if len(names) > 1]
    if shared:
        where = sorted({name for names in shared for name in names})
        raise DataError(
            f"{len(shared)} patients appear at more than one site (sites concerned: {', '.join(where[:12])}).",
            remedy="A patient belongs to one site: leave out the sites that repeat others' patients (where filters), "
            "or correct the site column.",
            avoid="give the same patient a second id: the test patients of one site would train at another.",
        )
