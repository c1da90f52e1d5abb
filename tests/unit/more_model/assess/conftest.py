"""A reference made from the miniature run's patients, more of them set aside for validation than the run itself had;
and the files of one test patient."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from more_model.assess.inputs import Files, Input, admit
from more_model.assess.parts import Part
from more_model.assess.read_part import Bounds
from more_model.assess.reference import Reference
from more_model.checkpoint import TrainedModel, load_checkpoint
from more_model.cohort_file import Cohort, load_cohort
from more_model.commands.assess import assess
from more_model.commands.assess_prepare import assess_prepare
from more_model.data.study import Modality, Split

Call = Callable[..., Any]


@dataclass(frozen=True)
class PatientFiles:
    """The three files of one patient, and all identifiers of that patient."""

    xray: Path
    ecg: Path
    report: Path
    identifiers: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """A reference on disk, what it was made with, and what the command printed."""

    folder: Path
    checkpoint: Path
    trained: TrainedModel
    cohort: Cohort
    stdout: str


@pytest.fixture(scope="session")
def call() -> Call:
    """``call("assess", "--xray", path, ...)`` runs one of the two commands."""
    app = typer.Typer()
    app.command()(assess)
    app.command()(assess_prepare)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="session")
def prepared(miniature_run: Any, call: Call, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("assess")
    sites = sorted((miniature_run.out / "workspace" / "sites").iterdir())
    stores = ", ".join(f'"{site}"' for site in sites)
    cohort_file = folder / "cohort.toml"
    cohort_file.write_text(
        f'stores = [{stores}]\nsynthetic = true\n\n[split]\nvalidation = 0.45\ntest = 0.15\nkey = "assess"\n',
        encoding="utf-8",
    )
    checkpoint = miniature_run.out / "checkpoints" / "federated.safetensors"
    asked = ("--checkpoint", checkpoint, "--data", cohort_file, "--out", folder / "reference", "--threads", 1)
    done = call("assess-prepare", *asked, "--replicates", 20)
    assert done.exit_code == 0, done.output
    return Prepared(
        folder / "reference", checkpoint, load_checkpoint(checkpoint), load_cohort(cohort_file), done.stdout
    )


@pytest.fixture(scope="session")
def reference(prepared: Prepared) -> Reference:
    return Reference.open(prepared.folder, model_digest=prepared.trained.digest)


@pytest.fixture(scope="session")
def _admitted(
    miniature_run: Any, prepared: Prepared, reference: Reference
) -> tuple[PatientFiles, Mapping[Part, Input]]:
    for found in _candidates(miniature_run.out / "workspace" / "cohort", prepared.cohort):
        files = Files(found.xray, found.ecg, found.report)
        inputs = admit(reference, prepared.trained, files, Bounds(), threads=1).inputs
        if len(inputs) == 3:
            return found, inputs
    pytest.fail("no test patient of the miniature has three files that are admitted")


@pytest.fixture(scope="session")
def patient(_admitted: tuple[PatientFiles, Mapping[Part, Input]]) -> PatientFiles:
    """A test patient whose three files are all admitted."""
    return _admitted[0]


@pytest.fixture(scope="session")
def admitted(_admitted: tuple[PatientFiles, Mapping[Part, Input]]) -> Mapping[Part, Input]:
    """What was read from them."""
    return _admitted[1]


def _candidates(tree: Path, cohort: Cohort) -> list[PatientFiles]:
    with (tree / "mimic-iv-ecg" / "record_list.csv").open(encoding="utf-8", newline="") as stream:
        records = {row["study_id"]: tree / "mimic-iv-ecg" / row["path"] for row in csv.DictReader(stream)}
    films = {path.stem: path for path in (tree / "mimic-cxr-jpg").rglob("*.jpg")}
    reports = {path.stem: path for path in (tree / "mimic-cxr").rglob("*.txt")}
    found = []
    for site in cohort.sites:
        stored = {(record.modality, record.row): record for record in site.store.records}
        for triplet in site.examples.of_split(Split.TEST).triplets:
            if triplet.xray is None or triplet.ecg is None or triplet.xray_report is None:
                continue
            film, tracing = stored[Modality.XRAY, triplet.xray], stored[Modality.ECG, triplet.ecg]
            identifiers = (triplet.patient_id, film.study_id, tracing.study_id, film.group_id)
            files = films[film.study_id], records[tracing.study_id], reports[f"s{film.group_id}"]
            found.append(PatientFiles(*files, identifiers))
    return found
