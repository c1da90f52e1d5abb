"""``site.toml``: the one file of a hospital that the daemon, the preflight and the receiver read.

site = "north"
store = "store"
sources = "SOURCES.toml"
base = "base"

[federation]
name = "chest-consortium"
address = "coordinator.example.org:8443"
root_certificate = "pki/ca.pem"
ca_fingerprint = "3f:9a:..."              # SHA-256 of that certificate, told by another way than the file

[public_bank]                             # only where patients are protected one by one
cohort = "public/cohort.toml"

[receiver]                                # only where studies come from a PACS
port = 11112
callers = [{ ae_title = "PACS", addresses = ["10.0.0.5"] }]

Everything else has a default beside this file; relative paths are taken from its folder.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from more_model.data.pairing import PairingRule
from more_model.data.sources import resolve
from more_model.data.split import SplitRule
from more_model.enrolment import site_name_fault
from more_model.lora_method import LoraMethod
from more_model.settings import host_and_port, read_mapping, validated
from more_model.training.words import LabelWording

_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
#: What the kernel takes as the path of a Unix socket, less the closing zero (unix(7)).
_SOCKET_PATH_BYTES = 107


def _located(path: object, info: ValidationInfo) -> object:
    """Relative paths count from the folder in the context, so that faults of absolute paths are found in the same
    pass."""
    if not isinstance(path, (str, Path)) or not info.context:
        return path
    return info.context["folder"] / Path(path).expanduser()


_Path = Annotated[Path, BeforeValidator(_located)]


class _Part(BaseModel):
    # Defaults are validated too, those of whole parts as well: their paths are located like those that are given.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, revalidate_instances="always")


class FederationPart(_Part):
    """Whom the site talks to. ``address``: ``host:port`` of the coordinator. ``root_certificate``: PEM of the authority
    that signed its certificate; ``ca_fingerprint``: hex SHA-256 of that authority's certificate (DER), colons allowed.
    ``method`` and ``public_seed``: the LoRA method and the seed of its public start, which belong to the base's
    fingerprint; ``fingerprint``: its parts (part -> hex digest) as the coordinator published them. ``local_epochs``:
    how often a round goes through the site's patients. ``card``: the card (`more_model.federation_card`), for secure
    sums and for what the site compares with its policy."""

    name: str
    address: str
    root_certificate: _Path
    ca_fingerprint: str
    method: LoraMethod = "ffa"
    public_seed: int = 2410_16239
    local_epochs: int = Field(default=1, ge=1)
    fingerprint: dict[str, str] = {}
    card: _Path | None = None

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return plain_name(name)

    @field_validator("address")
    @classmethod
    def _host_and_port(cls, address: str) -> str:
        return host_and_port(address)

    @field_validator("ca_fingerprint")
    @classmethod
    def _digest(cls, text: str) -> str:
        digest = text.replace(":", "").strip().lower()
        if not _HEX_DIGEST.fullmatch(digest):
            raise ValueError("give the SHA-256 fingerprint: 64 hexadecimal digits, with or without colons")
        return digest

    @property
    def host(self) -> str:
        """Of the coordinator, an IPv6 address without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Of the coordinator."""
        return int(self.address.rpartition(":")[2])


class KeysPart(_Part):
    """The site's own secrets, made at the site. ``node``: private key of the connection (ECDSA P-384). ``identity``:
    private key of secure sums (Ed25519). ``site``: 32 secret bytes, under which patients are hashed."""

    node: _Path = Path("keys/node")
    identity: _Path = Path("keys/identity")
    site: _Path = Path("keys/site")

    @property
    def all(self) -> dict[str, Path]:
        """Name -> file."""
        return {"node": self.node, "identity": self.identity, "site": self.site}


class ControlsPart(_Part):
    """What decides and what remembers. ``policy``: what the site allows. ``audit_log``: what left and what was refused;
    ``audit_anchor``: its newest head, kept elsewhere. ``ledger``: what of the privacy budget is spent; ``witness``: its
    newest head, in another folder."""

    policy: _Path = Path("policy.toml")
    audit_log: _Path = Path("records/audit.jsonl")
    audit_anchor: _Path = Path("witness/audit")
    ledger: _Path = Path("records/ledger.sqlite")
    witness: _Path = Path("witness/ledger")


class PublicBankPart(_Part):
    """Public records that private patients are contrasted with, the same at every site: of a cohort file or a run
    directory, whose stores hold nobody of this site. ``negatives`` of them are drawn for a step and kept for
    ``refresh_every`` steps. Needed by the privacy modes of patients."""

    cohort: _Path
    negatives: int = Field(default=128, ge=1)
    refresh_every: int = Field(default=1, ge=1)


class Caller(_Part):
    """Who may send studies: an application entity, and the addresses or networks that it calls from."""

    ae_title: str
    addresses: tuple[str, ...] = Field(min_length=1)

    @field_validator("ae_title")
    @classmethod
    def _title(cls, title: str) -> str:
        return _ae_title(title)

    @field_validator("addresses")
    @classmethod
    def _networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            try:
                ipaddress.ip_network(address)
            except ValueError as error:
                raise ValueError(f"{address!r} is neither an IP address nor a network such as 10.0.0.0/24") from error
        return addresses


class ReceiverTls(_Part):
    """TLS of the receiver: its certificate and key, and the authority that callers' certificates must come from."""

    certificate: _Path
    key: _Path
    caller_authority: _Path


