"""Embedding of examples and prompts with a trained model; nothing is drawn and nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from more_model.data.study import Triplet
from more_model.model.more import Embedded, More
from more_model.tokenizer import encode
from more_model.training.examples import Examples
from more_model.training.threads import using_threads
from more_model.training.views import whole_views

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Row i belongs to triplet i; rows whose modality is missing are NaN. Projections are unit vectors [n, embedding],
    features are what the encoders say [n, width]."""

    xray: Matrix
    ecg: Matrix
    text: Matrix
    xray_features: Matrix
    ecg_features: Matrix
    words: tuple[str | None, ...]


def words_of(triplet: Triplet) -> str | None:
    """The whole text of a triplet in the form the model was trained on, or None where there is none."""
    views = whole_views(triplet, together=True)
    return views[0].words if views else None


@torch.inference_mode()
def embed(
    model: More, examples: Examples, *, tokenizer: Any, max_tokens: int, batch_size: int = 128, threads: int = 2
) -> Embeddings:
    """All embeddings of ``examples``; the model is put into evaluation mode."""
    model.eval()
    triplets = examples.triplets
    words = tuple(words_of(triplet) for triplet in triplets)
    device = next(model.parameters()).device
    embedding = model.text.embedding

    def over(rows: list[int], call: Callable[[Sequence[int]], Embedded], width: int) -> tuple[Matrix, Matrix]:
        features = np.full((len(triplets), width), np.nan, dtype=np.float32)
        projection = np.full((len(triplets), embedding), np.nan, dtype=np.float32)
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            with using_threads(threads):
                answer = call(part)
            features[part] = answer.features.float().cpu().numpy()
            projection[part] = answer.projection.cpu().numpy()
        return features, projection

    def text_of(rows: Sequence[int]) -> Embedded:
        ids, mask = encode(tokenizer, [str(words[row]) for row in rows], max_tokens)
        return model.text(ids.to(device), mask.to(device))  # type: ignore[no-any-return]

    xray_features, xray = over(
        [row for row, triplet in enumerate(triplets) if triplet.xray is not None],
        lambda rows: model.xray(examples.xrays(rows).to(device)),
        model.xray.width,
    )
    ecg_features, ecg = over(
        [row for row, triplet in enumerate(triplets) if triplet.ecg is not None],
        lambda rows: model.ecg(examples.ecgs(rows).to(device)),
        model.ecg.width,
    )
    _, text = over(
        [row for row, sentence in enumerate(words) if sentence is not None],
        text_of,
        model.text.width,
    )
    return Embeddings(xray, ecg, text, xray_features, ecg_features, words)


@torch.inference_mode()
def embed_texts(model: More, texts: Sequence[str], *, tokenizer: Any, max_tokens: int, threads: int = 2) -> Matrix:
    """Unit vectors [n, embedding] of prompts or reports, worded with `more_model.training.words.about`."""
    model.eval()
    device = next(model.parameters()).device
    ids, mask = encode(tokenizer, texts, max_tokens)
    with using_threads(threads):
        projection: Tensor = model.text(ids.to(device), mask.to(device)).projection
    return projection.cpu().numpy()
