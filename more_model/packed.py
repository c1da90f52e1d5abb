"""All tensors of a message as one array of bytes, in the safetensors format.

Flower carries each array as objects of their own, each with requests of its own: a message of a hundred small tensors
would take hundreds of round trips. Needs only numpy and safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from more_model.errors import ExchangeError

#: The name of that array in its record.
PACKED = "safetensors"


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    """The bytes, as an array of shape (bytes,); equal arrays give equal bytes."""
    # Not `ascontiguousarray`, which makes a vector of a scalar.
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return np.frombuffer(save(whole), dtype=np.uint8)


def unpack(content: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `pack`; raises ExchangeError for bytes that are something else."""
    if content.dtype != np.uint8 or content.ndim != 1:
        raise ExchangeError("the tensors of a message are not packed as bytes")
    try:
        # In the order of their names: the reader gives them in any.
        return dict(sorted(load(content.tobytes()).items()))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ExchangeError(f"the tensors of a message cannot be read ({type(error).__name__})") from error
