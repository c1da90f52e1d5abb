"""`more-model reader-study build` and `more-model reader-study analyse`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson, BaseFolder, Out, Overwrite, Replicates, Seed, Threads
from more_model.errors import ConfigError

if TYPE_CHECKING:
    from more_model.reader_study.cases import Case

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Physicians judge blinded cases without and with the model's help: build the study, analyse its answers.",
)


@dataclass(frozen=True, slots=True)
class CohortChoice:
    """What cases are drawn from, and which model helps the readers."""

    data: Path
    checkpoint: Path | None
    base: Path | None
    labels: list[str]
    count: int
    prompts: str
    seed: int
    threads: int


class DesignName(StrEnum):
    """How readings with and without aid are dealt out."""

    CROSSOVER = "crossover"
    HALF = "half"


class ScaleName(StrEnum):
    """How a reader answers."""

    CONFIDENCE = "confidence"
    PROBABILITY = "probability"


@app.command()
def build(
    out: Out,
    cases: Annotated[
        list[Path] | None,
        typer.Option(help="Case files (one JSON object per line), or folders with a cases.jsonl."),
    ] = None,
    more_cases: Annotated[
        list[Path] | None, typer.Argument(help="Further case files after the one of --cases.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Instead of --cases: draw test cases of this cohort (see --checkpoint).")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="With --data: the model that helps the readers (a run's checkpoints/, or a base)."),
    ] = None,
    base: BaseFolder = None,
    labels: Annotated[
        str | None, typer.Option(help="With --data: the questions, separated by commas; they need a prompt.")
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="With --data: how many cases to draw.")] = 40,
    prompts: Annotated[str, typer.Option(help="With --data: prompt set that words the questions.")] = "chexpert_ecg",
    readers: Annotated[int, typer.Option(min=1, max=999, help="How many readers take part.")] = 2,
    design: Annotated[
        DesignName, typer.Option(help="crossover: every case both ways, in two sessions. half: every case once.")
    ] = DesignName.CROSSOVER,
    scale: Annotated[
        ScaleName, typer.Option(help="confidence: 1 to 5. probability: 0 to 100 %, on a slider.")
    ] = ScaleName.CONFIDENCE,
    threshold: Annotated[
        int | None, typer.Option(help="Answer from which on a reader says 'present' (4 of 5, or 50 %).")
    ] = None,
    washout_days: Annotated[int, typer.Option(min=0, help="Days that must pass between the two sessions.")] = 28,
    title: Annotated[str, typer.Option(help="What the readers see as the study's name.")] = "Reader study",
    image_px: Annotated[
        int, typer.Option(min=64, help="With --cases: longest side of a picture file; drawn ECGs keep their scale.")
    ] = 1024,
    seed: Seed = 0,
    threads: Threads = 2,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make the package that readers open in a browser, offline, and the key that they do not get.

    Writes package/index.html and key.json. Nothing in the package says what is true of a case.

    Example: more-model reader-study build --cases cases.jsonl --readers 4 --out study
    """
    with exit_on_error():
        from rich.console import Console

        from more_model.reader_study.package import KEY, StudyChoice, build_study

        if (out / KEY).exists() and not overwrite:
            raise ConfigError(
                str(out),
                ["there is a reader study already"],
                remedy="give another --out, or --overwrite",
                avoid="overwrite a study that readers have begun: without its key no answer can be analysed",
            )
        cohort = None
        if data is not None:
            cohort = CohortChoice(data, checkpoint, base, _names(labels), count, prompts, seed, threads)
        with Console(stderr=True).status("Making the cases"):
            found, synthetic = _cases([*(cases or ()), *(more_cases or ())], cohort, image_px)
        choice = StudyChoice(
            title=title, readers=readers, seed=seed, design=design.value, scale=scale.value, threshold=threshold,
            washout_days=washout_days, synthetic=synthetic,
        )  # fmt: skip
        manifest = build_study(found, choice, out)
    facts = {
        "study": manifest.study,
        "package": str(out / "package"),
        "key": str(out / KEY),
        "cases": len(manifest.cases),
        "labels": manifest.labels,
        "readers": list(manifest.orders),
    }
    typer.echo(json.dumps(facts, indent=2) if as_json else _built(facts))


