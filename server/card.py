"""The card of a federation, made from what the coordinator has: the federation file, the register, the base and the
app bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from more_model.data.study import Modality
from more_model.errors import ConfigError
from more_model.federation_card import BUNDLE_NAME, NAME, ROOT_NAME, CardSite, FederationCard, write_card
from more_model.private_file import replace
from privacy.secure_sum.settings import fewest_contributors
from server.authority import fingerprint
from server.federation_file import FederationFile
from server.sites import SiteEntry, SiteRegister, declared_faults

if TYPE_CHECKING:
    from more_model.base import Assembled


def card_of(federation: FederationFile, register: SiteRegister, assembled: Assembled, bundle: bytes) -> FederationCard:
    """The card of now. ``assembled``: the federation's base with its adapters; ``bundle``: the app bundle of its runs.
    In it are the sites that are both enrolled and named in the federation file.

    Raises:
        ConfigError: a site that is named with other patients or modalities than it signed; no authority; no such
            wordings for the evaluation.
    """
    enrolled = register.enrolled()
    return FederationCard(
        schema=1,
        name=federation.name,
        address=federation.public_address,
        ca_fingerprint=fingerprint(federation.certificates.root).replace(":", ""),
        method=federation.method,
        public_seed=federation.public_seed,
        local_epochs=federation.local_epochs,
        rounds=federation.rounds.rounds,
        fingerprint=dict(assembled.fingerprint.parts),
        specification=assembled.spec.digest(),
        max_update_bytes=assembled.spec.nbytes,
        bundle=hashlib.sha256(bundle).hexdigest(),
        terms=_terms(federation),
        privacy=federation.privacy.model_dump(mode="json"),
        secure_sum=None if federation.secure_sum is None else federation.secure_sum.model_dump(mode="json"),
        sites=_sites(federation, {name: enrolled[name] for name in sorted(federation.sites) if name in enrolled}),
    )


def publish(card: FederationCard, federation: FederationFile, bundle: bytes, folder: Path) -> None:
    """Write the card, the authority's certificate and the bundle to ``folder``, in the place of earlier ones."""
    replace(folder / ROOT_NAME, federation.certificates.root.read_bytes(), mode=0o644)
    replace(folder / BUNDLE_NAME, bundle, mode=0o644)
    # Last: it vouches for the two others.
    write_card(card, folder / NAME)


def open_points(card: FederationCard, federation: FederationFile) -> tuple[str, ...]:
    """What keeps a run of this federation from beginning with this card, in words; empty where nothing does."""
    points = [f"{name} is named in federation.toml and not enrolled" for name in federation.sites.keys() - card.sites]
    sums = federation.secure_sum
    if sums is None:
        return tuple(sorted(points))
    fewest = fewest_contributors(sums, federation.privacy, len(federation.sites))
    for modality in Modality:
        wanted = any(modality in site.modalities for site in federation.sites.values())
        having = sum(modality in site.modalities for site in card.sites.values())
        if wanted and having < fewest:
            points.append(
                f"secure sums of {modality.value} need {fewest} sites; {having} with such studies are enrolled"
            )
    return tuple(sorted(points))


def _sites(federation: FederationFile, enrolled: Mapping[str, SiteEntry]) -> dict[str, CardSite]:
    if faults := declared_faults(federation.sites, enrolled):
        raise ConfigError(
            "federation.toml",
            faults,
            remedy="write there what the site signed, or have it make new keys with other numbers and enroll it anew",
        )
    return {
        name: CardSite(
            patients=entry.patients,
            modalities=tuple(Modality(kind) for kind in entry.modalities),
            identity_key=entry.identity.hex(),
        )
        for name, entry in enrolled.items()
    }


def _terms(federation: FederationFile) -> dict[str, str]:
    if federation.evaluation is None:
        return {}
    from more_model.evaluation.federated_terms import evaluation_terms

    prompts = federation.evaluation.prompts
    return {prompts: evaluation_terms(prompts).digest()}
