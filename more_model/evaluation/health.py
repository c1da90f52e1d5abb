"""What the geometry of the embeddings says about a trained model, without a single label: do the towers still tell
patients apart, and do words and pictures of one patient lie together?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from more_model.evaluation.embedded import EmbeddedSet, Float32, Float64, ImageOrTrace, Indices, Mask

#: Fewer rows than this and no measure is given: an effective rank, for one, cannot exceed the number of rows less one.
FEWEST_ROWS = 16
#: Pairwise measures of larger sets are taken on this many rows, evenly spaced: time and memory grow with the square.
MOST_ROWS = 2000
_PAIRS: tuple[ImageOrTrace, ImageOrTrace] = ("xray", "ecg")


def effective_rank(rows: Float32 | Float64) -> float:
    """How many directions the rows [n, d] really use: exp of the entropy of the singular values, scaled to sum to one,
    after the mean row is taken off. From 1 (all on one line) to min(n - 1, d); 0 where all rows are the same.

    Source: Roy & Vetterli 2007 ("The effective rank"); as a measure of collapse of a trained encoder: Garrido et al.
    2023 (RankMe).
    """
    values = _singular_values(rows)
    if not values.size:
        return 0.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def first_direction_share(rows: Float32 | Float64) -> float:
    """The share of the variance of the rows [n, d] that lies on one line, 0 to 1; 1 where all rows are the same."""
    squares = _singular_values(rows) ** 2
    return float(squares[0] / squares.sum()) if squares.size else 1.0


def _singular_values(rows: Float32 | Float64) -> Float64:
    """Those that are not rounding errors, largest first."""
    exact = rows.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    values: Float64 = np.linalg.svd(centred, compute_uv=False)
    # float32 rows carry errors of this size, whatever they are computed in afterwards.
    floor = float(np.finfo(np.float32).eps) * float(np.linalg.norm(exact))
    kept: Float64 = values[values > floor]
    return kept


def uniformity(unit: Float32 | Float64) -> float:
    """ln of the mean over all pairs of rows of exp(-2 |x - y|^2), for unit vectors [n, d], n > 1: 0 where all are one
    point, about -4 where they cover a sphere of many dimensions evenly.

    Source: Wang & Isola 2020 ("Understanding contrastive representation learning through alignment and uniformity on
    the hypersphere"), with their t = 2.
    """
    exact = unit.astype(np.float64)
    squares = 2 - 2 * (exact @ exact.T)[np.triu_indices(len(exact), 1)]
    return float(np.log(np.exp(-2 * squares.clip(min=0)).mean()))


def alignment(left: Float32 | Float64, right: Float32 | Float64) -> float:
    """Mean |x - y|^2 over matching rows of two sets of unit vectors [n, d]: 0 where they coincide, 2 where they have
    nothing in common. Source: Wang & Isola 2020, with their alpha = 2."""
    return float(((left.astype(np.float64) - right.astype(np.float64)) ** 2).sum(axis=1).mean())


def modality_gap(left: Float32 | Float64, right: Float32 | Float64) -> float:
    """Distance between the mean rows of two sets of unit vectors, [n, d] and [m, d]: 0 to 2, 1.41 for two narrow cones
    at a right angle.

    Source: Liang et al. 2022 ("Mind the gap"), who measured 0.82 for CLIP on MS COCO.
    """
    return float(np.linalg.norm(left.astype(np.float64).mean(axis=0) - right.astype(np.float64).mean(axis=0)))


def contrastive_loss(
    left: Float32 | Float64, right: Float32 | Float64, not_negatives: Mask, temperature: float
) -> tuple[float, float]:
    """The symmetric InfoNCE of `more_model.model.loss.symmetric_info_nce` over all n rows at once, and its chance
    level: the mean over rows of ln(candidates). ``not_negatives`` bool [n, n], its diagonal ignored."""
    candidates = ~not_negatives | np.eye(len(left), dtype=np.bool_)
    logits = left.astype(np.float64) @ right.astype(np.float64).T / temperature
    losses = [_cross_entropy(logits, candidates), _cross_entropy(logits.T, candidates.T)]
    return float(np.mean(losses)), float(np.log(candidates.sum(axis=1)).mean())


def _cross_entropy(logits: Float64, candidates: Mask) -> float:
    """Mean over rows of -ln softmax at the diagonal, over the candidates of each row."""
    kept = np.where(candidates, logits, -np.inf)
    highest = kept.max(axis=1)
    total = highest + np.log(np.exp(kept - highest[:, None]).sum(axis=1))
    return float((total - np.diag(logits)).mean())


def measure_geometry(embedded: EmbeddedSet, *, temperature: float) -> dict[str, Any]:
    """All of the above for one embedded set, ready for JSON.

    ``towers`` {xray, ecg, text}: ``rows``, ``width``, ``effective_rank``, ``first_direction``, ``uniformity``, and for
    the images and tracings ``feature_rank``, the effective rank before projection. ``pairs`` {xray, ecg}, each with the
    text: ``rows``, ``alignment``, ``mismatched`` (the same between different patients with different words), ``gap``,
    ``held_out_loss`` and its ``chance``. Nothing but ``rows`` where there are fewer than `FEWEST_ROWS`.
    """
    return {
        "towers": {"text": _text(embedded)} | {modality: _tower(embedded, modality) for modality in _PAIRS},
        "pairs": {modality: _pair(embedded, modality, temperature) for modality in _PAIRS},
    }


def _tower(embedded: EmbeddedSet, modality: ImageOrTrace) -> dict[str, Any]:
    found = _unit_vectors(embedded.embedding(modality)[embedded.has(modality)])
    features = embedded.features(modality)[embedded.has_features(modality)]
    if len(features) >= FEWEST_ROWS:
        found["feature_rank"] = effective_rank(_thinned(features))
    return found


def _text(embedded: EmbeddedSet) -> dict[str, Any]:
    return _unit_vectors(embedded.text[embedded.has("text")])


def _unit_vectors(unit: Float32) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": len(unit), "width": unit.shape[1]}
    if len(unit) < FEWEST_ROWS:
        return found
    thinned = _thinned(unit)
    return found | {
        "effective_rank": effective_rank(thinned),
        "first_direction": first_direction_share(thinned),
        "uniformity": uniformity(thinned),
    }


def _pair(embedded: EmbeddedSet, modality: ImageOrTrace, temperature: float) -> dict[str, Any]:
    rows = np.flatnonzero(embedded.has(modality) & embedded.has("text"))
    found: dict[str, Any] = {"rows": len(rows)}
    if len(rows) < FEWEST_ROWS:
        return found
    rows = _thinned(rows)
    left, right = embedded.embedding(modality)[rows], embedded.text[rows]
    patients = _numbered([(embedded.site[row], embedded.patient[row]) for row in rows])
    words = _numbered([embedded.report[row] for row in rows])
    twins: Mask = (patients[:, None] == patients[None, :]) | (words[:, None] == words[None, :])
    loss, chance = contrastive_loss(left, right, twins, temperature)
    squares = 2 - 2 * left.astype(np.float64) @ right.astype(np.float64).T
    return found | {
        "alignment": alignment(left, right),
        "mismatched": float(squares[~twins].mean()) if not twins.all() else None,
        "gap": modality_gap(left, right),
        "held_out_loss": loss,
        "chance": chance,
    }


def _numbered(values: Sequence[Hashable]) -> Indices:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.intp)


def _thinned(rows: Any) -> Any:
    """At most `MOST_ROWS` rows, evenly spaced."""
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_ROWS).round().astype(np.intp)]
