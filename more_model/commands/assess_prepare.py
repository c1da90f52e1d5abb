"""`more-model assess-prepare`."""

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
from more_model.progress import shown_progress

if TYPE_CHECKING:
    from more_model.assess.reference import Header


def assess_prepare(
    checkpoint: Checkpoint,
    data: Annotated[Path, typer.Option("--data", help="Run directory, cohort file or site store.")],
    out: Out,
    base: BaseFolder = None,
    prompts: Annotated[
        str, typer.Option(help="Prompt set (name or TOML file): which findings are asked about, and their wording.")
    ] = "chexpert_ecg",
    false_refusals: Annotated[
        float,
        typer.Option(min=0.001, max=0.5, help="Share of good X-rays, ECGs and reports that may be refused as strange."),
    ] = 0.05,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Texts embedded at once.")] = 128,
    replicates: Replicates = 500,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = 2,
    as_json: AsJson = False,
) -> None:
    """Make the reference that `more-model assess` compares a patient with: once for a checkpoint and a cohort.

    Training patients teach it, validation patients calibrate it, test patients are not looked at. The directory holds
    patient data and is made readable by its owner alone.

    Example: more-model assess-prepare --checkpoint runs/demo/checkpoints/federated.safetensors --data runs/demo --out reference
    """  # noqa: E501 - an example is one line
    with exit_on_error():
        from more_model.assess.prepare import PrepareSettings, prepare_reference
        from more_model.checkpoint import load_checkpoint, read_fingerprint
        from more_model.cohort_file import load_cohort
        from more_model.evaluation.prompt_sets import load_prompts
        from more_model.training.loop import resolve_device

        settings = PrepareSettings(false_refusals, batch_size, threads, replicates, seed)
        with shown_progress() as progress:
            made = prepare_reference(
                load_checkpoint(checkpoint, base=base, device=resolve_device(device)),
                read_fingerprint(checkpoint),
                load_cohort(data),
                load_prompts(prompts),
                out,
                settings,
                overwrite=overwrite,
                progress=progress,
            )
    content = {"out": str(out), **made.header.model_dump(mode="json")}
    typer.echo(json.dumps(content, indent=2) if as_json else _as_text(made.header, out))


def _as_text(header: Header, out: Path) -> str:
    lines = [f"{'SYNTHETIC. ' if header.cohort.synthetic else ''}Reference written: {out}"]
    lines += [f"  from {name}: {_worth(facts.model_dump())}" for name, facts in header.selections.items()]
    for finding in header.findings:
        refused = finding.calibrations.refused
        if not finding.calibrations.curves:
            lines.append(f"  {finding.label}: never judged ({next(iter(refused.values()))})")
        elif refused:
            lines.append(f"  {finding.label}: not judged from {', '.join(refused)}")
    for measure, limit in header.limits.items():
        share = f"at most {100 * limit.false_refusals:.1f} % of good ones refused, by {limit.items} validation items"
        lines.append(f"  limit on {measure.words}: {limit.value:.2f} ({share})")
    return "\n".join(lines)


def _worth(facts: dict[str, Any]) -> str:
    if facts["macro_auroc"] is None:
        return "no finding can be measured"
    interval = "" if facts["ci95"] is None else f" ({facts['ci95'][0]:.3f} to {facts['ci95'][1]:.3f})"
    return f"macro AUROC {facts['macro_auroc']:.3f}{interval} over {facts['labels']} findings"
