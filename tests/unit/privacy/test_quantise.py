"""Rounding to public grids: errors within a step, right on average, and integers that never leave their words."""

from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import ExchangeSpec, TensorSpec
from privacy.quantise import (
    decode,
    dequantise,
    encode,
    grids_digest,
    integer_type,
    integer_weight,
    largest_integer,
    quantise,
    row_grid,
    tensor_grid,
)  # fmt: skip

SPEC = ExchangeSpec(
    (TensorSpec("text.a", (3, 4), "text"), TensorSpec("xray.b", (2,), "xray"), TensorSpec("text.c", (), "text"))
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize("bits", [2, 8, 16, 24, 32])
@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_the_error_stays_within_the_step(bits: int, rounding: str, generator: np.random.Generator) -> None:
    grid = tensor_grid(1.5, bits)
    values = generator.uniform(-1.5, 1.5, (50, 40))
    result = quantise(values, grid, rounding, generator)  # type: ignore[arg-type]
    assert result.integers.dtype == integer_type(bits)
    assert result.cut == 0
    error = np.abs(result.integers * grid.steps - values).max()
    assert error <= grid.steps * (1.0 if rounding == "stochastic" else 0.5) * (1 + 1e-6)


def test_stochastic_rounding_is_right_on_average_and_nearest_is_not(generator: np.random.Generator) -> None:
    grid = tensor_grid(127.0, 8)  # step 1
    values = np.repeat(np.array([0.1, -0.1, 0.5, 99.9, -126.75, 3.0]), 20_000).reshape(6, -1)
    mean = quantise(values, grid, generator=generator).integers.mean(axis=1)
    # Standard deviation of one rounding is at most 1/2, of the mean of 20,000 0.0035; five of them.
    assert np.abs(mean - values[:, 0]).max() < 0.018
    assert quantise(values, grid, "nearest").integers.mean(axis=1)[0] == 0.0
    spread = quantise(values, grid, generator=generator).integers[0].astype(float).var()
    assert spread == pytest.approx(0.1 * 0.9, abs=0.005)


def test_values_on_the_grid_are_kept_exactly(generator: np.random.Generator) -> None:
    grid = tensor_grid(127 * 0.25, 8)
    integers = np.arange(-127, 128, dtype=np.int8)
    values = integers * 0.25
    for rounding in ("stochastic", "nearest"):
        assert np.array_equal(quantise(values, grid, rounding, generator).integers, integers)  # type: ignore[arg-type]


def test_rows_have_steps_of_their_own(generator: np.random.Generator) -> None:
    values = generator.normal(size=(3, 500)) * np.array([[1e-4], [1.0], [100.0]])
    grid = row_grid(np.abs(values).max(axis=1), 8, dimensions=2)
    by_row = np.abs(dequantise(quantise(values, grid, generator=generator).integers, grid) - values).max(axis=1)
    assert np.all(by_row <= grid.steps[:, 0] * (1 + 1e-6))
    one = tensor_grid(float(np.abs(values).max()), 8)
    assert np.abs(quantise(values, one, "nearest").integers[0]).max() == 0  # one step for all loses the first row


def test_int8_by_rows_keeps_an_update_within_a_percent(generator: np.random.Generator) -> None:
    values = generator.normal(size=(64, 128)).astype(np.float32)
    grid = row_grid(np.abs(values).max(axis=1), 8, dimensions=2)
    back = dequantise(quantise(values, grid, generator=generator).integers, grid)
    assert back.dtype == np.float32
    assert np.linalg.norm(back - values) / np.linalg.norm(values) < 0.015


def test_values_beyond_the_grid_are_cut_and_counted(generator: np.random.Generator) -> None:
    result = quantise(np.array([2.0, -1e30, 1.0, 0.0]), tensor_grid(1.0, 8), generator=generator)
    assert result.integers.tolist() == [127, -127, 127, 0]
    assert result.cut == 2


def test_without_a_generator_two_roundings_differ() -> None:
    values = np.full(1000, 0.5)
    grid = tensor_grid(127.0, 8)
    assert not np.array_equal(quantise(values, grid).integers, quantise(values, grid).integers)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(poison: float) -> None:
    with pytest.raises(ExchangeError, match="cannot be quantised"):
        quantise(np.array([0.0, poison]), tensor_grid(1.0, 8))


def test_a_grid_of_other_rows_is_refused() -> None:
    with pytest.raises(ExchangeError, match=r"grid of 2 rows does not fit a tensor of shape \[3, 4\]"):
        quantise(np.zeros((3, 4)), row_grid([1.0, 1.0], 8, dimensions=2))


@pytest.mark.parametrize(("bound", "bits"), [(0.0, 8), (-1.0, 8), (np.nan, 8), (np.inf, 8), (1.0, 1), (1.0, 33)])
def test_impossible_grids_are_refused(bound: float, bits: int) -> None:
    with pytest.raises(ConfigError, match="quantisation grid"):
        tensor_grid(bound, bits)


def test_the_digest_of_grids_depends_on_bits_steps_and_names() -> None:
    grids = [
        {"a": tensor_grid(1.0, 8)},
        {"a": tensor_grid(1.0, 16)},
        {"a": tensor_grid(2.0, 8)},
        {"b": tensor_grid(1, 8)},
    ]
    assert len({grids_digest(grid) for grid in grids}) == 4


def example_integers() -> dict[str, np.ndarray]:
    return {
        "text.a": np.arange(-6, 6, dtype=np.int8).reshape(3, 4),
        "xray.b": np.array([127, -127], np.int8),
        "text.c": np.array(5, np.int8),
    }


@pytest.mark.parametrize("word_bits", [32, 64])
def test_encode_weights_by_group_in_the_order_of_the_specification(word_bits: int) -> None:
    encoded = encode(example_integers(), {"text": 3, "xray": 1000}, SPEC, word_bits, 127)
    assert encoded.words["text"].dtype == np.dtype(f"u{word_bits // 8}")
    assert encoded.words["text"].view(f"i{word_bits // 8}").tolist() == [3 * k for k in range(-6, 6)] + [15]
    assert encoded.words["xray"].view(f"i{word_bits // 8}").tolist() == [127_000, -127_000]


@pytest.mark.parametrize("word_bits", [32, 64])
def test_decode_gives_the_weighted_mean(word_bits: int) -> None:
    grids = {t.name: tensor_grid(127 * 0.5, 8) for t in SPEC.tensors}
    ones = encode(
        {n: np.full_like(v, -3) for n, v in example_integers().items()}, {"text": 3, "xray": 1}, SPEC, word_bits, 127
    )
    twos = encode(
        {n: np.full_like(v, 5) for n, v in example_integers().items()}, {"text": 1, "xray": 1}, SPEC, word_bits, 127
    )
    sums = {group: ones.words[group] + twos.words[group] for group in ones.words}
    means = decode(sums, {"text": 4, "xray": 2}, SPEC, grids)
    assert {name: (mean.dtype, mean.shape) for name, mean in means.items()} == {
        t.name: (np.dtype(np.float32), t.shape) for t in SPEC.tensors
    }
    assert means["text.a"].tolist() == np.full((3, 4), (3 * -1.5 + 2.5) / 4).tolist()
    assert means["xray.b"].tolist() == [0.5, 0.5]


def test_what_does_not_fit_the_words_or_the_specification_is_refused() -> None:
    integers = example_integers()
    with pytest.raises(ExchangeError, match="weight 20000000 x 127 does not fit words of 32 bits"):
        encode(integers, {"text": 20_000_000, "xray": 1}, SPEC, 32, 127)
    with pytest.raises(ExchangeError, match="integers beyond 100"):
        encode(integers, {"text": 1, "xray": 1}, SPEC, 32, 100)
    with pytest.raises(ExchangeError, match="not exactly those of the groups"):
        encode(integers, {"text": 1}, SPEC, 32, 127)
    with pytest.raises(ExchangeError, match="another shape"):
        encode(integers | {"xray.b": np.zeros(3, np.int8)}, {"text": 1, "xray": 1}, SPEC, 32, 127)


def test_integer_weights_keep_proportions_and_never_lose_a_site() -> None:
    assert [integer_weight(count, 1000, 1000) for count in (0, 1, 999, 1000)] == [0, 1, 999, 1000]
    assert [integer_weight(count, 100_000, 100) for count in (1, 49_600, 100_000)] == [1, 50, 100]
    for count in (-1, 1001, float("nan"), float("inf")):
        with pytest.raises(ExchangeError, match="not between 0 and the agreed 1000"):
            integer_weight(count, 1000, 100)


def test_largest_integers() -> None:
    assert [largest_integer(bits) for bits in (2, 8, 16, 32)] == [1, 127, 32_767, 2**31 - 1]
