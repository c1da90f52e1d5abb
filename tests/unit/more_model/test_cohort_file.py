"""A run's patients, read back from its directory as the run read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from more_model.cohort_file import load_cohort
from more_model.data.study import Split
from more_model.errors import ConfigError, DataError, StoreError

if TYPE_CHECKING:
    from simulation.workbench import Workbench


def test_a_run_directory_gives_the_patients_and_splits_of_the_run(
    miniature_run: Any, miniature_bench: Workbench
) -> None:
    cohort = load_cohort(miniature_run.out)
    assert cohort.synthetic
    assert [site.name for site in cohort.sites] == [site.name for site in miniature_bench.cohorts]
    for ours, theirs in zip(cohort.sites, miniature_bench.cohorts, strict=True):
        assert ours.examples.digest() == theirs.examples.digest()
        assert dict(ours.pairing) == dict(theirs.pairing)
    assert len(cohort.examples) == sum(len(site.examples) for site in cohort.sites)
    assert {triplet.split for triplet in cohort.examples.triplets} == set(Split)


def test_a_single_store_is_a_cohort_of_its_own(miniature_run: Any) -> None:
    store = sorted((miniature_run.out / "workspace" / "sites").iterdir())[0]
    (site,) = load_cohort(store).sites
    assert site.name == store.name
    assert len(site.examples) > 0


def test_paths_are_taken_from_the_files_own_folder(miniature_run: Any, tmp_path: Path) -> None:
    store = sorted((miniature_run.out / "workspace" / "sites").iterdir())[0]
    patients = {triplet.patient_id for triplet in load_cohort(store).examples.triplets}
    (tmp_path / "own.json").write_text(json.dumps(dict.fromkeys(patients, "test")), encoding="utf-8")
    (tmp_path / "own.toml").write_text(f'stores = ["{store}"]\nsplits = "own.json"\n', encoding="utf-8")
    cohort = load_cohort(tmp_path / "own.toml")
    assert {triplet.split for triplet in cohort.examples.triplets} == {Split.TEST}
    assert not cohort.synthetic


def test_stores_of_another_preprocessing_than_the_models_are_refused(miniature_run: Any) -> None:
    own = load_cohort(miniature_run.out).sites[0].store.preprocessing
    assert load_cohort(miniature_run.out, preprocessing=own).sites
    with pytest.raises(StoreError, match="preprocessing"):
        load_cohort(miniature_run.out, preprocessing=own.model_copy(update={"ecg_scaling": "minmax"}))


def test_what_is_no_cohort_is_refused(miniature_run: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither a cohort file, nor a folder with a cohort\.toml, nor a site store"):
        load_cohort(tmp_path)
    (tmp_path / "bad.toml").write_text("stores = 3\nsplitt = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="2 faults"):
        load_cohort(tmp_path / "bad.toml")
    store = sorted((miniature_run.out / "workspace" / "sites").iterdir())[0]
    (tmp_path / "splits.json").write_text('{"a": "exam"}', encoding="utf-8")
    (tmp_path / "strange.toml").write_text(f'stores = ["{store}"]\nsplits = "splits.json"\n', encoding="utf-8")
    with pytest.raises(DataError, match="does not say to which split"):
        load_cohort(tmp_path / "strange.toml")
