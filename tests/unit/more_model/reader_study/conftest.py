"""One small study, built once: eight cases of four patients, three readers, crossover without a pause."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from trees.reader_cases import write_cases

if TYPE_CHECKING:
    from more_model.reader_study.manifest import Key, Manifest


@dataclass(frozen=True)
class BuiltStudy:
    cases: Path
    out: Path
    manifest: Manifest
    key: Key

    def code(self, number: int) -> str:
        """The code of the case that was written as number ``number``."""
        return next(code for code, case in self.key.cases.items() if case.id == f"secret-case-{number}")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltStudy:
    """Read it, never change it."""
    from more_model.reader_study.cases import read_cases
    from more_model.reader_study.manifest import read_key
    from more_model.reader_study.package import StudyChoice, build_study

    folder = tmp_path_factory.mktemp("study")
    write_cases(folder / "cases")
    manifest = build_study(read_cases([folder / "cases"]), StudyChoice(readers=3, seed=2), folder / "out")
    return BuiltStudy(folder / "cases", folder / "out", manifest, read_key(folder / "out" / "key.json", manifest))
