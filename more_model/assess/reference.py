"""What one model is compared with when it is asked about a patient: a folder made once from a cohort.

reference.json          schema, model, cohort, findings with their calibration, limits; written last
studies.safetensors     fitted fusion of X-ray and ECG (`more_model.assess.evidence`)
reports-*.safetensors   fitted regression over reports about X-rays, and about ECGs
domain.safetensors      what distances are measured from (`more_model.assess.domain`)
vocabulary.json         the words of the training patients' reports
index/                  the training patients' reports and studies (`more_model.search`)

Fitted on training patients, calibrated on validation patients; test patients are never looked at. Folder and files are
for their owner alone: reports of patients are in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from more_model.assess.calibrated import Calibrations
from more_model.assess.distance import Limit
from more_model.assess.domain import Domain, Measure
from more_model.assess.evidence import Evidence, load_evidence, save_evidence
from more_model.assess.vocabulary import Vocabularies
from more_model.data.study import Modality
from more_model.errors import DataError, ExchangeError, StoreError
from more_model.evaluation.embedded import ImageOrTrace, LabelTask
from more_model.search.index_file import Index

SCHEMA = 1
HEADER, DOMAIN, VOCABULARY, INDEX = "reference.json", "domain.safetensors", "vocabulary.json", "index"
#: The kinds of study that findings and reports are about.
KINDS = (Modality.XRAY, Modality.ECG)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFacts(_Record):
    """Which model. ``digest`` is `TrainedModel.digest`; ``base`` names the parts of the base fingerprint, empty for a
    base folder itself."""

    digest: str
    origin: str
    preset: str
    architecture: str
    preprocessing: str
    base: dict[str, str]


class CohortFacts(_Record):
    """Which cohort: site -> split -> "patients" or "triplets" -> count. ``views`` are those stated in its X-rays."""

    digest: str
    synthetic: bool
    sites: dict[str, dict[str, dict[str, int]]]
    views: tuple[str, ...]

    def total(self, split: str, what: str) -> int:
        """The count over all sites."""
        return sum(site[split][what] for site in self.sites.values())


class Finding(_Record):
    """One finding: its wordings, how many training studies have it and do not, and what calibrates it."""

    label: str
    modality: ImageOrTrace
    positive: str
    negative: str
    train_positives: int
    train_negatives: int
    calibrations: Calibrations

    @property
    def task(self) -> LabelTask:
        """The question."""
        return LabelTask(self.label, self.modality)

    @property
    def prevalence(self) -> float | None:
        """Its share of the training studies that state it."""
        stated = self.train_positives + self.train_negatives
        return self.train_positives / stated if stated else None


class SelectionFacts(_Record):
    """How well one selection of parts does on validation patients, over all findings."""

    macro_auroc: float | None
    ci95: tuple[float, float] | None
    labels: int


class Header(_Record):
    """The content of ``reference.json``."""

    model: ModelFacts
    cohort: CohortFacts
    prompts: str
    false_refusals: float
    findings: tuple[Finding, ...]
    selections: dict[str, SelectionFacts]
    limits: dict[Measure, Limit]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A reference opened for one model."""

    folder: Path
    header: Header
    evidence: Evidence
    domain: Domain
    vocabularies: Vocabularies
    index: Index

    @classmethod
    def open(cls, folder: Path, *, model_digest: str) -> Self:
        """Read a reference for the model of ``model_digest``.

        Raises:
            DataError: there is none.
            StoreError: it is damaged or of another schema.
            ExchangeError: it was made with another model.
        """
        header = _read_header(folder)
        if header.model.digest != model_digest:
            raise ExchangeError(
                f"the reference {folder.name} was made with the model {header.model.digest[:12]}, not with "
                f"{model_digest[:12]}",
                remedy="give the checkpoint that it was made with, or make one with `more-model assess-prepare`",
                avoid="use it anyway: nothing would fail, and every probability would be wrong",
            )
        kinds = [kind for kind in KINDS if any(finding.modality == kind for finding in header.findings)]
        try:
            tensors = load_file(folder / DOMAIN)
            words = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
            return cls(
                folder,
                header,
                load_evidence(folder, kinds, model_digest=model_digest),
                Domain.from_tensors(tensors, header.limits),
                {kind: frozenset(words[kind.value]) for kind in KINDS},
                Index.open(folder / INDEX),
            )
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise _damaged(folder) from error


def write_reference(
    draft: Path, header: Header, evidence: Evidence, domain: Domain, vocabularies: Vocabularies
) -> None:
    """Writes everything but the index."""
    save_evidence(draft, evidence, model_digest=header.model.digest)
    save_file(domain.tensors(), draft / DOMAIN)
    words = {kind.value: sorted(known) for kind, known in vocabularies.items()}
    (draft / VOCABULARY).write_text(json.dumps(words, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    content = {"schema": SCHEMA, **header.model_dump(mode="json")}
    (draft / HEADER).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read_header(folder: Path) -> Header:
    path = folder / HEADER
    if not path.is_file():
        raise DataError(f"{folder} holds no reference", remedy="make one with `more-model assess-prepare`")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = content.pop("schema")
        if schema != SCHEMA:
            raise StoreError(f"{path} has schema {schema}, this version reads {SCHEMA}.", remedy="Make it again.")
        return Header.model_validate(content)
    except (ValidationError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(folder) from error


def _damaged(folder: Path) -> StoreError:
    return StoreError(
        f"The reference {folder} is damaged.", remedy="Make it again with `more-model assess-prepare --overwrite`."
    )
