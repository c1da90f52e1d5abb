"""The tree on disk: the layout of the MIMIC releases, the same bytes every time, never a mixture."""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from more_model.errors import DataError, EnvironmentFault
from simulation.synthetic.config import SynthConfig
from simulation.synthetic.tree import FINISHED_MARKER, SynthReport, write_cohort

LABELS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
REPORTS = ",".join(f"report_{number}" for number in range(18))
HEADERS = {
    "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,"
    "ViewPosition,Rows,Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
    "PatientOrientationCodeSequence_CodeMeaning",
    "mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz": "dicom_id,study_id,subject_id,split",
    "mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz": f"subject_id,study_id,{LABELS}",
    "mimic-cxr-jpg/mimic-cxr-2.0.0-negbio.csv.gz": f"subject_id,study_id,{LABELS}",
    "mimic-cxr/cxr-record-list.csv.gz": "subject_id,study_id,dicom_id,path",
    "mimic-cxr/cxr-study-list.csv.gz": "subject_id,study_id,path",
    "mimic-iv-ecg/record_list.csv": "subject_id,study_id,file_name,ecg_time,path",
    "mimic-iv-ecg/machine_measurements.csv": f"subject_id,study_id,cart_id,ecg_time,{REPORTS},bandwidth,filtering,"
    "rr_interval,p_onset,p_end,qrs_onset,qrs_end,t_end,p_axis,qrs_axis,t_axis",
    "synthetic_patients.csv": "subject_id,hospital,sex,age,anchor_year",
    "synthetic_ecg_labels.csv": "study_id,subject_id,NORM,MI,STTC,CD,HYP,AFIB",
    "synthetic_lesions.csv": "dicom_id,finding,x,y,radius",
}

SMALL = SynthConfig(patients=20, hospitals=3, seed=4, image_px=32)


