"""From outcomes to ``summary.json``: metrics with intervals, what the baselines say, subgroups, wording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from more_model.data.study import Split
from more_model.evaluation.auroc import auroc
from more_model.evaluation.bed import per_case
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.metrics_table import measure
from more_model.evaluation.modes import Evaluated, Outcome
from more_model.evaluation.prompt_draws import prompt_draws, wording_spread
from more_model.evaluation.prompt_sets import PromptSet
from more_model.evaluation.settings import CHECKPOINT, RANDOM, SUPERVISED, EvaluationSettings
from more_model.evaluation.subgroups import subgroup_tables
from more_model.evaluation.summary import compare_with_mean

if TYPE_CHECKING:
    from more_model.evaluation.evaluate import Source

#: The draws of one mode, model and variant.
Group = Sequence[Outcome]


def build_summary(
    settings: EvaluationSettings,
    asked: Evaluated,
    source: Source,
    outcomes: Sequence[Outcome],
    prompts: PromptSet | None,
) -> dict[str, Any]:
    """The content of ``summary.json``, ready for JSON."""
    groups = grouped(outcomes)
    trained = asked.trained
    return {
        "schema": 1,
        "kind": "evaluation",
        "protocol": {
            "name": settings.protocol,
            "title": source.title,
            "subset": source.subset,
            "labels": source.bed.labels,
            "notes": list(source.notes),
            "facts": source.facts,
        },
        "synthetic": source.synthetic,
        "uncertainty": settings.uncertainty,
        "blank": source.blank,
        "checkpoint": {
            "file": settings.checkpoint.name,
            "digest": trained.digest,
            "origin": trained.origin,
            "architecture": trained.config.name,
            "adapted": trained.adapted,
        },
        "cohort": source.bed.counts(),
        "seed": settings.seed,
        "replicates": settings.replicates,
        "results": [result_entry(group, settings) for group in groups],
        "fractions": list(fewer_labels(groups)),
        "comparisons": list(comparisons(groups, settings)),
        "prompts": None if prompts is None else _wording(asked, prompts),
        # One budget for all of them, so the first says it for all.
        "privacy": next((outcome.privacy for outcome in outcomes if outcome.privacy is not None), None),
    }


def grouped(outcomes: Sequence[Outcome]) -> list[Group]:
    """The draws of one mode, model and variant together: mode by mode, and what is to be compared side by side."""
    modes = list(dict.fromkeys(outcome.mode for outcome in outcomes))
    variants = list(dict.fromkeys((outcome.mode, outcome.variant) for outcome in outcomes))
    models = list(dict.fromkeys(outcome.model for outcome in outcomes))

    def place(outcome: Outcome) -> tuple[int, int, int]:
        variant = outcome.mode, outcome.variant
        return modes.index(outcome.mode), variants.index(variant), models.index(outcome.model)

    ordered = sorted(outcomes, key=lambda outcome: (*place(outcome), outcome.draw))
    return [list(group) for _, group in groupby(ordered, key=place)]


def result_entry(group: Group, settings: EvaluationSettings) -> dict[str, Any]:
    """One entry of ``results``: the metrics of the first draw, how far draws differ, and parts of the patients where
    the checkpoint used everything it could."""
    first = group[0]
    result: dict[str, Any] = {
        "mode": first.mode,
        "model": first.model,
        "how": first.how,
        "fraction": first.fraction,
        "variant": first.variant,
        "metrics": measure(
            first.test, validation=first.validation or None, replicates=settings.replicates, seed=settings.seed
        ),
    }
    if first.facts:
        result["training"] = first.facts
    if len(group) > 1:
        result["draws"] = _spread(group)
    if first.model == CHECKPOINT and _is_whole(first):
        result["subgroups"] = subgroup_tables(first.test, replicates=min(settings.replicates, 500), seed=settings.seed)
    return result


def _is_whole(outcome: Outcome) -> bool:
    """Whether the outcome used everything it could: all labels, all modalities."""
    return outcome.fraction in (None, 1.0) and (outcome.mode != "fusion" or outcome.how == "as available")


def label_aurocs(outcome: Outcome) -> dict[LabelTask, float]:
    """The AUROC of every label that has one."""
    found = {item.task: auroc(item.y, item.score).value for item in outcome.test if item.reason is None}
    return {task: value for task, value in found.items() if value is not None}


def _macros(values: Sequence[Mapping[LabelTask, float]], tasks: Sequence[LabelTask]) -> list[float]:
    return [float(np.mean([of_draw[task] for task in tasks])) for of_draw in values] if tasks else []


def _in_all(values: Sequence[Mapping[LabelTask, float]]) -> list[LabelTask]:
    return [task for task in values[0] if all(task in of_draw for of_draw in values)]


def _spread(group: Group) -> dict[str, Any]:
    """Macro AUROCs over draws, each over the ``labels`` labels that have a value in every draw; ``of`` is what is
    drawn."""
    values = [label_aurocs(outcome) for outcome in group]
    tasks = _in_all(values)
    drawn = ["labels"] if group[0].fraction not in (None, 1.0) else []
    drawn += ["encoders"] if len({outcome.encoder_seed for outcome in group}) > 1 else []
    return {"of": drawn, "labels": len(tasks), **_mean_and_sd(_macros(values, tasks))}


def _mean_and_sd(macros: Sequence[float]) -> dict[str, Any]:
    return {
        "macro_auroc": list(macros),
        "mean": float(np.mean(macros)) if macros else None,
        "sd": float(np.std(macros, ddof=1)) if len(macros) > 1 else None,
    }


def fewer_labels(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """What a share of the training labels gives and what all of them give, on the same labels.

    With few labels to train on, rare ones have no figure, and a mean over the frequent rest says nothing beside a mean
    over all. So every share is set beside the whole on the ``labels`` labels that have a value in each of its draws and
    with all training labels: ``mean`` and ``sd`` over the draws, ``whole`` the mean with all. ``mean`` and ``whole``
    are None where no label is common.
    """
    whole = {(g[0].mode, g[0].model, g[0].how): g for g in groups if g[0].fraction == 1.0}
    for group in groups:
        first = group[0]
        everything = whole.get((first.mode, first.model, first.how))
        if first.fraction in (None, 1.0) or everything is None:
            continue
        values, full = ([label_aurocs(outcome) for outcome in part] for part in (group, everything))
        tasks = _in_all([*values, *full])
        yield {
            **{name: getattr(first, name) for name in ("mode", "model", "how", "fraction", "variant")},
            "labels": len(tasks),
            **_mean_and_sd(_macros(values, tasks)),
            "whole": _mean_and_sd(_macros(full, tasks))["mean"],
        }


def comparisons(groups: Sequence[Group], settings: EvaluationSettings) -> Iterator[dict[str, Any]]:
    """Paired differences of macro AUROC between the checkpoint and what it has to be better than.

    Random encoders that differ in nothing but their seed count as one, by the mean of their AUROCs; everything else is
    compared draw 1 with draw 1.
    """
    for ours in (group[0] for group in groups if group[0].model == CHECKPOINT):
        for theirs in groups:
            if not worth_comparing(ours, theirs[0]):
                continue
            others = theirs if theirs[0].fraction in (None, 1.0) else theirs[:1]
            table = compare_with_mean(
                ours.test, [other.test for other in others], replicates=settings.replicates, seed=settings.seed
            )
            name = theirs[0].name + (f" (mean of {len(others)})" if len(others) > 1 else "")
            yield {"a": ours.name, "b": name, **table}


def worth_comparing(ours: Outcome, theirs: Outcome) -> bool:
    """The same question to random encoders, to a supervised model of the same size, or to one modality alone."""
    if theirs.model == RANDOM:
        return (ours.mode, ours.variant) == (theirs.mode, theirs.variant)
    if theirs.model == SUPERVISED:
        return ours.mode in ("linear-probe", "fine-tune") and ours.fraction == theirs.fraction
    return ours.mode == theirs.mode == "fusion" and ours.how == "both" and theirs.how.endswith("only")


def _wording(asked: Evaluated, prompts: PromptSet) -> dict[str, Any]:
    """How much the zero-shot result turns on the wording."""
    embedded = asked.embedded(Split.TEST)
    return {
        "set": prompts.name,
        "texts": len(prompts.texts()),
        "halves": prompt_draws(embedded, prompts, asked.encode, merged=per_case).to_dict(),
        "single_wordings": wording_spread(embedded, prompts, asked.encode, merged=per_case),
    }
