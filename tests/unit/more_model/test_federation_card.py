"""The federation card: as a file, and as one digest that people compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from more_model.errors import ConfigError
from more_model.federation_card import NAME, FederationCard, load_card, write_card

CONTENT: dict[str, Any] = {
    "schema": 1,
    "name": "chest",
    "address": "coordinator.example.org:8443",
    "ca_fingerprint": "3f" * 32,
    "method": "ffa",
    "public_seed": 7,
    "local_epochs": 1,
    "rounds": 8,
    "fingerprint": {"base weights": "ab" * 32, "LoRA method": "ffa"},
    "specification": "cd" * 32,
    "max_update_bytes": 1000,
    "bundle": "ef" * 32,
    "terms": {"chexpert_ecg": "01" * 32},
    "privacy": {"mode": "none", "clip_norm": 1.0},
    "secure_sum": None,
    "sites": {"north": {"patients": 1200, "modalities": ["xray", "report"], "identity_key": "23" * 32}},
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / NAME
    path.write_text(json.dumps({**CONTENT, **changes}), encoding="utf-8")
    return path


def test_a_card_comes_back_from_its_file_and_from_its_folder(tmp_path: Path) -> None:
    card = FederationCard.model_validate(CONTENT)
    write_card(card, tmp_path / NAME)
    assert load_card(tmp_path / NAME) == load_card(tmp_path) == card
    assert json.loads((tmp_path / NAME).read_text()) == CONTENT
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o644


def test_the_digest_is_of_the_content_and_not_of_the_layout(tmp_path: Path) -> None:
    card = load_card(written(tmp_path))
    turned = dict(reversed(CONTENT.items()))
    (tmp_path / NAME).write_text(json.dumps(turned, indent=7))
    assert load_card(tmp_path).digest() == card.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 9},
        {"sites": {}},
        {"bundle": "ee" * 32},
        {"privacy": {"mode": "none", "clip_norm": 2.0}},
        {"sites": {"north": {**CONTENT["sites"]["north"], "identity_key": "24" * 32}}},
    ],
)
def test_whatever_changes_changes_the_digest(tmp_path: Path, change: dict[str, Any]) -> None:
    assert load_card(written(tmp_path, **change)).digest() != FederationCard.model_validate(CONTENT).digest()


def test_every_fault_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        schema=2,
        name="chest\nrounds = 9",
        address="https://coordinator",
        bundle="short",
        fingerprint={"base\nweights": "ab"},
        sites={"../north": {"patients": 0, "modalities": ["mri"], "identity_key": "23"}},
        password="none",
    )
    with pytest.raises(ConfigError) as error:
        load_card(path)
    faults = "\n".join(error.value.faults)
    for place in ("schema", "name", "address", "bundle", "fingerprint", "patients", "modalities", "identity_key"):
        assert place in faults
    assert "password: there is no such setting" in faults


def test_no_card(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_card(tmp_path)
