"""A MIMIC-CXR-JPG release in small: its files, its columns, its traps, and pictures that can be read."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trees.film import write_film

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
#: The radiologist's table calls two labels by other names.
RADIOLOGIST_NAMES = {"Lung Opacity": "Airspace Opacity", "No Finding": "No Findings"}
_CELLS = ("1.0", "0.0", "", "0.0", "-1.0", "1.0", "0.0")
_SPLITS = ("train", "test", "train", "validate", "train", "test")


@dataclass(frozen=True)
class MimicImage:
    """One row of the metadata table; ``split`` is a word of the split table, ``labels`` cells of the chexpert table."""

    dicom_id: str
    subject_id: str
    study_id: str
    view: str
    split: str
    labels: tuple[str, ...]

    @property
    def path(self) -> str:
        """Relative to the root of the release."""
        return f"files/p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}/{self.dicom_id}.jpg"


def mimic_images(patients: int = 60, seed: int = 0) -> list[MimicImage]:
    """What `write_mimic_cxr_jpg` writes: half of the patients train, a third test, a sixth validate; one to three
    studies a patient, a frontal film in each, a lateral one in every third, a second frontal one in every fifth."""
    images: list[MimicImage] = []
    numbers = {"train": 0, "validate": 0, "test": 0}
    for patient in range(patients):
        subject = str(10_000_032 + 1_013 * patient + 7 * seed)
        split = _SPLITS[patient % len(_SPLITS)]
        for visit in range(1 + (patient + patient // 6 + seed) % 3):
            study = str(50_000_000 + 7_919 * patient + 101 * visit + seed)
            number = numbers[split]
            numbers[split] += 1
            labels = _labels(number)
            views = ["PA" if number % 2 else "AP"]
            views += ["LATERAL"] if number % 3 == 0 else []
            views += ["AP"] if number % 5 == 4 else []
            views += [""] if number % 11 == 10 else []
            images += [
                MimicImage(_dicom_id(subject, study, place), subject, study, view, split, labels)
                for place, view in enumerate(views)
            ]
    return images


def write_mimic_cxr_jpg(
    root: Path,
    *,
    patients: int = 60,
    seed: int = 0,
    image_px: int = 64,
    release: Literal["2.0.0", "2.1.0"] = "2.1.0",
    suffix: Literal[".csv", ".csv.gz"] = ".csv.gz",
    pictures: bool = True,
) -> Path:
    """Writes the release under ``root`` and returns it.

    With 60 patients every label has positive, negative, uncertain and blank cells in each of the three splits, among
    frontal films too. Release 2.1.0 adds the radiologist's table, on four fifths of the test studies.
    """
    root.mkdir(parents=True, exist_ok=True)
    images = mimic_images(patients, seed)
    _write_tables(root, images, suffix)
    if release == "2.1.0":
        _write_radiologist(root / "mimic-cxr-2.1.0-test-set-labeled.csv", images)
    for name in ("LICENSE.txt", "README"):
        (root / name).write_text(f"MIMIC-CXR-JPG {release}, made up for a test\n")
    (root / "IMAGE_FILENAMES").write_text("".join(f"{image.path}\n" for image in images))
    (root / "SHA256SUMS.txt").write_text("")
    (root / "files").mkdir(exist_ok=True)
    for place, image in enumerate(images if pictures else []):
        present = {label for label, cell in zip(LABELS, image.labels, strict=True) if cell == "1.0"}
        lateral = image.view == "LATERAL"
        write_film(root / image.path, present, seed=1_000 * seed + place, px=image_px, lateral=lateral)
    return root


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """A comma-separated table, compressed where its name ends in ``.gz`` (with the same bytes on every run)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{','.join(row)}\n" for row in [header, *rows])
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


def _labels(number: int) -> tuple[str, ...]:
    """The cells of the study of this number within its split; every fourth study is normal."""
    normal = number % 4 == 3
    abnormal = number - number // 4
    cells = []
    for place, label in enumerate(LABELS):
        if label == "No Finding":
            cells.append("1.0" if normal else "")
        elif label == "Support Devices" or not normal:
            cells.append(_CELLS[(abnormal + 3 * place) % len(_CELLS)])
        else:
            cells.append("0.0" if (number // 4 + place) % 2 else "")
    return tuple(cells)


def _dicom_id(subject: str, study: str, place: int) -> str:
    digest = hashlib.sha256(f"{subject}/{study}/{place}".encode()).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def _write_tables(root: Path, images: Sequence[MimicImage], suffix: str) -> None:
    metadata = []
    for place, image in enumerate(images):
        # Read as a number by those who published it: 00:34:55 has become 3455.
        clock = "3455.218" if place % 5 == 0 else f"{80_000 + 1_357 * (place % 90)}.531"
        date = str(21_100_101 + 10_000 * (int(image.subject_id) % 80) + int(image.study_id) % 28)
        row = (image.dicom_id, image.subject_id, image.study_id, "CHEST (PA AND LAT)", image.view, "3056", "2544")
        metadata.append((*row, date, clock, "CHEST (PA AND LAT)", image.view.lower(), "Erect"))
    write_csv(root / f"mimic-cxr-2.0.0-metadata{suffix}", METADATA, metadata)
    splits = [(image.dicom_id, image.study_id, image.subject_id, image.split) for image in images]
    write_csv(root / f"mimic-cxr-2.0.0-split{suffix}", ("dicom_id", "study_id", "subject_id", "split"), splits)
    studies = {image.study_id: (image.subject_id, image.study_id, *image.labels) for image in images}
    for labeller in ("chexpert", "negbio"):
        header = ("subject_id", "study_id", *LABELS)
        write_csv(root / f"mimic-cxr-2.0.0-{labeller}{suffix}", header, studies.values())


def _write_radiologist(path: Path, images: Sequence[MimicImage]) -> None:
    studies = {image.study_id: (image.study_id, *image.labels) for image in images if image.split == "test"}
    rows = [row for number, row in enumerate(studies.values()) if number % 5 != 4]
    write_csv(path, ("study_id", *(RADIOLOGIST_NAMES.get(label, label) for label in LABELS)), rows)
