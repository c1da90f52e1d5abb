"""From a synthetic tree on disk to hospitals: patients, splits, modalities, counts."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from more_model.data.split import hash_split
from more_model.data.store import SiteStore
from more_model.data.study import Modality, Split
from more_model.errors import DataError
from more_model.training.words import LabelWording
from simulation.cohort import (
    SiteCohort,
    all_studies,
    build_sites,
    cohort_summary,
    read_site,
    synthetic_sources,
    text_kind,
)
from simulation.partition import Partition
from simulation.settings import DataChoice, load_run_config

MISSING = {"site-1": (Modality.XRAY,), "site-2": (Modality.ECG,)}


@pytest.fixture(scope="module")
def choice(miniature_run: Any) -> DataChoice:
    """The miniature's synthetic tree, read as sources on disk."""
    sources, tables = synthetic_sources(miniature_run.out / "workspace" / "cohort")
    split = load_run_config(miniature_run.config).data.split
    return DataChoice(sources=sources, label_tables=tables, split=split)


@pytest.fixture(scope="module")
def built(
    choice: DataChoice, miniature_run: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[SiteCohort], Path, Partition]:
    """Three sites, of which one has no X-rays and one no ECGs."""
    folder = tmp_path_factory.mktemp("sites")
    partition = Partition(kind="iid", sites=3, missing=MISSING)
    preprocessing = load_run_config(miniature_run.config).model.resolved().preprocessing
    cohorts = build_sites(all_studies(choice), choice, partition, preprocessing, folder, seed=3, workers=1)
    return cohorts, folder, partition


def test_sites_come_in_alphabetical_order_and_share_no_patient(built: Any) -> None:
    cohorts, _, _ = built
    assert [cohort.name for cohort in cohorts] == ["site-1", "site-2", "site-3"]
    patients = [
        triplet.patient_id for c in cohorts for triplet in {t.patient_id: t for t in c.examples.triplets}.values()
    ]
    assert len(patients) == len(set(patients)) > 50
    assert all(triplet.site == cohort.name for cohort in cohorts for triplet in cohort.examples.triplets)


def test_splits_are_decided_by_patient_before_anything_is_paired(built: Any, choice: DataChoice) -> None:
    cohorts, _, _ = built
    for cohort in cohorts:
        assert all(
            triplet.split is hash_split(triplet.patient_id, choice.split) for triplet in cohort.examples.triplets
        )
        assert {triplet.split for triplet in cohort.examples.triplets} == set(Split)


def test_a_site_has_nothing_of_what_it_misses_not_even_in_its_store(built: Any) -> None:
    cohorts, folder, _ = built
    for cohort, modality in zip(cohorts, (Modality.XRAY, Modality.ECG), strict=False):
        kinds = {record.modality for record in SiteStore.open_read(folder / cohort.name).records}
        describes = {record.describes for record in SiteStore.open_read(folder / cohort.name).records}
        assert modality not in kinds | describes
    assert all(t.xray is None and t.xray_report is None for t in cohorts[0].examples.triplets)
    assert all(t.ecg is None and t.ecg_report is None for t in cohorts[1].examples.triplets)
    both = [t for t in cohorts[2].examples.triplets if t.xray is not None and t.ecg is not None]
    assert both


def test_the_summary_counts_what_is_there(built: Any) -> None:
    cohorts, _, _ = built
    summary = cohort_summary(cohorts)
    for cohort in cohorts:
        site, triplets = summary["sites"][cohort.name], cohort.examples.triplets
        assert site["triplets"] == {split.value: Counter(t.split for t in triplets)[split] for split in Split}
        assert sum(site["patients"].values()) == len({t.patient_id for t in triplets})
        assert site["modalities"]["both"] == sum(t.xray is not None and t.ecg is not None for t in triplets)
    assert summary["sites"]["site-1"]["modalities"]["xray"] == 0
    assert summary["sites"]["site-2"]["modalities"]["ecg"] == 0
    stated = [t.labels["Edema"] for c in cohorts for t in c.examples.triplets if "Edema" in t.labels]
    assert summary["label_prevalence"]["Edema"] == {"positives": stated.count(1.0), "negatives": stated.count(0.0)}


