"""What the coordinator makes of the federation file and the register, and when it refuses to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.site_keys import make_keys
from more_model.enrolment import Enrolment
from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, Fingerprint
from privacy.rounds import round_plan
from server.deployed_protection import deployed_protection
from server.federation_file import FederationFile
from server.secure_rounds import set_up
from server.sites import SiteRegister

KINDS = ("xray", "ecg", "report")
PATIENTS = {"east": 40, "north": 100, "south": 70}
HOSPITAL = {
    "mode": "hospital", "delta": 0.01, "target_epsilon": 8.0,
    "public_weights": {"east": 0.25, "north": 0.5, "south": 0.25},
}  # fmt: skip
PATIENT_MODE = {"mode": "patient-decoupled", "delta": 0.001, "target_epsilon": 8.0, "sampling_rate": 0.5}
Enrolled = Callable[..., SiteRegister]


@pytest.fixture
def enrolled(tmp_path: Path) -> Enrolled:
    """``enrolled(north=90, west=10)``: the register with those sites; three usual ones without a word."""

    def enroll(kinds: tuple[str, ...] = KINDS, **patients: int) -> SiteRegister:
        register = SiteRegister(tmp_path / "sites.sqlite")
        for name, number in (patients or PATIENTS).items():
            made = make_keys(tmp_path / name, name, patients=number, modalities=kinds)
            register.enroll(Enrolment.read(made.file.read_bytes(), name), by="a test")
        return register

    return enroll


def federation(**changes: Any) -> FederationFile:
    content = {
        "name": "chest",
        "public_address": "127.0.0.1:8443",
        "base": "base",
        "rounds": {"rounds": 5},
        "sites": {name: {"patients": number, "modalities": KINDS} for name, number in PATIENTS.items()},
        **changes,
    }
    return FederationFile.model_validate(content)


def faults(file: FederationFile, register: SiteRegister) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        deployed_protection(file, register)
    return tuple(refused.value.faults)


def test_without_privacy_and_sums_nobody_has_to_be_enrolled(tmp_path: Path) -> None:
    found = deployed_protection(federation(), SiteRegister(tmp_path / "nothing.sqlite"))
    assert not found.privacy.on and found.sums is None and found.noise_multiplier is None


def test_sums_are_over_the_sites_that_are_named_and_enrolled(enrolled: Enrolled) -> None:
    register = enrolled(**PATIENTS, west=10)
    named = {**PATIENTS, "absent": 30}
    sites = {name: {"patients": number, "modalities": KINDS} for name, number in named.items()}
    found = deployed_protection(federation(secure_sum={}, sites=sites), register)
    assert found.sums is not None and found.sums.noise_multiplier == 0.0
    assert found.sums.weights.of_site == PATIENTS
    assert found.sums.roster.keys == {name: register.enrolled()[name].identity for name in PATIENTS}


def test_terms_change_with_the_noise_of_hospital_and_with_nothing_of_a_revoked_site(
    enrolled: Enrolled, spec: ExchangeSpec, fingerprint: Fingerprint
) -> None:
    register = enrolled(**PATIENTS, west=10)
    sums = {"dropouts": 0, "bits": 24, "max_weight": 2}

    def digest(file: FederationFile) -> str:
        found = deployed_protection(file, register)
        assert found.sums is not None
        of_round = set_up(found.sums, spec, fingerprint, found.privacy, run="run", number=1)
        return of_round.invitation.terms.digest()

    first = digest(federation(privacy=HOSPITAL, secure_sum=sums))
    assert digest(federation(privacy={**HOSPITAL, "target_epsilon": 4.0}, secure_sum=sums)) != first
    register.revoke("west", reason="it left", by="a test")
    assert digest(federation(privacy=HOSPITAL, secure_sum=sums)) == first


def test_only_hospital_has_noise_at_the_coordinator(enrolled: Enrolled) -> None:
    register, file = enrolled(), federation(privacy=HOSPITAL)
    alone = deployed_protection(file, register)
    planned = round_plan(file.privacy, PATIENTS["north"], rounds=5, local_epochs=1).noise_multiplier
    assert alone.noise_here and alone.noise_multiplier == planned > 0
    in_sums = deployed_protection(federation(privacy=HOSPITAL, secure_sum={}), register)
    assert not in_sums.noise_here and in_sums.noise_multiplier is None
    assert in_sums.sums is not None and in_sums.sums.noise_multiplier == planned
    patients = deployed_protection(federation(privacy=PATIENT_MODE), register)
    assert patients.privacy.mode == "patient-decoupled" and patients.noise_multiplier is None


def test_numbers_that_are_not_those_of_the_enrolment_are_named_at_once(enrolled: Enrolled) -> None:
    register = enrolled(("xray", "report"), east=40, north=99)
    plain = faults(federation(), register)
    assert [fault.partition(":")[0] for fault in plain] == [
        "sites.east.modalities",
        "sites.north.patients",
        "sites.north.modalities",
    ]
    found = faults(federation(privacy=HOSPITAL, secure_sum={}), register)
    assert [fault.partition(":")[0] for fault in found] == [
        "sites.east.modalities",
        "sites.north.patients",
        "sites.north.modalities",
        "secure_sum",
        "privacy.public_weights",
        "secure_sum",
    ]
    assert "not enrolled: south" in found[3] and found[4].endswith("they differ in south")
    assert found[5] == "secure_sum: xray: 2 sites have such studies, no sum over fewer than 3 is revealed"