def contents(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(("path", "header"), HEADERS.items())
def test_every_table_has_its_columns_in_order(written_cohort, path, header):
    raw = (written_cohort.root / path).read_bytes()
    lines = (gzip.decompress(raw) if path.endswith(".gz") else raw).decode().splitlines()
    assert lines[0] == header
    assert len(lines) > 1
    assert {len(row) for row in csv.reader(lines)} == {header.count(",") + 1}


def test_same_bytes_with_one_worker_and_with_two(tmp_path):
    write_cohort(SMALL, tmp_path / "one")
    seen: list[tuple[int, int]] = []
    write_cohort(SMALL, tmp_path / "two", workers=2, progress=lambda done, total: seen.append((done, total)))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert seen == [(16, 20), (20, 20)]


def test_another_seed_gives_other_pictures(tmp_path):
    write_cohort(SMALL.model_copy(update={"patients": 4}), tmp_path / "a")
    write_cohort(SMALL.model_copy(update={"patients": 4, "seed": 5}), tmp_path / "b")
    first = {digest for name, digest in contents(tmp_path / "a").items() if name.endswith((".jpg", ".dat"))}
    second = {digest for name, digest in contents(tmp_path / "b").items() if name.endswith((".jpg", ".dat"))}
    assert first
    assert not first & second


def test_a_larger_cohort_keeps_the_smaller_one(tmp_path):
    write_cohort(SMALL.model_copy(update={"patients": 5}), tmp_path / "small")
    write_cohort(SMALL.model_copy(update={"patients": 9}), tmp_path / "large")
    small, large = contents(tmp_path / "small"), contents(tmp_path / "large")
    studies = {name: digest for name, digest in small.items() if "/files/" in name}
    assert studies
    assert studies.items() <= large.items()
    rows = (tmp_path / "small/mimic-iv-ecg/machine_measurements.csv").read_text()
    assert (tmp_path / "large/mimic-iv-ecg/machine_measurements.csv").read_text().startswith(rows)


def test_a_complete_tree_is_kept_untouched(tmp_path):
    config = SMALL.model_copy(update={"patients": 3})
    first = write_cohort(config, tmp_path / "c")
    picture = next((tmp_path / "c").rglob("*.jpg"))
    picture.write_bytes(b"changed by hand")
    again = write_cohort(config, tmp_path / "c")
    assert again.kept
    assert not first.kept
    assert again.hospitals == first.hospitals
    assert picture.read_bytes() == b"changed by hand"


def test_an_unfinished_tree_is_completed(tmp_path):
    config = SMALL.model_copy(update={"patients": 3})
    write_cohort(config, tmp_path / "c")
    whole = contents(tmp_path / "c")
    (tmp_path / "c" / FINISHED_MARKER).unlink()
    next((tmp_path / "c").rglob("*.dat")).write_bytes(b"cut off")
    assert not write_cohort(config, tmp_path / "c").kept
    assert contents(tmp_path / "c") == whole


def test_two_cohorts_are_never_mixed(tmp_path):
    config = SMALL.model_copy(update={"patients": 2})
    write_cohort(config, tmp_path / "c")
    with pytest.raises(DataError, match="another configuration"):
        write_cohort(config.model_copy(update={"seed": 9}), tmp_path / "c")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="not a synthetic cohort"):
        write_cohort(config, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_named_and_the_next_run_completes_the_tree(tmp_path, monkeypatch):
    config = SMALL.model_copy(update={"patients": 2})

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("simulation.synthetic.tables.write_table", no_space)
        with pytest.raises(EnvironmentFault, match="disk is full"):
            write_cohort(config, tmp_path / "c")
    assert not (tmp_path / "c" / FINISHED_MARKER).exists()
    assert not write_cohort(config, tmp_path / "c").kept
    assert (tmp_path / "c" / FINISHED_MARKER).exists()


def test_pictures_lie_where_mimic_puts_them_and_are_as_large_as_the_metadata_says(written_cohort):
    metadata = written_cohort.table("mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz")
    assert metadata["dicom_id"].is_unique
    for row in metadata.itertuples():
        assert re.fullmatch(r"([0-9a-f]{8}-){4}[0-9a-f]{8}", row.dicom_id)
        assert re.fullmatch(r"1\d{7}", str(row.subject_id))
        assert re.fullmatch(r"5\d{7}", str(row.study_id))
        folder = f"files/p{str(row.subject_id)[:2]}/p{row.subject_id}/s{row.study_id}"
        with Image.open(written_cohort.root / "mimic-cxr-jpg" / folder / f"{row.dicom_id}.jpg") as image:
            assert image.mode == "L"
            assert image.size == (row.Columns, row.Rows)
        assert (written_cohort.root / "mimic-cxr" / folder / f"{row.dicom_id}.dcm").is_file()
        assert (written_cohort.root / "mimic-cxr" / f"{folder}.txt").is_file()
    assert len(list((written_cohort.root / "mimic-cxr-jpg").rglob("*.jpg"))) == len(metadata)
    assert {"PA", "AP", "LATERAL"} <= set(metadata["ViewPosition"])


def test_lists_name_existing_files_and_study_ids_are_unique(written_cohort):
    records = written_cohort.table("mimic-iv-ecg/record_list.csv")
    assert records["study_id"].is_unique
    assert records["study_id"].astype(str).str.fullmatch(r"4\d{7}").all()
    assert all((written_cohort.root / "mimic-iv-ecg" / f"{path}.hea").is_file() for path in records["path"])
    assert records["path"].str.fullmatch(r"files/p1\d{3}/p1\d{7}/s4\d{7}/4\d{7}").all()
    studies = written_cohort.table("mimic-cxr/cxr-study-list.csv.gz")
    assert studies["study_id"].is_unique
    assert all((written_cohort.root / "mimic-cxr" / path).is_file() for path in studies["path"])
    films = written_cohort.table("mimic-cxr/cxr-record-list.csv.gz")
    assert all((written_cohort.root / "mimic-cxr" / path).is_file() for path in films["path"])


def test_study_time_has_lost_its_leading_zeros(tmp_path):
    write_cohort(SynthConfig(patients=40, hospitals=1, seed=2, image_px=32, ecg=False), tmp_path / "c")
    table = pd.read_csv(tmp_path / "c/mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz", dtype={"StudyTime": str})
    whole = table["StudyTime"].str.split(".").str[0]
    assert whole.str.len().min() < 6
    assert pd.to_datetime(whole.str.zfill(6), format="%H%M%S").notna().all()
    assert pd.to_datetime(table["StudyDate"].astype(str), format="%Y%m%d").notna().all()


def test_one_patient_has_one_hospital_and_one_split(written_cohort):
    patients = written_cohort.table("synthetic_patients.csv")
    assert patients["subject_id"].is_unique
    assert patients["hospital"].nunique() == 8
    split = written_cohort.table("mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz")
    assert split.groupby("subject_id")["split"].nunique().max() == 1
    assert set(split["split"]) <= {"train", "validate", "test"}


def test_most_ecgs_are_near_their_film_and_some_are_not(tmp_path):
    config = SynthConfig(patients=60, hospitals=1, seed=3, image_px=32, far_ecg_rate=0.3, max_visits=1)
    write_cohort(config, tmp_path / "c")
    films = pd.read_csv(tmp_path / "c/mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz").set_index("subject_id")
    ecgs = pd.read_csv(tmp_path / "c/mimic-iv-ecg/record_list.csv", parse_dates=["ecg_time"]).set_index("subject_id")
    both = films[["StudyDate"]].join(ecgs, how="inner")
    apart = (both["ecg_time"] - pd.to_datetime(both["StudyDate"].astype(str), format="%Y%m%d")).dt.days.abs()
    assert 0.1 < float(np.mean(apart > 60)) < 0.5
    assert float(np.median(apart)) < 20


def test_missing_studies_follow_the_rates_and_no_visit_is_empty(tmp_path):
    config = SynthConfig(patients=40, hospitals=1, seed=3, image_px=32, missing_xray=1.0, max_visits=1)
    report = write_cohort(config, tmp_path / "ecg-only")
    assert report.hospitals["academic"].films == 0
    assert report.hospitals["academic"].ecgs == 40
    report = write_cohort(config.model_copy(update={"missing_xray": 0.5, "missing_ecg": 0.4}), tmp_path / "both")
    counts = report.hospitals["academic"]
    assert counts.films < 35
    assert counts.ecgs < 40
    assert counts.reports + counts.ecgs >= 40


def test_the_report_counts_what_lies_on_disk(written_cohort):
    report: SynthReport = written_cohort.report
    labels = written_cohort.table("mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz")
    counted = sum(counts.labels["Edema"][0] for counts in report.hospitals.values())
    assert counted == int((labels["Edema"] == 1.0).sum())
    assert sum(counts.patients for counts in report.hospitals.values()) == 32
    assert sum(counts.ecgs for counts in report.hospitals.values()) == len(
        list((written_cohort.root / "mimic-iv-ecg").rglob("*.hea"))
    )
    assert "SYNTHETIC" in (written_cohort.root / "README.txt").read_text()


def test_public_and_private_cohorts_share_no_patient_and_no_study(tmp_path):
    write_cohort(SMALL.model_copy(update={"patients": 6}), tmp_path / "private")
    public = SMALL.model_copy(update={"patients": 6, "first_subject_id": 15_000_000})
    write_cohort(public, tmp_path / "public")
    for column, table in (
        ("subject_id", "synthetic_patients.csv"),
        ("study_id", "synthetic_ecg_labels.csv"),
        ("dicom_id", "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz"),
    ):
        ids = [set(pd.read_csv(tmp_path / name / table)[column]) for name in ("private", "public")]
        assert ids[0]
        assert not ids[0] & ids[1]
