"""`more-client init --card`: a site file from the coordinator's card, and nothing overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.policy import SitePolicy, load_policy
from client.site_file import load_site_file
from more_model.enrolment import Enrolment
from more_model.federation_card import load_card

# The fixtures `hand_out`, `run`, `init_north` and `decoupled` stand in conftest.py.


def identity_of(folder: Path) -> str:
    return Enrolment.read((folder / "enrolment.json").read_bytes(), "it").identity.hex()


def test_from_nothing_to_a_site_file(hand_out: Any, init_north: Any, tmp_path: Path) -> None:
    handed = hand_out(local_epochs=2)
    colons = ":".join(handed.told[start : start + 2] for start in range(0, 64, 2)).upper()
    done = init_north(handed, told=colons)
    assert done.exit_code == 0, done.output
    folder, card = tmp_path / "north", load_card(handed.folder)
    site = load_site_file(folder / "site.toml")
    assert (site.site, site.federation.name, site.federation.address) == ("north", card.name, card.address)
    assert (site.federation.local_epochs, site.federation.method) == (2, "ffa")
    assert (site.federation.ca_fingerprint, site.federation.fingerprint) == (handed.told, card.fingerprint)
    assert site.federation.root_certificate.read_bytes() == (handed.folder / "root.pem").read_bytes()
    assert site.federation.card is not None and load_card(site.federation.card) == card
    assert all(path.is_file() for path in site.keys.all.values())
    assert card.digest() in done.stdout and "Fingerprint, to be read out by telephone" in done.stdout


def test_the_policy_allows_nothing_and_shows_what_is_asked_for(hand_out: Any, init_north: Any, tmp_path: Path) -> None:
    handed = hand_out()
    init_north(handed)
    path = tmp_path / "north" / "policy.toml"
    assert load_policy(path) == SitePolicy()
    text = path.read_text()
    for line in (
        '# name = "chest"',
        f'# ca_fingerprint = "{handed.told}"',
        f'# bundles = ["{"ef" * 32}"]',
        f'# specifications = ["{"cd" * 32}"]',
        "# max_rounds = 8",
        "# unprotected = true",
        f'# terms = ["{"01" * 32}"]',
    ):
        assert line in text.splitlines()


def test_another_authority_is_refused_and_nothing_written(hand_out: Any, init_north: Any, tmp_path: Path) -> None:
    handed = hand_out()
    done = init_north(handed, told="ab" * 32)
    assert done.exit_code == 2 and "by telephone" not in done.stdout
    assert f"root.pem has the fingerprint {handed.told}" in done.stderr
    handed.again(ca_fingerprint="ab" * 32)
    assert "is of another authority" in init_north(handed).stderr
    (handed.folder / "root.pem").write_text("none")
    assert "there is no certificate" in init_north(handed).stderr
    assert not (tmp_path / "north").exists()


def test_settings_that_are_not_understood_are_refused(hand_out: Any, init_north: Any) -> None:
    done = init_north(hand_out(privacy={"mode": "perfect"}))
    assert done.exit_code == 2 and "privacy" in done.stderr and "mode" in done.stderr
    done = init_north(hand_out("other", secure_sum={"minimum_contributors": 1}))
    assert done.exit_code == 2 and "minimum_contributors" in done.stderr


def test_a_second_call_overwrites_nothing(hand_out: Any, init_north: Any, tmp_path: Path) -> None:
    handed = hand_out()
    init_north(handed)
    before = {path: path.read_bytes() for path in (tmp_path / "north").rglob("*") if path.is_file()}
    done = init_north(handed)
    assert done.exit_code == 2 and "site.toml is there already" in done.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "north").rglob("*") if path.is_file()} == before


def test_keys_and_policy_of_an_earlier_call_stay(hand_out: Any, init_north: Any, run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "north"
    assert init_north(None).exit_code == 0
    run("policy", "init", folder / "policy.toml")
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    own = {"patients": 1200, "modalities": ["xray", "report"], "identity_key": identity_of(folder)}
    handed = hand_out(sites={"north": own})

    other = init_north(handed, patients=1300)
    assert other.exit_code == 2 and "made for north with 1200 patients" in other.stderr
    facts = json.loads(init_north(handed, "--json").stdout)
    assert (facts["keys_kept"], facts["policy_kept"], facts["in_card"]) == (True, True, True)
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_card_with_another_key_of_this_site_is_refused(hand_out: Any, init_north: Any, tmp_path: Path) -> None:
    handed = hand_out(sites={"north": {"patients": 5, "modalities": ["xray", "report"], "identity_key": "23" * 32}})
    done = init_north(handed)
    assert done.exit_code == 2 and "not the key in this folder" in done.stderr
    assert not (tmp_path / "north").exists()


@pytest.mark.parametrize(("private", "shown"), [(True, True), (False, False)])
def test_a_public_bank_is_shown_where_patients_need_one(
    hand_out: Any, init_north: Any, decoupled: dict[str, Any], tmp_path: Path, private: bool, shown: bool
) -> None:
    assert init_north(hand_out(privacy=decoupled if private else {"mode": "none"})).exit_code == 0
    assert ("[public_bank]" in (tmp_path / "north" / "site.toml").read_text()) is shown


def test_card_and_fingerprint_belong_together(run: Any, hand_out: Any, tmp_path: Path) -> None:
    options = ("--patients", 5, "--modality", "xray", "--modality", "report", "--card", hand_out().folder)
    done = run("init", "north", "--out", tmp_path / "north", *options)
    assert done.exit_code == 2 and "give both or neither" in done.stderr
