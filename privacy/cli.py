"""Console script `more-privacy`: what a privacy officer can ask without running a training."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.cli_version import VersionOption
from privacy.accounting import Epsilon
from privacy.accounting import epsilon as account
from privacy.commands.audit import audit
from privacy.commands.ledger import ledger
from privacy.commands.plan import plan
from privacy.commands.scan import scan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Answers for the privacy officer: what a training run with given noise, sampling and steps would guarantee.",
)


class AdjacencyChoice(StrEnum):
    """The words of `privacy.accounting.Adjacency` as a command line offers them."""

    ADD_REMOVE = "add-remove"
    REPLACE = "replace"


@app.callback()
def main(version: VersionOption = False) -> None:
    """What a privacy officer can ask without running a training."""


app.command()(audit)
app.command()(plan)
app.command()(scan)
app.add_typer(ledger, name="ledger")


@app.command()
def epsilon(
    noise_multiplier: Annotated[
        float, typer.Option(help="z = sigma / C: noise on the sum of contributions, in units of the clipping norm.")
    ],
    sampling_rate: Annotated[
        float, typer.Option(help="Probability with which each unit is drawn in a step (Poisson); 1 = always all.")
    ],
    steps: Annotated[int, typer.Option(help="Noisy releases in total, all rounds and local steps together.")],
    delta: Annotated[float, typer.Option(help="Probability of failure; below one over the number of units.")],
    adjacency: Annotated[
        AdjacencyChoice,
        typer.Option(help="add-remove: one unit more, or zeroed. replace: exchanged for another."),
    ] = AdjacencyChoice.ADD_REMOVE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Print the epsilon of a run, the accountant that computed it, and what it assumes.

    Example: more-privacy epsilon --noise-multiplier 1 --sampling-rate 0.0256 --steps 1000 --delta 1e-5
    """
    with exit_on_error():
        result = account(noise_multiplier, sampling_rate, steps, delta, adjacency.value)
        typer.echo(json.dumps(asdict(result)) if as_json else _words(result))


def _words(result: Epsilon) -> str:
    lines = [
        f"epsilon     {_rounded_up(result.epsilon)} at delta {result.delta:g}",
        f"accountant  {result.accountant}",
        "This number holds only if all of this is true:",
        *(f"  - {sentence}" for sentence in result.assumptions),
    ]
    return "\n".join(lines)


def _rounded_up(value: float) -> str:
    # Rounding to nearest could print less than what holds.
    return f"{math.ceil(value * 1000) / 1000:.3f}"


if __name__ == "__main__":
    app()
