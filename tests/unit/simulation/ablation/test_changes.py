"""What a variant changes: its model, its training patients; never who is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from more_model.cohort_file import load_cohort
from more_model.data.pairing import PairingRule
from more_model.data.study import Split
from more_model.errors import ConfigError
from more_model.training.examples import Examples
from simulation.ablation.changes import training_cohorts, unpaired, without_modality
from simulation.ablation.settings import AblationConfig, load_ablation
from simulation.ablation.variants import Variant, changed_model, hospital_faults, name_faults, plan
from simulation.cohort import SiteCohort


@pytest.fixture
def config(write_ablation: Any, tmp_path: Path) -> AblationConfig:
    chosen = {
        "lora_ranks": [0, 4],
        "temperatures": [0.1, "learned"],
        "pairing": [{"rule": "all-within", "days": 30}],
        "hospitals": "all",
    }
    return load_ablation(write_ablation(tmp_path, chosen))


@pytest.fixture(scope="module")
def everyone(finished: Any) -> Examples:
    return load_cohort(finished.out).examples


def test_the_plan_names_each_variant_and_what_the_reference_has_itself(config: AblationConfig) -> None:
    model = config.model.resolved()
    variants = {v.name: v for v in plan(config, model, ["north", "south"])}
    assert list(variants) == [
        "lora-none", "lora-rank-4", "temperature-0.1", "temperature-learned", "pairing-all-within-30d",
        "without-north", "without-south",
    ]  # fmt: skip
    assert [name for name, variant in variants.items() if variant.is_reference] == ["temperature-0.1"]
    wide = changed_model(model, variants["lora-rank-4"].model).lora
    assert wide.rank == 4 and wide.alpha / wide.rank == model.lora.alpha / model.lora.rank
    assert changed_model(model, variants["temperature-learned"].model).temperature.learned


def test_a_change_that_makes_no_model_is_refused(config: AblationConfig) -> None:
    with pytest.raises(ConfigError, match=r"lora\.rank"):
        changed_model(config.model.resolved(), {"lora": {"rank": -1}})


def test_unknown_names_are_told_with_those_there_are(config: AblationConfig) -> None:
    model = config.model.resolved()
    before, after = plan(config, model, None), plan(config, model, ["north", "south"])
    assert name_faults(["lora-none", "without-east"], before, None) == []
    (fault,) = name_faults(["lora-none", "without-east"], after, ["north", "south"])
    assert "--only without-east: there is no such variant" in fault and "without-south" in fault
    assert "there is no such variant" in name_faults(["lora"], before, None)[0]


def test_hospitals_that_are_none_are_told(config: AblationConfig) -> None:
    named = config.model_copy(update={"ablation": config.ablation.model_copy(update={"hospitals": ("east",)})})
    assert hospital_faults(named, ["north", "south"]) == [
        "ablation.hospitals: there is no 'east'; there are north, south"
    ]
    assert "nothing to train on" in hospital_faults(config, ["north"])[0]
    assert hospital_faults(config, ["north", "south"]) == []


def test_without_a_modality_no_study_and_no_word_of_it_is_left(everyone: Examples) -> None:
    cut = without_modality(everyone, "ecg")
    assert {(t.ecg, t.ecg_report) for t in cut.triplets} == {(None, None)}
    assert [t.xray for t in cut.triplets] == [t.xray for t in everyone.triplets if t.xray is not None]
    assert len(cut.source_of) == len(cut)


def test_unpaired_studies_are_all_there_and_never_together(everyone: Examples) -> None:
    cut = unpaired(everyone)
    assert not any(t.xray is not None and t.ecg is not None for t in cut.triplets)
    for studies in (lambda t: (t.xray, t.xray_report), lambda t: (t.ecg, t.ecg_report)):
        there = [
            [(t.patient_id, source, *studies(t)) for t, source in zip(part.triplets, part.source_of, strict=True)
             if studies(t)[0] is not None]
            for part in (everyone, cut)
        ]  # fmt: skip
        assert there[0] == there[1]


def test_another_pairing_is_read_from_the_stores_with_the_same_splits(finished: Any, config: AblationConfig) -> None:
    cohorts = site_cohorts(finished.out)
    stores = finished.out / "workspace" / "sites"
    never = Variant("pairing", "", "", pairing=PairingRule(days=0.0))
    kept, emptied = training_cohorts(never, cohorts, config.data, stores)
    assert [cohort.name for cohort in kept] == ["site-1", "site-2", "site-3"] and not emptied
    for before, after in zip(cohorts, kept, strict=True):
        assert all(t.split is Split.TRAIN for t in after.examples.triplets)
        trained = {t.patient_id for t in before.examples.of_split(Split.TRAIN).triplets}
        assert {t.patient_id for t in after.examples.triplets} == trained
    training = ([c.examples.of_split(Split.TRAIN) for c in part] for part in (cohorts, kept))
    pairs = [sum(t.xray is not None and t.ecg is not None for e in part for t in e.triplets) for part in training]
    assert pairs[1] < pairs[0]


def test_a_hospital_left_out_is_not_trained_on_and_one_left_empty_is_told(
    finished: Any, config: AblationConfig
) -> None:
    cohorts = site_cohorts(finished.out)
    stores = finished.out / "workspace" / "sites"
    kept, emptied = training_cohorts(Variant("x", "", "", hospital="site-2"), cohorts, config.data, stores)
    assert [cohort.name for cohort in kept] == ["site-1", "site-3"] and not emptied
    only_ecg = [*cohorts[:2], SiteCohort("site-3", without_modality(cohorts[2].examples, "xray"), *([None] * 3))]  # type: ignore[arg-type]
    kept, emptied = training_cohorts(Variant("x", "", "", missing="ecg"), only_ecg, config.data, stores)
    assert [cohort.name for cohort in kept] == ["site-1", "site-2"] and emptied == ["site-3"]


def site_cohorts(out: Path) -> list[SiteCohort]:
    return [SiteCohort(site.name, site.examples, None, site.pairing, 0) for site in load_cohort(out).sites]  # type: ignore[arg-type]
