"""The pulmonary edema severity set in small: its four tables, over a MIMIC-CXR-JPG tree written beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trees.mimic_cxr_jpg import MimicImage, mimic_images, write_csv, write_mimic_cxr_jpg

IMAGES = "mimic-cxr-jpg"
SPLIT_FILE = "mimic-cxr-sub-img-edema-split-manualtest.csv"


def write_edema(root: Path, *, patients: int = 72, seed: int = 0, image_px: int = 64, split_file: bool = True) -> Path:
    """Writes the tables into ``root``, the pictures into ``root/mimic-cxr-jpg``, and returns ``root``.

    The regex table is on the train patients of the tree (and on one patient of the consensus table, who must not be
    trained on), the expert table on its validate and test patients, the consensus table on films of test patients.
    The split file misspells its grade column, holds rows that nobody graded (-1), and calls the expert studies TEST.
    Every table has all four grades.
    """
    write_mimic_cxr_jpg(root / IMAGES, patients=patients, seed=seed, image_px=image_px)
    frontal = [image for image in mimic_images(patients, seed) if image.view in ("PA", "AP")]
    expert = [image for image in frontal if image.split != "train"]
    consensus = [image for image in frontal if image.split == "test"]
    regex = [image for image in frontal if image.split == "train"]
    write_csv(
        root / "consensus_image_edema_severity.csv",
        ("subject_id", "study_id", "dicom_id", "edema_severity"),
        [(image.subject_id, image.study_id, image.dicom_id, grade_of(image)) for image in consensus],
    )
    columns = ("subject_id", "study_id", "edema_severity")
    write_csv(root / "expert_report_edema_severity.csv", columns, _by_study(expert))
    write_csv(root / "regex_report_edema_severity.csv", columns, _by_study([*regex, consensus[0]]))
    if split_file:
        ids = [(image, "TEST") for image in expert] + [(image, str(1 + n % 6)) for n, image in enumerate(regex)]
        rows = [
            (image.subject_id, image.study_id, image.dicom_id, "-1" if fold == "6" else grade_of(image), fold)
            for image, fold in ids
        ]
        header = ("subject_id", "study_id", "dicom_id", "edeme_severity", "fold")
        write_csv(root / SPLIT_FILE, header, rows)
    return root


def grade_of(image: MimicImage) -> str:
    """The grade that every table gives a study: 0 to 3."""
    return str((int(image.study_id) // 101) % 4)


def _by_study(images: Iterable[MimicImage]) -> list[tuple[str, str, str]]:
    rows = {image.study_id: (image.subject_id, image.study_id, grade_of(image)) for image in images}
    return list(rows.values())
