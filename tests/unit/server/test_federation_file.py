"""federation.toml: one reading tells everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from more_model.errors import ConfigError
from server.federation_file import load_federation, read_federation

SOUND: dict[str, Any] = {
    "name": "consortium",
    "public_address": "fed.example.org:8443",
    "base": "base",
    "sites": {name: {"patients": 1000, "modalities": ["xray", "ecg", "report"]} for name in ("north", "south", "east")},
}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    (tmp_path / "base").mkdir()

    def written(**changes: Any) -> Path:
        (tmp_path / "federation.toml").write_text(tomli_w.dumps({**SOUND, **changes}), encoding="utf-8")
        return tmp_path

    return written


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_federation(path)
    return list(caught.value.faults)


def test_relative_paths_are_taken_from_the_files_folder(write: Any) -> None:
    folder = write()
    federation = load_federation(folder)
    assert federation.base == folder / "base"
    assert federation.certificates.root == folder / "authority" / "root.pem"
    assert federation == load_federation(folder / "federation.toml")
    assert federation.notifications.webhooks == ()


def test_every_single_fault_is_named_at_once(write: Any) -> None:
    found = faults(
        write(
            name="a b",
            public_address="https://fed.example.org",
            colour="green",
            rounds={"rounds": 0},
            listen={"fleet_port": 9443, "superlink_port": 9443},
            sites={"../x": {"patients": 1, "modalities": ["xray", "report"]}},
            notifications={"webhooks": ["http://127.0.0.1.example.org/hook"]},
        )
    )
    named = {fault.partition(":")[0] for fault in found}
    assert named == {
        "name",
        "public_address",
        "colour",
        "rounds.rounds",
        "listen",
        "sites",
        "notifications.webhooks",
    }


def test_every_impossible_combination_is_named_at_once(write: Any) -> None:
    found = faults(
        write(
            base="nowhere",
            method="rolora",
            rounds={"rounds": 3, "minimum_sites": 4, "max_update_norm": 1.0},
            secure_sum={},
            sites={
                "north": {"patients": 10, "modalities": ["xray", "report"]},
                "south": {"patients": 10, "modalities": ["ecg", "report"]},
            },
        )
    )
    assert [fault.partition(":")[0] for fault in found] == [
        "base",
        "rounds.rounds",
        "rounds.minimum_sites",
        "secure_sum",
        "secure_sum",
        "secure_sum",
    ]


def test_a_federation_without_sites_can_be_looked_after_but_not_run(write: Any) -> None:
    folder = write(sites={})
    assert read_federation(folder).sites == {}
    assert [fault.partition(":")[0] for fault in faults(folder)] == ["sites"]


def test_privacy_is_checked_against_every_sites_declared_number(write: Any) -> None:
    privacy = {"mode": "patient-decoupled", "target_epsilon": 4.0, "delta": 1e-3, "expected_patients": 200}
    sites = {**SOUND["sites"], "small": {"patients": 100, "modalities": ["xray", "report"]}}
    found = faults(write(privacy=privacy, sites=sites))
    assert {fault.partition(":")[0] for fault in found} == {"sites.north", "sites.south", "sites.east", "sites.small"}


def test_hospital_privacy_names_the_weight_of_every_site(write: Any) -> None:
    privacy = {
        "mode": "hospital",
        "noise_multiplier": 1.0,
        "delta": 1e-5,
        "public_weights": {"north": 0.5, "south": 0.3, "west": 0.2},
    }
    assert faults(write(privacy=privacy)) == [
        "privacy.public_weights: site 'east' has none",
        "privacy.public_weights: there is no site 'west'",
    ]


@pytest.mark.parametrize("modalities", [["xray"], ["report"], ["xray", "ecg"], ["xray", "xray", "report"]])
def test_a_site_without_a_trainable_pair_is_refused(write: Any, modalities: list[str]) -> None:
    (fault,) = faults(write(sites={"north": {"patients": 5, "modalities": modalities}}))
    assert fault.startswith("sites.north.modalities: a site trains pairs")


def test_an_ipv6_address_loses_its_brackets_in_the_certificate(write: Any) -> None:
    assert load_federation(write(public_address="[2001:db8::5]:8443")).public_host == "2001:db8::5"
