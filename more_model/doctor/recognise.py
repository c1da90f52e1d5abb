"""Which data sets lie at, in or under a folder. Looks at names, never into the folders that hold the data itself."""

from __future__ import annotations

import itertools
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from more_model.doctor import chexpert, edema, mimic_cxr, mimic_cxr_jpg, mimic_iv, own, ptbxl
from more_model.doctor.finding import Diagnosis, Surroundings

#: Deep enough for what wget makes: physionet.org/files/<project>/<version>/note.
DEPTH_MAX = 5
FOLDERS_MAX = 2_000
ENTRIES_MAX = 20_000

#: Folders of single patients and records, by the thousand.
_SINGLE = re.compile(r"[ps]\d+|patient\d+|records\d+|\d{5}|\..*|__pycache__|node_modules")
#: Folders that hold the data of what was recognised beside them.
_CONTENT = frozenset({"files", "train", "valid", "test", "tokenizer", "text"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of data: how its folder is recognised by the names in it, and how it is examined."""

    name: str
    is_here: Callable[[Path, frozenset[str]], bool]
    examine: Callable[[Path, Surroundings], Diagnosis]


KINDS = (
    Kind("synthetic", own.is_synthetic, own.examine_synthetic),
    Kind(mimic_cxr_jpg.KIND, mimic_cxr_jpg.is_here, mimic_cxr_jpg.examine),
    Kind(mimic_cxr.KIND, mimic_cxr.is_here, mimic_cxr.examine),
    Kind(mimic_iv.ECG_KIND, mimic_iv.is_ecg, mimic_iv.examine_ecg),
    Kind(mimic_iv.NOTE_KIND, mimic_iv.is_note, mimic_iv.examine_note),
    Kind(edema.KIND, edema.is_here, edema.examine),
    Kind(chexpert.KIND, chexpert.is_here, chexpert.examine),
    Kind(ptbxl.KIND, ptbxl.is_here, ptbxl.examine),
    Kind("table", own.is_table, own.examine_table),
    Kind("site-store", own.is_store, own.examine_store),
    Kind("base", own.is_base, own.examine_base),
    Kind("checkpoint", own.is_checkpoints, own.examine_checkpoints),
)


def recognise(root: Path) -> list[tuple[Kind, Path]]:
    """Everything recognised at ``root`` and down to `DEPTH_MAX` folders below it, nearest first."""
    found: list[tuple[Kind, Path]] = []
    waiting = deque([(root, 0)])
    for _ in range(FOLDERS_MAX):
        if not waiting:
            break
        folder, depth = waiting.popleft()
        entries = {entry.name: entry.is_dir() for entry in _entries(folder)}
        names = frozenset(entries)
        here = [(kind, folder) for kind in KINDS if kind.is_here(folder, names)]
        found += here
        if depth < DEPTH_MAX:
            known = any(kind.name != "synthetic" for kind, _ in here)
            waiting += [
                (folder / name, depth + 1)
                for name in sorted(name for name, is_folder in entries.items() if is_folder)
                if not _SINGLE.fullmatch(name) and not (known and name in _CONTENT)
            ]
    return found


def is_synthetic(folder: Path) -> bool:
    """Whether a folder belongs to a synthetic cohort: its marker lies in it or in one of the two folders above."""
    places = itertools.islice((folder, *folder.absolute().parents), 3)
    return any((place / own.SYNTHETIC_STARTED).is_file() for place in places)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    if not os.access(folder, os.R_OK | os.X_OK):
        return
    with os.scandir(folder) as entries:
        yield from itertools.islice(entries, ENTRIES_MAX)
