"""From data on disk to the hospitals of a simulation: read, partition, ingest, split, pair."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from more_model.cohort_file import NAME as COHORT_FILE
from more_model.cohort_file import CohortFile, read_stored
from more_model.data.gate import StudyGate
from more_model.data.ingest import IngestReport, ingest
from more_model.data.preprocessing import Preprocessing
from more_model.data.sources import LabelTable, MimicCxrJpg, MimicEcg, Source, read_sources
from more_model.data.split import assign_splits
from more_model.data.store import SiteStore
from more_model.data.study import Split, Study
from more_model.training.examples import Examples
from privacy.deidentify.gate import RuleGate
from simulation.partition import Partition, partitioned
from simulation.settings import DataChoice


@dataclass(frozen=True, slots=True)
class SiteCohort:
    """One hospital of the simulation. ``prompts_made`` counts texts that were worded from labels."""

    name: str
    examples: Examples
    ingested: IngestReport
    pairing: Mapping[str, int]
    prompts_made: int


def synthetic_sources(tree: Path) -> tuple[tuple[Source, ...], tuple[LabelTable, ...]]:
    """How a tree written by `simulation.synthetic.tree.write_cohort` is read: as MIMIC, with its own truth joined."""
    sources = (
        MimicCxrJpg(root=tree / "mimic-cxr-jpg", reports_root=tree / "mimic-cxr"),
        MimicEcg(root=tree / "mimic-iv-ecg"),
    )
    tables = (
        LabelTable(
            path=tree / "synthetic_patients.csv",
            key="patient_id",
            key_column="subject_id",
            attributes={"hospital": "hospital", "sex": "sex", "age": "age"},
        ),
        LabelTable(
            path=tree / "synthetic_ecg_labels.csv",
            key="study_id",
            key_column="study_id",
            modality="ecg",
            labels=("NORM", "MI", "STTC", "CD", "HYP", "AFIB"),
        ),
    )
    return sources, tables


def build_sites(
    studies: Sequence[Study],
    choice: DataChoice,
    partition: Partition,
    preprocessing: Preprocessing,
    folder: Path,
    *,
    seed: int,
    workers: int,
) -> list[SiteCohort]:
    """Every site's store under ``folder/<site>``, its triplets and what was refused; sites in alphabetical order."""
    splits = assign_splits(studies, choice.split)
    sites = partitioned(studies, partition, seed)
    gate = RuleGate(frozenset(choice.accept)) if choice.deidentification_check else None
    reports = ingest_sites(sites, preprocessing, folder, ceiling=choice.quarantine_ceiling, workers=workers, gate=gate)
    return [_opened(site, folder / site, choice, splits, reports[site]) for site in sites]


def read_site(
    folder: Path, choice: DataChoice, splits: Mapping[str, Split] | None = None
) -> tuple[Examples, Mapping[str, int], int]:
    """The examples of one stored site, the counts of its pairing, and how many texts were worded from labels."""
    store = SiteStore.open_read(folder)
    known = splits if splits is not None else assign_splits(store.records, choice.split)
    site = read_stored(store, choice.pairing, choice.label_wordings, known)
    return site.examples, site.pairing, site.prompts_made


def write_cohort_file(folder: Path, choice: DataChoice, cohorts: Sequence[SiteCohort], *, synthetic: bool) -> None:
    """``folder/cohort.toml`` and its splits, with which every `more-model` command reads the run's patients."""
    splits = {t.patient_id: t.split.value for cohort in cohorts for t in cohort.examples.triplets}
    # The splits too: a store may lack the study that stated a patient's split.
    (folder / "workspace" / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    file = CohortFile(
        stores=tuple(Path("workspace/sites") / cohort.name for cohort in cohorts),
        splits=Path("workspace/splits.json"),
        split=choice.split,
        pairing=choice.pairing,
        label_wordings=choice.label_wordings,
        synthetic=synthetic,
    )
    text = tomli_w.dumps(file.model_dump(mode="json", exclude_none=True))
    (folder / COHORT_FILE).write_text(text, encoding="utf-8")


def ingest_sites(
    sites: Mapping[str, Sequence[Study]],
    preprocessing: Preprocessing,
    folder: Path,
    *,
    ceiling: float,
    workers: int,
    gate: StudyGate | None = None,
) -> dict[str, IngestReport]:
    """Ingest several sites, ``workers`` of them at a time, each in a process of its own; without a ``gate`` only what
    was computed, not collected."""
    folder.mkdir(parents=True, exist_ok=True)
    if workers == 1 or len(sites) == 1:
        return {
            site: ingest(own, folder / site, site, preprocessing, ceiling=ceiling, workers=workers, gate=gate)
            for site, own in sites.items()
        }
    # Spawned, not forked: this process may hold threads of torch.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {
            site: pool.submit(ingest, list(own), folder / site, site, preprocessing, ceiling=ceiling, gate=gate)
            for site, own in sites.items()
        }
        return {site: future.result() for site, future in waiting.items()}


