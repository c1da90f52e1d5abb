"""Level 4: spans of gradients that are built from known inputs."""

from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import DataError
from privacy.audit.leaks import head_leak, token_leak
from privacy.audit.subject import A_MATRIX, HeadLeak, TokenLeak

HIDDEN, WIDTH, RANK = 24, 96, 8


def head(batch: int, noise: float, seed: int = 0) -> HeadLeak:
    """The gradient of a linear layer for ``batch`` members, and noise of ``noise`` times its norm."""
    draws = np.random.default_rng(seed)
    members, outsiders = draws.normal(size=(2, batch, WIDTH))
    gradient = draws.normal(size=(HIDDEN, batch)) @ members
    disturbance = draws.normal(size=gradient.shape)
    disturbance *= noise * np.linalg.norm(gradient) / np.linalg.norm(disturbance)
    return HeadLeak((gradient + disturbance).astype(np.float32), members, outsiders)


def test_a_head_without_noise_names_its_batch() -> None:
    result = head_leak("one step", head(12, 0.0))
    assert (result.rank, result.width) == (12, WIDTH)
    assert result.by_span.value == result.strongest.value == 1.0
    assert not result.covered_by_claim


def test_noise_as_large_as_the_update_hides_little_and_much_noise_hides_much() -> None:
    same, more = head_leak("noised", head(12, 1.0)), head_leak("noised", head(12, 30.0))
    assert same.rank == HIDDEN
    assert same.strongest.value > 0.9
    assert more.strongest.low < 0.5 < more.strongest.high


def test_a_gradient_whose_rows_fill_the_space_tells_nothing_by_its_span() -> None:
    draws = np.random.default_rng(1)
    members, outsiders = draws.normal(size=(2, 40, 16))
    result = head_leak("many", HeadLeak(draws.normal(size=(64, 40)) @ members, members, outsiders))
    assert result.rank == result.width == 16
    assert result.by_span.value == 0.5


def tokens(words: int, *, with_a: bool = True) -> TokenLeak:
    """A batch with ``words`` different words of 300, and the gradients of its full matrix, of A and of B."""
    draws = np.random.default_rng(2)
    vocabulary = draws.normal(size=(300, WIDTH)).astype(np.float32)
    true = draws.choice(300, words, replace=False)
    inputs, errors = vocabulary[true], draws.normal(size=(words, WIDTH))
    factor_a, factor_b = draws.normal(size=(RANK, WIDTH)), draws.normal(size=(WIDTH, RANK))
    gradients = {
        "full": errors.T @ inputs, "lora_A": factor_b.T @ errors.T @ inputs, "lora_B": errors.T @ (inputs @ factor_a.T),
    }  # fmt: skip
    given = {name: gradient.astype(np.float32) for name, gradient in gradients.items()}
    return TokenLeak({**given, A_MATRIX: factor_a} if with_a else given, true, vocabulary)


def test_the_full_gradient_gives_every_word_away_and_lora_none() -> None:
    full, lora_a, lora_b = token_leak("one step", tokens(32))
    assert (full.gradient, full.found, full.true, full.mistaken) == ("full", 32, 32, 0)
    assert (lora_a.gradient, lora_a.rank, lora_a.found) == ("lora_A", RANK, 0)
    assert (lora_b.gradient, lora_b.full, lora_b.found, lora_b.mistaken) == ("lora_B", True, 0, 0)


def test_a_report_shorter_than_the_rank_is_given_away_by_lora_too() -> None:
    _, lora_a, lora_b = token_leak("short", tokens(5))
    assert (lora_a.found, lora_a.mistaken) == (5, 0)
    assert (lora_b.found, lora_b.mistaken, lora_b.full) == (5, 0, False)


def test_a_gradient_of_b_without_a_is_not_tested_unless_it_is_full() -> None:
    short, long = (token_leak("no A", tokens(words, with_a=False))[-1] for words in (5, 32))
    assert (short.found, short.mistaken) == (None, None)
    assert (long.full, long.found) == (True, 0)


def test_shapes_and_values_that_do_not_fit_are_refused() -> None:
    good = head(4, 0.0)
    with pytest.raises(DataError, match="members are 95 wide, the gradient is 96 wide"):
        head_leak("x", HeadLeak(good.gradient, good.members[:, 1:], good.outsiders))
    with pytest.raises(DataError, match="no outsiders"):
        head_leak("x", HeadLeak(good.gradient, good.members, good.outsiders[:0]))
    with pytest.raises(DataError, match="gradient: must be a matrix of finite numbers"):
        head_leak("x", HeadLeak(np.full((2, WIDTH), np.nan), good.members, good.outsiders))
    leak = tokens(5)
    with pytest.raises(DataError, match="no row of the candidates"):
        token_leak("x", TokenLeak(leak.gradients, np.array([300]), leak.candidates))
    with pytest.raises(DataError, match="A has shape"):
        token_leak("x", TokenLeak({**leak.gradients, A_MATRIX: np.eye(3)}, leak.true_tokens, leak.candidates))
