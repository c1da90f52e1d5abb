"""Level 4: what an update gives away by itself, by exact linear algebra and without any guessing.

The gradient of a linear layer is a sum of outer products of what came out and what went in, so its rows lie in the span
of the inputs. Whoever sees it can ask of any candidate input whether it lies in that span. (Phong et al. 2017, section
3, for one input; the span for many: Wang et al. 2023, arXiv 2306.03013.) For a projection head the candidates are the
features of patients, and the answer is who was in the batch; for the first adapted layer of the report tower they are
the embedded words, and the answer is which words the reports hold.

A gradient whose rows fill the whole space says nothing in this way: every candidate lies in it. That is what happens to
the gradient of B where A is frozen, as soon as the reports hold more words than A has rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError
from privacy.audit.membership import Interval, auc_with_interval
from privacy.audit.subject import A_MATRIX, HeadLeak, Numbers, TokenLeak

Array = NDArray[np.float64]

#: A candidate of which less than this share lies outside the span is taken to lie in it.
IN_SPAN = 1e-2
#: Updates travel as float32: directions weaker than its rounding are noise.
_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class HeadLeakResult:
    """Membership by one update of a projection head.

    rank of width: how much of the space the update's rows fill. by_span: AUC of "lies in the span". by_strength: AUC of
    "is passed on strongly", which survives noise, for which every rank is full.
    """

    update: str
    members: int
    outsiders: int
    rank: int
    width: int
    covered_by_claim: bool
    by_span: Interval
    by_strength: Interval

    @property
    def strongest(self) -> Interval:
        """The better of the two attacks."""
        return max(self.by_span, self.by_strength, key=lambda found: found.value)


@dataclass(frozen=True)
class TokenLeakResult:
    """Words recovered from one gradient.

    found: how many of the ``true`` words lie in the span; mistaken: how many of the other ``candidates`` do. full: the
    rows fill the space, so that everything lies in it and nothing is learned (found and mistaken are then 0). Both are
    None where the gradient was not tested: one of B, which needs A to be.
    """

    update: str
    gradient: str
    true: int
    candidates: int
    rank: int
    width: int
    full: bool
    found: int | None
    mistaken: int | None


def head_leak(update: str, leak: HeadLeak, *, confidence: float = 0.95) -> HeadLeakResult:
    """How well ``leak.gradient`` tells members from outsiders.

    Raises:
        DataError: shapes that do not fit, values that are not finite, or no record on one side.
    """
    gradient = _matrix("gradient", leak.gradient)
    members, outsiders = _matrix("members", leak.members), _matrix("outsiders", leak.outsiders)
    for name, rows in (("members", members), ("outsiders", outsiders)):
        _check_width(name, rows, gradient)
        if not len(rows):
            raise DataError(f"there are no {name} to test an update of a head with")
    strengths, directions = _rows(gradient)
    # Where every row of the space is there, the residuals are rounding errors, and order nothing.
    full = len(directions) == gradient.shape[1]
    by_span = [np.zeros(len(rows)) if full else -outside(rows, directions) for rows in (members, outsiders)]
    by_strength = [_passed_on(rows, strengths, directions) for rows in (members, outsiders)]
    # The better of two attacks is read, so each interval may fail half as often.
    each = (1 + confidence) / 2
    return HeadLeakResult(
        update, len(members), len(outsiders), len(directions), gradient.shape[1], leak.covered_by_claim,
        auc_with_interval(by_span[0], by_span[1], confidence=each),
        auc_with_interval(by_strength[0], by_strength[1], confidence=each),
    )  # fmt: skip


def token_leak(update: str, leak: TokenLeak) -> tuple[TokenLeakResult, ...]:
    """One result for each gradient; one of B is tested among A x.

    Raises:
        DataError: shapes that do not fit, values that are not finite, or tokens outside the candidates.
    """
    candidates = _matrix("candidates", leak.candidates)
    true = np.unique(leak.true_tokens)
    if true.size and not 0 <= true.min() <= true.max() < len(candidates):
        raise DataError("a true token is no row of the candidates")
    found = []
    for name, values in leak.gradients.items():
        if name == A_MATRIX:
            continue
        gradient = _matrix(name, values)
        seen = _through_a(gradient, candidates, leak) if name == "lora_B" else candidates
        if seen is not None:
            _check_width("candidates", seen, gradient)
        found.append(_tokens(update, name, gradient, seen, true, len(candidates)))
    return tuple(found)


def outside(rows: Array, directions: Array) -> Array:
    """[n]: the share of each row's length that lies outside the span of ``directions`` [k, width] (orthonormal); 1 for
    a row of zeros, which lies nowhere."""
    norms = np.linalg.norm(rows, axis=1)
    rest = np.linalg.norm(rows - (rows @ directions.T) @ directions, axis=1)
    return np.where(norms > 0, rest / np.maximum(norms, np.finfo(np.float64).tiny), 1.0)


def _tokens(
    update: str, name: str, gradient: Array, candidates: Array | None, true: NDArray[Any], vocabulary: int
) -> TokenLeakResult:
    _, directions = _rows(gradient)
    width, found, mistaken = gradient.shape[1], None, None
    full = len(directions) == width
    if full:
        found = mistaken = 0
    elif candidates is not None:
        inside = outside(candidates, directions) < IN_SPAN
        found = int(inside[true].sum())
        mistaken = int(inside.sum()) - found
    return TokenLeakResult(update, name, true.size, vocabulary, len(directions), width, full, found, mistaken)


def _through_a(gradient: Array, candidates: Array, leak: TokenLeak) -> Array | None:
    """Candidates as a gradient of B sees them, [v, rank]; None without A."""
    if A_MATRIX not in leak.gradients:
        return None
    factor = _matrix(A_MATRIX, leak.gradients[A_MATRIX])
    if factor.shape != (gradient.shape[1], candidates.shape[1]):
        raise DataError(f"A has shape {list(factor.shape)}, which does not fit B's gradient and the candidates")
    return candidates @ factor.T


def _rows(gradient: Array) -> tuple[Array, Array]:
    """Strengths [k] and orthonormal directions [k, width] of the row space, down to float32 rounding."""
    _, strengths, directions = np.linalg.svd(gradient, full_matrices=False)
    kept = strengths > strengths[:1].sum() * max(gradient.shape) * _EPSILON
    return strengths[kept], directions[kept]


def _passed_on(rows: Array, strengths: Array, directions: Array) -> Array:
    """[n]: how long the gradient makes each row, for its length."""
    norms = np.maximum(np.linalg.norm(rows, axis=1), np.finfo(np.float64).tiny)
    return np.asarray(np.linalg.norm(rows @ directions.T * strengths, axis=1) / norms)


def _matrix(name: str, values: Numbers) -> Array:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise DataError(f"{name}: must be a matrix of finite numbers, but has shape {list(matrix.shape)}")
    return matrix


def _check_width(name: str, rows: Array, gradient: Array) -> None:
    if rows.shape[1] != gradient.shape[1]:
        raise DataError(f"{name} are {rows.shape[1]} wide, the gradient is {gradient.shape[1]} wide")
