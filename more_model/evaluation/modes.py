"""The ways to ask a model the questions of an evaluation: in words, through a probe, fine-tuned, or fused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from more_model.checkpoint import TrainedModel, random_twin
from more_model.data.study import Split
from more_model.errors import ConfigError
from more_model.evaluation.bed import Bed, per_case
from more_model.evaluation.embedded import EmbeddedSet, Float32, ScoredLabel
from more_model.evaluation.embedding import embedded_set
from more_model.evaluation.fine_tune import fine_tune
from more_model.evaluation.fusion import FusionSettings, fuse
from more_model.evaluation.linear_probe import probe
from more_model.evaluation.prompt_sets import PromptSet
from more_model.evaluation.recipes import recipe
from more_model.evaluation.settings import CHECKPOINT, RANDOM, SUPERVISED, EvaluationSettings, Mode
from more_model.evaluation.zero_shot import encode_prompts, zero_shot
from more_model.progress import OnProgress
from more_model.training.embed import embed_texts

#: With more training studies than these only one random encoder is probed: each has to embed them all.
PROBED_WITH_EVERY_ENCODER = 5_000


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Scores of one model in one mode.

    ``how`` tells outcomes of one mode apart (a recipe, the modalities fused), ``fraction`` is the share of training
    labels used where one is chosen. ``draw`` numbers repetitions with other labels or another encoder.
    ``validation`` scores the validation studies, for calibration. ``encoder_seed`` is that of a random encoder.
    ``privacy`` is what may be said of the budget that trained it, None where there was none.
    """

    mode: Mode
    model: str
    how: str
    fraction: float | None
    draw: int
    test: list[ScoredLabel]
    validation: list[ScoredLabel]
    encoder_seed: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    privacy: dict[str, Any] | None = None

    @property
    def variant(self) -> str:
        """What tells it from others of its mode and model, as the report says it."""
        share = "" if self.fraction is None else f"{100 * self.fraction:g} % of labels"
        return ", ".join(part for part in (self.how, share) if part)

    @property
    def name(self) -> str:
        """Unique within an evaluation."""
        parts = [self.mode, self.model, self.variant, f"draw {self.draw + 1}" if self.draw else ""]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One model on the studies of one bed. Studies of a split and texts are embedded once, when first needed."""

    trained: TrainedModel
    bed: Bed
    threads: int
    encoder_seed: int | None = None
    _embedded: dict[Split, EmbeddedSet] = field(default_factory=dict)
    _texts: dict[tuple[str, ...], Float32] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the report calls it."""
        return CHECKPOINT if self.encoder_seed is None else RANDOM

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

    def encode(self, texts: list[str]) -> Float32:
        """Unit vectors [n, embedding] of texts."""
        key = tuple(texts)
        if key not in self._texts:
            asked = self.trained
            self._texts[key] = embed_texts(
                asked.model, texts, tokenizer=asked.tokenizer, max_tokens=asked.max_tokens, threads=self.threads
            )
        return self._texts[key]


def run_modes(
    asked: Evaluated, prompts: PromptSet | None, settings: EvaluationSettings, on_progress: OnProgress
) -> Iterator[Outcome]:
    """Every outcome that ``settings`` ask for: those of the model asked, then those of random encoders, one encoder
    after another so that only one of them takes memory. Zero-shot needs ``prompts``. Modes that a privacy budget is
    for are left to `private_outcomes`.

    Raises:
        ConfigError: fusion, where no test patient has both an X-ray and an ECG; before anything is embedded.
    """
    _require_pairs(asked.bed, settings)
    for mode in settings.open_modes:
        if mode == "fine-tune":
            yield from _fine_tune(asked, settings, on_progress)
        else:
            yield from _frozen(mode, asked, prompts, settings, on_progress, 0)
    frozen = [mode for mode in settings.open_modes if mode != "fine-tune"]
    for number in range(settings.seeds if settings.baselines and frozen else 0):
        seed = settings.seed + number
        encoder = Evaluated(random_twin(asked.trained, seed), asked.bed, asked.threads, encoder_seed=seed)
        for mode in frozen:
            yield from _frozen(mode, encoder, prompts, settings, on_progress, number)


def _require_pairs(bed: Bed, settings: EvaluationSettings) -> None:
    paired = any(triplet.xray is not None and triplet.ecg is not None for triplet in bed[Split.TEST].triplets)
    if "fusion" in settings.modes and not paired:
        raise ConfigError(
            "--mode fusion",
            ["no test patient has both an X-ray and an ECG"],
            remedy="fusion needs pairs: evaluate a cohort of triplets (--protocol cohort)",
        )


