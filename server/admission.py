"""Which updates may enter the aggregate. Every refusal is a short sentence that the journal keeps."""

from __future__ import annotations

import math

import numpy as np

from more_model.errors import ExchangeError
from more_model.exchange import TOWERS, WATCHED, ExchangeSpec, Fingerprint, Update

#: More pairs than any site has. A larger weight would drown the other sites, or overflow the sum.
_MAX_WEIGHT = 1e9

#: What a site reports beside its tensors.
_COUNTS = frozenset({"loss", "steps", "pairs_xray", "pairs_ecg"}) | WATCHED


def towers_of(update: Update) -> list[str]:
    """The exchange groups that an update claims to have trained."""
    return sorted(tower for tower, weight in update.weights.items() if weight > 0)


def update_norm(update: Update) -> float:
    """Euclidean norm over all deltas together."""
    return math.sqrt(sum(float(np.sum(delta.astype(np.float64) ** 2)) for delta in update.deltas.values()))


def fault_of(
    update: Update,
    *,
    site: str,
    round_number: int,
    spec: ExchangeSpec,
    fingerprint: Fingerprint,
    max_norm: float | None,
) -> str | None:
    """Why ``update``, received in answer to the instruction for ``site``, must not be aggregated; None where it may."""
    if update.site != site:
        return f"it calls itself {update.site!r}, but the question went to {site!r}"
    if update.round != round_number:
        return f"it belongs to round {update.round}, not {round_number}"
    if update.spec_digest != spec.digest():
        return "it was made with another exchange specification"
    if update.fingerprint_digest != fingerprint.digest():
        return "it was trained on another base"
    if (fault := _fault_of_numbers(update)) is not None:
        return fault
    try:
        spec.upward(round_number).check(update.deltas, towers_of(update))
    except ExchangeError as error:
        return error.cause
    norm = update_norm(update)
    if max_norm is not None and norm > max_norm:
        return f"its norm {norm:.3g} exceeds the federation's limit {max_norm:.3g}"
    return None


def _fault_of_numbers(update: Update) -> str | None:
    weights = list(update.weights.values())
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        return "its weights are not positive numbers"
    if max(weights) > _MAX_WEIGHT:
        return f"its weights are larger than {_MAX_WEIGHT:.0e}"
    if not update.weights.keys() <= set(TOWERS):
        return "it has weights of unknown groups"
    if not update.counts.keys() <= _COUNTS:
        return "it reports counts that nobody asked for"
    if not all(abs(count) <= _MAX_WEIGHT for count in update.counts.values()):
        return "its counts are not finite numbers of a plausible size"
    return None
