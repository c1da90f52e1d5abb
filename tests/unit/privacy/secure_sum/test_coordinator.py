"""What the coordinator refuses from a site, and what makes a round void."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.errors import ConfigError
from privacy.secure_sum.coordinator import Coordinator
from privacy.secure_sum.errors import SumRefused, SumVoid
from privacy.secure_sum.messages import MaskedInput
from privacy.secure_sum.shamir import split


def refused(reason: str, call: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(SumRefused) as caught:
        call(*arguments)
    assert caught.value.reason == reason, caught.value


def test_bad_terms_are_refused_before_anything_is_asked(room: Callable[..., Any]) -> None:
    here = room(4)
    with pytest.raises(ConfigError, match="threshold 2"):
        Coordinator(replace(here.terms, threshold=2), here.roster)


def test_strangers_forgers_and_repetitions_are_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    first = here.sites["s00"].advertise(here.terms, here.weights["s00"])
    second = here.sites["s01"].advertise(here.terms, here.weights["s01"])
    receive = here.coordinator.receive_advertisement
    refused("unknown-site", receive, replace(first, site="nobody"))
    refused("unauthenticated-key", receive, replace(first, weights={"text": 2}))
    refused("wrong-session", receive, replace(first, session="0" * 64))
    receive(first)
    refused("replay", receive, first)
    receive(second)  # what was refused left no trace


def test_answers_out_of_order_are_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    late = here.sites["s03"].advertise(here.terms, here.weights["s03"])
    for name in ("s00", "s01", "s02"):
        here.coordinator.receive_advertisement(here.sites[name].advertise(here.terms, here.weights[name]))
    refused("out-of-order", here.coordinator.close_sharing)
    here.coordinator.close_advertising()
    refused("out-of-order", here.coordinator.receive_advertisement, late)


def test_an_input_of_the_wrong_size_type_or_group_never_reaches_the_sum(room: Callable[..., Any]) -> None:
    here = room(4)
    deliveries = here.share(here.advertise())
    honest = {name: here.sites[name].mask(deliveries[name], here.encoded[name]) for name in here.sites}
    words = honest["s03"].words
    for wrong in (
        {"text": words["text"]},
        {**words, "ecg": words["text"]},
        {**words, "text": words["text"][:-1]},
        {**words, "text": words["text"].astype(np.uint64)},
        {**words, "text": words["text"].view(np.int32)},
    ):
        message = MaskedInput(here.coordinator._session, "s03", wrong)
        refused("malformed-input", here.coordinator.receive_masked, message)
    for message in honest.values():
        here.coordinator.receive_masked(message)
    refused("replay", here.coordinator.receive_masked, honest["s00"])
    request = here.confirm(here.coordinator.close_masking())
    assert here.reveal(request).sums["text"].tobytes() == here.plain("text", here.sites).tobytes()


def test_a_late_input_of_a_site_declared_dropped_is_refused(room: Callable[..., Any]) -> None:
    here = room(5)
    deliveries = here.share(here.advertise())
    late = here.sites["s04"].mask(deliveries.pop("s04"), here.encoded["s04"])
    here.mask(deliveries)
    refused("out-of-order", here.coordinator.receive_masked, late)


def test_incomplete_shares_are_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    participants = here.advertise()
    sealed = here.sites["s00"].share(participants)
    boxes = {name: box for name, box in sealed.boxes.items() if name != "s01"}
    refused("malformed-shares", here.coordinator.receive_shares, replace(sealed, boxes=boxes))
    refused("malformed-shares", here.coordinator.receive_shares, replace(sealed, commitments={}))


def test_a_signature_over_another_list_does_not_confirm(room: Callable[..., Any]) -> None:
    here = room(5)
    proposal = here.mask(here.share(here.advertise()))
    other = here.sites["s00"].confirm(replace(proposal, survivors=proposal.survivors[:4]))
    refused("unconfirmed", here.coordinator.receive_confirmation, other)


@pytest.mark.parametrize("kind", ["seeds", "keys"])
def test_a_false_share_makes_the_round_void_not_wrong(room: Callable[..., Any], kind: str) -> None:
    here = room(5)
    request = here.confirm(here.mask(here.share(here.advertise()), lost=("s04",)))
    for name in request.survivors:
        revealed = here.sites[name].reveal(request)
        if name == "s01":
            false = bytes(65) + b"7"
            seeds = {**revealed.seeds, "s00": {**revealed.seeds["s00"], "text": false}}
            revealed = replace(revealed, seeds=seeds) if kind == "seeds" else replace(revealed, keys={"s04": false})
        here.coordinator.receive_revealed(revealed)
    with pytest.raises(SumVoid, match="do not give the secret") as caught:
        here.coordinator.finish()
    assert caught.value.reason == "false-share"


@pytest.mark.parametrize("kind", ["seeds", "keys"])
def test_shares_of_another_secret_make_the_round_void(room: Callable[..., Any], kind: str) -> None:
    """They fit together, so only the commitment and the advertised key can tell."""
    here = room(5)
    request = here.confirm(here.mask(here.share(here.advertise()), lost=("s04",)))
    shares = dict(zip(here.sites, split(bytes(range(32)), here.terms.threshold, 5), strict=True))
    for name in request.survivors:
        revealed = here.sites[name].reveal(request)
        seeds = {**revealed.seeds, "s00": {**revealed.seeds["s00"], "text": shares[name]}}
        false = replace(revealed, seeds=seeds) if kind == "seeds" else replace(revealed, keys={"s04": shares[name]})
        here.coordinator.receive_revealed(false)
    with pytest.raises(SumVoid, match="do not give the secret"):
        here.coordinator.finish()


def test_shares_for_anything_else_than_was_asked_are_refused(room: Callable[..., Any]) -> None:
    here = room(5)
    request = here.confirm(here.mask(here.share(here.advertise()), lost=("s04",)))
    revealed = here.sites["s00"].reveal(request)
    seeds = {name: shares for name, shares in revealed.seeds.items() if name != "s01"}
    refused("malformed-shares", here.coordinator.receive_revealed, replace(revealed, seeds=seeds))
    refused("malformed-shares", here.coordinator.receive_revealed, replace(revealed, keys={}))


def test_a_site_whose_confirmation_got_lost_may_still_reveal(room: Callable[..., Any]) -> None:
    here = room(4)  # threshold 3
    proposal = here.mask(here.share(here.advertise()))
    here.sites["s02"].confirm(proposal)
    request = here.confirm(proposal, lost=("s02",))
    for name in ("s00", "s01", "s02"):
        here.coordinator.receive_revealed(here.sites[name].reveal(request))
    assert here.coordinator.finish().sums["text"].tobytes() == here.plain("text", here.sites).tobytes()


def test_the_coordinator_keeps_no_single_input(room: Callable[..., Any]) -> None:
    here = room(4)
    deliveries = here.share(here.advertise())
    sent = here.sites["s00"].mask(deliveries["s00"], here.encoded["s00"])
    here.coordinator.receive_masked(sent)
    here.coordinator.receive_masked(here.sites["s01"].mask(deliveries["s01"], here.encoded["s01"]))
    sums = vars(here.coordinator)["_sums"].values()
    assert not any(np.array_equal(array, words) for array in sums for words in sent.words.values())
