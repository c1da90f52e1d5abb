"""Everything that is measured of one trained model on held-out patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from more_model.data.study import Modality, Split
from more_model.evaluation.auroc import auroc, roc_curve
from more_model.evaluation.embedded import EmbeddedSet, ImageOrTrace, Mask, ScoredLabel
from more_model.evaluation.embedding import embedded_set
from more_model.evaluation.linear_probe import probe
from more_model.evaluation.metrics_table import measure
from more_model.evaluation.prompt_sets import PromptSet, load_prompts
from more_model.evaluation.retrieval import retrieval
from more_model.evaluation.summary import summarise
from more_model.evaluation.uncertainty import settled
from more_model.evaluation.zero_shot import encode_prompts, zero_shot
from more_model.model.more import More
from more_model.training.embed import embed_texts
from more_model.training.examples import Examples
from more_model.training.words import PREFIX
from simulation.settings import EvaluationChoice


@dataclass(frozen=True, slots=True)
class ArmScores:
    """One trained model's scores and embeddings on the pooled test set; ``validation`` are the zero-shot scores of the
    validation patients that it may be calibrated on."""

    zero_shot: list[ScoredLabel]
    probe: list[ScoredLabel]
    test: EmbeddedSet
    validation: list[ScoredLabel]


@dataclass(frozen=True, slots=True)
class Scorer:
    """The same questions for every arm."""

    choice: EvaluationChoice
    prompts: PromptSet
    train: Examples
    validation: Examples
    test: Examples
    tokenizer: Any
    max_tokens: int
    threads: int
    seed: int

    def score(self, model: More, *, probe_site: str | None = None) -> ArmScores:
        """Zero-shot and linear-probe scores of every test row that states a label.

        The probe of a local arm is fitted, and its scores are calibrated, on the labels of ``probe_site`` alone: a
        hospital that did not join has no others.
        """
        test = self.embedded(model, self.test)
        validation = self.embedded(model, _of_site(self.validation, probe_site))
        probed: list[ScoredLabel] = []
        if self.choice.linear_probe:
            train = self.embedded(model, _of_site(self.train, probe_site))
            probed = probe(train, validation, test, self.prompts.tasks, seed=self.seed)
        return ArmScores(self.zero_shot(model, test), probed, test, self.zero_shot(model, validation))

    def zero_shot(self, model: More, embedded: EmbeddedSet) -> list[ScoredLabel]:
        """Scores against the prompts alone."""
        directions = encode_prompts(
            self.prompts,
            lambda texts: embed_texts(
                model, texts, tokenizer=self.tokenizer, max_tokens=self.max_tokens, threads=self.threads
            ),
        )
        return zero_shot(embedded, self.prompts, directions)

    def validation_aurocs(self, model: More) -> tuple[float | None, dict[str, float]]:
        """Zero-shot macro AUROC on validation patients, for learning curves (None where no label has both classes), and
        the same per modality under ``auroc_xray`` and ``auroc_ecg``, where known."""
        if len(self.validation) == 0:
            return None, {}
        known: list[float] = []
        by_modality: dict[str, list[float]] = {}
        for item in self.zero_shot(model, self.embedded(model, self.validation)):
            value = auroc(item.y, item.score).value if item.reason is None else None
            if value is not None:
                known.append(value)
                by_modality.setdefault(f"auroc_{item.task.modality}", []).append(value)
        means = {name: float(np.mean(values)) for name, values in by_modality.items()}
        return (float(np.mean(known)) if known else None), means

    def embedded(self, model: More, examples: Examples) -> EmbeddedSet:
        """The embeddings of ``examples`` with their labels, settled by the uncertainty policy."""
        tasks = self.prompts.tasks
        unsettled = embedded_set(
            model,
            examples,
            [task.label for task in tasks],
            tokenizer=self.tokenizer,
            max_tokens=self.max_tokens,
            threads=self.threads,
        )
        # By what the patient had, not by what the model made of it: the rows must be the same for every arm.
        present: dict[ImageOrTrace, Mask] = {
            "xray": np.array([triplet.xray is not None for triplet in examples.triplets], dtype=np.bool_),
            "ecg": np.array([triplet.ecg is not None for triplet in examples.triplets], dtype=np.bool_),
        }
        return settled(unsettled, tasks, self.choice.uncertainty, present=present)

    def table(self, scores: ArmScores) -> dict[str, Any]:
        """The arm's part of summary.json."""
        replicates, seed = self.choice.replicates, self.seed
        table = summarise(scores.zero_shot, replicates=replicates, seed=seed)
        table["metrics"] = measure(scores.zero_shot, validation=scores.validation, replicates=replicates, seed=seed)
        if scores.probe:
            table["linear_probe"] = summarise(scores.probe, replicates=replicates, seed=seed)
        if self.choice.retrieval:
            table["retrieval"] = retrieval(scores.test, replicates=min(replicates, 200), seed=seed)
        return table


def build_scorer(
    choice: EvaluationChoice, examples: Sequence[Examples], tokenizer: Any, *, max_tokens: int, threads: int, seed: int
) -> Scorer:
    """The scorer over the pooled splits of all sites; prompts get the prefixes that the texts were trained with."""
    prompts = load_prompts(choice.prompts, languages=choice.languages)
    if choice.labels:
        prompts = prompts.only(choice.labels)
    prompts = prompts.with_prefix({m.value: f"{PREFIX[m]} " for m in (Modality.XRAY, Modality.ECG)})
    merged = Examples.merged(examples)
    parts = {split: merged.of_split(split) for split in Split}
    return Scorer(
        choice,
        prompts,
        parts[Split.TRAIN],
        parts[Split.VALIDATION],
        parts[Split.TEST],
        tokenizer,
        max_tokens,
        threads,
        seed,
    )


def only_trained(scores: ArmScores, training: Examples, site: str) -> ArmScores:
    """The scores of a local arm, without the questions about a modality that the site never trained on: the base would
    answer them, and an average over hospitals must not count that as what a hospital gets alone."""
    has = {
        "xray": any(t.xray is not None and t.xray_report is not None for t in training.triplets),
        "ecg": any(t.ecg is not None and t.ecg_report is not None for t in training.triplets),
    }

    def kept(scored: ScoredLabel) -> ScoredLabel:
        if has[scored.task.modality]:
            return scored
        reason = f"{site} has no {scored.task.modality} with words to train on"
        return replace(scored, score=np.full(len(scored.y), np.nan), reason=reason)

    return replace(scores, zero_shot=[kept(item) for item in scores.zero_shot], probe=[kept(i) for i in scores.probe])


def roc_curves(scored: Sequence[ScoredLabel]) -> dict[str, tuple[list[float], list[float]]]:
    """False and true positive rates per label that has a value."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for item in scored:
        if item.reason is None and auroc(item.y, item.score).value is not None:
            false_rate, true_rate = roc_curve(item.y, item.score)
            curves[item.task.label] = (false_rate.tolist(), true_rate.tolist())
    return curves


def _of_site(examples: Examples, site: str | None) -> Examples:
    return examples if site is None else examples.where(lambda triplet: triplet.site == site)
