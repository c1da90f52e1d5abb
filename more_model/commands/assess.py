"""`more-model assess`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson, BaseFolder, Checkpoint, Device, Out, Overwrite, Threads
from more_model.data.study import Modality
from more_model.errors import ConfigError
from more_model.progress import shown_progress

if TYPE_CHECKING:
    from more_model.assess.assessment import Assessment


class About(StrEnum):
    """What a report is about."""

    XRAY = "xray"
    ECG = "ecg"


def assess(
    reference: Annotated[Path, typer.Option("--reference", help="Directory that `more-model assess-prepare` wrote.")],
    checkpoint: Checkpoint,
    out: Out,
    xray: Annotated[Path | None, typer.Option(help="Chest X-ray: DICOM, JPEG or PNG.")] = None,
    ecg: Annotated[Path | None, typer.Option(help="12-lead ECG: WFDB record or DICOM.")] = None,
    report: Annotated[Path | None, typer.Option(help="Report about the X-ray or the ECG: a text file.")] = None,
    about: Annotated[
        About | None, typer.Option(help="What the report is about; otherwise its own words decide.")
    ] = None,
    base: BaseFolder = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=0.1, help="Seconds that one file may take.")] = 20.0,
    max_memory_mib: Annotated[
        int, typer.Option("--max-memory-mib", min=256, help="Memory that reading one file may take, in MiB.")
    ] = 2048,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = 2,
    as_json: AsJson = False,
) -> None:
    """Say about one patient what the model sees, how sure it is, and why; for research use only.

    Any of the three inputs may be missing. One that is not of the kind that the model was trained on is refused; where
    none is left, so is the whole call (exit code 3). Writes assess.html and assess.json.

    Example: more-model assess --reference reference --checkpoint runs/demo/checkpoints/federated.safetensors --xray film.dcm --ecg record --report report.txt --out patient
    """  # noqa: E501 - an example is one line
    with exit_on_error():
        with shown_progress() as progress:
            from more_model.assess.assessment import assess_files
            from more_model.assess.inputs import Files
            from more_model.assess.page import JSON, write_assessment
            from more_model.assess.read_part import Bounds
            from more_model.assess.reference import Reference
            from more_model.checkpoint import load_checkpoint
            from more_model.training.loop import resolve_device

            files = Files(xray, ecg, report, None if about is None else Modality(about.value))
            if (out / JSON).exists() and not overwrite:
                raise ConfigError(
                    str(out), [f"an {JSON} is there already"], remedy="add --overwrite or give another --out"
                )
            if out.exists() and not out.is_dir():
                raise ConfigError(str(out), ["this is a file, not a directory"], remedy="give another --out")
            trained = load_checkpoint(checkpoint, base=base, device=resolve_device(device))
            opened = Reference.open(reference, model_digest=trained.digest)
            bounds = Bounds(timeout_s, max_memory_mib * 2**20)
            assessment = assess_files(opened, trained, files, bounds=bounds, threads=threads, progress=progress)
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = write_assessment(out, assessment)
    typer.echo(json.dumps(content, indent=2) if as_json else _as_text(assessment, out))


def _as_text(assessment: Assessment, out: Path) -> str:
    from more_model.assess.page import PAGE, percent

    synthetic = "SYNTHETIC TRAINING COHORT. " if assessment.header.cohort.synthetic else ""
    lines = [f"{synthetic}For research use only."]
    lines += [f"{part.words} REFUSED ({one.reason}): {one.message}" for part, one in assessment.refused.items()]
    known = sorted((one for one in assessment.judgements if one.informative), key=lambda one: -one.lift)
    for one in known:
        assert one.probability is not None
        prevalence = "" if one.finding.prevalence is None else f", {percent(one.finding.prevalence)} in training"
        lines.append(f"  {one.finding.label}: {percent(one.probability)}{prevalence}")
    others = len(assessment.judgements) - len(known)
    if others:
        lines.append(f"  {others} findings more cannot be told from these inputs.")
    return "\n".join([*lines, f"Written: {out / PAGE}"])