class ReceiverPart(_Part):
    """The DICOM receiver. Nobody but ``callers`` may send. ``keep_free_gib``: it refuses studies rather than leave less
    on the disk of ``spool``. Memory: up to three times ``max_instance_mib`` for each of ``max_associations``."""

    ae_title: str = "MORE_FED"
    host: str = "127.0.0.1"
    port: int = Field(default=11112, ge=0, le=65535)
    spool: _Path = Path("spool")
    callers: tuple[Caller, ...]
    keep_free_gib: float = Field(default=5.0, ge=0)
    max_instance_mib: int = Field(default=128, ge=1, le=512)
    max_associations: int = Field(default=4, ge=1, le=64)
    tls: ReceiverTls | None = None

    @field_validator("ae_title")
    @classmethod
    def _title(cls, title: str) -> str:
        return _ae_title(title)

    @field_validator("callers")
    @classmethod
    def _not_empty(cls, callers: tuple[Caller, ...]) -> tuple[Caller, ...]:
        # Field(min_length=1) would count only the valid entries and so report a fault that is none.
        if not callers:
            raise ValueError("name at least one caller; nobody else may send")
        return callers


class SiteFile(_Part):
    """See the head of this module. ``work``: answers kept for repeated questions and other state of the daemon.
    ``socket``: where the relay reaches the daemon. ``pairing``, ``split``, ``label_wordings``: as in a cohort file.
    ``evaluation_threshold``: smaller counts of patients never leave."""

    site: str
    store: _Path = Path("store")
    sources: _Path = Path("SOURCES.toml")
    base: _Path = Path("base")
    work: _Path = Path("work")
    socket: _Path = Path("run/daemon.sock")
    federation: FederationPart
    keys: KeysPart = KeysPart()
    controls: ControlsPart = ControlsPart()
    public_bank: PublicBankPart | None = None
    receiver: ReceiverPart | None = None
    pairing: PairingRule = PairingRule()
    split: SplitRule = SplitRule()
    label_wordings: tuple[LabelWording, ...] = ()
    evaluation_threshold: int = Field(default=5, ge=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(default=2, ge=1)

    @field_validator("site")
    @classmethod
    def _plain_name(cls, site: str) -> str:
        return plain_name(site)

    @field_validator("pairing")
    @classmethod
    def _admissions_located(cls, pairing: PairingRule, info: ValidationInfo) -> PairingRule:
        return resolve(pairing, info.context["folder"]) if info.context else pairing

    @field_validator("socket")
    @classmethod
    def _short_enough(cls, socket: Path) -> Path:
        if len(str(socket).encode()) > _SOCKET_PATH_BYTES:
            raise ValueError(f"the path of a Unix socket may have {_SOCKET_PATH_BYTES} bytes; give a shorter one")
        return socket

    @model_validator(mode="after")
    def _one_place_each(self) -> Self:
        named = list(self.paths())
        shared = {path for path, count in Counter(path for _, path in named).items() if count > 1}
        if shared:
            names = ", ".join(name for name, path in named if path in shared)
            raise ValueError(f"the same path stands for several things: {names}")
        return self

    def paths(self) -> Iterator[tuple[str, Path]]:
        """Name and path of everything that the file points at, in its order."""
        parts = (("", self), ("federation.", self.federation), ("keys.", self.keys), ("controls.", self.controls))
        optional = (("public_bank.", self.public_bank), ("receiver.", self.receiver))
        for prefix, part in (*parts, *((prefix, part) for prefix, part in optional if part is not None)):
            yield from ((f"{prefix}{name}", value) for name, value in part if isinstance(value, Path))


def plain_name(name: str) -> str:
    """A name that can stand in paths, logs and certificates; raises ValueError for another."""
    if (fault := site_name_fault(name)) is not None:
        raise ValueError(fault)
    return name


def load_site_file(path: Path) -> SiteFile:
    """The site file, all paths absolute.

    Raises:
        ConfigError: every fault of it at once.
    """
    return validated(SiteFile, read_mapping(path), str(path), context={"folder": path.resolve().parent})


def _ae_title(title: str) -> str:
    """An application entity title: up to 16 characters, no backslash, no blanks at its ends (DICOM PS3.5, 6.2)."""
    if not _AE_TITLE.fullmatch(title):
        raise ValueError("an AE title has 1 to 16 printable characters, no backslash and no blanks at its ends")
    return title
