"""MIMIC-CXR-JPG and MIMIC-CXR trees, written here with the columns and traps of the releases."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from more_model.data.mimic_cxr import CHEXPERT_LABELS, mimic_cxr_times, read_mimic_cxr, read_mimic_cxr_jpg
from more_model.data.study import Modality, Study
from more_model.errors import DataError

METADATA = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
]
IMAGES = {
    # dicom id: subject, study, view, date, time
    "aaaa-1": ("10000032", "50414267", "PA", "21800506", "213014.531"),
    "aaaa-2": ("10000032", "50414267", "LATERAL", "21800506", "213014.531"),
    "bbbb-1": ("10000032", "53189527", "AP", "21800626", "3455.2"),
    "cccc-1": ("11000011", "56699142", "", "21440717", "0.0"),
    "dddd-1": ("11000011", "51967283", "AP", "21440718", "999999.0"),
}
SPLITS = {"aaaa-1": "train", "aaaa-2": "train", "bbbb-1": "train", "cccc-1": "validate", "dddd-1": "validate"}
#: In the order of the *CheXpert* release, to prove that labels are taken by name.
LABEL_ORDER = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
LABELS: dict[str, dict[str, str]] = {
    "50414267": {"No Finding": "1.0"},
    "53189527": {"Edema": "-1.0", "Pleural Effusion": "1.0", "Pneumothorax": "0.0"},
    "51967283": {},
}


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(",".join(row) for row in [header, *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_jpg_release(root: Path, suffix: str = ".csv.gz") -> Path:
    (root / "files").mkdir(parents=True)
    metadata = [
        (dicom, subject, study, "CHEST (PA AND LAT)", view, "3056", "2544", date, time, "x", "y", "Erect")
        for dicom, (subject, study, view, date, time) in IMAGES.items()
    ]
    write_csv(root / f"mimic-cxr-2.0.0-metadata{suffix}", METADATA, metadata)
    splits = [(dicom, IMAGES[dicom][1], IMAGES[dicom][0], word) for dicom, word in SPLITS.items()]
    write_csv(root / f"mimic-cxr-2.0.0-split{suffix}", ("dicom_id", "study_id", "subject_id", "split"), splits)
    labels = [("1", study, *(stated.get(name, "") for name in LABEL_ORDER)) for study, stated in LABELS.items()]
    write_csv(root / f"mimic-cxr-2.0.0-chexpert{suffix}", ("subject_id", "study_id", *LABEL_ORDER), labels)
    return root


def of_modality(studies: Sequence[Study], modality: Modality) -> Mapping[str, Study]:
    return {study.study_id: study for study in studies if study.modality is modality}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_frontal_images_come_with_path_time_labels_and_split(tmp_path: Path, suffix: str) -> None:
    root = write_jpg_release(tmp_path / "jpg", suffix)
    reading = read_mimic_cxr_jpg(root)
    xrays = of_modality(reading.studies, Modality.XRAY)
    assert list(xrays) == ["aaaa-1", "bbbb-1", "dddd-1"]
    first = xrays["aaaa-1"]
    assert first.source == root / "files/p10/p10000032/s50414267/aaaa-1.jpg"
    assert (first.patient_id, first.group_id) == ("10000032", "50414267")
    assert first.time == datetime(2180, 5, 6, 21, 30, 14)
    assert first.labels == {"No Finding": 1.0}
    assert first.attributes == {"view": "PA", "official_split": "train", "procedure": "CHEST (PA AND LAT)"}
    assert xrays["bbbb-1"].labels == {"Edema": -1.0, "Pleural Effusion": 1.0, "Pneumothorax": 0.0}
    assert xrays["dddd-1"].attributes["official_split"] == "validation"
    assert xrays["dddd-1"].labels == {}
    assert reading.counts["xray-other-view"] == 2
    assert reading.counts["xray-without-labels"] == 1
    assert not of_modality(reading.studies, Modality.REPORT)


def test_study_time_without_leading_zeros_and_impossible_times() -> None:
    times = mimic_cxr_times(
        ["21800506", "21800506", "21800506.0", "21800506", "21800231", ""],
        ["213014.531", "3455.2", "0.0", "999999.0", "120000.0", "120000.0"],
    )
    assert times == [
        datetime(2180, 5, 6, 21, 30, 14),
        datetime(2180, 5, 6, 0, 34, 55),
        datetime(2180, 5, 6),
        datetime(2180, 5, 6),
        None,
        None,
    ]


def test_all_views_on_request(tmp_path: Path) -> None:
    reading = read_mimic_cxr_jpg(write_jpg_release(tmp_path), views=())
    assert len(of_modality(reading.studies, Modality.XRAY)) == len(IMAGES)


def test_one_report_per_study_lies_beside_the_study_folder(tmp_path: Path) -> None:
    root = write_jpg_release(tmp_path / "jpg")
    (tmp_path / "cxr/files").mkdir(parents=True)
    reading = read_mimic_cxr_jpg(root, reports_root=tmp_path / "cxr", views=("PA", "LATERAL"))
    reports = of_modality(reading.studies, Modality.REPORT)
    assert list(reports) == ["xray-50414267"]
    report = reports["xray-50414267"]
    assert report.source == tmp_path / "cxr/files/p10/p10000032/s50414267.txt"
    assert (report.group_id, report.describes) == ("50414267", Modality.XRAY)


def test_every_missing_table_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "README").touch()
    with pytest.raises(DataError) as caught:
        read_mimic_cxr_jpg(tmp_path)
    message = str(caught.value)
    for stem in ("metadata", "split", "chexpert"):
        assert f"mimic-cxr-2.0.0-{stem}.csv" in message
    assert "It holds: README" in message
    with pytest.raises(DataError, match=r"folder .*nowhere does not exist"):
        read_mimic_cxr_jpg(tmp_path / "nowhere")


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    root = write_jpg_release(tmp_path, ".csv")
    path = root / "mimic-cxr-2.0.0-chexpert.csv"
    path.write_text(path.read_text().replace("Edema", "Oedema").replace("Fracture", "Break"))
    with pytest.raises(DataError, match=r"chexpert\.csv has no columns 'Edema', 'Fracture'.*'Oedema'"):
        read_mimic_cxr_jpg(root)


def test_a_cut_off_gz_table_is_refused_by_name(tmp_path: Path) -> None:
    root = write_jpg_release(tmp_path)
    path = root / "mimic-cxr-2.0.0-metadata.csv.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"metadata\.csv\.gz cannot be read \(EOFError\)"):
        read_mimic_cxr_jpg(root)


def test_a_label_that_is_no_number_is_refused_by_column(tmp_path: Path) -> None:
    root = write_jpg_release(tmp_path, ".csv")
    path = root / "mimic-cxr-2.0.0-chexpert.csv"
    path.write_text(path.read_text().replace("-1.0", "perhaps"))
    with pytest.raises(DataError, match=r"column 'Edema' has 1 such cells"):
        read_mimic_cxr_jpg(root)


def test_an_unknown_split_word_is_refused(tmp_path: Path) -> None:
    root = write_jpg_release(tmp_path, ".csv")
    path = root / "mimic-cxr-2.0.0-split.csv"
    path.write_text(path.read_text().replace("validate", "holdout"))
    with pytest.raises(DataError, match="holdout"):
        read_mimic_cxr_jpg(root)


def write_dicom_header(path: Path, view: str | None, date: str, time: str) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyDate, dataset.StudyTime = date, time
    if view is not None:
        dataset.ViewPosition = view
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_dicom_release(root: Path) -> Path:
    rows = []
    for dicom, (subject, study, view, date, time) in IMAGES.items():
        relative = f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.dcm"
        clock = time.split(".")[0].zfill(6)
        write_dicom_header(root / relative, view or None, date, "000000" if clock == "999999" else clock)
        rows.append((subject, study, dicom, relative))
    write_csv(root / "cxr-record-list.csv.gz", ("subject_id", "study_id", "dicom_id", "path"), rows)
    return root


def test_dicom_release_takes_view_and_time_from_headers(tmp_path: Path) -> None:
    root = write_dicom_release(tmp_path)
    reading = read_mimic_cxr(root)
    xrays = of_modality(reading.studies, Modality.XRAY)
    assert list(xrays) == ["aaaa-1", "bbbb-1", "dddd-1"]
    assert xrays["bbbb-1"].time == datetime(2180, 6, 26, 0, 34, 55)
    assert xrays["bbbb-1"].source == root / "files/p10/p10000032/s53189527/bbbb-1.dcm"
    assert xrays["bbbb-1"].labels == {}
    assert set(of_modality(reading.studies, Modality.REPORT)) == {"xray-50414267", "xray-53189527", "xray-51967283"}


def test_dicom_release_with_the_tables_of_the_jpg_release(tmp_path: Path) -> None:
    root, tables = write_dicom_release(tmp_path / "cxr"), write_jpg_release(tmp_path / "jpg")
    # The headers must not be needed any more.
    for path in (root / "files").rglob("*.dcm"):
        path.write_bytes(b"")
    xrays = of_modality(read_mimic_cxr(root, labels_root=tables).studies, Modality.XRAY)
    assert list(xrays) == ["aaaa-1", "bbbb-1", "dddd-1"]
    assert xrays["bbbb-1"].labels["Edema"] == -1.0
    assert xrays["bbbb-1"].time == datetime(2180, 6, 26, 0, 34, 55)
    assert xrays["dddd-1"].attributes["official_split"] == "validation"


def test_an_unreadable_header_keeps_the_image_for_quarantine(tmp_path: Path) -> None:
    root = write_dicom_release(tmp_path)
    (root / "files/p10/p10000032/s50414267/aaaa-2.dcm").write_bytes(b"no DICOM")
    reading = read_mimic_cxr(root)
    damaged = of_modality(reading.studies, Modality.XRAY)["aaaa-2"]
    assert damaged.time is None
    assert "view" not in damaged.attributes
    assert reading.counts["xray-header-unreadable"] == 1


def test_zipped_reports_are_recognised(tmp_path: Path) -> None:
    root = write_jpg_release(tmp_path / "jpg")
    (tmp_path / "cxr").mkdir()
    (tmp_path / "cxr/mimic-cxr-reports.zip").touch()
    with pytest.raises(DataError, match=r"Unpack .*mimic-cxr-reports\.zip"):
        read_mimic_cxr_jpg(root, reports_root=tmp_path / "cxr")


def test_label_names_are_the_fourteen_of_the_release() -> None:
    assert sorted(LABEL_ORDER) == list(CHEXPERT_LABELS)
