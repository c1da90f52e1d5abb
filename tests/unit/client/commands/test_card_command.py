"""`more-client card`: a later card of the same federation, with what changed and what is left to decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from more_model.federation_card import load_card

# The fixtures `hand_out`, `run` and `init_north` stand in conftest.py.
SOUTH = {"patients": 300, "modalities": ["ecg", "report"], "identity_key": "45" * 32}


@pytest.fixture
def north(hand_out: Any, init_north: Any, run: Any, tmp_path: Path) -> Any:
    """The site file of a site with a policy in force, and what it was handed out."""
    handed = hand_out(sites={"south": SOUTH})
    assert init_north(handed).exit_code == 0
    site = tmp_path / "north" / "site.toml"
    assert run("policy", "allow", site, "--minimum-patients", 200, "--unprotected").exit_code == 0
    return site, handed


def test_what_changed_is_said_and_the_card_replaced(north: Any, run: Any) -> None:
    site, handed = north
    west = {"patients": 100, "modalities": ["xray", "report"], "identity_key": "67" * 32}
    new = handed.again(
        sites={"west": west, "south": {**SOUTH, "identity_key": "46" * 32, "patients": 400}}, bundle="aa" * 32, rounds=9
    )
    done = run("card", site, handed.folder, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["digest"] == new.digest() and load_card(site.with_name("federation-card.json")) == new
    assert said["changes"] == [
        "west joins",
        "south has a new key for secure sums",
        "south now declares 400 patients and ecg, report",
        "rounds: 9, and 8 before",
        f"app bundle: {'aa' * 32}, and {'ef' * 32} before",
    ]
    assert said["to_do"] == [
        f"policy: code.bundles does not name the app bundle {'aa' * 32}",
        "policy: exchange.max_rounds is 8, asked are 9",
    ]
    handed.again(sites={})
    shown = run("card", site, handed.folder / "federation-card.json").stdout
    assert "Changed: south leaves" in shown and "Changed: west leaves" in shown


def test_the_same_card_changes_nothing(north: Any, run: Any) -> None:
    site, handed = north
    assert "Nothing has changed." in run("card", site, handed.folder).stdout


def test_what_the_site_file_says_otherwise_is_left_to_do(north: Any, run: Any) -> None:
    site, handed = north
    handed.again(sites={"south": SOUTH}, address="elsewhere.example.org:443", local_epochs=3)
    assert json.loads(run("card", site, handed.folder, "--json").stdout)["to_do"] == [
        'site file: write address = "elsewhere.example.org:443"',
        "site file: write local_epochs = 3",
    ]


def test_privacy_that_is_newly_asked_for_is_named(north: Any, run: Any, decoupled: dict[str, Any]) -> None:
    site, handed = north
    handed.again(privacy=decoupled, secure_sum={})
    said = json.loads(run("card", site, handed.folder, "--json").stdout)["to_do"]
    assert "policy: privacy.modes does not name patient-decoupled" in said
    assert "policy: privacy.epsilon is below 8, which is asked for" in said
    assert "policy: privacy.secure_sums is refused, and one is asked for" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "other"}, "name: other, and chest in the site file"),
        ({"ca_fingerprint": "ab" * 32}, "authority: abab"),
        ({"method": "rolora"}, "LoRA method: rolora"),
        ({"public_seed": 1}, "public seed: 1"),
        ({"fingerprint": {"base weights": "00", "LoRA method": "ffa"}}, "base: base weights differ"),
        ({"specification": "00" * 32}, "exchange specification: 0000"),
        ({"sites": {"north": SOUTH}}, "not the key in this folder"),
    ],
)
def test_another_federation_base_or_model_is_refused(north: Any, run: Any, change: dict[str, Any], said: str) -> None:
    site, handed = north
    before = load_card(site.with_name("federation-card.json"))
    handed.again(**change)
    done = run("card", site, handed.folder)
    assert done.exit_code == 2 and said in done.stderr
    assert load_card(site.with_name("federation-card.json")) == before


def test_a_policy_with_faults_keeps_the_card_as_it_was(north: Any, run: Any) -> None:
    site, handed = north
    before = load_card(site.with_name("federation-card.json"))
    handed.again(rounds=9)
    site.with_name("policy.toml").write_text("everything = true\n")
    assert run("card", site, handed.folder).exit_code == 2
    assert load_card(site.with_name("federation-card.json")) == before
