"""Builders for tiny embedded sets and scored labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from more_model.evaluation.embedded import EmbeddedSet, LabelTask, ScoredLabel

if TYPE_CHECKING:
    from more_model.checkpoint import TrainedModel
    from more_model.training.examples import Examples

MakeSet = Callable[..., EmbeddedSet]
MakeScored = Callable[..., ScoredLabel]


@pytest.fixture
def make_set() -> MakeSet:
    """An embedded set of n rows with unit embeddings; any part can be given instead."""

    def build(n: int = 6, *, seed: int = 0, width: int = 4, features: int = 5, **parts: object) -> EmbeddedSet:
        generator = np.random.default_rng(seed)

        def unit() -> NDArray[np.float32]:
            rows = generator.normal(size=(n, width))
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

        defaults: dict[str, object] = {
            "patient": [f"p{i}" for i in range(n)],
            "site": ["north" if i % 2 else "south" for i in range(n)],
            "xray": unit(),
            "ecg": unit(),
            "text": unit(),
            "report": [f"report {i}" for i in range(n)],
            "xray_features": generator.normal(size=(n, features)).astype(np.float32),
            "ecg_features": generator.normal(size=(n, features)).astype(np.float32),
            "labels": {},
        }
        return EmbeddedSet(**{**defaults, **parts})  # type: ignore[arg-type]

    return build


@pytest.fixture
def make_scored() -> MakeScored:
    """A scored label; patients are numbered and all at site ``north`` unless given."""

    def build(
        y: Sequence[float],
        score: Sequence[float],
        *,
        label: str = "Edema",
        modality: str = "xray",
        patient: Sequence[str] | None = None,
        site: Sequence[str] | None = None,
        reason: str | None = None,
    ) -> ScoredLabel:
        return ScoredLabel(
            task=LabelTask(label, modality),  # type: ignore[arg-type]
            y=np.asarray(y, dtype=np.float64),
            score=np.asarray(score, dtype=np.float64),
            patient=list(patient) if patient is not None else [f"p{i}" for i in range(len(y))],
            site=list(site) if site is not None else ["north"] * len(y),
            reason=reason,
        )

    return build


@pytest.fixture(scope="session")
def labelled_toys(toy_examples: Callable[..., Examples]) -> Callable[..., Examples]:
    """Toy examples that state what shows: ``lines`` (every other column is bright) and ``rows`` (every other row)."""

    def build(count: int, **options: Any) -> Examples:
        toys = toy_examples(count, **options)
        triplets = tuple(
            replace(triplet, labels={"lines": float(row % 2), "rows": float(row % 4 // 2)})
            for row, triplet in enumerate(toys.triplets)
        )
        return replace(toys, triplets=triplets)

    return build


@pytest.fixture(scope="session")
def toy_model(tiny_config: Callable[..., Any], tokenizer: Any) -> Callable[..., TrainedModel]:
    """A builder of tiny models with seeded weights; with adapters that do act if ``adapted``. Overrides as in
    ``tiny_config``."""
    import torch

    from more_model.base import tensor_digest
    from more_model.checkpoint import TrainedModel
    from more_model.model.lora import adapt, lora_factors
    from more_model.model.more import build_more

    def build(*, adapted: bool = True, seed: int = 1, **overrides: Any) -> TrainedModel:
        config = tiny_config(**overrides)
        model = build_more(config, seed=seed, pad_id=int(tokenizer.pad_token_id))
        if adapted:
            adapt(model, config, "ffa", 7)
            generator = torch.Generator().manual_seed(seed)
            for _, factor in lora_factors(model, "B"):
                torch.nn.init.normal_(factor, std=0.2, generator=generator)
        model.eval()
        return TrainedModel(
            config, model, tokenizer, "Seeded.", tensor_digest(model.state_dict().items()), adapted=adapted
        )

    return build
