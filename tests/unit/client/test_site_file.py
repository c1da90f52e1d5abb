"""site.toml: what may be left out, where paths count from, and every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from client.site_file import SiteFile, load_site_file
from more_model.errors import ConfigError

LEAST: dict[str, Any] = {
    "site": "north",
    "federation": {
        "name": "chest",
        "address": "coordinator.example.org:8443",
        "root_certificate": "pki/ca.pem",
        "ca_fingerprint": ":".join(["3F"] * 32),
    },
}
CALLERS = [{"ae_title": "PACS", "addresses": ["10.0.0.5", "fd00::/8"]}]


def load(folder: Path, **changes: Any) -> SiteFile:
    path = folder / "site.toml"
    path.write_text(tomli_w.dumps({**LEAST, **changes}))
    return load_site_file(path)


def faults(folder: Path, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(folder, **changes)
    return [fault.split(" (given")[0] for fault in error.value.faults]


def test_the_least_that_has_to_be_said(tmp_path: Path) -> None:
    site = load(tmp_path)
    assert all(path.is_relative_to(tmp_path) for _, path in site.paths())
    assert site.controls.ledger == tmp_path / "records" / "ledger.sqlite"
    assert site.federation.ca_fingerprint == "3f" * 32
    assert (site.federation.host, site.federation.port) == ("coordinator.example.org", 8443)
    assert (site.receiver, site.evaluation_threshold) == (None, 5)


def test_paths_count_from_the_file_unless_they_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    pairing = {"rule": "admission-window", "admissions": "admissions.csv"}
    site = load(
        tmp_path,
        store="/srv/store",
        work="~/work",
        keys={"node": "k/n"},
        receiver={"callers": CALLERS},
        pairing=pairing,
    )
    assert (site.store, site.work, site.keys.node) == (
        Path("/srv/store"),
        Path("/home/somebody/work"),
        tmp_path / "k" / "n",
    )
    assert site.receiver is not None and site.receiver.spool == tmp_path / "spool"
    assert site.pairing.admissions == tmp_path / "admissions.csv"


def test_a_public_bank_is_named_or_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path).public_bank is None
    site = load(tmp_path, public_bank={"cohort": "public/cohort.toml", "negatives": 64})
    assert site.public_bank is not None and site.public_bank.negatives == 64
    assert ("public_bank.cohort", tmp_path / "public" / "cohort.toml") in site.paths()
    assert faults(tmp_path, public_bank={"negatives": 0}) == [
        "public_bank.cohort: Field required",
        "public_bank.negatives: Input should be greater than or equal to 1",
    ]


def test_an_address_of_version_6(tmp_path: Path) -> None:
    part = load(tmp_path, federation={**LEAST["federation"], "address": "[fd00::1]:443"}).federation
    assert (part.host, part.port) == ("fd00::1", 443)


def test_all_faults_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        site="../north",
        colour="red",
        device="gpu",
        socket="s" * 120,
        federation={**LEAST["federation"], "address": "https://c:8443", "ca_fingerprint": "3f", "name": ""},
        receiver={"callers": [{"ae_title": " PACS", "addresses": ["10.0.0.5/8"]}], "port": 70000},
    )
    assert {fault.split(":")[0] for fault in found} == {
        "site",
        "colour",
        "device",
        "socket",
        "federation.address",
        "federation.ca_fingerprint",
        "federation.name",
        "receiver.port",
        "receiver.callers.0.ae_title",
        "receiver.callers.0.addresses",
    }


@pytest.mark.parametrize("title", ["", "SEVENTEEN_LETTERS", "BACK\\SLASH", "BLANK ", "Umläut", "NEW\nLINE"])
def test_titles_that_dicom_forbids(tmp_path: Path, title: str) -> None:
    [fault] = faults(tmp_path, receiver={"callers": [{"ae_title": title, "addresses": ["10.0.0.5"]}]})
    assert fault.startswith("receiver.callers.0.ae_title: an AE title has 1 to 16")


def test_a_receiver_for_nobody_is_none(tmp_path: Path) -> None:
    assert faults(tmp_path, receiver={"callers": []}) == [
        "receiver.callers: name at least one caller; nobody else may send"
    ]


def test_one_path_cannot_be_two_things(tmp_path: Path) -> None:
    [fault] = faults(tmp_path, store="work", controls={"policy": "base"})
    assert fault == ("(whole file): the same path stands for several things: store, base, work, controls.policy")
