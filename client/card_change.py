"""A new card in the place of an earlier one: what may change, what did, and what is then left to decide at the site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.card_folder import AgreedCard
from client.policy import PrivacyRule, SitePolicy, load_policy
from client.policy_check import evaluation_fault
from client.site_file import SiteFile
from client.site_setup import read_enrolment, require_own_key
from more_model.errors import ConfigError
from more_model.exchange import Fingerprint
from more_model.federation_card import FederationCard, load_card, write_card

#: What may change under a site's feet without a new set-up, in words.
_MAY_CHANGE = {
    "address": "address of the coordinator",
    "local_epochs": "passes over the data in a round",
    "rounds": "rounds",
    "bundle": "app bundle",
    "terms": "terms of evaluation",
    "privacy": "privacy",
    "secure_sum": "secure sums",
}


@dataclass(frozen=True, slots=True)
class CardChange:
    """changes: since the card before. to_do: what this site's files still say otherwise. One sentence each."""

    changes: tuple[str, ...]
    to_do: tuple[str, ...]


def replace_card(site: SiteFile, new: AgreedCard) -> CardChange:
    """Take ``new`` over as the card of ``site``, and say what is different.

    Raises:
        ConfigError: the site file names no card; ``new`` is of another federation, authority, base or model, or gives
            another key for this site. The card stays as it was.
    """
    path = card_path(site)
    before = load_card(path) if path.exists() else None
    if faults := [*_site_faults(site, new.card), *_specification_fault(before, new.card)]:
        raise ConfigError(
            "the new card",
            faults,
            remedy="ask the coordinator which is right; for another base, set up another folder: more-client init",
            avoid="edit the site file until it fits",
        )
    require_own_key(new, site.site, read_enrolment(site.keys.node.parent.parent))
    changes = tuple(_changes(before, new.card)) if before is not None else ("there was no card before",)
    to_do = (*_site_differences(site, new.card), *refused_by(load_policy(site.controls.policy), new))
    write_card(new.card, path)
    return CardChange(changes, to_do)


def card_path(site: SiteFile) -> Path:
    """Where the site's card lies; ConfigError where the site file names none."""
    if site.federation.card is None:
        raise ConfigError(
            "federation.card",
            ["the site file names no card"],
            remedy='write card = "federation-card.json" under [federation], and put the coordinator\'s card there',
        )
    return site.federation.card


def require_same_federation(site: SiteFile, card: FederationCard) -> None:
    """Refuse a card that is not of the federation of the site file: ConfigError with everything that differs."""
    if faults := [*_site_faults(site, card), *_site_differences(site, card)]:
        raise ConfigError(
            "federation.card",
            faults,
            remedy="take over the coordinator's present card with more-client card, and follow what it says",
        )


def refused_by(policy: SitePolicy | None, agreed: AgreedCard) -> tuple[str, ...]:
    """What the card asks for and the policy does not allow, one sentence each; None: there is no policy."""
    if policy is None:
        return ("there is no policy, so every round is refused",)
    card, exchange = agreed.card, policy.exchange
    named, most = exchange.specifications, exchange.max_bytes_per_round
    gates = (
        (card.bundle in policy.code.bundles, f"code.bundles does not name the app bundle {card.bundle}"),
        (not named or card.specification in named, f"exchange.specifications does not name {card.specification}"),
        (card.max_update_bytes <= most, f"exchange.max_bytes_per_round is {most}, an update {card.max_update_bytes}"),
        (card.rounds <= exchange.max_rounds, f"exchange.max_rounds is {exchange.max_rounds}, asked are {card.rounds}"),
        *_privacy_gates(policy.privacy, agreed),
        *(
            (not (fault := evaluation_fault(policy, digest)), f"evaluation on {name}: {fault}")
            for name, digest in card.terms.items()
        ),
    )
    return tuple(f"policy: {words}" for allowed, words in gates if not allowed)


def _privacy_gates(rule: PrivacyRule, agreed: AgreedCard) -> Iterator[tuple[bool, str]]:
    asked = agreed.privacy
    if asked.on:
        epsilon, delta = asked.target_epsilon or 0.0, asked.delta or 0.0
        yield asked.mode in rule.modes, f"privacy.modes does not name {asked.mode}"
        yield epsilon <= rule.epsilon, f"privacy.epsilon is below {epsilon:g}, which is asked for"
        yield delta <= rule.delta, f"privacy.delta is below {delta:g}, which is asked for"
    else:
        yield rule.unprotected, "privacy.unprotected is not true, and no privacy is asked for"
    if agreed.sums is None:
        yield rule.secure_sums != "required", "privacy.secure_sums is required, and none is asked for"
    else:
        yield rule.secure_sums != "refused", "privacy.secure_sums is refused, and one is asked for"


def _site_faults(site: SiteFile, card: FederationCard) -> Iterator[str]:
    """What never changes in a federation."""
    own = site.federation
    pairs = {
        "name": (own.name, card.name),
        "authority": (own.ca_fingerprint, card.ca_fingerprint),
        "LoRA method": (own.method, card.method),
        "public seed": (own.public_seed, card.public_seed),
    }
    yield from (f"{what}: {new}, and {old} in the site file" for what, (old, new) in pairs.items() if old != new)
    if own.fingerprint and (other := Fingerprint(own.fingerprint).differing(Fingerprint(card.fingerprint))):
        yield f"base: {', '.join(other)} differ from the site file"


def _specification_fault(before: FederationCard | None, new: FederationCard) -> Iterator[str]:
    if before is not None and before.specification != new.specification:
        yield f"exchange specification: {new.specification}, and {before.specification} before"


def _site_differences(site: SiteFile, card: FederationCard) -> Iterator[str]:
    own = site.federation
    if own.address != card.address:
        yield f'site file: write address = "{card.address}"'
    if own.local_epochs != card.local_epochs:
        yield f"site file: write local_epochs = {card.local_epochs}"


def _changes(before: FederationCard, new: FederationCard) -> Iterator[str]:
    for name in sorted(new.sites.keys() - before.sites.keys()):
        yield f"{name} joins"
    for name in sorted(before.sites.keys() - new.sites.keys()):
        yield f"{name} leaves"
    for name in sorted(before.sites.keys() & new.sites.keys()):
        old, now = before.sites[name], new.sites[name]
        if old.identity_key != now.identity_key:
            yield f"{name} has a new key for secure sums"
        if (old.patients, old.modalities) != (now.patients, now.modalities):
            yield f"{name} now declares {now.patients} patients and {', '.join(now.modalities)}"
    for field, words in _MAY_CHANGE.items():
        old_value, new_value = getattr(before, field), getattr(new, field)
        if old_value != new_value:
            yield f"{words}: {_shown(new_value)}, and {_shown(old_value)} before"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {content}" for key, content in value.items() if content not in (None, {})) or "none"
    return "none" if value is None else str(value)
