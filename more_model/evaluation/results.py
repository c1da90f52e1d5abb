"""From outcomes to ``summary.json``: metrics with intervals, what the baselines say, subgroups, wording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from more_model.checkpoint import TrainedModel
from more_model.data.study import Split
from more_model.evaluation.auroc import auroc
from more_model.evaluation.embedded import ScoredLabel
from more_model.evaluation.metrics_table import measure
from more_model.evaluation.modes import CHECKPOINT, RANDOM, SUPERVISED, Evaluated, Outcome, text_encoder
from more_model.evaluation.prompt_draws import prompt_draws, wording_spread
from more_model.evaluation.prompt_sets import PromptSet
from more_model.evaluation.settings import EvaluationSettings
from more_model.evaluation.subgroups import subgroup_tables
from more_model.evaluation.summary import compare

if TYPE_CHECKING:
    from more_model.evaluation.evaluate import Source


def build_summary(
    settings: EvaluationSettings,
    trained: TrainedModel,
    source: Source,
    outcomes: Sequence[Outcome],
    prompts: PromptSet,
) -> dict[str, Any]:
    """The content of ``summary.json``, ready for JSON."""
    summary: dict[str, Any] = {
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
        "results": [_result(group, settings) for group in _grouped(outcomes)],
        "comparisons": list(_comparisons(outcomes, settings)),
    }
    if "zero-shot" in settings.modes:
        summary["prompts"] = _prompts(settings, trained, source, prompts)
    return summary


def _grouped(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The draws of one mode, model and variant together, in order of first appearance."""
    keys = list(dict.fromkeys(_key(outcome) for outcome in outcomes))
    ordered = sorted(outcomes, key=lambda outcome: (keys.index(_key(outcome)), outcome.draw))
    return [list(group) for _, group in groupby(ordered, key=_key)]


def _key(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.mode, outcome.model, outcome.variant


def _result(group: Sequence[Outcome], settings: EvaluationSettings) -> dict[str, Any]:
    first = group[0]
    result: dict[str, Any] = {
        "mode": first.mode,
        "model": first.model,
        "variant": first.variant,
        "metrics": measure(
            first.test, validation=first.validation or None, replicates=settings.replicates, seed=settings.seed
        ),
    }
    if first.facts:
        result["training"] = first.facts
    if len(group) > 1:
        result["draws"] = _spread([macro_auroc(outcome.test) for outcome in group])
    if first.model == CHECKPOINT and _is_whole(first):
        result["subgroups"] = subgroup_tables(first.test, replicates=min(settings.replicates, 500), seed=settings.seed)
    return result


def _is_whole(outcome: Outcome) -> bool:
    """Whether the outcome used everything it could: all labels, all modalities."""
    return outcome.mode == "zero-shot" or outcome.variant == "as available" or "100 %" in outcome.variant


def macro_auroc(scored: Sequence[ScoredLabel]) -> float | None:
    """The unweighted mean over the labels that have an AUROC."""
    values = [auroc(item.y, item.score).value for item in scored if item.reason is None]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "macro_auroc": list(values),
        "mean": float(np.mean(known)) if known else None,
        "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }


def _comparisons(outcomes: Sequence[Outcome], settings: EvaluationSettings) -> Iterator[dict[str, Any]]:
    first = [outcome for outcome in outcomes if outcome.draw == 0]
    for ours in (outcome for outcome in first if outcome.model == CHECKPOINT):
        for theirs in first:
            if _worth_comparing(ours, theirs):
                table = compare(ours.test, theirs.test, replicates=settings.replicates, seed=settings.seed)
                yield {"a": ours.name, "b": theirs.name, **table}


def _worth_comparing(ours: Outcome, theirs: Outcome) -> bool:
    """The same question to a random encoder, to a supervised model of the same size, or to one modality alone."""
    if theirs.model == RANDOM:
        return (ours.mode, ours.variant) == (theirs.mode, theirs.variant)
    if theirs.model == SUPERVISED:
        return ours.mode in ("linear-probe", "fine-tune") and ours.variant.endswith(theirs.variant)
    return ours.mode == theirs.mode == "fusion" and ours.variant == "both" and theirs.variant.endswith("only")


def _prompts(settings: EvaluationSettings, trained: TrainedModel, source: Source, prompts: PromptSet) -> dict[str, Any]:
    """How much the zero-shot result turns on the wording."""
    asked = Evaluated(trained, CHECKPOINT, source.bed, settings.threads)
    embedded, encode = asked.embedded(Split.TEST), text_encoder(asked)
    return {
        "set": prompts.name,
        "texts": len(prompts.texts()),
        "halves": prompt_draws(embedded, prompts, encode).to_dict(),
        "single_wordings": wording_spread(embedded, prompts, encode),
    }
