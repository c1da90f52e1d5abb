"""What a coordinator hands out, as a hospital finds it on its disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from trees.certificates import write_certificate
from typer.testing import CliRunner, Result

from client.commands.card import card
from client.commands.init import init
from client.commands.policy import policy
from more_model.federation_card import NAME, FederationCard, write_card

DECOUPLED = {"mode": "patient-decoupled", "target_epsilon": 8.0, "delta": 1e-4, "sampling_rate": 0.1}


@dataclass(frozen=True)
class HandedOut:
    """The folder of a card, and the fingerprint that is told by telephone. `again` writes a changed card there."""

    folder: Path
    told: str

    def again(self, **changes: Any) -> FederationCard:
        content = {
            "name": "chest",
            "address": "coordinator.example.org:8443",
            "ca_fingerprint": self.told,
            "method": "ffa",
            "public_seed": 2410_16239,
            "local_epochs": 1,
            "rounds": 8,
            "fingerprint": {"base weights": "ab" * 32, "LoRA method": "ffa"},
            "specification": "cd" * 32,
            "max_update_bytes": 1000,
            "bundle": "ef" * 32,
            "terms": {"chexpert_ecg": "01" * 32},
            "privacy": {"mode": "none"},
            **changes,
        }
        card = FederationCard.model_validate(content)
        write_card(card, self.folder / NAME)
        return card


HandOut = Callable[..., HandedOut]
Run = Callable[..., Result]


@pytest.fixture
def hand_out(tmp_path: Path) -> HandOut:
    """``hand_out("card", rounds=4)``: a folder with an authority of its own."""

    def make(name: str = "card", **changes: Any) -> HandedOut:
        folder = tmp_path / name
        folder.mkdir()
        made = write_certificate(folder, "root")
        made.key.unlink()
        handed = HandedOut(folder, made.fingerprint)
        handed.again(**changes)
        return handed

    return make


@pytest.fixture
def decoupled() -> dict[str, Any]:
    """Privacy for every patient, as a card says it."""
    return dict(DECOUPLED)


@pytest.fixture
def run() -> Run:
    """``run("policy", "allow", path)``: the three commands by which a hospital sets itself up."""
    app = typer.Typer()
    app.command()(init)
    app.command()(card)
    app.add_typer(policy, name="policy")

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    return invoke


@pytest.fixture
def init_north(run: Run, tmp_path: Path) -> Callable[..., Result]:
    """``init_north(handed, told=..., patients=...)``: the site north in the folder north."""

    def invoke(handed: HandedOut | None, *options: object, told: str | None = None, patients: int = 1200) -> Result:
        kinds = ("--modality", "xray", "--modality", "report")
        card_options = () if handed is None else ("--card", handed.folder, "--ca-fingerprint", told or handed.told)
        return run(
            "init", "north", "--out", tmp_path / "north", "--patients", patients, *kinds, *card_options, *options
        )

    return invoke
