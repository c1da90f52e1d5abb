"""All tensors of a message as one array of bytes."""

from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import ExchangeError
from more_model.packed import pack, unpack

ARRAYS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],
    "a.scalar": np.float32(4.0).reshape(()),
    "c.masked": np.array([2**32 - 1, 0], dtype=np.uint32),
    "d.wide": np.array([2**64 - 1], dtype=np.uint64),
}


def test_every_array_comes_back_with_its_shape_type_and_elements() -> None:
    found = unpack(pack(ARRAYS))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert np.array_equal(found[name], array)
    assert unpack(pack({})) == {}


def test_equal_arrays_give_equal_bytes_in_whatever_order() -> None:
    assert np.array_equal(pack(ARRAYS), pack(dict(reversed(ARRAYS.items()))))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros(9, dtype=np.float32), "not packed as bytes"),
        (np.zeros((2, 9), dtype=np.uint8), "not packed as bytes"),
        (np.zeros(0, dtype=np.uint8), "cannot be read"),
        (np.full(64, 255, dtype=np.uint8), "cannot be read"),
        (pack(ARRAYS)[:-1], "cannot be read"),
    ],
    ids=["numbers", "a table", "nothing", "a header without end", "cut off"],
)
def test_what_is_no_packed_message_is_refused(content: np.ndarray, words: str) -> None:
    with pytest.raises(ExchangeError, match=words):
        unpack(content)
