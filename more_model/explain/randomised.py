"""The sanity check of Adebayo et al. (NeurIPS 2018): with random weights an explanation must explain nothing."""

from __future__ import annotations

import numpy as np

from more_model.evaluation.embedded import Float64


def rank_agreement(first: Float64, second: Float64) -> float | None:
    """Mean over n cases of the rank correlation (Spearman) of two relevances [n, cells]; constant rows are left
    out; None where nothing else is there."""
    ranks = [_centred_ranks(rows) for rows in (first, second)]
    lengths = [np.sqrt((rows**2).sum(axis=1)) for rows in ranks]
    usable = (lengths[0] > 0) & (lengths[1] > 0)
    if not usable.any():
        return None
    products = (ranks[0] * ranks[1]).sum(axis=1)[usable]
    return float((products / (lengths[0] * lengths[1])[usable]).mean())


def _centred_ranks(rows: Float64) -> Float64:
    from scipy.stats import rankdata

    ranks = rankdata(rows, axis=1)
    centred: Float64 = ranks - ranks.mean(axis=1, keepdims=True)
    return centred
