"""The contrastive loss equals a slow, obvious loop, and its gradient the loop's central differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from more_model.model.loss import ContrastiveTerms, contrastive_terms, symmetric_info_nce

Array = np.ndarray[Any, np.dtype[np.float64]]
TEMPERATURE = 0.2


def slow_info_nce(anchor: Array, other: Array, excluded: Sequence[Sequence[bool]], temperature: float) -> float:
    """Pair by pair, in float64; ``excluded[i][j]`` keeps other j out of the denominator of anchor i and vice versa."""
    rows = len(anchor)
    if rows < 2:
        return 0.0

    def likeness(i: int, j: int) -> float:
        return math.exp(sum(float(a) * float(b) for a, b in zip(anchor[i], other[j], strict=True)) / temperature)

    total = 0.0
    for i in range(rows):
        across = [likeness(i, j) for j in range(rows) if j == i or not excluded[i][j]]
        down = [likeness(j, i) for j in range(rows) if j == i or not excluded[j][i]]
        total -= math.log(likeness(i, i) / sum(across)) + math.log(likeness(i, i) / sum(down))
    return total / (2 * rows)


@dataclass(frozen=True)
class Case:
    """A batch in words: per text its patient and its sentence, and which of the texts have an X-ray or an ECG."""

    patients: str
    words: str
    xrays: tuple[int, ...]
    ecgs: tuple[int, ...]


CASES = {
    "full triplets": Case("abcde", "vwxyz", (0, 1, 2, 3, 4), (0, 1, 2, 3, 4)),
    "uneven": Case("abcdefg", "tuvwxyz", (0, 2, 3, 5, 6), (1, 4, 6)),
    "rows out of order": Case("abcde", "vwxyz", (4, 0, 2), (3, 1)),
    "one text for two studies, others apart": Case("aabcc", "vwxyz", (0, 2, 3), (1, 2, 4)),
    "no X-ray anywhere": Case("abcd", "wxyz", (), (0, 1, 2, 3)),
    "no ECG anywhere": Case("abcd", "wxyz", (0, 1, 2, 3), ()),
    "a single X-ray": Case("abcd", "wxyz", (2,), (0, 1, 3)),
    "two ECGs": Case("abcd", "wxyz", (0, 1, 2, 3), (1, 2)),
    "same patients": Case("aabbc", "vwxyz", (0, 1, 2, 3, 4), (0, 1, 3)),
    "identical words": Case("abcde", "vvvyz", (0, 1, 2, 4), (0, 2, 3, 4)),
    "same patients and identical words": Case("aabcd", "vwwyv", (0, 1, 2, 3, 4), (0, 1, 2, 4)),
    "nobody is anybody's negative": Case("aaaa", "wxyz", (0, 1, 2, 3), (0, 1)),
    "one text": Case("a", "z", (0,), (0,)),
    "nothing to compare": Case("ab", "yz", (0,), (1,)),
}


def unit_rows(generator: np.random.Generator, rows: int, width: int = 4) -> Array:
    values = generator.normal(size=(rows, width))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def numbers(letters: str) -> torch.Tensor:
    return torch.tensor([ord(letter) for letter in letters], dtype=torch.int64)


def slow_terms(case: Case, arrays: Sequence[Array]) -> tuple[float, float]:
    text, xray, ecg, temperature = arrays

    def term(rows: tuple[int, ...], other: Array) -> float:
        excluded = [
            [case.patients[i] == case.patients[j] or case.words[i] == case.words[j] for j in rows] for i in rows
        ]
        return slow_info_nce(text[list(rows)], other, excluded, float(temperature[0]))

    return term(case.xrays, xray), term(case.ecgs, ecg)


def fast_terms(case: Case, *inputs: torch.Tensor) -> ContrastiveTerms:
    text, xray, ecg, temperature = inputs
    return contrastive_terms(
        text,
        xray,
        ecg,
        xray_rows=torch.tensor(case.xrays, dtype=torch.int64),
        ecg_rows=torch.tensor(case.ecgs, dtype=torch.int64),
        patients=numbers(case.patients),
        words=numbers(case.words),
        temperature=temperature,
    )


def part_of(name: str) -> Callable[[str], str]:
    return lambda difference: f"{name}: {difference}"


def central_differences(function: Callable[[], float], values: Array, step: float = 1e-5) -> Array:
    """Gradient of ``function`` with respect to ``values``, which it reads anew at every call."""
    gradient = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        kept = values[place]
        values[place] = kept + step
        above = function()
        values[place] = kept - step
        gradient[place] = (above - function()) / (2 * step)
        values[place] = kept
    return gradient


@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients_equal_the_loop(name: str) -> None:
    case = CASES[name]
    generator = np.random.default_rng(len(name))
    arrays = [unit_rows(generator, rows) for rows in (len(case.patients), len(case.xrays), len(case.ecgs))]
    arrays.append(np.array([TEMPERATURE]))
    inputs = [torch.from_numpy(array).clone().requires_grad_(True) for array in arrays]
    terms = fast_terms(case, *inputs)
    expected = slow_terms(case, arrays)
    assert (terms.xray.item(), terms.ecg.item()) == pytest.approx(expected, abs=2e-6)
    assert (terms.xray_pairs, terms.ecg_pairs) == (len(case.xrays), len(case.ecgs))

    gradients = torch.autograd.grad(terms.total, inputs, allow_unused=True, materialize_grads=True)

    def slow_total() -> float:
        return math.fsum(slow_terms(case, arrays))

    for part, array, gradient in zip(("text", "xray", "ecg", "temperature"), arrays, gradients, strict=True):
        wanted = torch.from_numpy(central_differences(slow_total, array))
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5, msg=part_of(part))


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_pairs_are_exactly_zero_and_pull_at_nothing(rows: int) -> None:
    anchor = torch.nn.functional.normalize(torch.ones(rows, 3), dim=-1).requires_grad_(True)
    loss = symmetric_info_nce(anchor, anchor.detach(), torch.zeros(rows, rows, dtype=torch.bool), torch.ones(1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert anchor.grad is not None and not anchor.grad.any()


def test_chance_level_is_the_logarithm_of_the_batch() -> None:
    same = torch.ones(7, 1)
    loss = symmetric_info_nce(same, same, torch.eye(7, dtype=torch.bool), torch.tensor([TEMPERATURE]))
    assert float(loss) == pytest.approx(math.log(7), abs=1e-6)


def test_an_exclusion_of_one_direction_only() -> None:
    generator = np.random.default_rng(5)
    anchor, other = unit_rows(generator, 4), unit_rows(generator, 4)
    excluded = torch.zeros(4, 4, dtype=torch.bool)
    excluded[0, 2] = True
    fast = symmetric_info_nce(torch.from_numpy(anchor), torch.from_numpy(other), excluded, torch.tensor([TEMPERATURE]))
    assert float(fast) == pytest.approx(slow_info_nce(anchor, other, excluded.tolist(), TEMPERATURE), abs=2e-6)


def test_pairs_left_out_of_the_denominators_get_no_gradient_from_each_other() -> None:
    """Two patients with the same sentence: the picture of one must not be pushed away from the words of the other."""
    text = torch.eye(2).requires_grad_(True)
    xray = torch.eye(2).flip(0).contiguous().requires_grad_(True)
    case = Case("ab", "zz", (0, 1), ())
    terms = fast_terms(case, text, xray, torch.zeros(0, 2), torch.ones(1))
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert terms.total.item() == 0.0
    assert text.grad is not None and not text.grad.any()
    assert xray.grad is not None and not xray.grad.any()


def test_autocast_does_not_coarsen_the_logits() -> None:
    """At 1 / 0.02 a bf16 logit is known to a quarter of a unit only."""
    generator = np.random.default_rng(8)
    anchor, other = (torch.from_numpy(unit_rows(generator, 16, 32)).float() for _ in range(2))
    arguments = (torch.eye(16, dtype=torch.bool), torch.tensor([0.02]))
    plain = symmetric_info_nce(anchor, other, *arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = symmetric_info_nce(anchor, other, *arguments)
    assert torch.equal(plain, inside)
