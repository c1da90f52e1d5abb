"""`more-model evaluate`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands import options


class Mode(StrEnum):
    """How the model is asked."""

    ZERO_SHOT = "zero-shot"
    LINEAR_PROBE = "linear-probe"
    FINE_TUNE = "fine-tune"
    FUSION = "fusion"


class Uncertainty(StrEnum):
    """What an uncertain label counts as."""

    IGNORE = "ignore"
    ZERO = "zero"
    ONE = "one"
    PUBLISHED = "published"


class Blank(StrEnum):
    """What a finding that a report does not mention counts as."""

    UNSTATED = "unstated"
    ABSENT = "absent"


class Recipe(StrEnum):
    """How fine-tuning trains."""

    PUBLISHED = "published"
    LORA = "lora"


def evaluate(
    protocol: Annotated[str, typer.Option(help="Which evaluation; docs/protocols.md lists them. `cohort`: a run.")],
    data: Annotated[Path, typer.Option(help="Root of the data set, or the run directory for protocol `cohort`.")],
    checkpoint: options.Checkpoint,
    out: options.Out,
    base: options.BaseFolder = None,
    mode: Annotated[
        list[Mode] | None, typer.Option(help="Several may be given; zero-shot and linear-probe where none is.")
    ] = None,
    subset: Annotated[str | None, typer.Option(help="Which evaluation set of the protocol.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only this label; several may be given.")] = None,
    uncertainty: Annotated[
        Uncertainty, typer.Option(help="What an uncertain label counts as; printed with the result.")
    ] = Uncertainty.IGNORE,
    blank: Annotated[
        Blank,
        typer.Option(help="MIMIC-CXR, CheXpert: what a finding that a report does not mention counts as."),
    ] = Blank.UNSTATED,
    view: Annotated[
        list[str] | None, typer.Option(help="Chest X-rays: only this view; PA and AP where none is given.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Another prompt set: a name of the package, or a .toml file.")
    ] = None,
    rate_hz: Annotated[int, typer.Option(help="PTB-XL: which of its files, 100 or 500.")] = 100,
    mapping: Annotated[Path | None, typer.Option(help="Protocol `table`: the mapping of its columns.")] = None,
    fraction: Annotated[
        list[float] | None, typer.Option(help="Share of training labels, 0 to 1; 0.01, 0.1 and 1 where none is given.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Draws of the labels of each fraction below 1, and random encoders.")
    ] = 3,
    recipe: Annotated[list[Recipe] | None, typer.Option(help="How to fine-tune; both where none is given.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs of fine-tuning, instead of the recipe's, for quick trials.")
    ] = None,
    dp: Annotated[
        bool,
        typer.Option(
            "--dp", help="Fine-tune, or probe, under differential privacy: the training patients are protected."
        ),
    ] = False,
    epsilon: Annotated[
        float | None, typer.Option(help="With --dp: the budget of all private trainings together; noise follows.")
    ] = None,
    noise_multiplier: Annotated[
        float | None, typer.Option(help="With --dp, instead of --epsilon: noise / clipping norm; epsilon follows.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="With --dp: chance that the guarantee fails; below 1 / training patients.")
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="With --dp: norm to which each patient's gradient is clipped; 1.")
    ] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(help="With --dp: probability with which a step draws each patient.")
    ] = None,
    public_patients: Annotated[
        int | None,
        typer.Option(help="With --dp: number of training patients, as it may be published; rounded is fine."),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="With --dp: the site's ledger, charged before the first step.")
    ] = None,
    witness: Annotated[Path | None, typer.Option(help="With --ledger: its witness file.")] = None,
    site_key: Annotated[
        Path | None, typer.Option(help="With --ledger: file with the key by which it knows patients.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Beside it random encoders, and with fine-tuning a supervised model.")
    ] = True,
    replicates: options.Replicates = 1000,
    seed: options.Seed = 0,
    ceiling: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of studies that may turn out unreadable.")
    ] = 0.05,
    threads: options.Threads = 2,
    workers: options.Workers = 1,
    device: options.Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the studies that an earlier call read.")] = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Evaluate a model on a named data set: zero-shot, by linear probe, fine-tuned or fused, with intervals.

    Example: more-model evaluate --protocol cohort --data runs/demo --out runs/evaluated
    --checkpoint runs/demo/checkpoints/federated.safetensors
    """
    terms = {
        "epsilon": epsilon,
        "noise_multiplier": noise_multiplier,
        "public_patients": public_patients,
        "delta": delta,
        "clip_norm": clip_norm,
        "sampling_rate": sampling_rate,
        "ledger": ledger,
        "witness": witness,
        "site_key": site_key,
    }
    content: dict[str, Any] = {
        "protocol": protocol,
        "data": data.resolve(),
        "checkpoint": checkpoint.resolve(),
        "base": None if base is None else base.resolve(),
        "choice": {
            "subset": subset,
            "rate_hz": rate_hz,
            "mapping": None if mapping is None else mapping.resolve(),
            "blank": blank.value,
            "seed": seed,
            **({"views": view} if view else {}),
        },
        "labels": label or (),
        "prompts": prompts,
        "uncertainty": uncertainty.value,
        "epochs": epochs,
        "seeds": seeds,
        "baselines": baselines,
        "replicates": replicates,
        "seed": seed,
        "quarantine_ceiling": ceiling,
        "threads": threads,
        "workers": workers,
        "device": device,
    }
    optional: dict[str, Any] = {
        "modes": [item.value for item in mode or ()],
        "fractions": fraction,
        "recipes": [item.value for item in recipe or ()],
    }
    content |= {name: value for name, value in optional.items() if value}
    with exit_on_error():
        content |= _privacy(content, terms, dp=dp)
        summary = _run(content, out, resume=resume, overwrite=overwrite)
    typer.echo(json.dumps(summary, indent=2) if as_json else _as_text(summary, out))


