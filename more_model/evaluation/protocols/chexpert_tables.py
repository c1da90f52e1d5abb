"""The files of CheXpert v1.0, wherever its parts were unpacked, as studies.

train.csv and valid.csv name an image a row in ``Path``, beginning with the name of the release folder. The test set
came later: images in ``test/``, labels in a table of their own, either with ``Path`` or with ``Study`` (one row an
examination), under the name test.csv, test_labels.csv or groundtruth.csv, in the release folder or in one beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from more_model.data.csv_columns import clean_ids, read_columns, read_header
from more_model.data.label_columns import label_rows, named
from more_model.data.mimic_cxr import CHEXPERT_LABELS
from more_model.data.study import Modality, Study
from more_model.errors import DataError
from more_model.evaluation.protocols.xray_cohort import FRONTAL, folders_of

Part = Literal["train", "valid", "test"]

_TABLES: dict[Part, tuple[str, ...]] = {
    "train": ("train.csv",),
    "valid": ("valid.csv",),
    "test": ("test.csv", "test_labels.csv", "groundtruth.csv"),
}
_IMAGE = re.compile(r"(?:^|/)((?:train|valid|test)/(patient[^/]+)/(study[^/]+)/[^/]+)$")
_EXAMINATION = re.compile(r"(?:^|/)((?:train|valid|test)/(patient[^/]+)/(study[^/]+))/?$")
_IMAGE_COLUMNS = ("Sex", "Age", "Frontal/Lateral", "AP/PA")
_SEX = {"female": "female", "male": "male"}


@dataclass(frozen=True, slots=True)
class Release:
    """The tables found, and every folder in which images may lie."""

    tables: Mapping[Part, Path]
    homes: tuple[Path, ...]

    def films(self, part: Part, views: Sequence[str]) -> list[Study]:
        """The images of one part in the order of its table, those of other views left out.

        PA and AP together mean every film that the table calls frontal; a film whose projection is not stated is
        neither PA nor AP on its own. Empty ``views`` keeps everything. Raises DataError for columns missing, paths that
        are no CheXpert paths, and examinations without a single image on disk where only those are named.
        """
        table = self.tables[part]
        folder = next((home for home in (table.parent, *self.homes) if (home / part).is_dir()), table.parent)
        header = read_header(table)
        if "Path" not in header and "Study" in header:
            films = _of_examinations(table, folder)
        else:
            films = list(_of_images(table, folder))
        return [film for film in films if _wanted(film.attributes["view"], views)]


def find_release(root: Path, needed: Part) -> Release:
    """The release at ``root``, which is its folder or the one above it.

    Raises DataError where the table of ``needed`` is missing, naming what is looked for, and where a table is there
    more than once.
    """
    root = root.absolute()
    homes = _homes(root)
    tables: dict[Part, Path] = {}
    for part, names in _TABLES.items():
        found = [home / name for home in homes for name in names if (home / name).is_file()]
        # A table in the folder pointed at is the one meant, whatever lies beside that folder.
        if found and found[0].parent != root and part in ("train", needed):
            _refuse_several(root, part, found)
        if found:
            tables[part] = found[0]
    if needed not in tables:
        raise _missing(root, homes, needed)
    return Release(tables, tuple(homes))


def _homes(root: Path) -> list[Path]:
    """The folders that may hold tables and images, ``root`` first."""
    if not root.is_dir():
        raise DataError(f"CheXpert: the folder {root} does not exist.", remedy="correct the path")
    is_release = any((root / name).is_file() for name in ("train.csv", "valid.csv"))
    around = root.parent if is_release else root
    named_so = [entry for entry in folders_of(around) if entry.name.lower().startswith("chexpert")]
    return [root, *(entry for entry in named_so if entry != root)]


def _refuse_several(root: Path, part: Part, found: Sequence[Path]) -> None:
    folders = sorted({path.parent.name for path in found})
    if len(folders) > 1:
        raise DataError(
            f"CheXpert: {root} holds more than one {part} table, in {', '.join(folders)}",
            remedy="point at the folder of the release that you mean",
        )


def _missing(root: Path, homes: Sequence[Path], needed: Part) -> DataError:
    present = sorted(entry.name for entry in root.iterdir())[:20]
    others = [home.name for home in homes[1:]]
    looked = f" Looked in it and in {', '.join(others)}." if others else ""
    return DataError(
        f"CheXpert: {root} lacks {' or '.join(_TABLES[needed])}.{looked} It holds: {', '.join(present) or 'nothing'}.",
        remedy="point at the release folder (it holds train.csv and valid.csv) or the folder above it; the labels of "
        "the test set are a download of their own, to be put beside train.csv",
    )


def _of_images(table: Path, folder: Path) -> Iterator[Study]:
    columns = read_columns(table, ("Path", *CHEXPERT_LABELS), _IMAGE_COLUMNS)
    places = _places(table, columns["Path"], _IMAGE)
    labels = label_rows(table, columns, named(CHEXPERT_LABELS))
    blank = [""] * len(places)
    rows = zip(
        places,
        labels,
        columns.get("Sex", blank),
        clean_ids(columns.get("Age", blank)),
        columns.get("Frontal/Lateral", blank),
        columns.get("AP/PA", blank),
        strict=True,
    )
    for (relative, patient, study), stated, sex, age, kind, projection in rows:
        attributes = {"view": _view(relative, kind, projection)}
        if sex.strip().lower() in _SEX:
            attributes["sex"] = _SEX[sex.strip().lower()]
        # An age of 0 means that it is not known.
        if age not in ("", "0"):
            attributes["age"] = age
        yield _film(folder, relative, patient, study, stated, attributes)


def _of_examinations(table: Path, folder: Path) -> list[Study]:
    columns = read_columns(table, ("Study", *CHEXPERT_LABELS))
    labels = label_rows(table, columns, named(CHEXPERT_LABELS))
    films: list[Study] = []
    for (examination, patient, study), stated in zip(
        _places(table, columns["Study"], _EXAMINATION), labels, strict=True
    ):
        for path in sorted((folder / examination).glob("*.jpg")):
            relative = f"{examination}/{path.name}"
            films.append(_film(folder, relative, patient, study, stated, {"view": _view(relative, "", "")}))
    if not films:
        raise DataError(
            f"CheXpert: not one image of the {len(labels)} examinations in {table} is to be found under {folder}",
            remedy="put the images of the test set (folder test/) beside the label table",
        )
    return films


def _places(table: Path, cells: Iterable[str], form: re.Pattern[str]) -> list[tuple[str, str, str]]:
    """Path below the release folder, patient and study of every row."""
    found = [form.search(cell.strip()) for cell in cells]
    strange = sum(match is None for match in found)
    if strange:
        raise DataError(
            f"CheXpert: {strange} of {len(found)} rows of {table} name no path such as "
            "train/patient00001/study1/view1_frontal.jpg",
            remedy="take the table as it was published",
        )
    return [(match[1], match[2], match[3]) for match in found if match is not None]


def _film(
    folder: Path, relative: str, patient: str, study: str, labels: Mapping[str, float], attributes: Mapping[str, str]
) -> Study:
    return Study(
        modality=Modality.XRAY,
        study_id=relative,
        patient_id=patient,
        group_id=f"{patient}/{study}",
        source=folder / relative,
        labels=labels,
        attributes=attributes,
    )


def _view(relative: str, kind: str, projection: str) -> str:
    """LATERAL, PA, AP, or FRONTAL where no projection is stated (or one that no frontal film has: LL, RL)."""
    lateral = kind.strip().lower() == "lateral" if kind.strip() else "lateral" in relative.rpartition("/")[2]
    if lateral:
        return "LATERAL"
    stated = projection.strip().upper()
    return stated if stated in FRONTAL else "FRONTAL"


def _wanted(view: str, views: Sequence[str]) -> bool:
    wanted = {name.upper() for name in views}
    return not wanted or view in wanted or (view == "FRONTAL" and wanted.issuperset(FRONTAL))
