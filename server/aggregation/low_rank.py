"""What some methods do with the product B A of the LoRA factors: turn it, cut it to its rank, or keep what is missing.

All in float64, without forming a dense matrix except for `with_residual`, whose result is one. B is [out, rank], A is
[rank, in]; the scale of an adapter (alpha / rank) is the same before and after and does not appear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from more_model.exchange import ExchangeSpec, TensorDict, Tensors, Update
from more_model.lora_method import RESIDUAL, factor_of
from server.aggregation.mean import in_order, weighted_mean

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FactorPair:
    """The names of the two factors of one adapted map, and of its residual (which only some methods have)."""

    a: str
    b: str
    residual: str
    tower: str


def pair_of(b: str, tower: str) -> FactorPair:
    """The pair that a B factor belongs to, by its name."""
    return FactorPair(b.replace(".lora_B.", ".lora_A."), b, b.partition(".lora_B.")[0] + RESIDUAL, tower)


def factor_pairs(spec: ExchangeSpec) -> list[FactorPair]:
    """All pairs of a specification, in its order of B."""
    return [pair_of(tensor.name, tensor.tower) for tensor in spec.tensors if factor_of(tensor.name) == "B"]


def refactored_mean(current: Tensors, updates: Sequence[Update], spec: ExchangeSpec) -> TensorDict:
    """FedSVD (Lee et al. 2025, arXiv 2505.12805): mean B, then B A = U S V^T; the new A is V^T and the new B is U S.

    The product is that of mean B and the common A up to float32 rounding. As A went up from nobody, the rows of the new
    A span what those of the old A did: they are turned onto the principal directions of what was learned and made
    orthonormal again, no new direction enters.
    """
    moved = weighted_mean(current, updates, spec)
    for pair in _trained_pairs(updates, spec):
        a, b = current[pair.a].astype(np.float64), moved[pair.b].astype(np.float64)
        _put(moved, pair, *best_factors(b, a, rank=a.shape[0]))
    return moved


def truncated_mean(current: Tensors, updates: Sequence[Update], spec: ExchangeSpec) -> TensorDict:
    """FlexLoRA (Bai et al. 2024, arXiv 2402.11505): the mean of the sites' B A, cut to the rank of the adapter by SVD.

    Best in the Frobenius norm of all products of this rank; what lies in the other singular values is lost.
    """
    moved = weighted_mean(current, updates, spec)
    for pair in _trained_pairs(updates, spec):
        terms = list(_site_factors(current, updates, pair))
        left = np.hstack([share * b for share, b, _ in terms])
        right = np.vstack([a for _, _, a in terms])
        _put(moved, pair, *best_factors(left, right, rank=current[pair.a].shape[0]))
    return moved


def with_residual(current: Tensors, updates: Sequence[Update], spec: ExchangeSpec) -> TensorDict:
    """FedEx-LoRA (Singhal et al. 2024, arXiv 2410.09432): mean A, mean B, and mean(B A) - mean(B) mean(A) on top of a
    dense residual [out, in] of the adapted weight, which adds up over the rounds and travels down only."""
    moved = weighted_mean(current, updates, spec)
    for pair in _trained_pairs(updates, spec):
        wanted = sum((share * (b @ a) for share, b, a in _site_factors(current, updates, pair)), start=np.float64(0))
        reached = moved[pair.b].astype(np.float64) @ moved[pair.a].astype(np.float64)
        residual = current[pair.residual].astype(np.float64) + (wanted - reached)
        moved[pair.residual] = residual.astype(np.float32)
    return moved


def best_factors(left: Matrix, right: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """B [out, rank] and A [rank, in] with orthonormal rows and the B A that is nearest to left @ right.

    left [out, k], right [k, in], k >= rank. Rows of A beyond the rank of the product stay orthonormal inside the rows
    of ``right``, so that a B of zero does not lose directions; with rank > in there are no such rows, and the rest of A
    is zero.
    """
    basis, triangle = np.linalg.qr(right.T)
    core = left @ triangle.T
    out, inner = core.shape
    # With fewer outputs than inner directions the thin SVD would drop rows of the turn that A needs.
    u, s, turn = np.linalg.svd(core, full_matrices=out < inner)
    kept = min(rank, inner, s.size)
    b, a = np.zeros((out, rank)), np.zeros((rank, right.shape[1]))
    b[:, :kept] = u[:, :kept] * s[:kept]
    rows = turn[:rank] @ basis.T
    a[: rows.shape[0]] = rows
    return b, a


def _put(moved: TensorDict, pair: FactorPair, b: Matrix, a: Matrix) -> None:
    moved[pair.b], moved[pair.a] = b.astype(np.float32), a.astype(np.float32)


def _trained_pairs(updates: Sequence[Update], spec: ExchangeSpec) -> list[FactorPair]:
    """Those that a site trained: the others stay as they are, bit for bit."""
    trained = {tower for update in updates for tower, weight in update.weights.items() if weight > 0}
    return [pair for pair in factor_pairs(spec) if pair.tower in trained]


def _site_factors(
    current: Tensors, updates: Sequence[Update], pair: FactorPair
) -> Iterator[tuple[float, Matrix, Matrix]]:
    """Share of the mean, B and A of every site that trained the pair."""
    taking_part = [update for update in in_order(updates) if update.weights.get(pair.tower, 0.0) > 0]
    total = sum(update.weights[pair.tower] for update in taking_part)
    for update in taking_part:
        b = current[pair.b].astype(np.float64) + update.deltas[pair.b].astype(np.float64)
        a = current[pair.a].astype(np.float64) + update.deltas[pair.a].astype(np.float64)
        yield update.weights[pair.tower] / total, b, a