def _frozen(
    mode: Mode,
    model: Evaluated,
    prompts: PromptSet | None,
    settings: EvaluationSettings,
    on_progress: OnProgress,
    number: int,
) -> Iterator[Outcome]:
    """The outcomes of a model that is not trained further; ``number`` counts random encoders."""
    progress = partial(on_progress, f"{mode}, {model.name}")
    if mode == "zero-shot" and prompts is not None:
        progress(0, 1)
        yield _zero_shot(model, prompts, number)
    elif mode == "linear-probe":
        plan = probes(settings, model, number)
        for place, (fraction, draw) in enumerate(plan):
            progress(place, len(plan))
            yield _linear_probe(model, settings, fraction, draw)
    elif mode == "fusion" and number == 0:
        progress(0, 1)
        yield from _fusion(model, settings)
    progress(1, 1)


def _zero_shot(model: Evaluated, prompts: PromptSet, number: int) -> Outcome:
    directions = encode_prompts(prompts, model.encode)

    def scored(split: Split) -> list[ScoredLabel]:
        return [per_case(item) for item in zero_shot(model.embedded(split), prompts, directions)]

    # Of several encoders only the first one's figures are shown whole, with calibration.
    held = scored(Split.VALIDATION) if number == 0 else []
    return Outcome("zero-shot", model.name, "", None, number, scored(Split.TEST), held, model.encoder_seed)


def probes(settings: EvaluationSettings, model: Evaluated, number: int) -> list[tuple[float, int]]:
    """Fraction and draw of every probe of one model. A random encoder of a small training set is one draw of it, so
    that the spread over draws is that of labels and of encoders; of a large one the first is used for all."""
    if model.name == RANDOM and len(model.bed[Split.TRAIN]) <= PROBED_WITH_EVERY_ENCODER:
        return [(fraction, number) for fraction in settings.fractions]
    return draws(settings) if number == 0 else []


def _linear_probe(model: Evaluated, settings: EvaluationSettings, fraction: float, draw: int) -> Outcome:
    train, validation, test = (model.embedded(split) for split in Split)
    # Both at once: the probe is fitted once, and calibration needs what it says about validation patients.
    both = EmbeddedSet.concatenate([validation, test])
    scored = probe(train, validation, both, model.bed.tasks, seed=settings.seed + draw, fraction=fraction)
    counts = [int((~np.isnan(validation.target(item.task.label, "ignore"))).sum()) for item in scored]
    parts = [
        (item.select(np.arange(n, len(item.y))), item.select(np.arange(n)))
        for item, n in zip(scored, counts, strict=True)
    ]
    return Outcome(
        "linear-probe",
        model.name,
        "",
        fraction,
        draw,
        [per_case(tested) for tested, _ in parts],
        [per_case(held) for _, held in parts],
        model.encoder_seed,
    )


def _fine_tune(model: Evaluated, settings: EvaluationSettings, on_progress: OnProgress) -> Iterator[Outcome]:
    recipes: list[str] = [*settings.recipes, *(["supervised"] if settings.baselines else [])]
    overrides = {} if settings.epochs is None else {"epochs": settings.epochs}
    for fraction, draw in draws(settings):
        for name in recipes:
            tuned = fine_tune(
                model.trained,
                model.bed[Split.TRAIN],
                model.bed[Split.VALIDATION],
                model.bed.tasks,
                recipe(name, overrides),
                seed=settings.seed + draw,
                fraction=fraction,
                device=settings.device,
                threads=settings.threads,
                on_step=partial(on_progress, f"fine-tuning ({name}, {fraction:.0%}, {draw + 1})"),
            )
            yield Outcome(
                "fine-tune",
                SUPERVISED if name == "supervised" else CHECKPOINT,
                "" if name == "supervised" else name,
                fraction,
                draw,
                [per_case(item) for item in tuned.scores(model.bed[Split.TEST])],
                [per_case(item) for item in tuned.calibration_scores(model.bed[Split.VALIDATION])],
                facts=tuned.facts(),
            )


def _fusion(model: Evaluated, settings: EvaluationSettings) -> Iterator[Outcome]:
    train, validation, test = (model.embedded(split) for split in Split)
    result = fuse(train, validation, test, model.bed.tasks, FusionSettings(), seed=settings.seed)
    scored: list[tuple[str, Sequence[ScoredLabel]]] = [
        ("both", result.both),
        ("X-ray only", result.xray_only),
        ("ECG only", result.ecg_only),
        ("as available", result.as_available),
    ]
    for how, test_scores in scored:
        held = result.validation if how == "as available" else []
        yield Outcome("fusion", model.name, how, None, 0, list(test_scores), held, model.encoder_seed)


def draws(settings: EvaluationSettings) -> list[tuple[float, int]]:
    """Fraction and number of the draw; all labels are drawn once only."""
    return [(f, draw) for f in settings.fractions for draw in range(1 if f >= 1.0 else settings.seeds)]
