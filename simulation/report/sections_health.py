"""Health of training: the failure signatures of every arm, in words, and the loss against guessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from more_model.evaluation.finding import GRAVITY, SIGNATURES
from more_model.report.blocks import Block, Cell, Facts, Figure, Section, Table, Words, section
from more_model.report.canvas import arm_colour, arm_dashes, arm_marker, blank, margins, save
from simulation.report.figures import CHANCE_STYLE, WIDTH_IN
from simulation.report.health import Examined, examined, ratios, tower_name, verdict_of, worst
from simulation.report.wording import arm_name, listing

_PANELS = (("xray", "X-ray and words"), ("ecg", "ECG and words"))


def health_section(summary: Mapping[str, Any], folder: Path) -> Section | None:
    """Verdicts of all arms, the losses against chance, and what every watch and alarm means."""
    models = examined(summary)
    blocks: list[Block | None] = [
        Words(
            "The ways in which such a training is known to fail, looked for in every model. “Watch” and “alarm” are "
            "crossed thresholds, “unknown” says that nothing could be measured. An “ok” does not make a model good: "
            "the AUROC does that."
        ),
        _verdicts(models) if models else None,
        _untrained(models),
        _loss_figure(models, folder),
        _matters(models),
    ]
    return section("health", "Health of training", blocks)


def _verdicts(models: Sequence[Examined]) -> Table:
    shown = list(dict.fromkeys(model.arm for model in models))
    rows: list[list[Cell | str]] = []
    for code, signature in SIGNATURES.items():
        rows.append([signature.title, *(_verdict_cell(models, arm, code) for arm in shown)])
    return Table(
        "Verdicts by signature and arm",
        ("Signature", *(arm_name(arm).removesuffix(" (mean)") for arm in shown)),
        rows,
        note="The gravest verdict over the towers (named behind it) and, for models that sites trained alone, over "
        "sites.",
        words=frozenset(range(1, len(shown) + 1)),
    )


def _verdict_cell(models: Sequence[Examined], arm: str, code: str) -> Cell:
    of_arm = [model for model in models if model.arm == arm]
    findings = [finding for model in of_arm for finding in model.of(code)]
    verdict = worst(findings)
    if verdict in ("ok", "unknown"):
        return Cell(verdict, tone="quiet")
    concerned = [finding for finding in findings if verdict_of(finding) == verdict]
    towers = list(dict.fromkeys(tower_name(str(f["tower"])) for f in concerned if f.get("tower")))
    text = f"{verdict}: {', '.join(towers)}" if towers else verdict
    if len(of_arm) > 1:
        sites = sum(worst(model.of(code)) == verdict for model in of_arm)
        text = f"{text} ({sites} of {len(of_arm)} sites)"
    return Cell(text, tone="warn" if verdict == "alarm" else "")


def _untrained(models: Sequence[Examined]) -> Words | None:
    """The model of random weights must fail; a reader must not take that for a fault."""
    for model in models:
        if model.arm == "random_encoder":
            count = sum(verdict_of(finding) == "alarm" for finding in model.findings)
            if count:
                return Words(
                    f"{model.name}: {count} of {len(model.findings)} findings are alarms. That is expected: nothing "
                    "was trained. It shows that the signatures can tell."
                )
            return Words(
                f"{model.name}: no alarm, although nothing was trained. Do not trust the verdicts of this run.",
                tone="note",
            )
    return None


def _matters(models: Sequence[Examined]) -> Facts | None:
    """An entry for each signature with anything to watch in a model that is not random, the gravest first."""
    concerned = [model for model in models if model.arm != "random_encoder"]
    entries = []
    for code, signature in SIGNATURES.items():
        crossed = [(model, _crossed(model, code)) for model in concerned if _crossed(model, code)]
        if crossed:
            verdict = worst([finding for _, findings in crossed for finding in findings])
            lead, findings = _shown_first(crossed, verdict)
            said = " ".join(str(finding.get("sentence")) for finding in findings)
            others = _named([model for model, _ in crossed if model is not lead], concerned)
            also = f" Also in: {others}." if others else ""
            words = f"{signature.means} {lead.name}: {said}{also} What to do: {signature.do}"
            entries.append((-GRAVITY[verdict], f"{verdict.capitalize()}: {signature.title}", words))
    if not entries:
        return None
    return Facts([(term, words) for _, term, words in sorted(entries, key=lambda entry: entry[0])])


def _crossed(model: Examined, code: str) -> list[Mapping[str, Any]]:
    return [finding for finding in model.of(code) if verdict_of(finding) in ("watch", "alarm")]


def _shown_first(
    crossed: Sequence[tuple[Examined, list[Mapping[str, Any]]]], verdict: str
) -> tuple[Examined, list[Mapping[str, Any]]]:
    """The federated model where it is among the gravest, otherwise the first that is."""
    gravest = [entry for entry in crossed if worst(entry[1]) == verdict]
    return next((entry for entry in gravest if entry[0].arm == "federated"), gravest[0])


def _named(models: Sequence[Examined], of_all: Sequence[Examined]) -> str:
    alone = [model for model in models if model.arm == "local"]
    names = [model.name for model in models if model.arm != "local"]
    if len(alone) > 1 and len(alone) == sum(model.arm == "local" for model in of_all):
        return listing([*names, f"each of {len(alone)} sites alone"])
    return listing([*names, *(model.name for model in alone)])


def _loss_figure(models: Sequence[Examined], folder: Path) -> Figure | None:
    panels = [
        (title, {model.name: (model, ratios(model, tower)) for model in models if ratios(model, tower)})
        for tower, title in _PANELS
    ]
    panels = [(title, curves) for title, curves in panels if curves]
    if not panels:
        return None
    figure = blank(WIDTH_IN, 2.9)
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        axes.axhline(1.0, **CHANCE_STYLE)
        for model, points in curves.values():
            _curve(axes, model.arm, points)
        axes.set_title(title, loc="left")
        axes.set_xlabel("Share of the training done")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    margins(figure, left_in=0.55, right_in=0.2, top_in=0.6, bottom_in=0.55, wspace=0.22)
    _legend(figure, list(dict.fromkeys(model.arm for _, curves in panels for model, _ in curves.values())))
    return Figure(
        "health_loss",
        save(figure, "health_loss", folder),
        " ".join(_spoken(title, curves) for title, curves in panels),
        "Each term of the training loss as a share of what guessing would give (dashed line: 1). Thin lines are models "
        "that sites trained alone. A curve that stays at the line has learnt nothing.",
    )


def _curve(axes: Any, arm: str, points: Sequence[tuple[float, float]]) -> None:
    across, up = zip(*points, strict=True)
    alone = arm == "local"
    axes.plot(
        across, up, color=arm_colour(arm), linestyle=arm_dashes(arm), linewidth=0.9 if alone else 1.7,
        marker=arm_marker(arm), markersize=2.5 if alone else 4,
    )  # fmt: skip


def _legend(figure: Any, drawn: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=arm_colour(arm), linestyle=arm_dashes(arm), marker=arm_marker(arm), markersize=5,
               label=arm_name(arm).removesuffix(" (mean)"))
        for arm in drawn
    ]  # fmt: skip
    figure.legend(handles=handles, loc="upper center", ncols=max(1, min(4, len(handles))), handlelength=3.0)


def _spoken(title: str, curves: Mapping[str, tuple[Examined, Sequence[tuple[float, float]]]]) -> str:
    said = [f"{name} from {points[0][1]:.2f} to {points[-1][1]:.2f}" for name, (_, points) in curves.items()]
    return f"{title}, loss as a share of chance: {listing(said)}."
