"""The federation card: what a coordinator tells hospitals of its federation, in one file that names no secret.

A hospital sets itself up from it and finds the other sites' public keys in it. The card proves nothing by itself: what
the two sides compare by telephone is the fingerprint of the authority and `FederationCard.digest`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from more_model.data.study import Modality
from more_model.enrolment import site_name_fault
from more_model.lora_method import LoraMethod
from more_model.private_file import replace
from more_model.settings import host_and_port, load_settings

NAME = "federation-card.json"
#: Beside the card: the authority's certificate (PEM), and the app bundle that the coordinator starts runs with.
ROOT_NAME = "root.pem"
BUNDLE_NAME = "bundle.fab"

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _plain(name: str) -> str:
    if site_name_fault(name) is not None:
        raise ValueError("use 1 to 64 letters, digits, dots, dashes and underscores, first a letter or digit")
    return name


_Name = Annotated[str, AfterValidator(_plain)]
# These words are shown to people and written into comments: no line breaks, no control characters.
_Words = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CardSite(_Part):
    """What a site declared publicly. ``identity_key``: its public key of secure sums (Ed25519), 64 hexadecimal digits
    as in its enrolment."""

    patients: int = Field(ge=1)
    modalities: tuple[Modality, ...] = Field(min_length=1)
    identity_key: _Digest


class FederationCard(_Part):
    """ca_fingerprint: hex SHA-256 of the authority's certificate (DER). fingerprint: the base's, part -> digest
    (`more_model.exchange.Fingerprint`). specification: digest of the `ExchangeSpec`; max_update_bytes: of all its
    tensors. bundle: hex SHA-256 of the app bundle. terms: name of a wording -> digest of its evaluation terms. privacy,
    secure_sum: settings as JSON objects, None without secure sums. sites: those that are enrolled."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: _Name
    address: Annotated[str, AfterValidator(host_and_port)]
    ca_fingerprint: _Digest
    method: LoraMethod
    public_seed: int
    local_epochs: int = Field(ge=1)
    rounds: int = Field(ge=1)
    fingerprint: dict[_Words, _Words]
    specification: _Digest
    max_update_bytes: int = Field(ge=1)
    bundle: _Digest
    terms: dict[_Name, _Digest] = {}
    privacy: dict[str, Any] = {}
    secure_sum: dict[str, Any] | None = None
    sites: dict[_Name, CardSite] = {}

    def digest(self) -> str:
        """Hex SHA-256 over the content, whatever the layout of the file."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(self._content(), indent=2) + "\n"

    def _content(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def load_card(path: Path) -> FederationCard:
    """The card in a file, or in a folder under its usual name.

    Raises:
        ConfigError: every fault of it at once.
    """
    return load_settings(FederationCard, path / NAME if path.is_dir() else path)


def write_card(card: FederationCard, path: Path) -> None:
    """Write or replace a card; readers see the old one or the new one, never a part."""
    replace(path, card.to_json().encode(), mode=0o644)
