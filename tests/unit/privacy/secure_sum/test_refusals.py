"""What a site refuses, and that one refusal ends its session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.errors import ExchangeError
from privacy.quantise import Encoded
from privacy.secure_sum.errors import SumRefused
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.masked_rounds import MaskedRoundsFolder
from privacy.secure_sum.messages import Delivery, Participants, RevealRequest, advertised_content, confirmed_content
from privacy.secure_sum.site import Conditions, Site


def refused(reason: str, call: Callable[..., Any], *arguments: Any) -> SumRefused:
    with pytest.raises(SumRefused) as caught:
        call(*arguments)
    assert caught.value.reason == reason, caught.value
    return caught.value


def test_asking_for_both_secrets_of_a_site_is_refused_and_ends_the_session(room: Callable[..., Any]) -> None:
    here = room(5)
    request = here.confirm(here.mask(here.share(here.advertise()), lost=("s04",)))
    greedy = replace(request, dropped=("s00", "s04"))
    error = refused("both-secrets", here.sites["s01"].reveal, greedy)
    assert "would unmask" in str(error)
    # Not even the honest request is answered after that.
    refused("out-of-order", here.sites["s01"].reveal, request)
    assert here.sites["s02"].reveal(request).keys.keys() == {"s04"}


def test_shares_are_revealed_once(room: Callable[..., Any]) -> None:
    here = room(4)
    request = here.confirm(here.mask(here.share(here.advertise())))
    here.sites["s00"].reveal(request)
    refused("out-of-order", here.sites["s00"].reveal, request)


def test_keys_are_used_for_one_session(room: Callable[..., Any]) -> None:
    here = room(4)
    here.sites["s00"].advertise(here.terms, here.weights["s00"])
    refused("out-of-order", here.sites["s00"].advertise, replace(here.terms, round=2), here.weights["s00"])


def test_a_repeated_stage_is_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    participants = here.advertise()
    here.sites["s00"].share(participants)
    refused("out-of-order", here.sites["s00"].share, participants)


def test_messages_of_another_round_are_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    old = here.advertise()
    later = Site("s00", here.identities["s00"], here.roster, Conditions("agreed"), here.sites["s00"]._masked_rounds)
    later.advertise(replace(here.terms, round=2), here.weights["s00"])
    refused("wrong-session", later.share, old)


@pytest.mark.parametrize("key", ["sealing_key", "masking_key"])
def test_an_exchanged_key_is_refused(room: Callable[..., Any], key: str) -> None:
    here = room(4)
    participants = here.advertise()
    first, *others = participants.advertisements
    forged = replace(first, **{key: Identity.generate().public()})
    refused("unauthenticated-key", here.sites["s02"].share, replace(participants, advertisements=(forged, *others)))


def test_a_key_signed_by_someone_else_is_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    participants = here.advertise()
    first, *others = participants.advertisements
    content = advertised_content(first.session, "s00", first.sealing_key, bytes(31) + b"9", first.weights)
    forged = replace(first, masking_key=bytes(31) + b"9", signature=here.identities["s01"].sign(content))
    refused("unauthenticated-key", here.sites["s02"].share, replace(participants, advertisements=(forged, *others)))


def test_a_key_of_small_order_is_refused_even_when_signed(room: Callable[..., Any]) -> None:
    here = room(4)
    participants = here.advertise()
    first, *others = participants.advertisements
    content = advertised_content(first.session, "s00", bytes(32), first.masking_key, first.weights)
    forged = replace(first, sealing_key=bytes(32), signature=here.identities["s00"].sign(content))
    refused("unauthenticated-key", here.sites["s02"].share, replace(participants, advertisements=(forged, *others)))


def test_a_list_without_this_site_or_with_another_entry_is_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    participants = here.advertise()
    refused(
        "list-changed", here.sites["s00"].share, replace(participants, advertisements=participants.advertisements[1:])
    )
    # The same site advertised twice (started again in between): the coordinator holds the other one.
    again = Site("s01", here.identities["s01"], here.roster, Conditions("agreed"), here.sites["s01"]._masked_rounds)
    again.advertise(here.terms, here.weights["s01"])
    refused("list-changed", again.share, participants)


def test_too_few_or_doubled_participants_are_refused(room: Callable[..., Any]) -> None:
    here = room(5)  # threshold 4
    participants = here.advertise()
    short = replace(participants, advertisements=participants.advertisements[:3])
    refused("too-few-sites", here.sites["s00"].share, short)
    doubled = (participants.advertisements[0], *participants.advertisements)
    refused("duplicate-participant", here.sites["s01"].share, Participants(participants.session, doubled))


def test_tampered_and_exchanged_boxes_are_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    deliveries = here.share(here.advertise())
    box = deliveries["s00"].boxes["s01"]
    broken = deliveries["s00"].boxes | {"s01": box[:-1] + bytes([box[-1] ^ 1])}
    refused("tampered-shares", here.sites["s00"].mask, replace(deliveries["s00"], boxes=broken), here.encoded["s00"])
    exchanged = deliveries["s01"].boxes | {"s02": deliveries["s01"].boxes["s03"], "s03": deliveries["s01"].boxes["s02"]}
    refused("tampered-shares", here.sites["s01"].mask, replace(deliveries["s01"], boxes=exchanged), here.encoded["s01"])
    empty = deliveries["s02"].boxes | {"s01": b""}
    refused("tampered-shares", here.sites["s02"].mask, replace(deliveries["s02"], boxes=empty), here.encoded["s02"])


def test_sites_that_were_shown_different_participants_cannot_open_each_others_boxes(room: Callable[..., Any]) -> None:
    here = room(5)
    whole = here.advertise()
    partial = replace(whole, advertisements=whole.advertisements[:4])
    boxes = {name: here.sites[name].share(partial).boxes for name in ("s00", "s01", "s02")}
    here.sites["s03"].share(whole)
    message = Delivery(whole.session, {name: sealed["s03"] for name, sealed in boxes.items()})
    refused("tampered-shares", here.sites["s03"].mask, message, here.encoded["s03"])


def test_fewer_sharers_or_survivors_than_the_threshold_are_refused(room: Callable[..., Any]) -> None:
    here = room(5)
    deliveries = here.share(here.advertise())
    few = {name: deliveries["s00"].boxes[name] for name in ("s01", "s02")}
    refused("too-few-sites", here.sites["s00"].mask, replace(deliveries["s00"], boxes=few), here.encoded["s00"])
    here = room(5)
    proposal = here.mask(here.share(here.advertise()))
    refused("too-few-sites", here.sites["s00"].confirm, replace(proposal, survivors=("s00", "s01", "s02")))
    refused("list-changed", here.sites["s01"].confirm, replace(proposal, survivors=("s00", "s02", "s03", "s04")))
    refused("list-changed", here.sites["s02"].confirm, replace(proposal, survivors=(*proposal.survivors, "s99")))


def test_another_list_than_the_confirmed_one_is_refused(room: Callable[..., Any]) -> None:
    here = room(5)
    request = here.confirm(here.mask(here.share(here.advertise())))
    # s03 confirmed five survivors; now s04 is said to have dropped, with everyone's old signatures.
    changed = replace(request, survivors=request.survivors[:4], dropped=("s04",))
    refused("list-changed", here.sites["s03"].reveal, changed)
    # Hidden: neither survivor nor dropped.
    refused("list-changed", here.sites["s02"].reveal, replace(request, survivors=request.survivors[:4]))
    here = room(5)
    request = here.confirm(here.mask(here.share(here.advertise()), lost=("s04",)))
    refused("list-changed", here.sites["s00"].reveal, replace(request, dropped=()))
    refused("list-changed", here.sites["s01"].reveal, replace(request, dropped=("s04", "s99")))


def test_a_list_that_others_did_not_confirm_is_refused(room: Callable[..., Any]) -> None:
    here = room(5)  # threshold 4
    request = here.confirm(here.mask(here.share(here.advertise())))
    three = {name: request.signatures[name] for name in ("s00", "s01", "s02")}
    refused("unconfirmed", here.sites["s00"].reveal, replace(request, signatures=three))
    # A fourth signature by a stranger, or over another list, does not help.
    stranger = Identity.generate()
    participants = here.coordinator._participants
    content = confirmed_content(participants, request.survivors, request.survivors)
    forged = three | {"s03": stranger.sign(content), "zz": stranger.sign(content)}
    refused("unconfirmed", here.sites["s01"].reveal, replace(request, signatures=forged))
    other = here.identities["s03"].sign(confirmed_content(participants, request.survivors, request.survivors[:4]))
    refused("unconfirmed", here.sites["s02"].reveal, replace(request, signatures=three | {"s03": other}))


def test_two_views_of_who_survived_cannot_both_be_confirmed(room: Callable[..., Any]) -> None:
    """The attack that the threshold and the confirmations are for: show s00 as alive to some, as dropped to others."""
    here = room(6)  # threshold 4
    proposal = here.mask(here.share(here.advertise()))
    without = replace(proposal, survivors=proposal.survivors[1:])
    alive = {name: here.sites[name].confirm(proposal).signature for name in ("s00", "s01", "s02")}
    dead = {name: here.sites[name].confirm(without).signature for name in ("s03", "s04", "s05")}
    ask_seed = RevealRequest(proposal.session, proposal.survivors, (), alive | dead)
    ask_key = RevealRequest(proposal.session, without.survivors, ("s00",), alive | dead)
    refused("unconfirmed", here.sites["s01"].reveal, ask_seed)
    refused("unconfirmed", here.sites["s03"].reveal, ask_key)


def test_a_round_is_masked_once_even_with_new_keys_and_after_a_restart(
    room: Callable[..., Any], tmp_path: Path
) -> None:
    for attempt, reason in enumerate([None, "round-already-masked"]):
        here = room(4)
        # A new process: another object over the same folder.
        here.sites["s00"]._masked_rounds = MaskedRoundsFolder(tmp_path / "masked")
        deliveries = here.share(here.advertise())
        if reason is None:
            here.sites["s00"].mask(deliveries["s00"], here.encoded["s00"])
        else:
            refused(reason, here.sites["s00"].mask, deliveries["s00"], here.encoded["s00"])
        assert len(list((tmp_path / "masked").iterdir())) == 1, attempt
    MaskedRoundsFolder(tmp_path / "masked").claim("trial", 2)
    MaskedRoundsFolder(tmp_path / "masked").claim("../other", 1)
    assert len(list((tmp_path / "masked").iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"agreement": "other"}, "is not this site's"),
        ({"colluders": 0}, "3 contributors, of which 1 may collude"),
        ({"threshold": 2}, "threshold 2: must be at least"),
        ({"minimum_contributors": 2}, "minimum_contributors 2: must be at least 3"),
    ],
)
def test_terms_below_the_sites_conditions_are_refused(
    room: Callable[..., Any], change: dict[str, Any], sentence: str
) -> None:
    here = room(6)
    error = refused("terms", here.sites["s00"].advertise, replace(here.terms, **change), here.weights["s00"])
    assert sentence in str(error)


def test_weights_beyond_the_terms_are_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    refused("weights", here.sites["s00"].advertise, here.terms, {"text": 51})
    refused("weights", here.sites["s01"].advertise, here.terms, {"text": 0})
    refused("weights", here.sites["s02"].advertise, here.terms, {"mri": 1})


def test_integers_that_are_not_the_announced_ones_are_refused_before_the_round_is_noted(
    room: Callable[..., Any],
) -> None:
    here = room(6)
    deliveries = here.share(here.advertise())
    words = here.encoded["s00"].words
    faulty = {
        "s00": Encoded(words, {"text": 9, "xray": 9}, 1000),
        "s01": replace(here.encoded["s01"], largest=1001),
        "s02": replace(here.encoded["s02"], words={**here.encoded["s02"].words, "text": words["text"][:-1]}),
        "s03": replace(here.encoded["s03"], words={**here.encoded["s03"].words, "text": np.zeros(7, np.uint64)}),
        "s04": replace(here.encoded["s04"], words={"text": here.encoded["s04"].words["text"]}),
    }
    for name, encoded in faulty.items():
        reason = "weights" if name == "s00" else "terms"
        refused(reason, here.sites[name].mask, deliveries[name], encoded)
        assert here.sites[name]._masked_rounds.claimed == set()


def test_a_refusal_is_an_exchange_error(room: Callable[..., Any]) -> None:
    here = room(4)
    with pytest.raises(ExchangeError, match="next stage is: advertise"):
        here.sites["s00"].share(Participants("", ()))


def test_an_invited_site_that_the_roster_does_not_know_is_refused(room: Callable[..., Any]) -> None:
    here = room(4)
    participants = here.advertise()
    known = Roster({name: key for name, key in here.roster.keys.items() if name != "s03"})
    careful = Site("s00", here.identities["s00"], known, Conditions("agreed"), here.sites["s00"]._masked_rounds)
    own = careful.advertise(here.terms, here.weights["s00"])
    entries = (own, *participants.advertisements[1:])
    refused("unauthenticated-key", careful.share, replace(participants, advertisements=entries))
