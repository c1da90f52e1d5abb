"""From float32 changes to small integers on public grids, to weighted integers modulo 2^k, and back.

A grid is public: it depends on nothing private, and is the same at every site, so that integers of different sites can
be added. A tensor's values are rounded to multiples of its step, one step a tensor or one a row, and kept within
+-(2^(bits-1) - 1) steps. Stochastic rounding goes up with the probability of the remainder, so it is right on average
(Gupta et al. 2015, arXiv 1502.02551, section 3); its randomness comes from the operating system.

Quantising alone is not differential privacy, and neither is clipping.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import ExchangeSpec, TensorDict

Integers = npt.NDArray[np.signedinteger[Any]]
Words = npt.NDArray[np.unsignedinteger[Any]]
Steps = npt.NDArray[np.float64]
Rounding = Literal["stochastic", "nearest"]

MIN_BITS, MAX_BITS = 2, 32


@dataclass(frozen=True, slots=True)
class Grid:
    """The public grid of one tensor: multiples of ``steps`` up to ``largest`` of them in either direction.

    steps: float64, shape [] for one step, or [rows, 1, ..., 1] for one a row (the first axis of the tensor).
    """

    bits: int
    steps: Steps

    @property
    def largest(self) -> int:
        """The largest integer; its negative is the smallest."""
        return largest_integer(self.bits)

    @property
    def reach(self) -> float:
        """The smallest bound over the rows: values up to it are represented everywhere."""
        return float(np.min(self.steps)) * self.largest


def largest_integer(bits: int) -> int:
    """2^(bits-1) - 1, the same in both directions."""
    return int(2 ** (bits - 1) - 1)


def tensor_grid(bound: float, bits: int) -> Grid:
    """One step for a whole tensor whose values may reach ``bound`` > 0; ConfigError unless bits are 2 to 32."""
    return _grid(np.float64(bound), bits)


def row_grid(bounds: npt.ArrayLike, bits: int, dimensions: int) -> Grid:
    """One step for each row of a tensor with ``dimensions`` axes; bounds [rows] are public. ConfigError as above.

    A public reference for the bounds is the last aggregate: a multiple of its largest magnitude in each row.
    """
    column = np.asarray(bounds, dtype=np.float64)
    return _grid(column.reshape(-1, *(1,) * (dimensions - 1)), bits)


def _grid(bounds: Any, bits: int) -> Grid:
    values, faults = np.asarray(bounds, dtype=np.float64), []
    if not MIN_BITS <= bits <= MAX_BITS:
        faults.append(f"{bits} bits: must be {MIN_BITS} to {MAX_BITS}")
    if values.size == 0 or not np.isfinite(values).all() or values.min() <= 0:
        faults.append("every bound must be finite and above zero")
    if faults:
        raise ConfigError("quantisation grid", faults, remedy="derive the bounds from public numbers only")
    return Grid(bits, values / largest_integer(bits))


def grids_digest(grids: Mapping[str, Grid]) -> str:
    """Hex SHA-256 over all grids: sites with different ones cannot add their integers."""
    content = {name: [grid.bits, list(grid.steps.shape), grid.steps.ravel().tolist()] for name, grid in grids.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Quantised:
    """Integers of one tensor, as int8, int16 or int32, and how many values lay beyond the grid and were cut to it.

    ``cut`` says something of the data: it stays at the site.
    """

    integers: Integers
    cut: int


def quantise(
    values: npt.NDArray[np.floating[Any]],
    grid: Grid,
    rounding: Rounding = "stochastic",
    generator: np.random.Generator | None = None,
) -> Quantised:
    """Round to the grid. Error: below one step (stochastic, right on average) or at most half a step (nearest).

    generator: for tests; without one, a fresh one seeded by the operating system.

    Raises:
        ExchangeError: values that are not finite, or whose rows the grid does not fit.
    """
    if grid.steps.ndim and (grid.steps.ndim != values.ndim or len(grid.steps) != len(values)):
        raise ExchangeError(f"a grid of {len(grid.steps)} rows does not fit a tensor of shape {list(values.shape)}")
    in_steps = values / grid.steps
    if not np.isfinite(in_steps).all():
        raise ExchangeError("a tensor with NaN or infinite values cannot be quantised")
    cut = int(np.count_nonzero(np.abs(in_steps) > grid.largest))
    np.clip(in_steps, -grid.largest, grid.largest, out=in_steps)
    if rounding == "stochastic":
        source = np.random.default_rng() if generator is None else generator
        rounded = np.floor(in_steps + source.random(in_steps.shape))
        # Near 2^31 the sum above can round up to the next integer.
        np.minimum(rounded, grid.largest, out=rounded)
    else:
        rounded = np.rint(in_steps)
    return Quantised(rounded.astype(integer_type(grid.bits)), cut)


def integer_type(bits: int) -> np.dtype[np.signedinteger[Any]]:
    """The smallest signed type that holds a grid of ``bits`` bits."""
    return np.dtype("<i1" if bits <= 8 else "<i2" if bits <= 16 else "<i4")


def word_type(word_bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The little-endian unsigned type of 32 or 64 bits: sums and masks are the same on every machine."""
    return np.dtype(f"<u{word_bits // 8}")


