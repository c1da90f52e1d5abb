"""Rules about who takes part, which both ends apply to what they were told, each for itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from privacy.secure_sum.errors import SumRefused
from privacy.secure_sum.identity import Roster
from privacy.secure_sum.keystream import KEY_BYTES
from privacy.secure_sum.messages import Advertisement, Participants
from privacy.secure_sum.terms import Terms


def check_advertisement(terms: Terms, roster: Roster, advertisement: Advertisement) -> None:
    """Refuse an advertisement of another session, of a stranger, not signed by its site, or with impossible weights.

    Raises:
        SumRefused: the reason is ``wrong-session``, ``unknown-site``, ``unauthenticated-key`` or ``weights``.
    """
    site = advertisement.site
    require_session(terms.digest(), advertisement.session)
    if site not in terms.sites:
        raise SumRefused("unknown-site", f"{site!r} was not invited to this round")
    if not roster.signed(site, advertisement.signed_content(), advertisement.signature):
        raise SumRefused(
            "unauthenticated-key",
            f"the keys advertised for {site!r} are not signed by the key that the roster has for it",
            remedy="compare the roster with that site, outside the federation's own channel",
            avoid="take the roster from the coordinator",
        )
    if {len(advertisement.sealing_key), len(advertisement.masking_key)} != {KEY_BYTES}:
        raise SumRefused("unauthenticated-key", f"the keys of {site!r} are not X25519 keys of {KEY_BYTES} bytes")
    if not advertisement.weights.keys() <= terms.words.keys():
        raise SumRefused("weights", f"{site!r} has weights for groups that the terms do not know")
    if not all(1 <= weight <= terms.max_weight for weight in advertisement.weights.values()):
        raise SumRefused("weights", f"{site!r} has a weight outside 1..{terms.max_weight}: the sum could overflow")


def check_participants(terms: Terms, roster: Roster, participants: Participants) -> None:
    """Refuse a list of participants with a faulty advertisement, a site twice, or fewer sites than the threshold.

    Raises:
        SumRefused: as `check_advertisement`, or ``duplicate-participant``, ``too-few-sites``.
    """
    require_session(terms.digest(), participants.session)
    names = [advertisement.site for advertisement in participants.advertisements]
    if names != sorted(set(names)):
        raise SumRefused("duplicate-participant", "the list of participants names a site twice, or is not in order")
    for advertisement in participants.advertisements:
        check_advertisement(terms, roster, advertisement)
    if len(names) < terms.threshold:
        raise SumRefused("too-few-sites", f"{len(names)} participants, {terms.threshold} are needed")


def require_session(expected: str, named: str) -> None:
    """Refuse a message of another round or under other terms: SumRefused with reason ``wrong-session``."""
    if named != expected:
        raise SumRefused("wrong-session", "the message belongs to another round, or to this one under other terms")


def contributors(
    terms: Terms, weights: Mapping[str, Mapping[str, int]], present: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """By exchange group: the sites among ``present`` that trained it, in order; groups with too few are left out."""
    found = {group: tuple(sorted(site for site in present if group in weights[site])) for group in sorted(terms.words)}
    return {group: sites for group, sites in found.items() if len(sites) >= terms.minimum_contributors}


def places(names: Sequence[str]) -> dict[str, int]:
    """The number, from 1, under which each participant holds its shares."""
    return {name: place for place, name in enumerate(names, start=1)}
