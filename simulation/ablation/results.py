"""From scores to the rows of the table: a variant beside the reference, on the same patients and the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from more_model.evaluation.embedded import ScoredLabel
from more_model.evaluation.summary import at_site, compare, compare_means, summarise_mean
from simulation.ablation.settings import AblationConfig
from simulation.ablation.trained import Trained
from simulation.ablation.variants import Variant

Arms = Sequence[Sequence[ScoredLabel]]


def row_of(variant: Variant, mine: Trained, reference: Trained, config: AblationConfig) -> dict[str, Any]:
    """One row of ablation.json. Labels that the variant cannot have learnt are not asked; ``difference`` is variant
    minus reference, paired, its interval from resampling patients; over several seeds all figures are means."""
    row: dict[str, Any] = {
        **identity(variant),
        "state": "complete",
        "same_as_reference": mine.key == reference.key,
        "zero_shot": _compared(
            variant, [scores.zero_shot for scores in mine.scores], [s.zero_shot for s in reference.scores], config
        ),
        **mine.facts,
    }
    if config.evaluation.linear_probe:
        row["linear_probe"] = _compared(
            variant, [scores.probe for scores in mine.scores], [s.probe for s in reference.scores], config
        )
    return row


def identity(variant: Variant) -> dict[str, Any]:
    """What a row is called, whatever became of it."""
    return {
        "name": variant.name,
        "group": variant.group,
        "what": variant.what,
        "is_reference": variant.is_reference,
        "tested_at": variant.hospital,
    }


def _compared(variant: Variant, mine: Arms, theirs: Arms, config: AblationConfig) -> dict[str, Any]:
    ours, others = ([_asked(arm, variant) for arm in arms] for arms in (mine, theirs))
    replicates, seed = config.evaluation.replicates, config.seed
    found = {
        "variant": _alone(ours, replicates, seed),
        "reference": _alone(others, replicates, seed),
        "difference": compare_means(ours, others, replicates=replicates, seed=seed),
    }
    if len(ours) > 1:
        pairs = zip(ours, others, strict=True)
        found["difference"]["over_seeds"] = [compare(a, b, replicates=10, seed=seed)["macro_auroc"] for a, b in pairs]
    return found


def _asked(arm: Sequence[ScoredLabel], variant: Variant) -> list[ScoredLabel]:
    """The questions that the variant is about: no label of a missing modality, the unseen ones alone, one hospital."""
    asked = [scored for scored in arm if scored.task.modality != variant.missing]
    if variant.unseen is not None:
        asked = [scored for scored in asked if scored.task.label in variant.unseen.labels]
    return asked if variant.hospital is None else at_site(asked, variant.hospital)


def _alone(arms: Arms, replicates: int, seed: int) -> dict[str, Any]:
    table = summarise_mean(arms, replicates=replicates, seed=seed)
    keep = ("macro_auroc", "ci95", "labels", "low_support", "refused", "per_label", "reason", "interval_reason")
    return {key: table[key] for key in keep if key in table}
