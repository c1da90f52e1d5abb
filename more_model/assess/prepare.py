"""`more-model assess-prepare`: everything that a patient is later compared with, from one cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from more_model.assess.calibrated import Calibrations, calibrate
from more_model.assess.domain import (
    Domain,
    Measure,
    Measured,
    appearances,
    fit_domain,
    report_measure,
    studies_once,
    thinned,
)
from more_model.assess.evidence import Patients, fit_evidence
from more_model.assess.parts import Part
from more_model.assess.reference import (
    HEADER,
    INDEX,
    KINDS,
    CohortFacts,
    Finding,
    Header,
    ModelFacts,
    Reference,
    SelectionFacts,
    write_reference,
)
from more_model.assess.vocabulary import Vocabularies, vocabulary
from more_model.checkpoint import TrainedModel
from more_model.cohort_file import Cohort
from more_model.data.preprocessing import Preprocessing
from more_model.data.store_files import read_manifest
from more_model.data.study import Modality, Split
from more_model.errors import ConfigError, DataError
from more_model.evaluation.embedded import EmbeddedSet, Float32, LabelTask
from more_model.evaluation.embedding import embedded_set
from more_model.evaluation.prompt_sets import PromptSet
from more_model.exchange import Fingerprint
from more_model.progress import OnProgress
from more_model.search.build import build_index
from more_model.search.words import embed_in_batches, require_finite
from more_model.training.examples import Examples
from more_model.training.words import about
from more_model.whole_folder import whole_folder

_PORTION = 1024


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """``false_refusals``: good inputs of one kind that may be refused as strange. ``replicates`` and ``seed`` are those
    of bootstrap intervals."""

    false_refusals: float = 0.05
    batch_size: int = 128
    threads: int = 2
    replicates: int = 500
    seed: int = 0


def prepare_reference(
    trained: TrainedModel,
    fingerprint: Fingerprint | None,
    cohort: Cohort,
    prompts: PromptSet,
    out: Path,
    settings: PrepareSettings,
    *,
    overwrite: bool = False,
    progress: OnProgress = lambda _stage, _done, _total: None,
) -> Reference:
    """Write a reference to ``out``, whole or not at all, and open it.

    Training patients teach the fusion and are searched among, validation patients calibrate and set the limits.
    ``fingerprint`` is that of the checkpoint's base.

    Raises:
        ConfigError: ``out`` holds something already, or the prompt set has classes that exclude each other.
        DataError: the training or the validation patients are none, or no finding can be judged.
        StoreError: a store was written with another preprocessing than the model's.
    """
    splits = _usable_splits(trained, cohort, prompts)
    with whole_folder(out, kind="reference", header=HEADER, overwrite=overwrite) as draft:
        train, validation = (
            _embedded(trained, part, prompts.tasks, f"Embedding {name} patients", settings, progress)
            for name, part in zip(("training", "validation"), splits, strict=True)
        )
        progress("Fitting", 0, 1)
        evidence = fit_evidence(train, validation, prompts.tasks)
        calibrations, tables = calibrate(
            evidence, validation, prompts.tasks, replicates=settings.replicates, seed=settings.seed
        )
        _require_curves(calibrations)
        domain = _fit_domain(splits, (train, validation), trained.config.preprocessing, settings.false_refusals)
        progress("Fitting", 1, 1)
        header = Header(
            model=_model_facts(trained, fingerprint),
            cohort=_cohort_facts(cohort),
            prompts=prompts.name,
            false_refusals=settings.false_refusals,
            findings=_findings(prompts, train, calibrations),
            selections={name: SelectionFacts.model_validate(table) for name, table in tables.items()},
            limits=dict(domain.limits),
        )
        write_reference(draft, header, evidence, domain, _vocabularies(splits[0]))
        build_index(
            trained, [cohort], draft / INDEX, splits=[Split.TRAIN], batch_size=settings.batch_size,
            threads=settings.threads, replicates=0, progress=progress,
        )  # fmt: skip
    return Reference.open(out, model_digest=trained.digest)


def _usable_splits(trained: TrainedModel, cohort: Cohort, prompts: PromptSet) -> tuple[Examples, Examples]:
    """Training and validation patients; raises as `prepare_reference` does."""
    if prompts.exclusive:
        raise ConfigError(f"prompts {prompts.name}", ["its classes exclude each other; findings do not"])
    for site in cohort.sites:
        read_manifest(site.store.folder, trained.config.preprocessing)
    train, validation = (cohort.examples.of_split(split) for split in (Split.TRAIN, Split.VALIDATION))
    for name, part in (("training", train), ("validation", validation)):
        if not len(part):
            raise DataError(
                f"the cohort has no {name} patients", remedy="give a cohort file whose [split] sets some aside"
            )
    return train, validation


def _require_curves(calibrations: Mapping[LabelTask, Calibrations]) -> None:
    if not any(found.curves for found in calibrations.values()):
        raise DataError(
            "no finding has enough validation patients to be calibrated",
            remedy="set more patients aside for validation, or give a larger cohort",
            avoid="show scores that are not calibrated as if they were probabilities",
        )


def _vocabularies(train: Examples) -> Vocabularies:
    return {kind: vocabulary(text for text in _texts(train, kind) if text is not None) for kind in KINDS}


def _embedded(
    trained: TrainedModel,
    examples: Examples,
    tasks: Sequence[LabelTask],
    stage: str,
    settings: PrepareSettings,
    progress: OnProgress,
) -> Patients:
    facts = {"tokenizer": trained.tokenizer, "max_tokens": trained.max_tokens, "threads": settings.threads}
    labels = [task.label for task in tasks]
    portions = []
    for start in range(0, len(examples), _PORTION):
        progress(stage, start, len(examples))
        rows = slice(start, start + _PORTION)
        part = Examples(examples.triplets[rows], examples.source_of[rows], examples.sources)
        portions.append(embedded_set(trained.model, part, labels, **facts))
    reports = {kind: _report_embeddings(trained, _texts(examples, kind), kind, settings) for kind in KINDS}
    progress(stage, len(examples), len(examples))
    return Patients(_finite(EmbeddedSet.concatenate(portions), examples), reports)


def _finite(embedded: EmbeddedSet, examples: Examples) -> EmbeddedSet:
    """The same set. A row without a study is NaN; one with a study must not be."""
    for name, matrix in (("X-rays", embedded.xray), ("ECGs", embedded.ecg)):
        has = [(t.xray if name == "X-rays" else t.ecg) is not None for t in examples.triplets]
        require_finite(matrix[np.array(has, dtype=np.bool_)], name)
    return embedded


def _texts(examples: Examples, kind: Modality) -> list[str | None]:
    return [t.xray_report if kind is Modality.XRAY else t.ecg_report for t in examples.triplets]


def _report_embeddings(
    trained: TrainedModel, texts: Sequence[str | None], kind: Modality, settings: PrepareSettings
) -> Float32:
    """[n, width], rows of NaN where there is no text; equal texts are embedded once."""
    place = {text: number for number, text in enumerate(dict.fromkeys(text for text in texts if text is not None))}
    worded = [about(kind, text) for text in place]
    vectors = embed_in_batches(trained, worded, batch_size=settings.batch_size, threads=settings.threads)
    rows = np.full((len(texts), trained.model.text.embedding), np.nan, dtype=np.float32)
    present = [row for row, text in enumerate(texts) if text is not None]
    rows[present] = vectors[[place[text] for text in texts if text is not None]]
    return rows


def _fit_domain(
    splits: Sequence[Examples], patients: Sequence[Patients], preprocessing: Preprocessing, false_refusals: float
) -> Domain:
    train, validation = (
        _measured(examples, embedded, preprocessing.ecg_rate_hz)
        for examples, embedded in zip(splits, patients, strict=True)
    )
    return fit_domain(train, validation, false_refusals=false_refusals)


def _measured(examples: Examples, embedded: Patients, rate_hz: int) -> dict[Measure, Measured]:
    def of(rows: list[int], matrix: NDArray[np.floating]) -> Measured:
        triplets = [examples.triplets[row] for row in rows]
        return Measured(matrix, [f"{triplet.site}/{triplet.patient_id}" for triplet in triplets])

    films, tracings = studies_once(examples, Part.XRAY), studies_once(examples, Part.ECG)
    reports = {kind: _wordings_once(examples, kind) for kind in KINDS}
    return {
        Measure.XRAY_APPEARANCE: of(films, appearances(examples, films, Part.XRAY, rate_hz)),
        Measure.XRAY_EMBEDDING: of(films, embedded.studies.xray_features[films]),
        Measure.ECG_APPEARANCE: of(tracings, appearances(examples, tracings, Part.ECG, rate_hz)),
        Measure.ECG_EMBEDDING: of(tracings, embedded.studies.ecg_features[tracings]),
        **{report_measure(kind): of(rows, embedded.reports[kind][rows]) for kind, rows in reports.items()},
    }


def _wordings_once(examples: Examples, kind: Modality) -> list[int]:
    """A row of every wording."""
    first: dict[str, int] = {}
    for row, text in enumerate(_texts(examples, kind)):
        if text is not None:
            first.setdefault(text, row)
    return thinned(list(first.values()))


def _findings(
    prompts: PromptSet, train: Patients, calibrations: Mapping[LabelTask, Calibrations]
) -> tuple[Finding, ...]:
    findings = []
    for entry in prompts.labels:
        target = train.studies.target(entry.task.label, "ignore")
        rows = train.studies.has(entry.task.modality)
        findings.append(
            Finding(
                label=entry.task.label,
                modality=entry.task.modality,
                positive=entry.positive[0],
                negative=entry.negative[0],
                train_positives=int((target[rows] == 1.0).sum()),
                train_negatives=int((target[rows] == 0.0).sum()),
                calibrations=calibrations[entry.task],
            )
        )
    return tuple(findings)


def _model_facts(trained: TrainedModel, fingerprint: Fingerprint | None) -> ModelFacts:
    return ModelFacts(
        digest=trained.digest,
        origin=trained.origin,
        preset=trained.config.name,
        architecture=trained.config.digest(),
        preprocessing=trained.config.preprocessing.digest(),
        base={} if fingerprint is None else dict(fingerprint.parts),
    )


def _cohort_facts(cohort: Cohort) -> CohortFacts:
    sites = {}
    for site in cohort.sites:
        of_split = {split: site.examples.of_split(split).triplets for split in Split}
        sites[site.name] = {
            split.value: {"patients": len({one.patient_id for one in triplets}), "triplets": len(triplets)}
            for split, triplets in of_split.items()
        }
    records = [record for site in cohort.sites for record in site.store.records if record.modality is Modality.XRAY]
    views = {record.attributes.get("view", "").upper() for record in records} - {""}
    return CohortFacts(
        digest=cohort.examples.digest(), synthetic=cohort.synthetic, sites=sites, views=tuple(sorted(views))
    )
