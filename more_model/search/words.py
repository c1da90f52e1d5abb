"""Vectors of many texts, and the check that a model's vectors are vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from more_model.checkpoint import TrainedModel
from more_model.errors import DataError
from more_model.evaluation.embedded import Float32
from more_model.training.embed import embed_texts


def embed_in_batches(
    trained: TrainedModel,
    texts: Sequence[str],
    *,
    batch_size: int,
    threads: int,
    after: Callable[[int], None] = lambda _done: None,
) -> Float32:
    """float32 [n, width] of unit rows; ``after`` is called with the number of texts done so far. Raises DataError where
    the model answers with NaN."""
    vectors = np.empty((len(texts), trained.model.text.embedding), dtype=np.float32)
    for start in range(0, len(texts), batch_size):
        part = texts[start : start + batch_size]
        vectors[start : start + len(part)] = embed_texts(
            trained.model, part, tokenizer=trained.tokenizer, max_tokens=trained.max_tokens, threads=threads
        )
        after(start + len(part))
    return require_finite(vectors, "texts")


def require_finite(vectors: Float32, what: str) -> Float32:
    """The same vectors. Raises DataError where any is not finite."""
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise DataError(
            f"the model answers {bad} of {len(vectors)} {what} with numbers that are not finite",
            remedy="take an earlier checkpoint: training has diverged",
        )
    return vectors
