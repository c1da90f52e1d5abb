"""`more-privacy plan`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from more_model.cli_errors import exit_on_error

if TYPE_CHECKING:
    from privacy.planning import Plan


class ModeChoice(StrEnum):
    """The words of `privacy.sensitivity.Mode` as a command line offers them."""

    DECOUPLED = "patient-decoupled"
    GROUPS = "patient-groups"
    SHUFFLED = "patient-shuffled"
    HOSPITAL = "hospital"


def plan(
    units: Annotated[
        int, typer.Option("--patients", "--hospitals", help="Patients of one hospital; hospitals for --mode hospital.")
    ],
    steps: Annotated[
        int, typer.Option(help="Noisy steps a round; for patient-shuffled epochs a round, for hospital leave it at 1.")
    ] = 1,
    target_epsilon: Annotated[float, typer.Option(help="Budget of the whole run.")] = 8.0,
    mode: Annotated[ModeChoice, typer.Option(help="What is protected, and how.")] = ModeChoice.DECOUPLED,
    per_step: Annotated[
        float | None, typer.Option("--patients-per-step", help="Expected patients a step (the batch).")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of the federation; all of them are counted.")] = 1,
    delta: Annotated[
        float | None, typer.Option(help="Probability of failure; by default patients^-1.1, for hospitals 1e-5.")
    ] = None,
    group_size: Annotated[int, typer.Option(help="Patients a group, 4 to 8 (patient-groups, patient-shuffled).")] = 4,
    largest_weight: Annotated[
        float | None, typer.Option(help="Share of the largest hospital in the average; by default all are equal.")
    ] = None,
    parameters: Annotated[
        int | None, typer.Option(help="How many numbers train; adds the noise's norm over all of them.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw the plan into this .png or .svg file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Find the noise that keeps a training within a privacy budget, and what that noise costs.

    Example: more-privacy plan --patients 10000 --patients-per-step 256 --rounds 50 --steps 20 --target-epsilon 8
    """
    with exit_on_error():
        made = _made(
            mode, units, per_step, group_size, largest_weight, steps * rounds, target_epsilon, delta, parameters, figure
        )
        typer.echo(json.dumps(_as_json(made), indent=2) if as_json else _as_text(made))


def _made(
    mode: ModeChoice,
    units: int,
    per_step: float | None,
    group_size: int,
    largest_weight: float | None,
    steps: int,
    target_epsilon: float,
    delta: float | None,
    parameters: int | None,
    figure: Path | None,
) -> Plan:
    from rich.console import Console

    from more_model.errors import ConfigError
    from privacy.planning import Cohort, make_plan
    from privacy.planning_figure import check_format, draw_plan

    if figure is not None:
        check_format(figure)
    if per_step is None and mode is not ModeChoice.HOSPITAL:
        raise ConfigError("privacy plan", ["--patients-per-step is missing"], remedy="give the expected batch size")
    cohort = Cohort(mode.value, units, per_step or 0.0, group_size, largest_weight)
    with Console(stderr=True).status("Searching for the noise"):
        made = make_plan(cohort, steps, target_epsilon, delta, parameters)
        if figure is not None:
            draw_plan(made, figure)
    return made


def _as_json(made: Plan) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "mode": made.cohort.mode,
        "unit": made.claim.unit,
        "units": made.cohort.units,
        "sampling_rate": made.cohort.sampling_rate,
        "steps": made.steps,
        "delta": made.delta,
        "noise_multiplier": made.chosen.noise_multiplier,
        "epsilon": made.chosen.epsilon,
        "accountant": made.claim.result.accountant,
        "claim": made.claim.sentence,
        "warnings": list(made.claim.warnings),
        "assumptions": list(made.claim.result.assumptions),
        "costs": [asdict(cost) for cost in made.costs],
    }


def _as_text(made: Plan) -> str:
    from privacy.claims import rounded_up

    lines = [
        f"mode {made.cohort.mode}: {made.cohort.units} {'hospitals' if made.claim.unit == 'hospital' else 'patients'}, "
        f"sampling rate {made.cohort.sampling_rate:.4g}, {made.steps} steps, delta {made.delta:g}",
        "",
        f"{'budget':>8}  {'noise multiplier':>16}  {'epsilon':>8}  {'noise on the mean':>17}  {'its norm':>8}",
    ]
    for cost in made.costs:
        mark = "  <- asked for" if cost is made.chosen else ""
        norm = "" if cost.norm_on_mean is None else f"{cost.norm_on_mean:.3g}"
        lines.append(
            f"{cost.target_epsilon:>8g}  {cost.noise_multiplier:>16.3f}  {rounded_up(cost.epsilon):>8}  "
            f"{cost.noise_on_mean:>17.3g}  {norm:>8}{mark}"
        )
    lines += [
        "",
        "The noise multiplier is in units of the sum's bound: C, or for hospitals the largest weight times C. Noise on",
        "the mean is its standard deviation per parameter in units of C, the norm that no contribution exceeds.",
        "",
        made.claim.sentence,
        *(f"Note: {warning}" for warning in made.claim.warnings),
        "This holds only if all of this is true:",
        *(f"  - {sentence}" for sentence in made.claim.result.assumptions),
    ]
    return "\n".join(lines)
