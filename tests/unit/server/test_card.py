"""The card of a federation: who is in it, what it says, and what it refuses to say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w
from cryptography.hazmat.primitives.serialization import Encoding

from client.site_keys import make_keys
from more_model.base import Assembled
from more_model.errors import ConfigError
from more_model.evaluation.federated_terms import evaluation_terms
from more_model.exchange import ExchangeSpec, Fingerprint
from more_model.federation_card import load_card
from server.authority import load_certificate, make_authority
from server.card import card_of, open_points, publish
from server.federation_file import FederationFile, load_federation
from server.sites import NAME, SiteRegister

KINDS = ("xray", "ecg", "report")
BUNDLE = b"a bundle"


@pytest.fixture
def assembled(spec: ExchangeSpec, fingerprint: Fingerprint) -> Assembled:
    """Without a model: a card is made from what is said of it."""
    return Assembled(cast(Any, None), spec, fingerprint)


def federation(folder: Path, sites: dict[str, Any], **content: Any) -> FederationFile:
    (folder / "base").mkdir(exist_ok=True)
    named = {name: {"patients": 100, "modalities": KINDS, **site} for name, site in sites.items()}
    content = {"name": "chest", "public_address": "localhost:8443", "base": "base", "sites": named, **content}
    (folder / "federation.toml").write_text(tomli_w.dumps(content))
    found = load_federation(folder)
    if not found.certificates.root.exists():
        make_authority(found.certificates, "chest")
    return found


def enroll(settings: FederationFile, folder: Path, *names: str) -> SiteRegister:
    register = SiteRegister(settings.state / NAME)
    for name in names:
        register.enroll(make_keys(folder / name, name, patients=100, modalities=KINDS).enrolment, by="somebody")
    return register


def test_in_it_are_the_sites_that_are_named_and_enrolled(tmp_path: Path, assembled: Assembled) -> None:
    settings = federation(tmp_path, {"north": {}, "south": {}})
    register = enroll(settings, tmp_path, "north", "elsewhere")
    card = card_of(settings, register, assembled, BUNDLE)
    assert list(card.sites) == ["north"]
    assert card.sites["north"].identity_key == register.enrolled()["north"].identity.hex()
    assert open_points(card, settings) == ("south is named in federation.toml and not enrolled",)
    register.revoke("north", reason="left", by="somebody")
    assert card_of(settings, register, assembled, BUNDLE).sites == {}


def test_what_it_says_is_what_hospitals_compare(tmp_path: Path, assembled: Assembled) -> None:
    settings = federation(tmp_path, {"north": {}}, evaluation={}, local_epochs=2, rounds={"rounds": 4})
    card = card_of(settings, enroll(settings, tmp_path), assembled, BUNDLE)
    root = load_certificate(settings.certificates.root).public_bytes(Encoding.DER)
    assert card.ca_fingerprint == hashlib.sha256(root).hexdigest()
    assert card.bundle == hashlib.sha256(BUNDLE).hexdigest()
    assert (card.specification, card.max_update_bytes) == (assembled.spec.digest(), assembled.spec.nbytes)
    assert card.fingerprint == assembled.fingerprint.parts
    assert card.terms == {"chexpert_ecg": evaluation_terms("chexpert_ecg").digest()}
    assert (card.rounds, card.local_epochs, card.secure_sum, card.privacy["mode"]) == (4, 2, None, "none")


def test_without_evaluation_there_are_no_terms(tmp_path: Path, assembled: Assembled) -> None:
    settings = federation(tmp_path, {"north": {}})
    assert card_of(settings, enroll(settings, tmp_path), assembled, BUNDLE).terms == {}


def test_what_a_site_signed_and_what_is_said_of_it_must_be_one(tmp_path: Path, assembled: Assembled) -> None:
    settings = federation(tmp_path, {"north": {"patients": 90}, "south": {"modalities": ["xray", "report"]}})
    register = enroll(settings, tmp_path, "north", "south")
    with pytest.raises(ConfigError, match="2 faults") as error:
        card_of(settings, register, assembled, BUNDLE)
    assert error.value.faults[0] == "sites.north.patients: 90, but the site signed 100"


def test_secure_sums_say_which_sites_are_missing(tmp_path: Path, assembled: Assembled) -> None:
    names = ("north", "south", "west")
    settings = federation(tmp_path, {name: {} for name in names}, secure_sum={})
    register = enroll(settings, tmp_path, "north", "south")
    points = open_points(card_of(settings, register, assembled, BUNDLE), settings)
    assert "secure sums of ecg need 3 sites; 2 with such studies are enrolled" in points
    enroll(settings, tmp_path, "west")
    assert open_points(card_of(settings, register, assembled, BUNDLE), settings) == ()


def test_the_folder_is_written_again_and_holds_no_secret(tmp_path: Path, assembled: Assembled) -> None:
    settings = federation(tmp_path, {"north": {}})
    first = card_of(settings, enroll(settings, tmp_path), assembled, BUNDLE)
    publish(first, settings, BUNDLE, tmp_path / "card")
    second = card_of(settings, enroll(settings, tmp_path, "north"), assembled, BUNDLE)
    publish(second, settings, BUNDLE, tmp_path / "card")
    assert load_card(tmp_path / "card") == second != first
    files = {path.name: path.read_bytes() for path in (tmp_path / "card").iterdir()}
    assert set(files) == {"federation-card.json", "root.pem", "bundle.fab"}
    assert not any(b"PRIVATE KEY" in content for content in files.values())
