"""Every message survives the journey as flat scalars and arrays; hostile ones become one kind of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from more_model.errors import ExchangeError
from privacy.secure_sum.messages import (
    Advertisement,
    Confirmation,
    Delivery,
    MaskedInput,
    Participants,
    Proposal,
    Revealed,
    RevealRequest,
    SealedShares,
    confirmed_content,
)
from privacy.secure_sum.terms import Terms

ENTRY = Advertisement("ab", "north", b"\x00s", b"\xffm", {"text": 3, "ecg": 1}, b"sig")
MESSAGES = [
    ENTRY,
    Participants("ab", (ENTRY, Advertisement("ab", "süd", b"", b"", {}, b""))),
    SealedShares("ab", "north", {"süd": b"\x00box"}, {"text": b"hash"}),
    Delivery("ab", {"süd": b"\x00box"}),
    Proposal("ab", ("north", "süd")),
    Confirmation("ab", "north", b"\x01\x02"),
    RevealRequest("ab", ("north",), ("süd",), {"north": b"\x01"}),
    Revealed("ab", "north", {"north": {"text": b"\x00"}, "x": {}}, {"süd": b"\x09"}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_round_trip_over_flat_scalars(message: Any) -> None:
    facts = message.facts()
    assert all(type(value) in (int, float, str) for value in facts.values())
    assert type(message).from_parts(facts, {}) == message


def test_masked_input_round_trip() -> None:
    words = {"text": np.array([1, 2**32 - 1], np.uint32)}
    message = MaskedInput("ab", "north", words)
    back = MaskedInput.from_parts(message.facts(), message.arrays())
    assert (back.session, back.site) == ("ab", "north")
    assert back.words["text"].tobytes() == words["text"].tobytes()


def test_terms_round_trip(terms_for: Callable[..., Terms]) -> None:
    terms = terms_for(["a", "b", "c", "d"], {"text": 7, "ecg": 2})
    facts = terms.facts()
    assert all(type(value) in (int, float, str) for value in facts.values())
    assert Terms.from_facts(facts) == terms
    assert Terms.from_facts(facts).digest() == terms.digest()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("poison", ["zz", "[" * 100_000, "[1]", "{}", "null", 7, None, "[[]]", '{"a": 1}', b"\xff"])
def test_malformed_messages_are_exchange_errors_or_parse(message: Any, poison: Any) -> None:
    """No poison in any place may raise anything else; where it parses, what came out has the declared types."""
    for name in message.facts():
        try:
            parsed = type(message).from_parts(message.facts() | {name: poison}, {})
        except ExchangeError as error:
            assert "malformed" in str(error)
        else:
            assert all(type(value) in (int, float, str) for value in parsed.facts().values())


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_missing_parts_and_uninvited_arrays_are_refused(message: Any) -> None:
    for name in message.facts():
        less = {key: value for key, value in message.facts().items() if key != name}
        with pytest.raises(ExchangeError, match="malformed"):
            type(message).from_parts(less, {})
    with pytest.raises(ExchangeError, match="brings no arrays, 1 came"):
        type(message).from_parts(message.facts(), {"x": np.zeros(1, np.uint32)})


@pytest.mark.parametrize("change", [{"threshold": "3"}, {"round": -1}, {"largest": 2**63}, {"words": '{"text": 1.5}'}])
def test_malformed_terms_are_refused(terms_for: Callable[..., Terms], change: dict[str, Any]) -> None:
    facts = terms_for(["a", "b", "c"], {"text": 7}).facts()
    with pytest.raises(ExchangeError, match="malformed terms"):
        Terms.from_facts(facts | change)


def test_the_digest_of_the_terms_and_of_the_participants_depends_on_everything(
    terms_for: Callable[..., Terms],
) -> None:
    terms = terms_for(["a", "b", "c"], {"text": 7})
    changed = {"round": 2, "run": "x", "threshold": 2, "words": '{"text": 8}', "sites": '["a", "b", "d"]'}
    digests = [Terms.from_facts(terms.facts() | {name: value}).digest() for name, value in changed.items()]
    assert len({terms.digest(), *digests}) == 6
    other = Advertisement("ab", "north", b"\x00s", b"\xffm", {"text": 4, "ecg": 1}, b"sig")
    assert Participants("ab", (ENTRY,)).digest() != Participants("ab", (other,)).digest()


def test_a_confirmation_covers_all_three_lists() -> None:
    contents = [
        confirmed_content("p", ["a", "b"], ["a"]),
        confirmed_content("q", ["a", "b"], ["a"]),
        confirmed_content("p", ["a", "c"], ["a"]),
        confirmed_content("p", ["a", "b"], ["b"]),
        confirmed_content("p", ["a"], ["b", "a"]),
    ]
    assert len(set(contents)) == 5
