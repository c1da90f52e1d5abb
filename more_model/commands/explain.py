"""`more-model explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import (
    AsJson,
    BaseFolder,
    Checkpoint,
    Device,
    Out,
    Overwrite,
    Replicates,
    Seed,
    Threads,
)
from more_model.data.study import Split
from more_model.errors import ConfigError
from more_model.progress import shown_progress

if TYPE_CHECKING:
    from more_model.checkpoint import TrainedModel


def explain(
    checkpoint: Checkpoint,
    out: Out,
    xray: Annotated[Path | None, typer.Option(help="X-ray to explain: DICOM, JPEG or PNG.")] = None,
    ecg: Annotated[Path | None, typer.Option(help="ECG to explain: WFDB record or DICOM.")] = None,
    report: Annotated[Path | None, typer.Option(help="The words, from a report file.")] = None,
    text: Annotated[str | None, typer.Option(help="The words themselves, without a prefix.")] = None,
    contrast: Annotated[
        str | None, typer.Option(help="Other words: the map then shows what speaks for the text and not for these.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the explanations on a cohort instead.")] = False,
    data: Annotated[Path | None, typer.Option(help="With --check: run directory, cohort file or site store.")] = None,
    lesions: Annotated[
        Path | None, typer.Option(help="With --check: synthetic_lesions.csv, for the pointing game.")
    ] = None,
    prompts: Annotated[
        str, typer.Option(help="With --check: prompt set (name or TOML file) that words the findings.")
    ] = "chexpert_ecg",
    split: Annotated[Split, typer.Option(help="With --check: patients to check on.")] = Split.TEST,
    per_label: Annotated[
        int, typer.Option("--per-label", min=2, help="With --check: most studies with, and without, each finding.")
    ] = 30,
    base: BaseFolder = None,
    replicates: Replicates = 500,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = 2,
    as_json: AsJson = False,
) -> None:
    """Show what the similarity of a study and words rests on: a map over the X-ray or ECG, and a weight for each word.

    With --check: deletion, insertion, the pointing game, and the same for models with random weights.

    Example: more-model explain --checkpoint runs/demo/checkpoints/federated.safetensors --xray film.dcm --text "There is a pleural effusion." --contrast "No pleural effusion." --out explained
    """  # noqa: E501 - an example is one line
    with exit_on_error():
        from more_model.explain.files import Question, explain_files, open_out, write_checks, write_explanations
        from more_model.training.threads import using_threads

        if check:
            _refuse({"--xray": xray, "--ecg": ecg, "--report": report, "--text": text, "--contrast": contrast}, "with")
            if data is None:
                raise ConfigError("more-model explain", ["--check needs --data"])
            folder = open_out(out, "explanation-checks.json", overwrite=overwrite)
            trained = _loaded(checkpoint, base, device)
            with using_threads(threads):
                content, synthetic = _checked(trained, data, lesions, prompts, split, per_label, replicates, seed)
            write_checks(folder, trained, content, synthetic=synthetic)
        else:
            _refuse({"--data": data, "--lesions": lesions}, "without")
            question = Question(xray, ecg, report, text, contrast)
            folder = open_out(out, "explanation.json", overwrite=overwrite)
            trained = _loaded(checkpoint, base, device)
            with using_threads(threads):
                content = write_explanations(folder, trained, explain_files(trained, question))
    typer.echo(json.dumps(content, indent=2) if as_json else _as_text(content, out))


def _refuse(given: dict[str, Any], when: str) -> None:
    faults = [f"{name} is not for a call {when} --check" for name, value in given.items() if value is not None]
    if faults:
        raise ConfigError("more-model explain", faults)


def _loaded(checkpoint: Path, base: Path | None, device: str) -> TrainedModel:
    from rich.console import Console

    with Console(stderr=True).status("Loading the model"):
        from more_model.checkpoint import load_checkpoint
        from more_model.training.loop import resolve_device

        return load_checkpoint(checkpoint, base=base, device=resolve_device(device))


def _checked(
    trained: TrainedModel,
    data: Path,
    lesions: Path | None,
    prompts: str,
    split: Split,
    per_label: int,
    replicates: int,
    seed: int,
) -> tuple[dict[str, Any], bool]:
    from more_model.cohort_file import load_cohort
    from more_model.data.study import Modality
    from more_model.evaluation.prompt_sets import load_prompts
    from more_model.explain.cases import gather_all
    from more_model.explain.checks import check_explanations
    from more_model.explain.pointing import read_lesions
    from more_model.training.words import PREFIX

    cohort = load_cohort(data, preprocessing=trained.config.preprocessing)
    films = {} if lesions is None else read_lesions(lesions)
    worded = load_prompts(prompts).with_prefix(
        {part.value: f"{PREFIX[part]} " for part in (Modality.XRAY, Modality.ECG)}
    )
    cases = gather_all(cohort, worded.tasks, films=films, split=split, per_label=per_label, seed=seed)
    with shown_progress() as progress:
        checks = check_explanations(trained, cases, worded, replicates=replicates, seed=seed, progress=progress)
    return {**checks, "split": split.value, "synthetic": cohort.synthetic}, cohort.synthetic


def _as_text(content: dict[str, Any], out: Path) -> str:
    if "verdicts" in content:
        lines = [f"{'passed' if one['passed'] else 'NOT PASSED'}: {one['sentence']}" for one in content["verdicts"]]
    else:
        lines = [one["seen"] for one in content["explanations"]]
    return "\n".join([*lines, f"Written to {out}."])
