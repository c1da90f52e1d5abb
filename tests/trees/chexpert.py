"""A CheXpert release in small: its files, its columns, its traps, and pictures that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trees.film import write_film
from trees.mimic_cxr_jpg import write_csv

LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)
_CELLS = ("1.0", "0.0", "", "0.0", "-1.0", "1.0", "0.0")


@dataclass(frozen=True)
class _Film:
    relative: str
    frontal: bool
    projection: str
    labels: tuple[str, ...]


def write_chexpert(
    root: Path,
    *,
    release: str = "CheXpert-v1.0-small",
    train_patients: int = 48,
    valid_patients: int = 20,
    test_patients: int = 24,
    singles_per_class: int = 4,
    test: Literal["study", "path"] | None = "study",
    image_px: int = 64,
    seed: int = 0,
) -> Path:
    """Writes ``root/<release>`` with train.csv, valid.csv and pictures, and returns ``root``.

    Every label has positives and negatives in valid and test (0 and 1 only, no blanks). train.csv has uncertain and
    blank cells, ages of 0, ``singles_per_class`` further patients for each of the five competition labels, who have
    that label and no other, and one each in whom pneumonia is uncertain besides.

    ``test="study"`` writes ``<release>/groundtruth.csv`` (columns Study and 14 labels) and ``<release>/test``;
    ``"path"`` writes ``CheXpert/test_labels.csv`` (column Path, without the release's name) and ``CheXpert/test``.
    """
    train = [_cells(number) for number in range(train_patients)]
    train += [_single(label) for label in FIVE for _ in range(singles_per_class)]
    train += [_single(label, pneumonia="-1.0") for label in FIVE]
    films = _films("train", 1, train)
    _write_images_table(root / release / "train.csv", release, films)
    valid = _films("valid", 64_541, [_plain(_cells(number)) for number in range(valid_patients)])
    _write_images_table(root / release / "valid.csv", release, valid)
    tested = _films("test", 64_741, [_plain(_cells(number)) for number in range(test_patients)] if test else [])
    if test == "study":
        studies = {film.relative.rpartition("/")[0]: film.labels for film in tested}
        rows = [(f"CheXpert-v1.0/{study}", *map(_integer, labels)) for study, labels in studies.items()]
        write_csv(root / release / "groundtruth.csv", ("Study", *LABELS), rows)
    elif test == "path":
        rows = [(film.relative, *film.labels) for film in tested]
        write_csv(root / "CheXpert" / "test_labels.csv", ("Path", *LABELS), rows)
    _write_pictures(root / release, [*films, *valid], image_px, seed)
    _write_pictures(root / ("CheXpert" if test == "path" else release), tested, image_px, seed + 1)
    return root


def _cells(number: int) -> tuple[str, ...]:
    """The labels of one patient; every fourth is normal."""
    normal = number % 4 == 3
    abnormal = number - number // 4
    cells = []
    for place, label in enumerate(LABELS):
        if label == "No Finding":
            cells.append("1.0" if normal else "")
        elif label == "Support Devices" or not normal:
            cells.append(_CELLS[(abnormal + 3 * place) % len(_CELLS)])
        else:
            cells.append("")
    return tuple(cells)


def _single(wanted: str, pneumonia: str = "") -> tuple[str, ...]:
    others = {"Fracture": "0.0", "Pneumonia": pneumonia}
    return tuple("1.0" if label == wanted else others.get(label, "") for label in LABELS)


def _plain(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple("1.0" if cell == "1.0" else "0.0" for cell in cells)


def _integer(cell: str) -> str:
    return cell.removesuffix(".0")


def _films(part: str, first: int, labels: Sequence[tuple[str, ...]]) -> list[_Film]:
    """One study a patient: a frontal film, a lateral one in every third, a second frontal one in every fifth."""
    films: list[_Film] = []
    for number, cells in enumerate(labels):
        kinds = ["frontal", *(["lateral"] if number % 3 == 0 else []), *(["frontal"] if number % 5 == 4 else [])]
        for place, kind in enumerate(kinds, start=1):
            relative = f"{part}/patient{first + number:05d}/study1/view{place}_{kind}.jpg"
            projection = "" if kind == "lateral" else "PA" if number % 4 == 1 else "LL" if number == 10 else "AP"
            films.append(_Film(relative, kind == "frontal", projection, cells))
    return films


def _write_images_table(path: Path, release: str, films: Sequence[_Film]) -> None:
    rows = []
    for place, film in enumerate(films):
        sex = "Unknown" if place == 5 else "Female" if place % 2 else "Male"
        age = str(0 if place % 17 == 4 else 18 + place % 73)
        kind = "Frontal" if film.frontal else "Lateral"
        rows.append((f"{release}/{film.relative}", sex, age, kind, film.projection, *film.labels))
    write_csv(path, COLUMNS, rows)


def _write_pictures(folder: Path, films: Sequence[_Film], px: int, seed: int) -> None:
    for place, film in enumerate(films):
        present = {label for label, cell in zip(LABELS, film.labels, strict=True) if cell == "1.0"}
        write_film(folder / film.relative, present, seed=1_000 * seed + place, px=px, lateral=not film.frontal)
