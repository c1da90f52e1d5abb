"""What a site hands over: signed with both keys, and nothing in it can be changed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from more_model.enrolment import Enrolment
from more_model.errors import ConfigError

NODE, OTHER_NODE = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
IDENTITY = Ed25519PrivateKey.generate()


def line(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, form).decode()


ENROLMENT = Enrolment("north", line(NODE), IDENTITY.public_key().public_bytes_raw(), 1200, ("xray", "report"))
FILE = ENROLMENT.signed(NODE, IDENTITY)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(FILE), **changes}).encode()


def test_it_is_read_as_it_was_written() -> None:
    assert Enrolment.read(FILE, "file") == ENROLMENT


def test_the_key_is_given_to_flower_in_its_own_form() -> None:
    assert serialization.load_pem_public_key(ENROLMENT.node_key_pem) == NODE.public_key()


def test_the_fingerprint_can_be_read_out_and_covers_both_keys() -> None:
    assert re.fullmatch(r"([0-9a-f]{4} ){7}[0-9a-f]{4}", ENROLMENT.fingerprint)
    other = Enrolment("north", line(OTHER_NODE), ENROLMENT.identity, 1200, ("xray", "report"))
    assert other.fingerprint != ENROLMENT.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "south"},
        {"patients": 12},
        {"modalities": ["ecg", "report"]},
        {"node_key": line(OTHER_NODE)},
        {"identity": "00" * 31 + "01"},
    ],
)
def test_any_change_breaks_a_signature(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the signature is not that of the key"):
        Enrolment.read(changed(**changes), "file")


def test_a_key_that_the_maker_does_not_hold_is_refused() -> None:
    stolen = ENROLMENT.signed(OTHER_NODE, IDENTITY)
    with pytest.raises(ConfigError, match=r"proofs\.node") as caught:
        Enrolment.read(stolen, "file")
    assert len(caught.value.faults) == 1


def test_all_faults_are_named_at_once() -> None:
    wrong = changed(
        site="../x", node_key="ssh-rsa", identity="12", patients=True, modalities=["xray", "xray"], proofs=1
    )
    with pytest.raises(ConfigError) as caught:
        Enrolment.read(wrong, "file")
    named = [fault.partition(":")[0] for fault in caught.value.faults]
    assert named == ["site", "node_key", "identity", "patients", "modalities", "proofs"]


def test_another_kind_of_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="ECDSA on P-384, and this is another kind"):
        Enrolment.read(changed(node_key=line(ec.generate_private_key(ec.SECP256R1()))), "file")


@pytest.mark.parametrize("file", [b"", b"[]", b"\xff\xfe", b"{" * 10_000, b" " * 20_000, changed(schema=2)])
def test_something_else_is_no_enrolment(file: bytes) -> None:
    with pytest.raises(ConfigError, match="this is no enrolment"):
        Enrolment.read(file, "file")
