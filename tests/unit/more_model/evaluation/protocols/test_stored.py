"""From a protocol's studies to examples: one store, nothing refused in silence, nothing mixed up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trees.chexpert import write_chexpert
from trees.mimic_cxr_jpg import write_mimic_cxr_jpg
from trees.wfdb_files import twelve_leads_mv, write_wfdb

from more_model.data.ingest import CeilingExceeded
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import SiteStore
from more_model.data.study import Modality, Split, Study
from more_model.errors import DataError, StoreError
from more_model.evaluation.protocols.protocol import EvaluationCohort, ProtocolChoice
from more_model.evaluation.protocols.registry import protocol
from more_model.evaluation.protocols.stored import of_splits, stored_examples

SMALL = Preprocessing(image_size=32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return write_chexpert(tmp_path_factory.mktemp("chexpert"), image_px=32)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_chexpert(tmp_path / "data", image_px=32)


def read(root: Path, name: str = "chexpert-5", **choice: object) -> EvaluationCohort:
    return protocol(name).read(root, ProtocolChoice.model_validate(choice))


def test_one_example_per_study_in_order_with_its_own_pixels(root: Path, tmp_path: Path) -> None:
    cohort = read(root)
    examples, counts = stored_examples(cohort, SMALL, tmp_path / "store", workers=1)
    assert len(examples) == len(cohort.studies)
    for triplet, study in zip(examples.triplets, cohort.studies, strict=True):
        assert (triplet.patient_id, triplet.split) == (study.patient_id, cohort.split[study.study_id])
        assert triplet.labels == study.labels
        assert triplet.attributes["case"] == cohort.case.get(study.study_id, study.study_id)
        assert triplet.attributes["view"] == study.attributes["view"]
        assert "source" not in triplet.attributes
        assert triplet.ecg is None
    alone, _ = stored_examples(replace(cohort, studies=cohort.studies[-1:]), SMALL, tmp_path / "other", workers=1)
    assert np.array_equal(examples.xrays([len(examples) - 1]).numpy(), alone.xrays([0]).numpy())
    split_counts = {split.value: sum(part is split for part in cohort.split.values()) for split in Split}
    assert counts["studies"] == counts["stored"] == split_counts
    assert counts["refused"] == {"train": {}, "validation": {}, "test": {}}


def test_a_second_protocol_on_the_same_data_decodes_only_what_is_new_and_keeps_its_own_labels(
    root: Path, tmp_path: Path
) -> None:
    five, drawn = read(root), read(root, "chexpert-5x200")
    _, first = stored_examples(five, SMALL, tmp_path / "store", workers=1)
    examples, second = stored_examples(drawn, SMALL, tmp_path / "store", workers=1)
    assert first["ingest"]["stored"] == {"xray": len(five.studies)}
    assert second["ingest"]["stored"] == {}
    assert [triplet.labels for triplet in examples.triplets] == [study.labels for study in drawn.studies]
    before = {study.study_id: study.labels for study in five.studies}
    assert any(before[study.study_id] != study.labels for study in drawn.studies)


def test_only_the_splits_asked_for_are_decoded(root: Path, tmp_path: Path) -> None:
    cohort = of_splits(read(root), Split.TEST)
    examples, counts = stored_examples(cohort, SMALL, tmp_path / "store", workers=1)
    assert {triplet.split for triplet in examples.triplets} == {Split.TEST}
    assert counts["studies"]["train"] == 0


def test_refused_test_studies_are_counted_under_their_reason(own: Path, tmp_path: Path) -> None:
    cohort = read(own)
    test = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    assert test[0].source is not None
    test[0].source.write_bytes(b"no picture")
    examples, counts = stored_examples(cohort, SMALL, tmp_path / "store", workers=1, ceiling=0.05)
    assert counts["refused"] == {"train": {}, "validation": {}, "test": {"unknown-format": 1}}
    assert counts["stored"]["test"] == counts["studies"]["test"] - 1
    assert len(examples) == len(cohort.studies) - 1
    _, again = stored_examples(cohort, SMALL, tmp_path / "store", workers=1)
    assert again["refused"] == counts["refused"]


def test_too_many_refused_test_studies_stop_the_evaluation_though_few_of_all_are(own: Path, tmp_path: Path) -> None:
    cohort = read(own)
    test = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    for study in test[:3]:
        assert study.source is not None
        study.source.unlink()
    with pytest.raises(DataError, match=r"3 of 24 test studies could not be read.*file-not-found \(3\)"):
        stored_examples(cohort, SMALL, tmp_path / "store", workers=1, ceiling=0.05)
    with pytest.raises(CeilingExceeded):
        stored_examples(cohort, SMALL, tmp_path / "store", workers=1, ceiling=0.01)


def test_a_folder_that_holds_other_files_under_the_same_ids_is_refused(root: Path, own: Path, tmp_path: Path) -> None:
    stored_examples(of_splits(read(root), Split.TEST), SMALL, tmp_path / "store", workers=1)
    with pytest.raises(StoreError, match="24 studies that were read from other files"):
        stored_examples(of_splits(read(own), Split.TEST), SMALL, tmp_path / "store", workers=1)
    with pytest.raises(StoreError, match="another preprocessing"):
        stored_examples(read(root), Preprocessing(image_size=64), tmp_path / "store", workers=1)


def test_a_hospitals_own_store_is_refused(root: Path, tmp_path: Path) -> None:
    from more_model.data.ingest import ingest

    cohort = of_splits(read(root), Split.TEST)
    ingest(cohort.studies, tmp_path / "store", "north", SMALL)
    with pytest.raises(StoreError, match="read from other files"):
        stored_examples(cohort, SMALL, tmp_path / "store", workers=1)
    assert SiteStore.open_read(tmp_path / "store").site == "north"


def test_an_x_ray_and_an_ecg_of_one_table_row_get_their_own_rows_and_words(tmp_path: Path) -> None:
    root = write_mimic_cxr_jpg(tmp_path / "mimic", patients=3, image_px=32)
    picture = sorted(root.rglob("*.jpg"))[0]
    write_wfdb(tmp_path / "trace", twelve_leads_mv(1, rate_hz=100), rate_hz=100, units_per_mv=1000)
    xray = Study(Modality.XRAY, "row-1", "patient", "row-1", site="north", source=picture, labels={"sick": 1.0})
    ecg = replace(xray, modality=Modality.ECG, source=tmp_path / "trace")
    report = Study(
        Modality.REPORT, "ecg-row-1", "patient", "row-1", text="Sinus rhythm. Normal ECG.", describes=Modality.ECG
    )
    split = {"row-1": Split.TEST, "ecg-row-1": Split.TEST}
    cohort = EvaluationCohort(studies=(xray, ecg, report), split=split, tasks=())
    examples, counts = stored_examples(cohort, SMALL, tmp_path / "store", workers=1, site="table")
    of_xray, of_ecg = examples.triplets
    assert (of_xray.xray, of_xray.ecg, of_xray.xray_report, of_xray.ecg_report) == (0, None, None, None)
    assert (of_ecg.xray, of_ecg.ecg, of_ecg.ecg_report) == (None, 0, "Sinus rhythm. Normal ECG.")
    assert of_ecg.site == "north"
    assert of_ecg.labels == {"sick": 1.0}
    assert examples.ecgs([1]).shape == (1, 12, 1000)
    assert counts["stored"]["test"] == 3
