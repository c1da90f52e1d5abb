"""A hospital as a Flower ClientApp: unpack the message, let the hospital answer, pack the answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.flower_messages import facts_record, parts, tensors_record
from client.hospital import Hospital
from more_model.errors import ExchangeError
from more_model.exchange import (
    FACTS_RECORD,
    JOINED_STAGE,
    RUN_FACT,
    STAGE_FACT,
    SUM_ACTION,
    Instruction,
    Joined,
    Refusal,
    SumStage,
)
from more_model.score_exchange import Question

_LOG = logging.getLogger(__name__)


def build_client_app(hospital_of: Callable[[Context], Hospital]) -> ClientApp:
    """A ClientApp that answers ``train`` with an update, its keys for a secure sum or a refusal, the later stages of
    such a sum, ``evaluate`` with counts of patients by score or a refusal, and ``query`` with the site's name.

    ``hospital_of`` finds the hospital of a node; it is called for every message and should remember what it has opened.
    """
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        return Message(_silenced(lambda: _trained(message, hospital_of(context))), reply_to=message)

    @app.evaluate()  # type: ignore[untyped-decorator]
    def evaluate(message: Message, context: Context) -> Message:
        return Message(_silenced(lambda: _evaluated(message, hospital_of(context))), reply_to=message)

    @app.query()  # type: ignore[untyped-decorator]
    def query(message: Message, context: Context) -> Message:
        return Message(_silenced(lambda: facts_record(site=hospital_of(context).name)), reply_to=message)

    @app.query(SUM_ACTION)  # type: ignore[untyped-decorator]
    def secure_sum(message: Message, context: Context) -> Message:
        return Message(_silenced(lambda: _stage(message, hospital_of(context))), reply_to=message)

    return app


def _silenced(content: Callable[[], RecordDict]) -> RecordDict:
    try:
        return content()
    except Exception as error:  # noqa: BLE001 - the wire is the boundary: Flower would send any exception's text on
        _LOG.exception("unexpected error")
        return facts_record(refusal=f"unexpected {type(error).__name__}")


def _trained(message: Message, hospital: Hospital) -> RecordDict:
    answer = hospital.answer(_instruction(message))
    if isinstance(answer, Refusal):
        return facts_record(refusal=answer.code, site=hospital.name)
    if isinstance(answer, Joined):
        return facts_record(**answer.keys, **{STAGE_FACT: JOINED_STAGE})
    return tensors_record(answer.deltas, answer.facts())


def _evaluated(message: Message, hospital: Hospital) -> RecordDict:
    tensors, facts = parts(message)
    answer = hospital.evaluate(Question.from_parts(facts, tensors))
    if isinstance(answer, Refusal):
        return facts_record(refusal=answer.code, site=hospital.name)
    return facts_record(**answer.facts())


def _stage(message: Message, hospital: Hospital) -> RecordDict:
    try:
        facts = dict(message.content[FACTS_RECORD])
        stage, run = str(facts.pop(STAGE_FACT)), str(facts.pop(RUN_FACT))
    except KeyError as error:
        raise ExchangeError("malformed message of a secure sum") from error
    answer = hospital.continue_sum(run, SumStage(stage, facts))
    if isinstance(answer, Refusal):
        return facts_record(refusal=answer.code, site=hospital.name)
    return tensors_record(answer.arrays, {**answer.facts, STAGE_FACT: answer.stage})


def _instruction(message: Message) -> Instruction:
    tensors, facts = parts(message)
    return Instruction.from_parts(facts, tensors)
