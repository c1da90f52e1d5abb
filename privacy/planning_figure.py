"""The figure of a plan: what other budgets would cost, and how the run uses up its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from more_model.errors import ConfigError
from privacy.accounting import MIN_NOISE_MULTIPLIER
from privacy.claims import rounded_up
from privacy.planning import Plan, spending

FORMATS = (".png", ".svg")

_LINE, _MARK, _RULE = "#0072b2", "#d55e00", "#d5dae1"
#: Multiples of the chosen noise at which the left curve is computed, and shares of the run for the right one.
_NOISE_MULTIPLES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.5)
_SHARES_OF_THE_RUN = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)


def check_format(path: Path) -> None:
    """Refuse a path that no figure can be written to.

    Raises:
        ConfigError: neither .png nor .svg.
    """
    if path.suffix not in FORMATS:
        raise ConfigError("privacy plan", [f"figure {path.name}: must end in {' or '.join(FORMATS)}"])


def draw_plan(plan: Plan, path: Path) -> None:
    """Write the figure of ``plan`` to ``path`` (see `check_format`)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_format(path)
    look = {"font.size": 10.0, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "more-fed"}
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(9.0, 3.9), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _price(left, plan)
        _spent(right, plan)
        figure.suptitle(_title(plan), fontsize=11.0)
        undated = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=130, facecolor="white", metadata=undated)


def _title(plan: Plan) -> str:
    units = "hospitals" if plan.cohort.mode == "hospital" else "patients"
    return (
        f"{plan.cohort.mode}: {plan.cohort.units:,} {units}, {plan.steps:,} steps, delta {plan.delta:g} "
        f"(per {plan.claim.unit})"
    )


def _price(axes: Any, plan: Plan) -> None:
    multiples = (plan.chosen.noise_multiplier * multiple for multiple in _NOISE_MULTIPLES)
    noises = [noise for noise in multiples if noise >= MIN_NOISE_MULTIPLIER]
    epsilons = [spending(plan.cohort, noise, [plan.steps], plan.delta)[0] for noise in noises]
    on_mean = [noise / plan.cohort.mean_divisor for noise in noises]
    axes.plot(epsilons, on_mean, color=_LINE)
    axes.plot([plan.chosen.epsilon], [plan.chosen.noise_on_mean], "D", color=_MARK)
    axes.annotate(
        f"epsilon {rounded_up(plan.chosen.epsilon)}\nnoise multiplier {plan.chosen.noise_multiplier:g}",
        (plan.chosen.epsilon, plan.chosen.noise_on_mean),
        textcoords="offset points",
        xytext=(10, 8),
    )
    axes.set(xscale="log", yscale="log", xlabel="epsilon of the whole run", ylabel="noise on the mean, in units of C")
    axes.set_title("Price: more privacy, more noise")
    axes.grid(color=_RULE, linewidth=0.6, which="both")


def _spent(axes: Any, plan: Plan) -> None:
    steps = sorted({max(1, round(plan.steps * share)) for share in _SHARES_OF_THE_RUN})
    axes.plot(steps, spending(plan.cohort, plan.chosen.noise_multiplier, steps, plan.delta), color=_LINE, marker=".")
    axes.axhline(plan.chosen.target_epsilon, color=_MARK, linestyle="--", label="budget")
    axes.set(xlabel="steps taken", ylabel="epsilon used up", ylim=(0, None))
    axes.set_title("Spending: what each step uses up")
    axes.grid(color=_RULE, linewidth=0.6)
    axes.legend(frameon=False, loc="lower right")
