"""Why a model finds a study and some words alike: a map over the study and a weight for every word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from more_model.checkpoint import TrainedModel
from more_model.data.preprocessing import Preprocessing
from more_model.data.study import Modality
from more_model.errors import ConfigError, DataError
from more_model.evaluation.embedded import ImageOrTrace
from more_model.explain.attention_maps import recording
from more_model.explain.relevance import ecg_relevance, text_relevance, xray_relevance
from more_model.explain.words import WordWeights, merge_words, token_spans
from more_model.tokenizer import encode
from more_model.training.words import about

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One study and one text. ``study`` is what the model saw: uint8 [S, S], or float32 [12, samples] in mV at
    ``rate_hz``. ``map`` has its shape, is non-negative and sums to one. ``similarity`` is the cosine of the two
    projections; with ``contrast`` the map shows what speaks for the text rather than for the contrast, whose own cosine
    is ``contrast_similarity``. The word weights always belong to the text's own cosine."""

    modality: ImageOrTrace
    similarity: float
    study: NDArray[Any]
    map: Float32
    text: str
    weights: WordWeights
    rate_hz: int
    contrast: str | None = None
    contrast_similarity: float | None = None

    @property
    def words(self) -> list[tuple[str, float]]:
        """Each word of the text with its share of the text's relevance."""
        return list(self.weights.words)

    @property
    def xray_map(self) -> Float32 | None:
        """float32 [S, S], or None where an ECG was explained."""
        return self.map if self.modality == "xray" else None

    @property
    def ecg_map(self) -> Float32 | None:
        """float32 [12, samples], or None where an X-ray was explained."""
        return self.map if self.modality == "ecg" else None

    def facts(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON."""
        return {
            "modality": self.modality,
            "similarity": self.similarity,
            "contrast": self.contrast,
            "contrast_similarity": self.contrast_similarity,
            "words": [{"word": word, "weight": weight} for word, weight in self.weights.words],
            "prefix_weight": self.weights.prefix,
            "marks_weight": self.weights.marks,
            "words_not_read": self.weights.cut,
        }

    def save(self, path: Path) -> Path:
        """The arrays as ``.npz``, none of them pickled: study, map, rate_hz (ECG), words, word_weights, similarity."""
        words = np.array([word for word, _ in self.weights.words] or [""], dtype=np.str_)[: len(self.weights.words)]
        arrays: dict[str, Any] = {
            "study": self.study,
            "map": self.map,
            "words": words,
            "word_weights": np.array([weight for _, weight in self.weights.words], dtype=np.float32),
            "similarity": np.float32(self.similarity),
        }
        if self.modality == "ecg":
            arrays["rate_hz"] = np.int64(self.rate_hz)
        np.savez_compressed(path, **arrays)
        return path


def explain_pair(
    trained: TrainedModel,
    *,
    xray: NDArray[Any] | None = None,
    ecg: NDArray[Any] | None = None,
    words: str,
    contrast: str | None = None,
) -> Explanation:
    """Explains the similarity of one study, preprocessed as in a site store, and ``words`` without prefix.

    ``xray`` uint8 [S, S] or ``ecg`` float [12, samples] in mV, one of the two. See `Explanation` for ``contrast``.

    Raises:
        ConfigError: both studies or none, no words, or an empty contrast.
        DataError: an array of another shape than the model's, or with values that are not finite.
    """
    _check_question(xray, ecg, words, contrast)
    modality = Modality.XRAY if xray is not None else Modality.ECG
    study = _checked(xray if xray is not None else ecg, modality, trained.config.preprocessing)
    device = next(trained.model.parameters()).device
    given = torch.from_numpy(study)[None].to(device)
    with recording(trained.model) as recorded:
        with torch.no_grad():
            tower = trained.model.xray if modality is Modality.XRAY else trained.model.ecg
            seen = tower(given).projection[0]
        weights, similarity = _of_words(trained, recorded, about(modality, words), len(about(modality, "")), seen)
        text, other = _projection(trained, modality, words), None
        if contrast is not None:
            other = _projection(trained, modality, contrast)
        relevance = (xray_relevance if modality is Modality.XRAY else ecg_relevance)(
            trained.model, recorded, given, (text if other is None else text - other)[None]
        )
    return Explanation(
        modality="xray" if modality is Modality.XRAY else "ecg",
        similarity=similarity,
        study=study,
        map=relevance.map[0].cpu().numpy(),
        text=words,
        weights=weights,
        rate_hz=trained.config.preprocessing.ecg_rate_hz,
        contrast=contrast,
        contrast_similarity=None if other is None else float(other @ seen),
    )


def _check_question(xray: object, ecg: object, words: str, contrast: str | None) -> None:
    faults = []
    if (xray is None) == (ecg is None):
        faults.append("give an X-ray or an ECG; a pair is one study and one text")
    if not words.strip():
        faults.append("the text has no words")
    if contrast is not None and not contrast.strip():
        faults.append("the contrast has no words")
    if faults:
        raise ConfigError("explanation", faults)


def _checked(array: NDArray[Any] | None, modality: Modality, preprocessing: Preprocessing) -> NDArray[Any]:
    assert array is not None
    size, samples = preprocessing.image_size, preprocessing.ecg_samples
    shape = (size, size) if modality is Modality.XRAY else (12, samples)
    if array.shape != shape:
        raise DataError(
            f"the {modality.value} has shape {list(array.shape)}, the model takes {list(shape)}",
            remedy="preprocess it as at ingest (more_model.data.convert)",
        )
    study = np.ascontiguousarray(array, dtype=np.uint8 if modality is Modality.XRAY else np.float32)
    if not np.isfinite(study).all():
        raise DataError(f"the {modality.value} holds values that are not finite", remedy="preprocess it as at ingest")
    return study


def _of_words(
    trained: TrainedModel, recorded: Any, text: str, prefix_length: int, seen: Tensor
) -> tuple[WordWeights, float]:
    ids, mask = encode(trained.tokenizer, [text], trained.max_tokens)
    score, tokens = text_relevance(
        trained.model, recorded, ids.to(seen.device), mask.to(seen.device), seen, trained.model.text.encoder.pooling
    )
    spans = token_spans(trained.tokenizer, text, trained.max_tokens)
    # A published model also averages over padding.
    spans += [(0, 0)] * (len(tokens) - len(spans))
    return merge_words(text, prefix_length, spans, tokens.tolist()), float(score)


@torch.no_grad()
def _projection(trained: TrainedModel, modality: Modality, words: str) -> Tensor:
    device = next(trained.model.parameters()).device
    ids, mask = encode(trained.tokenizer, [about(modality, words)], trained.max_tokens)
    projection: Tensor = trained.model.text(ids.to(device), mask.to(device)).projection
    return projection[0]


def top_words(explanation: Explanation, count: int) -> Sequence[str]:
    """The ``count`` words with the largest weights, heaviest first, without punctuation at their ends."""
    ranked = sorted(explanation.words, key=lambda pair: -pair[1])[:count]
    return [word.strip(".,;:()") for word, weight in ranked if weight > 0]