def dequantise(integers: Integers, grid: Grid) -> npt.NDArray[np.float32]:
    """The values that the integers stand for, float32."""
    return (integers * grid.steps).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One site's integers times its public weights, modulo 2^32 or 2^64, one array [words] an exchange group.

    ``largest`` bounds the integers before weighting. `privacy.secure_sum.prepare` makes it; only masks come after it.
    """

    words: Mapping[str, Words]
    weights: Mapping[str, int]
    largest: int


def encode(
    integers: Mapping[str, Integers], weights: Mapping[str, int], spec: ExchangeSpec, word_bits: int, largest: int
) -> Encoded:
    """Integers by tensor name, times the weight of their group, in the order of ``spec``.

    Raises:
        ExchangeError: tensors that are not exactly those of the groups in ``weights``, of the right shapes and within
            ``largest``, or a weighted integer that a signed word cannot hold.
    """
    tensors = spec.of_towers(tuple(weights))
    if integers.keys() != {tensor.name for tensor in tensors}:
        raise ExchangeError("the integers are not exactly those of the groups that have a weight")
    for tensor in tensors:
        array = integers[tensor.name]
        if array.shape != tensor.shape or (array.size and np.abs(array.astype(np.int64)).max() > largest):
            raise ExchangeError(f"{tensor.name} has another shape, or integers beyond {largest}")
    if max(weights.values(), default=0) * largest >= 2 ** (word_bits - 1):
        raise ExchangeError(
            f"weight {max(weights.values())} x {largest} does not fit words of {word_bits} bits",
            remedy="lower the weights' bound, or use 64 bit words",
        )
    kind = word_type(word_bits)
    words = {
        group: np.concatenate(
            [(integers[t.name].ravel().astype(np.int64) * weight).astype(kind) for t in spec.of_towers((group,))]
        )
        for group, weight in weights.items()
    }
    return Encoded(words, dict(weights), largest)


def decode(
    sums: Mapping[str, Words], total_weights: Mapping[str, int], spec: ExchangeSpec, grids: Mapping[str, Grid]
) -> TensorDict:
    """Weighted means, float32 by tensor name, of the groups in ``sums``: the sum's integers read as signed, times the
    step, over the total weight. The inverse of `encode` up to rounding, if no sum left the signed range."""
    means: dict[str, npt.NDArray[np.float32]] = {}
    for group, words in sums.items():
        signed = words.view(np.dtype(f"<i{words.dtype.itemsize}"))
        start = 0
        for tensor in spec.of_towers((group,)):
            count = int(np.prod(tensor.shape, dtype=np.int64))
            part = signed[start : start + count].reshape(tensor.shape).astype(np.float64)
            means[tensor.name] = (part * grids[tensor.name].steps / total_weights[group]).astype(np.float32)
            start += count
    return means


def integer_weight(count: float, most: float, max_weight: int) -> int:
    """A public count, at most ``most`` at any site, as an integer weight 1..``max_weight``; 0 for a count of 0.

    Exact where ``most`` equals ``max_weight`` and counts are whole; otherwise off by at most half of most/max_weight.
    ExchangeError for a count beyond ``most``, or not a number.
    """
    if not 0 <= count <= most:
        raise ExchangeError(f"a count of {count:g} is not between 0 and the agreed {most:g}")
    return max(1, round(count * max_weight / most)) if count > 0 else 0