def _privacy(content: dict[str, Any], terms: dict[str, Any], *, dp: bool) -> dict[str, Any]:
    """The settings that --dp adds or starts from, where ``content`` has no others."""
    from more_model.errors import ConfigError

    given = {name: value for name, value in terms.items() if value is not None}
    if not dp:
        if given:
            faults = [f"--{name.replace('_', '-')}: has a meaning with --dp only" for name in given]
            raise ConfigError(
                "more-model evaluate", faults, remedy="add --dp, or leave them out",
                avoid="call a training private that ran without --dp",
            )  # fmt: skip
        return {}
    # What has no default has to be there, even empty, for its fault to say why it is needed.
    needed = {name: terms[name] for name in ("public_patients", "delta", "sampling_rate")}
    files = {name: value.resolve() for name, value in given.items() if isinstance(value, Path)}
    # One recipe and all labels: a second recipe would halve the budget of the first.
    starts = {"recipes": ["lora"], "fractions": [1.0]}
    usual = {name: value for name, value in starts.items() if name not in content}
    return {**usual, "privacy": {**needed, **given, **files}}


def _run(content: dict[str, Any], out: Path, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    from more_model.evaluation.evaluate import evaluate as run_evaluation
    from more_model.evaluation.settings import EvaluationSettings
    from more_model.progress import shown_progress
    from more_model.settings import validated

    settings = validated(EvaluationSettings, content, "more-model evaluate")
    with shown_progress() as on_progress:
        return run_evaluation(settings, out, resume=resume, overwrite=overwrite, on_progress=on_progress)


def _as_text(summary: dict[str, Any], out: Path) -> str:
    from more_model.evaluation.results_privacy import privacy_lines
    from more_model.evaluation.results_tables import estimate, name_of, spread

    protocol = summary["protocol"]
    settled = f"uncertain labels: {summary['uncertainty']}"
    if summary["blank"] is not None:
        settled += f"; not mentioned: {summary['blank']}"
    lines = [f"{protocol['title']} ({protocol['subset']}); {settled}"]
    for result in summary["results"]:
        macro = result["metrics"]["macro"]
        line = f"  {name_of(result)}: macro AUROC {estimate(macro, 'auroc')} over {macro['labels']} labels"
        lines.append(line + (f"; over draws {spread(result['draws'])}" if "draws" in result else ""))
    lines += privacy_lines(summary["privacy"])
    lines += [f"  note: {note}" for note in protocol["notes"]]
    return "\n".join([*lines, f"report: {out / 'report.html'}"])
