"""Who becomes a patient of which virtual hospital, and what that hospital does not have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from more_model.data.split import patient_site_conflicts
from more_model.data.study import Modality, Study
from more_model.errors import DataError
from more_model.training.seeds import derived_seed

_NOT_IN_NAMES = re.compile(r"[^\w.+ -]+")


class Partition(BaseModel):
    """``natural``: by an attribute of the studies (``column``; empty: the site that the source states). ``scanner``,
    ``view`` and ``device``: the same with that attribute. ``iid``, ``dirichlet`` (over a label, with concentration
    ``alpha``) and ``quantity`` (sizes falling geometrically by ``ratio``): drawn into ``sites`` hospitals.

    ``missing`` names modalities that a hospital does not have; its studies and reports of that kind are dropped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["natural", "scanner", "view", "device", "iid", "dirichlet", "quantity"] = "natural"
    column: str = ""
    sites: int = Field(default=4, ge=1)
    label: str = ""
    alpha: float = Field(default=0.5, gt=0)
    ratio: float = Field(default=0.6, gt=0, le=1)
    minimum_patients: int = Field(default=2, ge=2)
    missing: Mapping[str, tuple[Modality, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "dirichlet" and not self.label:
            raise ValueError("a dirichlet partition needs the label that it is skewed over")
        if self.kind not in ("natural",) and self.column:
            raise ValueError(f"column belongs to kind = 'natural', not to {self.kind!r}")
        return self

    @property
    def attribute(self) -> str | None:
        """The attribute that decides, or None where the partition is drawn."""
        if self.kind == "natural":
            return self.column
        return self.kind if self.kind in ("scanner", "view", "device") else None


def partitioned(studies: Sequence[Study], partition: Partition, seed: int) -> dict[str, list[Study]]:
    """Site name -> its studies, sites in alphabetical order; every patient is at one site only.

    Raises:
        DataError: no study has the attribute, the source itself states two sites for one patient, a site would be too
            small, or ``missing`` names an unknown site.
    """
    patients = sorted({study.patient_id for study in studies})
    if partition.attribute == "":
        # Here the data claim to know the hospitals; an attribute such as a scanner may well differ within one patient.
        patient_site_conflicts(studies)
    if partition.attribute is not None:
        site_of = _by_attribute(studies, partition.attribute)
    else:
        site_of = _drawn(studies, patients, partition, np.random.default_rng(derived_seed(seed, "partition")))
    names = _folder_names({*site_of.values()})
    # A drawn site that got nobody must be refused as too small, not silently left out.
    drawn = [] if partition.attribute is not None else _names(partition)
    sites: dict[str, list[Study]] = {name: [] for name in drawn}
    for study in studies:
        site = site_of.get(study.patient_id)
        if site is not None:
            sites.setdefault(names[site], []).append(replace(study, site=names[site]))
    unknown = sorted(set(partition.missing) - set(sites))
    if unknown:
        raise DataError(f"partition.missing names sites that do not exist: {unknown}; there are {sorted(sites)}")
    kept = {site: _without(own, partition.missing.get(site, ())) for site, own in sorted(sites.items())}
    _require_size(kept, partition.minimum_patients)
    return kept


def _folder_names(sites: Collection[str]) -> dict[str, str]:
    """What each site is called: its name with everything but letters, digits and ``_ . + -`` made a dash, since it also
    names a folder. Raises `DataError` where two sites would be called the same."""
    names = {site: _NOT_IN_NAMES.sub("-", site).strip(" .-") or "site" for site in sites}
    if len(set(names.values())) < len(names):
        raise DataError(
            f"two sites would both be called the same: {sorted(names)}",
            remedy="rename one of them in the data (site_names of a table mapping)",
        )
    return names


def _by_attribute(studies: Sequence[Study], attribute: str) -> dict[str, str]:
    """Patients go where most of their studies are from (ties: alphabetical); patients without it are left out."""
    votes: dict[str, Counter[str]] = {}
    for study in studies:
        value = study.attributes.get(attribute, "") if attribute else study.site
        if value:
            votes.setdefault(study.patient_id, Counter())[value] += 1
    if not votes:
        known = sorted({name for study in studies for name in study.attributes})
        named = f"attribute {attribute!r}" if attribute else "site column"
        raise DataError(
            f"no study has the {named} to partition by; known attributes: {', '.join(known) or 'none'}",
            remedy="name one of these as partition.column, or map a column to it (label_tables, table mapping)",
        )
    return {patient: min(count, key=lambda value: (-count[value], value)) for patient, count in votes.items()}


def _names(partition: Partition) -> list[str]:
    return [f"site-{number + 1}" for number in range(partition.sites)]


def _drawn(
    studies: Sequence[Study], patients: Sequence[str], partition: Partition, generator: np.random.Generator
) -> dict[str, str]:
    names = _names(partition)
    order = [patients[index] for index in generator.permutation(len(patients))]
    if partition.kind == "dirichlet":
        return _dirichlet(studies, order, names, partition, generator)
    shares = np.array([partition.ratio**k if partition.kind == "quantity" else 1.0 for k in range(len(names))])
    ends = np.round(np.cumsum(shares) / shares.sum() * len(order)).astype(int)
    return {patient: names[int(np.searchsorted(ends, rank, side="right"))] for rank, patient in enumerate(order)}


def _dirichlet(
    studies: Sequence[Study],
    order: Sequence[str],
    names: Sequence[str],
    partition: Partition,
    generator: np.random.Generator,
) -> dict[str, str]:
    positive = {study.patient_id for study in studies if study.labels.get(partition.label) == 1.0}
    if not positive:
        raise DataError(f"no patient has the label {partition.label!r}, so sites cannot be skewed over it")
    site_of: dict[str, str] = {}
    for group in ([p for p in order if p in positive], [p for p in order if p not in positive]):
        shares = generator.dirichlet([partition.alpha] * len(names))
        ends = np.round(np.cumsum(shares) * len(group)).astype(int)
        for rank, patient in enumerate(group):
            site_of[patient] = names[min(int(np.searchsorted(ends, rank, side="right")), len(names) - 1)]
    return site_of


def _without(studies: Sequence[Study], missing: Sequence[Modality]) -> list[Study]:
    return [study for study in studies if study.modality not in missing and study.describes not in missing]


def _require_size(sites: Mapping[str, Sequence[Study]], minimum: int) -> None:
    sizes = {site: len({study.patient_id for study in own}) for site, own in sites.items()}
    small = {site: size for site, size in sizes.items() if size < minimum}
    if small:
        raise DataError(
            f"sites with fewer than {minimum} patients: {small}",
            remedy="use fewer sites, a larger cohort or a larger alpha, or lower partition.minimum_patients",
        )
