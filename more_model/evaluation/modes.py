"""The ways to ask a model the questions of an evaluation: in words, through a probe, fine-tuned, or fused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from more_model.checkpoint import TrainedModel, random_twin
from more_model.data.study import Split
from more_model.errors import ConfigError
from more_model.evaluation.bed import Bed, per_case
from more_model.evaluation.embedded import EmbeddedSet, ScoredLabel
from more_model.evaluation.embedding import embedded_set
from more_model.evaluation.fine_tune import fine_tune
from more_model.evaluation.fusion import FusionSettings, fuse
from more_model.evaluation.linear_probe import probe
from more_model.evaluation.prompt_sets import PromptSet
from more_model.evaluation.recipes import recipe
from more_model.evaluation.settings import EvaluationSettings, Mode
from more_model.evaluation.zero_shot import encode_prompts, zero_shot
from more_model.progress import OnProgress
from more_model.training.embed import embed_texts

CHECKPOINT, RANDOM, SUPERVISED = "checkpoint", "random encoder", "supervised"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Scores of one model in one mode. ``variant`` tells outcomes of one mode apart ("10 %", "LoRA"); ``draw`` numbers
    repetitions with other labels or seeds. ``validation`` scores the validation studies, for calibration."""

    mode: Mode
    model: str
    variant: str
    draw: int
    test: list[ScoredLabel]
    validation: list[ScoredLabel]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Unique within an evaluation."""
        parts = [self.mode, self.model, *([self.variant] if self.variant else [])]
        return ", ".join(parts) + (f", draw {self.draw + 1}" if self.draw else "")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One model on the studies of one bed. Embeddings are computed once per split, when they are first needed."""

    trained: TrainedModel
    name: str
    bed: Bed
    threads: int
    _embedded: dict[Split, EmbeddedSet] = field(default_factory=dict)

    def embedded(self, split: Split) -> EmbeddedSet:
        """The embeddings of one split."""
        if split not in self._embedded:
            self._embedded[split] = embedded_set(
                self.trained.model,
                self.bed[split],
                self.bed.labels,
                tokenizer=self.trained.tokenizer,
                max_tokens=self.trained.max_tokens,
                threads=self.threads,
            )
        return self._embedded[split]


def run_modes(
    trained: TrainedModel, bed: Bed, prompts: PromptSet, settings: EvaluationSettings, on_progress: OnProgress
) -> Iterator[Outcome]:
    """Every outcome that ``settings`` ask for, one after another."""
    models = [Evaluated(trained, CHECKPOINT, bed, settings.threads)]
    if settings.baselines:
        models.append(Evaluated(random_twin(trained, settings.seed), RANDOM, bed, settings.threads))
    for mode in settings.modes:
        if mode == "zero-shot":
            yield from _zero_shot(models, prompts, on_progress)
        elif mode == "linear-probe":
            yield from _linear_probe(models, settings, on_progress)
        elif mode == "fine-tune":
            yield from _fine_tune(models[0], settings, on_progress)
        else:
            yield from _fusion(models, settings, on_progress)


def _zero_shot(models: Sequence[Evaluated], prompts: PromptSet, on_progress: OnProgress) -> Iterator[Outcome]:
    for place, model in enumerate(models):
        on_progress("zero-shot", place, len(models))
        directions = encode_prompts(prompts, text_encoder(model))
        test, validation = (
            [per_case(item) for item in zero_shot(model.embedded(split), prompts, directions)]
            for split in (Split.TEST, Split.VALIDATION)
        )
        yield Outcome("zero-shot", model.name, "", 0, test, validation)
    on_progress("zero-shot", 1, 1)


def text_encoder(model: Evaluated) -> Callable[[list[str]], np.ndarray[Any, np.dtype[np.float32]]]:
    """Embeds texts with one model."""
    trained = model.trained

    def encode(texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return embed_texts(
            trained.model, texts, tokenizer=trained.tokenizer, max_tokens=trained.max_tokens, threads=model.threads
        )

    return encode


def _linear_probe(
    models: Sequence[Evaluated], settings: EvaluationSettings, on_progress: OnProgress
) -> Iterator[Outcome]:
    plan = [(fraction, draw, model) for fraction, draw in draws(settings) for model in models]
    for place, (fraction, draw, model) in enumerate(plan):
        on_progress("linear probe", place, len(plan))
        train, validation, test = (model.embedded(split) for split in Split)
        # Both at once: the probe is fitted once, and calibration needs what it says about validation patients.
        both = EmbeddedSet.concatenate([validation, test])
        scored = probe(train, validation, both, model.bed.tasks, seed=settings.seed + draw, fraction=fraction)
        counts = [int((~np.isnan(validation.target(item.task.label, "ignore"))).sum()) for item in scored]
        yield Outcome(
            "linear-probe",
            model.name,
            percent(fraction),
            draw,
            [per_case(item.select(np.arange(n, len(item.y)))) for item, n in zip(scored, counts, strict=True)],
            [per_case(item.select(np.arange(n))) for item, n in zip(scored, counts, strict=True)],
        )
    on_progress("linear probe", 1, 1)


def _fine_tune(model: Evaluated, settings: EvaluationSettings, on_progress: OnProgress) -> Iterator[Outcome]:
    recipes: list[str] = [*settings.recipes, *(["supervised"] if settings.baselines else [])]
    for fraction, draw in draws(settings):
        for name in recipes:
            tuned = fine_tune(
                model.trained,
                model.bed[Split.TRAIN],
                model.bed[Split.VALIDATION],
                model.bed.tasks,
                recipe(name),
                seed=settings.seed + draw,
                fraction=fraction,
                device=settings.device,
                threads=settings.threads,
                on_step=partial(on_progress, f"fine-tuning ({name}, {percent(fraction)})"),
            )
            yield Outcome(
                "fine-tune",
                SUPERVISED if name == "supervised" else CHECKPOINT,
                percent(fraction) if name == "supervised" else f"{name}, {percent(fraction)}",
                draw,
                [per_case(item) for item in tuned.scores(model.bed[Split.TEST])],
                [per_case(item) for item in tuned.calibration_scores(model.bed[Split.VALIDATION])],
                tuned.facts(),
            )


def _fusion(models: Sequence[Evaluated], settings: EvaluationSettings, on_progress: OnProgress) -> Iterator[Outcome]:
    for place, model in enumerate(models):
        on_progress("late fusion", place, len(models))
        train, validation, test = (model.embedded(split) for split in Split)
        if not (test.has("xray") & test.has("ecg")).any():
            raise ConfigError(
                "--mode fusion",
                ["no test patient has both an X-ray and an ECG"],
                remedy="fusion needs pairs: evaluate a cohort of triplets (--protocol cohort)",
            )
        result = fuse(train, validation, test, model.bed.tasks, FusionSettings(), seed=settings.seed)
        for variant, scored in (
            ("both", result.both),
            ("X-ray only", result.xray_only),
            ("ECG only", result.ecg_only),
            ("as available", result.as_available),
        ):
            validated = result.validation if variant == "as available" else []
            yield Outcome("fusion", model.name, variant, 0, scored, validated)
    on_progress("late fusion", 1, 1)


def draws(settings: EvaluationSettings) -> list[tuple[float, int]]:
    """Fraction and number of the draw; all labels are drawn once only."""
    return [(f, draw) for f in settings.fractions for draw in range(1 if f >= 1.0 else settings.seeds)]


def percent(fraction: float) -> str:
    """A share of the labels, as the report says it."""
    return f"{100 * fraction:g} % of labels"