def test_going_on_keeps_stores_and_tells_the_same_counts(
    built: Any, choice: DataChoice, miniature_run: Any, tmp_path: Path
) -> None:
    cohorts, folder, partition = built
    shutil.copytree(folder, tmp_path / "sites")
    preprocessing = load_run_config(miniature_run.config).model.resolved().preprocessing
    again = build_sites(all_studies(choice), choice, partition, preprocessing, tmp_path / "sites", seed=3, workers=1)
    assert sum(sum(cohort.ingested.stored.values()) for cohort in again) == 0
    assert [cohort.examples.triplets for cohort in again] == [cohort.examples.triplets for cohort in cohorts]
    assert cohort_summary(again) == cohort_summary(cohorts)
    assert sum(sum(cohort.ingested.corrections.values()) for cohort in again) > 0


def test_a_stored_site_is_read_back_as_it_was_built(built: Any, choice: DataChoice) -> None:
    cohorts, folder, _ = built
    examples, counts, made = read_site(folder / "site-3", choice)
    assert examples.triplets == cohorts[2].examples.triplets
    assert (counts, made) == (cohorts[2].pairing, 0)


def test_texts_are_called_reports_only_where_they_are(built: Any, choice: DataChoice) -> None:
    cohorts, folder, _ = built
    assert text_kind(cohorts) == "reports"
    silent = [replace(c, examples=c.examples.where(lambda t: t.xray_report is None)) for c in cohorts[:1]]
    assert text_kind(silent) == "reports"
    wording = LabelWording(modality=Modality.ECG, present={"NORM": ["normal ecg"]}, absent={"NORM": ["abnormal ecg"]})
    worded = choice.model_copy(update={"label_wordings": (wording,)})
    _, _, made = read_site(folder / "site-3", worded)
    assert made == 0, "a study with a report keeps it"
    texts = sum((t.xray_report is not None) + (t.ecg_report is not None) for t in cohorts[2].examples.triplets)
    assert text_kind([replace(cohorts[2], prompts_made=texts)]) == "label prompts"
    assert text_kind([replace(cohorts[2], prompts_made=1)]) == "mixed"


@pytest.mark.parametrize(
    ("remove", "reason"),
    [
        ("mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-metadata"),
        ("mimic-iv-ecg/record_list.csv", "record_list"),
        ("synthetic_patients.csv", "synthetic_patients"),
    ],
)
def test_a_missing_table_is_named(miniature_run: Any, tmp_path: Path, remove: str, reason: str) -> None:
    tree = tmp_path / "tree"
    # Links: only the names in the folders are changed.
    shutil.copytree(miniature_run.out / "workspace" / "cohort", tree, copy_function=lambda a, b: Path(b).symlink_to(a))
    (tree / remove).unlink()
    sources, tables = synthetic_sources(tree)
    with pytest.raises(DataError, match=reason):
        all_studies(DataChoice(sources=sources, label_tables=tables))


def test_studies_that_may_name_somebody_are_withheld_unless_the_configuration_says_otherwise(
    choice: DataChoice, miniature_run: Any, tmp_path: Path
) -> None:
    studies = [study for study in all_studies(choice) if study.modality is Modality.REPORT][:12]
    studies[0] = replace(studies[0], text="Seen by Dr. Smith.", source=None)
    preprocessing = load_run_config(miniature_run.config).model.resolved().preprocessing
    ceiling = choice.model_copy(update={"quarantine_ceiling": 0.5})
    unchecked = ceiling.model_copy(update={"deidentification_check": False})
    checked, all_of_them = (
        cohort_summary(
            build_sites(
                studies, chosen, Partition(kind="iid", sites=1), preprocessing, tmp_path / name, seed=3, workers=1
            )
        )["sites"]["site-1"]
        for name, chosen in (("checked", ceiling), ("unchecked", unchecked))
    )
    assert (checked["deidentification"], checked["withheld"]) == ("rules 1", {"name": 1})
    assert checked["refused"] == {"not-deidentified": 1}
    assert (all_of_them["deidentification"], all_of_them["withheld"]) == ("not checked", {})


def test_a_synthetic_cohort_names_nobody(built: Any) -> None:
    cohorts, _, _ = built
    assert [(c.ingested.deidentification, c.ingested.withheld) for c in cohorts] == [("rules 1", {})] * 3


def test_a_site_above_the_quarantine_ceiling_stops_the_build(
    choice: DataChoice, miniature_run: Any, tmp_path: Path
) -> None:
    studies = [study for study in all_studies(choice) if study.modality is Modality.ECG][:10]
    broken = [replace(study, source=tmp_path / "gone") for study in studies]
    preprocessing = load_run_config(miniature_run.config).model.resolved().preprocessing
    with pytest.raises(DataError, match="were refused, above the ceiling"):
        build_sites(broken, choice, Partition(kind="iid", sites=1), preprocessing, tmp_path / "s", seed=3, workers=1)
