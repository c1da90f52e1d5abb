"""Flower messages as a hospital reads and writes them, whoever answers: the hospital itself, or the relay for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from more_model.errors import ExchangeError
from more_model.exchange import FACTS_RECORD, TENSORS_RECORD, Fact, TensorDict
from more_model.packed import PACKED, pack, unpack


def facts_record(**facts: Fact) -> RecordDict:
    """A message of facts alone."""
    return RecordDict({FACTS_RECORD: ConfigRecord(dict(facts))})


def tensors_record(tensors: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Fact]) -> RecordDict:
    """A message with tensors, or with room for them."""
    return RecordDict(
        {TENSORS_RECORD: ArrayRecord({PACKED: Array(pack(tensors))}), FACTS_RECORD: ConfigRecord(dict(facts))}
    )


def tensors_of(content: RecordDict) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a message; none where it has no room for them.

    Raises:
        ExchangeError: they cannot be read.
    """
    packed = content.array_records.get(TENSORS_RECORD, {}).get(PACKED)
    return unpack(packed.numpy()) if packed is not None else {}


def parts(message: Message) -> tuple[TensorDict, dict[str, Any]]:
    """Tensors and facts of an instruction or a question.

    Raises:
        ExchangeError: it lacks one of the two, or an array cannot be read.
    """
    try:
        packed = message.content[TENSORS_RECORD][PACKED].numpy()
        return unpack(packed), dict(message.content[FACTS_RECORD])
    except (KeyError, ValueError) as error:
        raise ExchangeError(f"malformed message ({type(error).__name__})") from error
