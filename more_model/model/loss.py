"""Symmetric InfoNCE between words and pictures, and between words and tracings, over the pairs that are present."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class ContrastiveTerms:
    """The two terms of the loss and the number of pairs behind each. A term without two pairs is exactly zero."""

    xray: Tensor
    ecg: Tensor
    xray_pairs: int
    ecg_pairs: int

    @property
    def total(self) -> Tensor:
        """The loss: the sum of both terms (published form)."""
        return self.xray + self.ecg


def contrastive_terms(
    text: Tensor,
    xray: Tensor,
    ecg: Tensor,
    *,
    xray_rows: Tensor,
    ecg_rows: Tensor,
    patients: Tensor,
    words: Tensor,
    temperature: Tensor,
) -> ContrastiveTerms:
    """Both terms for one batch of ``n`` texts.

    Args:
        text: [n, d] unit vectors, one a triplet.
        xray: [p, d] unit vectors of the triplets that have an X-ray, in the order of ``xray_rows``.
        ecg: [q, d] likewise for ECGs.
        xray_rows: [p] int64, the triplet that each X-ray belongs to.
        ecg_rows: [q] int64.
        patients: [n] int64; equal numbers mean the same patient.
        words: [n] int64; equal numbers mean the same text, word for word.
        temperature: [1].
    """
    not_negatives = twins(patients, words)
    xray_term = symmetric_info_nce(text[xray_rows], xray, not_negatives[xray_rows][:, xray_rows], temperature)
    ecg_term = symmetric_info_nce(text[ecg_rows], ecg, not_negatives[ecg_rows][:, ecg_rows], temperature)
    return ContrastiveTerms(xray_term, ecg_term, len(xray_rows), len(ecg_rows))


def twins(patients: Tensor, words: Tensor) -> Tensor:
    """Bool [n, n]: pairs of texts that are no negatives of each other, being of one patient or the same words."""
    return (patients[:, None] == patients[None, :]) | (words[:, None] == words[None, :])


def symmetric_info_nce(anchor: Tensor, other: Tensor, not_negatives: Tensor, temperature: Tensor) -> Tensor:
    """Mean over both directions of InfoNCE, where row i of ``anchor`` and of ``other`` ([n, d] unit vectors) belong
    together and pairs marked in ``not_negatives`` ([n, n] bool, diagonal ignored) are left out of the denominators.

    Returns a scalar; exactly zero (with zero gradient) for fewer than two rows: one pair has nothing to contrast with.
    Source: van den Oord et al. 2018, symmetric as in CLIP (Radford et al. 2021).
    """
    rows = len(anchor)
    if rows < 2:
        return (anchor.sum() + other.sum()) * 0.0
    # Autocast would take the product in bf16, whose steps at 1 / 0.02 are a quarter of a unit wide.
    with torch.autocast(anchor.device.type, enabled=False):
        logits = anchor.float() @ other.float().T / temperature.float()
    own = torch.eye(rows, dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(not_negatives & ~own, torch.finfo(logits.dtype).min)
    target = torch.arange(rows, device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