def cohort_summary(cohorts: Sequence[SiteCohort]) -> dict[str, Any]:
    """Counts per site, split and modality, and label prevalence over all sites, for summary.json."""
    return {"sites": {c.name: _site_summary(c) for c in cohorts}, "label_prevalence": _prevalence(cohorts)}


def text_kind(cohorts: Sequence[SiteCohort]) -> str:
    """``reports``, ``label prompts`` or ``mixed``."""
    made = sum(cohort.prompts_made for cohort in cohorts)
    texts = sum(_texts(cohort) for cohort in cohorts)
    return "reports" if made == 0 else ("label prompts" if made == texts else "mixed")


def all_studies(choice: DataChoice) -> list[Study]:
    """All studies of the configured sources."""
    return read_sources(choice.sources, choice.label_tables)


def _opened(
    site: str, folder: Path, choice: DataChoice, splits: Mapping[str, Split], report: IngestReport
) -> SiteCohort:
    examples, counts, made = read_site(folder, choice, splits)
    return SiteCohort(site, examples, _over_all_runs(report, SiteStore.open_read(folder)), counts, made)


def _over_all_runs(report: IngestReport, store: SiteStore) -> IngestReport:
    """With the corrections of every stored study: an ingest that goes on tells only what it has corrected itself."""
    corrections: Counter[str] = Counter()
    samples = 0
    for record in store.records:
        codes = [code.partition(":") for code in record.corrections]
        corrections.update({kind for kind, _, _ in codes})
        samples += sum(int(detail) for kind, _, detail in codes if kind == "nan-interpolated")
    return replace(report, corrections=dict(corrections), nan_samples=samples)


def _texts(cohort: SiteCohort) -> int:
    return sum((t.xray_report is not None) + (t.ecg_report is not None) for t in cohort.examples.triplets)


def _site_summary(cohort: SiteCohort) -> dict[str, Any]:
    triplets = cohort.examples.triplets
    patients = {split.value: len({t.patient_id for t in triplets if t.split is split}) for split in Split}
    return {
        "patients": patients,
        "triplets": {split.value: sum(t.split is split for t in triplets) for split in Split},
        "modalities": {
            "xray": sum(t.xray is not None for t in triplets),
            "ecg": sum(t.ecg is not None for t in triplets),
            "both": sum(t.xray is not None and t.ecg is not None for t in triplets),
        },
        "refused": dict(cohort.ingested.refused),
        "deidentification": cohort.ingested.deidentification,
        "withheld": dict(cohort.ingested.withheld),
        "corrections": dict(cohort.ingested.corrections),
        "nan_samples": cohort.ingested.nan_samples,
        "pairing": dict(cohort.pairing),
        "label_prompts": cohort.prompts_made,
    }


def _prevalence(cohorts: Sequence[SiteCohort]) -> dict[str, dict[str, int]]:
    positives: Counter[str] = Counter()
    negatives: Counter[str] = Counter()
    for cohort in cohorts:
        for triplet in cohort.examples.triplets:
            positives.update(label for label, value in triplet.labels.items() if value == 1.0)
            negatives.update(label for label, value in triplet.labels.items() if value == 0.0)
    labels = sorted(positives.keys() | negatives.keys())
    return {label: {"positives": positives[label], "negatives": negatives[label]} for label in labels}
