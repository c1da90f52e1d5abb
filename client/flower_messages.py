"""Flower messages as a hospital reads and writes them, whoever answers: the hospital itself, or the relay for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from more_model.errors import ExchangeError
from more_model.exchange import FACTS_RECORD, TENSORS_RECORD, Fact, TensorDict


def facts_record(**facts: Fact) -> RecordDict:
    """A message of facts alone."""
    return RecordDict({FACTS_RECORD: ConfigRecord(dict(facts))})


def tensors_record(tensors: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Fact]) -> RecordDict:
    """A message with tensors, or with room for them."""
    arrays = ArrayRecord({name: Array(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()})
    return RecordDict({TENSORS_RECORD: arrays, FACTS_RECORD: ConfigRecord(dict(facts))})


def parts(message: Message) -> tuple[TensorDict, dict[str, Any]]:
    """Tensors and facts of an instruction or a question.

    Raises:
        ExchangeError: it lacks one of the two, or an array cannot be read.
    """
    try:
        tensors = {name: array.numpy() for name, array in message.content[TENSORS_RECORD].items()}
        return tensors, dict(message.content[FACTS_RECORD])
    except (KeyError, ValueError) as error:
        raise ExchangeError(f"malformed message ({type(error).__name__})") from error