@app.command()
def analyse(
    package: Annotated[Path, typer.Option(help="The folder that `build` wrote, or its package folder.")],
    key: Annotated[Path, typer.Option(help="The key.json that `build` wrote.")],
    answers: Annotated[list[Path], typer.Option(help="The files that the page exported, one per reader.")],
    out: Out,
    more_answers: Annotated[
        list[Path] | None, typer.Argument(help="Further files after the one of --answers.", show_default=False)
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Also take readers who have not read every case.")] = False,
    replicates: Replicates = 2000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Agreement of the readers, their AUROC with and without aid, and their time, with intervals.

    Writes reader-study.json, reader-study.html and readers.png.

    Example: more-model reader-study analyse --package study --key study/key.json --out result --answers answers/*.json
    """
    with exit_on_error():
        from rich.console import Console

        from more_model.reader_study.analyse import analyse as analyse_study
        from more_model.reader_study.answers import read_answers
        from more_model.reader_study.manifest import read_key, read_package
        from more_model.reader_study.result_page import result_page, summary_lines
        from more_model.report.page import write_page, write_whole

        manifest = read_package(package)
        sealed = read_key(key, manifest)
        given = read_answers([*answers, *(more_answers or ())], manifest, partial=partial)
        with Console(stderr=True).status("Resampling"):
            result = analyse_study(manifest, sealed, given, replicates=max(1, replicates), seed=seed)
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(result, indent=2, allow_nan=False) + "\n"
        write_whole(out / "reader-study.json", text)
        write_page(out / "reader-study.html", result_page(result, out))
    typer.echo(text.rstrip() if as_json else "\n".join(summary_lines(result)))


def _names(labels: str | None) -> list[str]:
    return [name.strip() for name in (labels or "").split(",") if name.strip()]


def _cases(files: list[Path], cohort: CohortChoice | None, image_px: int) -> tuple[list[Case], bool]:
    """The cases, and whether they are synthetic."""
    if bool(files) == (cohort is not None):
        raise ConfigError("more-model reader-study build", ["give either --cases or --data"])
    if cohort is None:
        from more_model.reader_study.cases import read_cases

        return read_cases(files, max_side_px=image_px), False
    return _drawn(cohort)


def _drawn(choice: CohortChoice) -> tuple[list[Case], bool]:
    """Cases of a cohort with what a model says about them."""
    if choice.checkpoint is None or not choice.labels:
        raise ConfigError("more-model reader-study build", ["--data needs --checkpoint and --labels"])
    from more_model.checkpoint import load_checkpoint
    from more_model.cohort_file import load_cohort
    from more_model.evaluation.prompt_sets import load_prompts
    from more_model.explain.figure import explanation_png
    from more_model.reader_study.from_cohort import cohort_cases

    trained = load_checkpoint(choice.checkpoint, base=choice.base)
    cohort = load_cohort(choice.data, preprocessing=trained.config.preprocessing)
    prompts = load_prompts(choice.prompts, required=choice.labels).only(choice.labels)
    cases = cohort_cases(
        trained, cohort, prompts, count=choice.count, seed=choice.seed, threads=choice.threads,
        draw_explanation=lambda explanation: explanation_png([explanation]),
    )  # fmt: skip
    return cases, cohort.synthetic


def _built(facts: Mapping[str, Any]) -> str:
    return (
        f"study {facts['study']}: {facts['cases']} cases, {len(facts['readers'])} readers\n"
        f"  for the readers: {facts['package']}\n"
        f"  for you alone:   {facts['key']}"
    )
