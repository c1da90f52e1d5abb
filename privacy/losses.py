"""Losses of one unit, on embeddings: pure tensor functions that know nothing of the model.

Shapes are fixed and absence is a mask, so that `torch.func.vmap` can run many units at once. All embeddings are unit
vectors; logits are taken in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Stands for minus infinity in logits: exp() of it is exactly zero, and its gradient is not NaN.
_NEVER = -1e9


@dataclass(frozen=True)
class PatientPair:
    """One pair of modalities of one patient, and the public bank that it is contrasted with.

    first, second: [m, d]; row j of both is study j. present: [m] bool; rows of absent studies may hold anything finite.
    bank_first, bank_second: [b, d], embeddings of *public* records with the current model. Whoever takes a gradient in
    them, too, must clip and noise it with the rest. bank_present: [b] bool, those that this patient is contrasted with;
    all, if not given.
    """

    first: Tensor
    second: Tensor
    present: Tensor
    bank_first: Tensor
    bank_second: Tensor
    bank_present: Tensor | None = None


def decoupled_loss(pair: PatientPair, temperature: Tensor | float) -> Tensor:
    """Mean over a patient's studies of InfoNCE against the public bank, a scalar; exactly zero without any study.

        l_j = 1/2 [ -s_jj/tau + log(e^{s_jj/tau} + sum_b e^{<u_j, v_b>/tau})  +  the same with the roles swapped ]

    No other patient appears in it, and neither do the patient's other studies as negatives.
    """
    first, second = pair.first.float(), pair.second.float()
    own = (first * second).sum(dim=-1) / temperature
    forth = _against_bank(own, first, pair.bank_second, pair.bank_present, temperature)
    back = _against_bank(own, second, pair.bank_first, pair.bank_present, temperature)
    present = pair.present.float()
    return ((forth + back) / 2 * present).sum() / present.sum().clamp(min=1)


def patient_loss(pairs: Sequence[PatientPair], temperature: Tensor | float, public_constant: float) -> Tensor:
    """Sum of `decoupled_loss` over the modality pairs that a patient has, divided by a public constant (such as the
    number of pairs that a complete patient has): one gradient a patient, whatever is missing."""
    terms = [decoupled_loss(pair, temperature) for pair in pairs]
    return torch.stack(terms).sum() / public_constant


def group_info_nce(
    anchor: Tensor, other: Tensor, present: Tensor, patients: Tensor, temperature: Tensor | float
) -> Tensor:
    """Symmetric InfoNCE inside one group, a scalar.

    anchor, other: [k, d]; row i of both belong together. present: [k] bool, absent rows may hold anything finite.
    patients: [k] integers; rows of one patient are no negatives of each other. A row that is left without any negative
    adds nothing, so a group of one patient has zero loss and zero gradient.

    The mean is over the rows that count in this group. That is safe because the group is clipped as a whole; a batch
    may never be normalised so.
    """
    logits = anchor.float() @ other.float().T / temperature
    negative = present[:, None] & present[None, :] & (patients[:, None] != patients[None, :])
    counts = (negative.any(dim=1) & present).float()
    own = torch.diagonal(logits)
    forth = _against(own, logits, negative)
    back = _against(own, logits.T, negative)
    return ((forth + back) / 2 * counts).sum() / counts.sum().clamp(min=1)


def _against_bank(
    own: Tensor, queries: Tensor, bank: Tensor, bank_present: Tensor | None, temperature: Tensor | float
) -> Tensor:
    logits = queries @ bank.float().T / temperature
    return _surprise(own, logits if bank_present is None else torch.where(bank_present, logits, _NEVER))


def _against(own: Tensor, logits: Tensor, negative: Tensor) -> Tensor:
    return _surprise(own, torch.where(negative, logits, _NEVER))


def _surprise(own: Tensor, others: Tensor) -> Tensor:
    """-log softmax of ``own`` ([n]) among itself and ``others`` ([n, b]).

    Not by logaddexp, whose second derivative is NaN beside a masked logit.
    """
    return torch.logsumexp(torch.cat([own[:, None], others], dim=1), dim=1) - own
