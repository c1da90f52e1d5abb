"""A hospital as a Flower ClientApp: unpack the message, let the hospital answer, pack the answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.hospital import Hospital
from more_model.errors import ExchangeError
from more_model.exchange import (
    FACTS_RECORD,
    JOINED_STAGE,
    RUN_FACT,
    STAGE_FACT,
    SUM_ACTION,
    TENSORS_RECORD,
    Fact,
    Instruction,
    Joined,
    Refusal,
    SumStage,
)

_LOG = logging.getLogger(__name__)


def build_client_app(hospital_of: Callable[[Context], Hospital]) -> ClientApp:
    """A ClientApp that answers ``train`` with an update, its keys for a secure sum or a refusal, the later stages of
    such a sum, and ``query`` with the site's name.

    ``hospital_of`` finds the hospital of a node; it is called for every message and should remember what it has opened.
    """
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        return Message(_silenced(lambda: _trained(message, hospital_of(context))), reply_to=message)

    @app.query()  # type: ignore[untyped-decorator]
    def query(message: Message, context: Context) -> Message:
        return Message(_silenced(lambda: _facts(site=hospital_of(context).name)), reply_to=message)

    @app.query(SUM_ACTION)  # type: ignore[untyped-decorator]
    def secure_sum(message: Message, context: Context) -> Message:
        return Message(_silenced(lambda: _stage(message, hospital_of(context))), reply_to=message)

    return app


def _silenced(content: Callable[[], RecordDict]) -> RecordDict:
    try:
        return content()
    except Exception as error:  # noqa: BLE001 - the wire is the boundary: Flower would send any exception's text on
        _LOG.exception("unexpected error")
        return _facts(refusal=f"unexpected {type(error).__name__}")


def _facts(**facts: Fact) -> RecordDict:
    return RecordDict({FACTS_RECORD: ConfigRecord(dict(facts))})


def _trained(message: Message, hospital: Hospital) -> RecordDict:
    answer = hospital.answer(_instruction(message))
    if isinstance(answer, Refusal):
        return _facts(refusal=answer.code, site=hospital.name)
    if isinstance(answer, Joined):
        return _facts(**answer.keys, **{STAGE_FACT: JOINED_STAGE})
    return RecordDict({TENSORS_RECORD: _arrays(answer.deltas), FACTS_RECORD: ConfigRecord(dict(answer.facts()))})


def _stage(message: Message, hospital: Hospital) -> RecordDict:
    try:
        facts = dict(message.content[FACTS_RECORD])
        stage, run = str(facts.pop(STAGE_FACT)), str(facts.pop(RUN_FACT))
    except KeyError as error:
        raise ExchangeError("malformed message of a secure sum") from error
    answer = hospital.continue_sum(run, SumStage(stage, facts))
    if isinstance(answer, Refusal):
        return _facts(refusal=answer.code, site=hospital.name)
    told = ConfigRecord({**answer.facts, STAGE_FACT: answer.stage})
    return RecordDict({TENSORS_RECORD: _arrays(answer.arrays), FACTS_RECORD: told})


def _arrays(tensors: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    return ArrayRecord({name: Array(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()})


def _instruction(message: Message) -> Instruction:
    try:
        tensors = {name: array.numpy() for name, array in message.content[TENSORS_RECORD].items()}
        facts = dict(message.content[FACTS_RECORD])
    except (KeyError, ValueError) as error:
        raise ExchangeError(f"malformed instruction ({type(error).__name__})") from error
    return Instruction.from_parts(facts, tensors)
