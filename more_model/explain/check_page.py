"""The page of the checks: verdicts, curves of deletion, and the tables behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from more_model.report.blocks import Block, Cell, Figure, Section, Table, Words
from more_model.report.canvas import INK, QUIET, blank, inline_svg, look

_STUDY = {"xray": "X-rays", "ecg": "ECGs"}
_ROWS = (
    ("deletion", "Deletion: gain over random order"),
    ("specific_deletion", "... more than in patients without the finding"),
    ("insertion", "Insertion: gain over random order"),
    ("specific_insertion", "... more than in patients without the finding"),
    ("score_difference", "Score with the finding minus without"),
)
_POINTING_ROWS = (
    ("hit_rate", "Pointing game: hit rate"),
    ("chance", "Hit rate of a random map"),
    ("ratio", "Hits over those of a random map"),
    ("ratio_over_middle", "Hits over those of the middle of the picture"),
)


def check_sections(checks: Mapping[str, Any]) -> list[Section]:
    """Sections of the page from what `more_model.explain.checks.check_explanations` answers."""
    table = Table(
        caption="What was checked",
        head=("Check", "Result", "In words"),
        rows=[(verdict["check"], _passed(verdict["passed"]), verdict["sentence"]) for verdict in checks["verdicts"]],
        words=frozenset({1, 2}),
    )
    sections = [Section("verdicts", "Do the explanations mean something?", [table])]
    for modality, found in checks["modalities"].items():
        blocks: list[Block] = [_figures_table(found), _curves(modality, found["model"])]
        if "pointing" in found["model"]:
            blocks.append(_by_label(found["model"]["pointing"]))
        blocks.append(
            Words(
                "A random model's own gradients lower its own score faster than random order too, by a little. "
                "Judged is therefore by how much more they do so where the finding is.",
                tone="note",
            )
        )
        sections.append(Section(f"figures-{modality}", _STUDY[modality], blocks))
    return sections


def _passed(passed: bool) -> Cell:
    return Cell("passed") if passed else Cell("not passed", tone="warn")


def _figures_table(found: Mapping[str, Any]) -> Table:
    models = [found["model"], *found["randomised"]]
    rows = [(name, *(_shown(model[key]) for model in models)) for key, name in _ROWS]
    if "pointing" in found["model"]:
        rows += [(name, *(_shown(model["pointing"][key]) for model in models)) for key, name in _POINTING_ROWS]
    cases = found["cases"]
    return Table(
        caption="The model and random models of the same architecture, with 95 % intervals over patients",
        head=("Figure", "Model", *(f"Random {twin['seed']}" for twin in found["randomised"])),
        rows=rows,
        note=f"{cases['with_finding']} studies with and {cases['without_finding']} without the finding, "
        f"{cases['with_known_lesion']} with a known lesion, {cases['patients']} patients.",
    )


def _by_label(game: Mapping[str, Any]) -> Table:
    chance = game["chance_by_label"]
    return Table(
        caption="Pointing game by finding",
        head=("Finding", "Cases", "Hit rate", "Random map"),
        rows=[
            (label, str(hit["cases"]), f"{hit['value']:.2f}", f"{chance[label]['value']:.2f}")
            for label, hit in game["hit_rate_by_label"].items()
        ],
    )


def _shown(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "not known"
    interval = estimate["ci95"]
    digits = 2 if abs(estimate["value"]) >= 1 else 4
    shown = f"{estimate['value']:.{digits}f}"
    return shown if interval is None else f"{shown} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def _curves(modality: str, figures: Mapping[str, Any]) -> Figure:
    import io

    with look():
        figure = blank(5.6, 3.4)
        axes = figure.add_axes((0.16, 0.16, 0.8, 0.78))
        curves = (("deletion_curve", "most relevant first", INK, "-"), ("random_curve", "random order", QUIET, "--"))
        for key, name, colour, dashes in curves:
            steps = len(figures[key]) - 1
            places = [place / steps for place in range(steps + 1)]
            axes.plot(places, figures[key], dashes, color=colour, label=name)
        axes.set_xlabel("share of the study removed")
        axes.set_ylabel("score (cosine difference)")
        axes.legend()
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    name = f"deletion-{modality}"
    alt = f"Score while parts of {_STUDY[modality]} are removed: most relevant parts first against random order."
    caption = "Deletion in patients with the finding. Removed parts are replaced by what stands there without it."
    return Figure(name, inline_svg(drawing.getvalue(), name), alt, caption)
