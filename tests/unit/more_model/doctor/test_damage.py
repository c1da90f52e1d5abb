"""What is missing, cut off, mixed up or misnamed is named, with what to do."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trees.mimic_cxr_jpg import mimic_images, write_csv

from more_model.doctor.examine import examine
from more_model.doctor.finding import Diagnosis, Finding, Severity, Verdict

Trees = Callable[[str], Path]
Diagnose = Callable[[Path, str], Diagnosis]
METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"


def finding(diagnosis: Diagnosis, words: str) -> Finding:
    (found,) = [entry for entry in diagnosis.findings if words in entry.sentence]
    return found


def change_table(path: Path, change: Callable[[str], str]) -> None:
    """Rewrites a CSV or CSV.GZ with its text changed."""
    packed = path.suffix == ".gz"
    text = (gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).decode()
    data = change(text).encode()
    path.write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize(
    ("kind", "file", "project", "lost"),
    [
        ("mimic-cxr-jpg", METADATA, "project mimic-cxr-jpg", ["mimic-4", "mimic-14"]),
        ("mimic-cxr-jpg", "mimic-cxr-2.0.0-split.csv.gz", "project mimic-cxr-jpg", ["mimic-4", "mimic-14"]),
        ("ptb-xl", "scp_statements.csv", "project ptb-xl", ["ptbxl-super", "ptbxl-rhythm"]),
        ("mimic-iv-ecg", "machine_measurements.csv", "project mimic-iv-ecg", []),
        ("edema-severity", "regex_report_edema_severity.csv", "project mimic-cxr-pe-severity", []),
    ],
)
def test_a_missing_table_is_named_with_the_place_to_get_it(
    kind: str, file: str, project: str, lost: list[str], copied: Trees, diagnose: Diagnose
) -> None:
    root = copied(kind)
    (root / file).unlink()
    diagnosis = diagnose(root, kind)
    found = finding(diagnosis, f"{file} is missing")
    assert found.severity is Severity.ERROR and project in found.remedy and file in found.remedy
    assert diagnosis.verdict is Verdict.UNUSABLE
    assert not {answer.name for answer in diagnosis.protocols if answer.can_run} & set(lost)


@pytest.mark.parametrize(
    ("kind", "file", "column"),
    [
        ("mimic-cxr-jpg", METADATA, "ViewPosition"),
        ("mimic-cxr-jpg", "mimic-cxr-2.0.0-chexpert.csv.gz", "Lung Opacity"),
        ("ptb-xl", "ptbxl_database.csv", "strat_fold"),
        ("chexpert", "valid.csv", "Frontal/Lateral"),
        ("mimic-iv-ecg", "machine_measurements.csv", "report_17"),
        ("mimic-iv-note", "radiology.csv.gz", "storetime"),
        ("edema-severity", "consensus_image_edema_severity.csv", "dicom_id"),
    ],
)
def test_a_missing_column_is_named(kind: str, file: str, column: str, copied: Trees, diagnose: Diagnose) -> None:
    root = copied(kind)
    path = next(root.rglob(file))
    change_table(path, lambda text: text.replace(column, "Elsewhere", 1))
    assert finding(diagnose(root, kind), f"{file} has no column {column};").severity is not Severity.NOTE


def test_a_partial_download_is_measured_and_its_empty_folders_named(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("ptb-xl")
    shutil.rmtree(root / "records100" / "01000")
    diagnosis = diagnose(root, "ptb-xl")
    found = finding(diagnosis, "A partial download")
    assert "120 of 240 record files at 100 Hz are there, 50.0%" in found.sentence
    assert "records100/01000" in found.sentence and "wget" in found.remedy
    assert not any(answer.can_run for answer in diagnosis.protocols)
    assert "only 50%" in diagnosis.protocols[0].reason


def test_test_images_alone_are_enough_for_zero_shot(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("mimic-cxr-jpg")
    for image in mimic_images():
        if image.split == "train":
            (root / image.path).unlink()
    diagnosis = diagnose(root, "mimic-cxr-jpg")
    assert diagnosis.verdict is Verdict.USABLE
    assert diagnosis.protocols[0].can_run and "zero-shot only" in diagnosis.protocols[0].reason
    shutil.rmtree(root / "files")
    assert diagnose(root, "mimic-cxr-jpg").verdict is Verdict.UNUSABLE


def test_tables_alone_are_unusable(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("mimic-iv-ecg")
    shutil.rmtree(root / "files")
    found = finding(diagnose(root, "mimic-iv-ecg"), "None of the 36 record files is there")
    assert found.severity is Severity.ERROR


def test_web_pages_and_cut_off_files_are_seen(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("ptb-xl")
    for path in root.rglob("*.dat"):
        path.write_bytes(path.read_bytes()[:1000])
    assert "cut-off file" in finding(diagnose(root, "ptb-xl"), "are not what their names say").sentence
    for path in root.rglob("*.dat"):
        path.write_bytes(b"")
    assert finding(diagnose(root, "ptb-xl"), "are empty files").severity is Severity.WARNING
    (root / "scp_statements.csv").write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    assert "Sign in" in finding(diagnose(root, "ptb-xl"), "is a web page, not a table").remedy


def test_images_that_are_web_pages(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("chexpert")
    for path in root.rglob("*.jpg"):
        path.write_text("<html>sign in</html>")
    diagnosis = diagnose(root, "chexpert")
    assert diagnosis.verdict is Verdict.UNUSABLE and not any(answer.can_run for answer in diagnosis.protocols)


def test_compressed_or_not_whatever_the_name_says(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("mimic-cxr-jpg")
    packed = root / METADATA
    plain = gzip.decompress(packed.read_bytes())
    packed.write_bytes(plain)
    assert (
        "Rename it to mimic-cxr-2.0.0-metadata.csv."
        in finding(diagnose(root, "mimic-cxr-jpg"), f"{METADATA} is not compressed").remedy
    )
    packed.unlink()
    other = root / "mimic-cxr-2.0.0-metadata.csv"
    other.write_bytes(gzip.compress(plain))
    assert "metadata.csv.gz" in finding(diagnose(root, "mimic-cxr-jpg"), "is compressed (gzip)").remedy
    other.write_bytes(plain)
    packed.write_bytes(gzip.compress(plain))
    diagnosis = diagnose(root, "mimic-cxr-jpg")
    assert diagnosis.protocols[0].can_run and finding(diagnosis, "both lie there").severity is Severity.NOTE


def test_a_cut_off_compressed_table(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("mimic-cxr-jpg")
    whole = (root / METADATA).read_bytes()
    (root / METADATA).write_bytes(whole[: len(whole) // 2])
    diagnosis = diagnose(root, "mimic-cxr-jpg")
    assert finding(diagnosis, "cannot be read").severity is Severity.ERROR


def test_names_of_another_release_and_mixed_tables(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("mimic-cxr-jpg")
    change_table(root / "mimic-cxr-2.0.0-split.csv.gz", lambda text: text[: text.rindex("\n", 0, -1) + 1])
    assert "1 images stand in only one" in finding(diagnose(root, "mimic-cxr-jpg"), "do not belong together").sentence
    (root / METADATA).rename(root / METADATA.replace("2.0.0", "2.1.0"))
    diagnosis = diagnose(root, "mimic-cxr-jpg")
    assert "mimic-cxr-2.1.0-metadata.csv.gz lies there" in finding(diagnosis, f"{METADATA} is missing").sentence
    assert "release 2.1.0 keeps 2.0.0" in " ".join(found.sentence for found in diagnosis.findings)


def test_counts_of_other_ptbxl_releases(copied: Trees, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copied("ptb-xl")
    monkeypatch.setattr("more_model.doctor.ptbxl._RECORDS_OF_VERSION", {120: "1.0.1", 121: "1.0.3"})
    diagnosis = diagnose(root, "ptb-xl")
    assert diagnosis.release == "PTB-XL 1.0.1"
    assert "not those of 1.0.3" in finding(diagnosis, "Version 1.0.1 has 120 records").sentence
    monkeypatch.setattr("more_model.doctor.ptbxl._RECORDS_OF_VERSION", {120: "1.0.3"})
    assert diagnose(root, "ptb-xl").verdict is Verdict.READY


def test_a_patient_in_two_folds(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("ptb-xl")
    # The second record of patient 12002 stands in the same fold as the first.
    change_table(
        root / "ptbxl_database.csv", lambda text: text.replace(",1,records100/00000/00950", ",2,records100/00000/00950")
    )
    assert finding(diagnose(root, "ptb-xl"), "patients are in more than one fold").severity is Severity.ERROR


def test_lead_order_and_dangling_links_are_told(trees: Trees, diagnose: Diagnose) -> None:
    diagnosis = diagnose(trees("mimic-iv-ecg"), "mimic-iv-ecg")
    assert "aVR, aVF, aVL" in finding(diagnosis, "order").sentence
    assert "not released" in finding(diagnosis, "waveform_note_links.csv").sentence


def test_edema_without_images_and_its_misspelt_column(copied: Trees, diagnose: Diagnose) -> None:
    root = copied("edema-severity")
    assert "'edeme_severity'" in finding(diagnose(root, "edema-severity"), "spells its grade column").sentence
    shutil.rmtree(root / "mimic-cxr-jpg")
    diagnosis = diagnose(root, "edema-severity")
    assert diagnosis.verdict is Verdict.UNUSABLE
    assert "mimic-cxr-jpg" in finding(diagnosis, "no MIMIC-CXR-JPG").remedy


def test_unfinished_downloads_and_closed_files(
    copied: Trees, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copied("ptb-xl")
    (root / "records500.zip.crdownload").write_bytes(b"")
    (root / "index.html").write_text("")
    diagnosis = diagnose(root, "ptb-xl")
    assert finding(diagnosis, "Unfinished downloads").severity is Severity.WARNING
    assert finding(diagnosis, "left by wget").severity is Severity.NOTE
    # Rights are asked for, not set: the superuser, whom tests may run as, reads everything.
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "scp_" not in str(path) and allowed(path, mode))
    assert "chmod" in finding(diagnose(root, "ptb-xl"), "may not be read by this user").remedy


def write_mimic_cxr(root: Path, *, images: bool, reports: bool) -> None:
    kept = [image for image in mimic_images(12) if image.view in ("PA", "AP")]
    rows = [(i.subject_id, i.study_id, i.dicom_id, i.path.replace(".jpg", ".dcm")) for i in kept]
    write_csv(root / "cxr-record-list.csv.gz", ("subject_id", "study_id", "dicom_id", "path"), rows)
    studies = {i.study_id: (i.subject_id, i.study_id, f"{i.path.rpartition('/')[0]}.txt") for i in kept}
    write_csv(root / "cxr-study-list.csv.gz", ("subject_id", "study_id", "path"), studies.values())
    for _, _, _, path in rows if images else []:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"\0" * 128 + b"DICM")
    for *_, path in studies.values() if reports else []:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("FINDINGS: none\n")


def test_mimic_cxr_with_and_without_its_parts(tmp_path: Path, diagnose: Diagnose) -> None:
    write_mimic_cxr(tmp_path / "whole", images=True, reports=True)
    whole = diagnose(tmp_path / "whole", "mimic-cxr")
    assert whole.verdict is Verdict.USABLE and whole.release == "MIMIC-CXR 2.0.0"
    write_mimic_cxr(tmp_path / "words", images=False, reports=True)
    assert finding(diagnose(tmp_path / "words", "mimic-cxr"), "Only the reports").severity is Severity.WARNING
    write_mimic_cxr(tmp_path / "zipped", images=False, reports=False)
    (tmp_path / "zipped" / "mimic-cxr-reports.zip").write_bytes(b"PK")
    zipped = diagnose(tmp_path / "zipped", "mimic-cxr")
    assert zipped.verdict is Verdict.UNUSABLE
    assert "unzip mimic-cxr-reports.zip" in finding(zipped, "Neither DICOM images nor reports").remedy


def test_damage_in_one_set_does_not_hide_another(copied: Trees) -> None:
    root = copied("ptb-xl")
    bad = root.parent / "notes" / "note"
    bad.mkdir(parents=True)
    (bad / "radiology.csv.gz").write_bytes(b"\x1f\x8bnonsense")
    by_kind = {diagnosis.kind: diagnosis.verdict for diagnosis in examine(root.parent).diagnoses}
    assert by_kind == {"ptb-xl": Verdict.USABLE, "mimic-iv-note": Verdict.UNUSABLE}
