"""What training knows about itself while it runs: each term of the loss against its chance level, and which tower the
gradient belongs to. Means over steps only, nothing of a single patient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from more_model.model.loss import ContrastiveTerms, twins
from more_model.training.examples import Batch


def chance_level(rows: Tensor, patients: Tensor, words: Tensor) -> float | None:
    """What a term of the loss comes to when nothing is known: the mean over its pairs of ln(candidates).

    Candidates of a pair are all pairs of the batch but those left out as no negatives (`contrastive_terms`, which says
    what the arguments are), so the level is at or below ln(batch size). None for fewer than two pairs: there is no
    term then.
    """
    if len(rows) < 2:
        return None
    left_out = twins(patients[rows], words[rows])
    left_out.fill_diagonal_(False)
    candidates = (~left_out).sum(dim=1)
    return float(candidates.double().log().mean())


class StepWatch:
    """Adds up what the steps of one segment show of ``model``."""

    def __init__(self, model: nn.Module) -> None:
        self._trained = {
            tower: [parameter for parameter in model.get_submodule(tower).parameters() if parameter.requires_grad]
            for tower in ("xray", "ecg", "text")
        }
        self._sums: dict[str, float] = {}
        self._steps: dict[str, int] = {}

    def add(self, batch: Batch, terms: ContrastiveTerms) -> None:
        """One step, straight after its backward pass, while the gradients are those of the loss alone."""
        for name, rows, loss in (("xray", batch.xray_rows, terms.xray), ("ecg", batch.ecg_rows, terms.ecg)):
            chance = chance_level(rows, batch.patients, batch.words)
            if chance is not None:
                self._count(f"loss_{name}", float(loss.detach()))
                self._count(f"chance_{name}", chance)
        for tower, parameters in self._trained.items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            # A tower that saw nothing, or that is frozen, has no gradient at all.
            self._count(f"gradient_{tower}", float(nn.utils.get_total_norm(gradients)) if gradients else 0.0)

    def _count(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps[name] = self._steps.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Means over the steps that had the term, by the names of `more_model.exchange.WATCHED`; a term that never was
        there is no key."""
        return {name: total / self._steps[name] for name, total in self._sums.items()}


@torch.no_grad()
def mean_entropy(weights: Tensor, *, causal: bool = False) -> float:
    """Mean entropy of attention rows as a share of the most they can have: 1 looks everywhere alike, 0 at one token.

    ``weights`` [..., n, n], rows summing to one; the most is ln n, or for ``causal`` attention ln(i) in row i. NaN
    where no row has two keys to choose from.
    Source: Zhai et al. 2023 ("Stabilizing Transformer Training by Preventing Attention Entropy Collapse").
    """
    tokens = weights.shape[-1]
    entropy = torch.special.entr(weights.double()).sum(dim=-1)
    keys = torch.arange(1, tokens + 1) if causal else torch.full((tokens,), tokens)
    choosing = keys > 1
    most = keys[choosing].double().log().to(weights.device)
    return float((entropy[..., choosing.to(weights.device)] / most).mean())
