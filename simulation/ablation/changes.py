"""What a variant leaves out of training, or pairs in another way. The patients it is tested on stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from more_model.data.pairing import PairingRule
from more_model.data.study import Split, Triplet
from more_model.evaluation.embedded import ImageOrTrace
from more_model.training.examples import Examples
from simulation.ablation.variants import Variant
from simulation.ablation.words import load_words, mention_of, silenced
from simulation.cohort import SiteCohort, read_site
from simulation.settings import DataChoice


def left_out(variant: Variant) -> Callable[[Examples], Examples]:
    """What the variant takes out of any training examples, those of a public warm-up included."""
    if variant.missing is not None:
        modality = variant.missing
        return lambda examples: without_modality(examples, modality)
    if variant.unseen is not None:
        unseen = variant.unseen
        words = load_words(unseen.words).labels
        mention = mention_of([word for label in unseen.labels for word in words[label]])
        return lambda examples: silenced(examples, mention, unseen.drop)
    return lambda examples: examples


def training_cohorts(
    variant: Variant, cohorts: Sequence[SiteCohort], data: DataChoice, stores: Path
) -> tuple[list[SiteCohort], list[str]]:
    """The hospitals as the variant trains them, training examples only, and the names of those with nothing left."""
    change, kept, emptied = left_out(variant), [], []
    for cohort in cohorts:
        if cohort.name == variant.hospital:
            continue
        examples = change(_paired(variant.pairing, cohort, data, stores).of_split(Split.TRAIN))
        if len(examples.trainable()) > 1:
            kept.append(replace(cohort, examples=examples))
        else:
            emptied.append(cohort.name)
    return kept, emptied


def _paired(rule: PairingRule | str | None, cohort: SiteCohort, data: DataChoice, stores: Path) -> Examples:
    if rule is None:
        return cohort.examples
    if isinstance(rule, str):
        return unpaired(cohort.examples)
    splits = {triplet.patient_id: triplet.split for triplet in cohort.examples.triplets}
    examples, _, _ = read_site(stores / cohort.name, data.model_copy(update={"pairing": rule}), splits)
    return examples


def unpaired(examples: Examples) -> Examples:
    """Every triplet with both an X-ray and an ECG as two triplets with one of them each."""
    return _expanded(examples, lambda triplet: [_without_ecg(triplet), _without_xray(triplet)])


def without_modality(examples: Examples, modality: ImageOrTrace) -> Examples:
    """No study of ``modality`` and none of the words about it; triplets that had nothing else are gone."""
    cut = _without_xray if modality == "xray" else _without_ecg
    return _expanded(examples, lambda triplet: [cut(triplet)])


def _expanded(examples: Examples, parts: Callable[[Triplet], Sequence[Triplet]]) -> Examples:
    triplets, source_of = [], []
    for triplet, source in zip(examples.triplets, examples.source_of, strict=True):
        for part in parts(triplet):
            if part.xray is not None or part.ecg is not None:
                triplets.append(part)
                source_of.append(source)
    return Examples(tuple(triplets), tuple(source_of), examples.sources)


def _without_xray(triplet: Triplet) -> Triplet:
    return replace(triplet, xray=None, xray_report=None)


def _without_ecg(triplet: Triplet) -> Triplet:
    return replace(triplet, ecg=None, ecg_report=None)
