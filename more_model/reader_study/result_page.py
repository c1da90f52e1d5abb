"""The page about a finished reader study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from more_model.reader_study.analyse import CONDITIONS
from more_model.report import canvas
from more_model.report.blocks import Block, Facts, Figure, Section, Table, Words
from more_model.report.page import Page

_DESIGNS = {
    "crossover": "crossover: every reader read every case without and with aid, in two sessions",
    "half": "every reader read every case once, half of them with aid",
}
_HEAD = ("Without aid", "With aid", "Difference")
_PARTS = (*CONDITIONS, "difference")
_TITLES = {"auroc": "AUROC", "sensitivity": "Sensitivity", "specificity": "Specificity"}
_COLOURS, _MARKERS = {"unaided": "#0072b2", "aided": "#d55e00"}, {"unaided": "o", "aided": "D"}


def result_page(result: Mapping[str, Any], folder: Path) -> Page:
    """``result`` is what `more_model.reader_study.analyse.analyse` returns; the figure is also saved to ``folder``."""
    labels: Mapping[str, Any] = result["labels"]
    sections = [
        _answer(result, folder),
        *[_label(label, facts, number) for number, (label, facts) in enumerate(labels.items())],
    ]
    sections += [_agreement(labels), _time(result["time"])]
    if result["comments"]:
        sections.append(_comments(result["comments"]))
    return Page(
        kind="Reader study",
        title=result["title"],
        subtitle=f"{len(result['readers'])} readers, {result['cases']} cases of {result['patients']} patients",
        sections=sections,
        cautions=result["cautions"],
        synthetic=result["synthetic"],
        footer=f"Study {result['study']}.",
    )


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """The result in a few lines for the screen."""
    mean = result["macro"]["mean"]
    lines = [f"{len(result['readers'])} readers, {result['cases']} cases, {result['readings']} readings"]
    for name in _TITLES:
        without, aided, gain = (_mean_words(mean[part][name], signed=part == "difference") for part in _PARTS)
        lines.append(f"{_TITLES[name]}: {without} without aid, {aided} with aid, difference {gain}")
    seconds = result["time"]["mean"]
    lines.append(
        f"Seconds per case: {_number(seconds['unaided']['seconds']['value'], 1)} without aid, "
        f"{_number(seconds['aided']['seconds']['value'], 1)} with aid"
    )
    return lines + [f"Caution: {caution}" for caution in result["cautions"]]


def _answer(result: Mapping[str, Any], folder: Path) -> Section:
    facts = [
        ("Design", _DESIGNS[result["design"]]),
        (
            "Answers",
            f"{'1 to 5' if result['scale'] == 'confidence' else '0 to 100 %'}; present from {result['threshold']}",
        ),
        ("Readings", f"{result['readings']} by {len(result['readers'])} of {result['planned_readers']} readers"),
        ("Picture quality", f"limited in {result['quality_limited']} readings, as the readers said"),
        ("Intervals", f"95 %, {result['replicates']} resamples, seed {result['seed']}"),
    ]
    return Section(
        "mean",
        "Readers without and with the model's help",
        [
            _figure(result, folder),
            _means(result["macro"]["mean"], "Mean over readers and questions"),
            Words(_two_intervals()),
            Facts(facts),
        ],
    )


def _two_intervals() -> str:
    return (
        "Fixed readers: only cases were resampled, those of one patient together; the interval speaks about these "
        "readers on other cases. Random readers: the readers were resampled as well; the interval speaks about other "
        "readers too, and with few of them it is still too narrow."
    )


def _means(mean: Mapping[str, Any], caption: str) -> Table:
    rows = []
    for name, title in _TITLES.items():
        for kind, words in (("fixed", "fixed readers"), ("random", "random readers")):
            cells = [_mean_words(mean[part][name], kind=kind, signed=part == "difference") for part in _PARTS]
            rows.append([f"{title}, {words}", *cells])
    reason = mean["unaided"]["auroc"].get("random_readers_reason", "")
    note = f"No interval for random readers: {reason}." if reason else ""
    return Table(caption, ("Mean over readers", *_HEAD), rows, note=note)


def _label(label: str, facts: Mapping[str, Any], number: int) -> Section:
    rows = [
        [f"{reader}, {title}", *[_words(of_reader[part][name], signed=part == "difference") for part in _PARTS]]
        for reader, of_reader in facts["per_reader"].items()
        for name, title in _TITLES.items()
    ]
    note = (
        "Interval: resampled cases."
        if facts["model"] is None
        else (f"The model alone: AUROC {_words(facts['model']['auroc'])}. Interval: resampled cases.")
    )
    support = f"{facts['positives']} cases with and {facts['negatives']} without the finding."
    blocks: list[Block] = [
        Words(support),
        _means(facts["mean"], f"{label}: mean over readers"),
        Table(f"{label}: each reader", ("Reader", *_HEAD), rows, note=note),
    ]
    return Section(f"label-{number}", label, blocks)


def _agreement(labels: Mapping[str, Any]) -> Section:
    fleiss, pairs = [], []
    for label, facts in labels.items():
        for condition, words in zip(CONDITIONS, ("without aid", "with aid"), strict=True):
            agreement = facts["agreement"][condition]
            kinds = [agreement["fleiss_calls"], agreement["fleiss_answers"]]
            fleiss.append([f"{label}, {words}", *map(_kappa, kinds), str(kinds[0]["cases"])])
            pairs += [
                [
                    f"{label}, {words}: {' and '.join(pair['readers'])}",
                    *[_kappa(pair[kind]) for kind in ("calls", "answers_linear", "answers_quadratic")],
                    str(pair["calls"]["cases"]),
                ]
                for pair in agreement["pairs"]
            ]
    blocks: list[Block] = [
        Table("Fleiss' kappa over all readers", ("Question", "Present or not", "Answers", "Cases"), fleiss),
        Table(
            "Cohen's kappa of two readers",
            ("Readers", "Present or not", "Answers, linear weights", "Answers, quadratic weights", "Cases"),
            pairs,
            note="0: no more agreement than by chance. 1: complete agreement. Interval: resampled cases.",
        ),
    ]
    return Section("agreement", "Agreement between readers", blocks)


def _time(facts: Mapping[str, Any]) -> Section:
    mean = facts["mean"]
    rows = [
        [reader, *[_words(of_reader[part]["seconds"], 1, signed=part == "difference") for part in _PARTS]]
        for reader, of_reader in facts["per_reader"].items()
    ]
    rows += [
        [
            f"mean, {kind} readers",
            *[_mean_words(mean[p]["seconds"], 1, kind=kind, signed=p == "difference") for p in _PARTS],
        ]
        for kind in ("fixed", "random")
    ]
    note = "Time during which the case was on the screen of a visible page. Interval: resampled cases."
    return Section("time", "Time per case", [Table("Mean seconds per case", ("Reader", *_HEAD), rows, note=note)])


def _comments(comments: list[dict[str, Any]]) -> Section:
    rows = [[one["reader"], one["case"], "with" if one["aided"] else "without", one["comment"]] for one in comments]
    table = Table("Comments as written", ("Reader", "Case", "Aid", "Comment"), rows, words=frozenset({1, 2, 3}))
    return Section("comments", "Comments", [table])


def _figure(result: Mapping[str, Any], folder: Path) -> Figure:
    """Each reader's mean AUROC over the questions, without and with aid, joined by a line."""
    rows = [(reader, facts) for reader, facts in result["macro"]["per_reader"].items()] + [
        ("mean", result["macro"]["mean"])
    ]
    with canvas.look():
        height_in = 1.1 + 0.32 * len(rows)
        figure = canvas.blank(7.0, height_in)
        canvas.margins(figure, left_in=1.2, right_in=0.2, top_in=0.45, bottom_in=0.5)
        axes = figure.subplots()
        for row, (_, facts) in enumerate(rows):
            values = [facts[condition]["auroc"]["value"] for condition in CONDITIONS]
            if None not in values:
                axes.plot(values, [row, row], color=canvas.QUIET, linewidth=1.2, zorder=1)
            for condition, value in zip(CONDITIONS, values, strict=True):
                if value is not None:
                    axes.scatter([value], [row], color=_COLOURS[condition], marker=_MARKERS[condition], s=42, zorder=2)
        for condition, words in zip(CONDITIONS, ("without aid", "with aid"), strict=True):
            axes.scatter([], [], color=_COLOURS[condition], marker=_MARKERS[condition], label=words)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("AUROC, mean over the questions")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
        svg = canvas.save(figure, "readers", folder)
    words = "; ".join(
        f"{name}: {_auroc(facts, 'unaided')} without, {_auroc(facts, 'aided')} with aid" for name, facts in rows
    )
    return Figure(
        "readers", svg, f"AUROC of each reader. {words}.", "Circles: without aid. Diamonds: with the model's help."
    )


def _auroc(facts: Mapping[str, Any], condition: str) -> str:
    return _number(facts[condition]["auroc"]["value"])


def _words(entry: Mapping[str, Any], digits: int = 3, *, signed: bool = False) -> str:
    return _with_interval(entry["value"], entry.get("ci95"), digits, signed=signed)


def _mean_words(entry: Mapping[str, Any], digits: int = 3, *, kind: str = "fixed", signed: bool = False) -> str:
    return _with_interval(entry["value"], entry.get(f"ci95_{kind}_readers"), digits, signed=signed)


def _kappa(entry: Mapping[str, Any]) -> str:
    return _with_interval(entry["kappa"], entry.get("ci95"), 2)


def _with_interval(value: float | None, interval: list[float] | None, digits: int, *, signed: bool = False) -> str:
    if value is None:
        return "none"
    if interval is None:
        return f"{_number(value, digits, signed=signed)} (no interval)"
    low, high = (_number(end, digits, signed=signed) for end in interval)
    return f"{_number(value, digits, signed=signed)} ({low} to {high})"


def _number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    if value is None:
        return "none"
    # Adding zero turns -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
