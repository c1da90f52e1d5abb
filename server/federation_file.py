"""``federation.toml``: the one file of a federation that the coordinator's commands read.

name = "chest-consortium"
public_address = "coordinator.example.org:8443"   # what hospitals dial
base = "base"                                     # a base folder, the same at every site

[sites.north]                                     # who is asked, and what each declares publicly
patients = 1200
modalities = ["xray", "ecg", "report"]

Everything else has a default; relative paths are taken from the file's folder.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from more_model.data.study import Modality
from more_model.enrolment import site_name_fault
from more_model.errors import ConfigError
from more_model.lora_method import LoraMethod, fault_of_round_count
from more_model.settings import host_and_port, read_mapping, validated
from more_model.training.settings import TrainingSettings
from privacy.rounds import is_patient_mode, round_plan
from privacy.secure_sum.compatibility import Choices, conflicts
from privacy.secure_sum.settings import SumSettings, lacking_contributors
from privacy.settings import PrivacySettings
from server.aggregation.methods import aggregation
from server.authority import AuthorityFolder
from server.best_round import MACRO, EarlyStop
from server.rounds import RoundSettings

NAME = "federation.toml"


def _located(path: object, info: ValidationInfo) -> object:
    if not isinstance(path, (str, Path)) or not info.context:
        return path
    return info.context["folder"] / Path(path).expanduser()


_Path = Annotated[Path, BeforeValidator(_located)]
_Port = Annotated[int, Field(ge=1, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ListenPart(_Part):
    """Where the coordinator listens. Hospitals reach ``fleet_host:fleet_port`` only, which forwards nothing but what
    their nodes need; with ``fleet = "external"`` a reverse proxy of yours does that. The other ports are on 127.0.0.1.
    """

    fleet: Literal["built-in", "external"] = "built-in"
    fleet_host: str = "0.0.0.0"
    fleet_port: _Port = 8443
    superlink_port: _Port = 9443
    status_port: _Port = 9080
    #: The largest request that is passed on. Flower cuts arrays into pieces of 5 MiB.
    max_request_mib: int = Field(default=8, ge=6, le=2048)

    @model_validator(mode="after")
    def _one_port_each(self) -> Self:
        named = {"superlink_port": self.superlink_port, "status_port": self.status_port}
        if self.fleet == "built-in":
            named["fleet_port"] = self.fleet_port
        shared = {port for port, count in Counter(named.values()).items() if count > 1}
        if shared:
            names = ", ".join(name for name, port in named.items() if port in shared)
            raise ValueError(f"the same port stands for several things: {names}")
        return self


class SitePart(_Part):
    """What a site declares publicly: the number of patients it trains on (it may round it), and what it has."""

    patients: int = Field(ge=1)
    modalities: tuple[Modality, ...] = Field(min_length=1)

    @field_validator("modalities")
    @classmethod
    def _trainable(cls, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        if Modality.REPORT not in modalities or len(set(modalities)) != len(modalities) or len(modalities) < 2:
            raise ValueError(
                "a site trains pairs of a text and an X-ray or an ECG: name report and at least one of them"
            )
        return modalities


class WaitsPart(_Part):
    """Bounds of every wait beside the round's own (`rounds.round_timeout_s`)."""

    start_s: float = Field(default=60, gt=0)
    connect_s: float = Field(default=3600, gt=0)
    #: Once `rounds.minimum_sites` have answered, a round no longer waits for sites that were away for so long.
    absent_s: float = Field(default=300, gt=0)
    #: How much longer than the round a message may live, so that a late answer is known as late.
    ttl_beyond_round_s: float = Field(default=60, ge=0)


class EvaluationPart(_Part):
    """Federated evaluation before round 1 and after each round: hospitals count their own held-out patients by score.
    ``prompts``: the wordings, by name. The best round is chosen by ``metric``, which must have a value before round 1.
    """

    prompts: str = "chexpert_ecg"
    split: Literal["validation", "test"] = "validation"
    metric: str = MACRO
    timeout_s: float = Field(default=1800, gt=0)
    early_stop: EarlyStop | None = None


class NotificationsPart(_Part):
    """Whom to tell of stalls, drops, budgets, certificates and quarantine. Passwords stand in files, not here."""

    webhooks: tuple[str, ...] = ()
    email_to: tuple[str, ...] = ()
    email_from: str | None = None
    smtp_server: str | None = None
    smtp_password_file: _Path | None = None

    @field_validator("webhooks")
    @classmethod
    def _addresses(cls, webhooks: tuple[str, ...]) -> tuple[str, ...]:
        parts = {address: urlsplit(address) for address in webhooks}
        strange = [
            address
            for address, part in parts.items()
            if part.scheme != "https" and (part.scheme, part.hostname) != ("http", "127.0.0.1")
        ]
        if strange:
            raise ValueError(f"use https: {', '.join(strange)}")
        return webhooks

    @model_validator(mode="after")
    def _whole_mail(self) -> Self:
        if self.email_to and (self.email_from is None or self.smtp_server is None):
            raise ValueError("e-mail needs email_from and smtp_server (host:port)")
        return self


class FederationFile(_Part):
    """See the head of this module. ``state``: journal, register of sites and everything else that changes.
    ``local_epochs`` passes over a site's own patients make one round. ``secure_sum``: the coordinator learns sums only.
    """

    name: str
    public_address: str
    base: _Path
    authority: _Path = Path("authority")
    state: _Path = Path("state")
    seed: int = 7
    public_seed: int = 2410_16239
    method: LoraMethod = "ffa"
    local_epochs: int = Field(default=1, ge=1)
    rounds: RoundSettings = RoundSettings()
    training: TrainingSettings = TrainingSettings()
    privacy: PrivacySettings = PrivacySettings()
    secure_sum: SumSettings | None = None
    listen: ListenPart = ListenPart()
    waits: WaitsPart = WaitsPart()
    evaluation: EvaluationPart | None = None
    notifications: NotificationsPart = Field(default={}, validate_default=True)
    sites: dict[str, SitePart] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if site_name_fault(name) is not None:
            raise ValueError("use 1 to 64 letters, digits, dots, dashes and underscores, first a letter or digit")
        return name

    @field_validator("public_address")
    @classmethod
    def _host_and_port(cls, address: str) -> str:
        return host_and_port(address)

    @field_validator("sites")
    @classmethod
    def _site_names(cls, sites: dict[str, SitePart]) -> dict[str, SitePart]:
        faults = [f"{site!r}: {fault}" for site in sites if (fault := site_name_fault(site)) is not None]
        if faults:
            raise ValueError("; ".join(faults))
        return sites

    @property
    def public_host(self) -> str:
        """Of the public address, an IPv6 address without brackets."""
        return self.public_address.rpartition(":")[0].strip("[]")

    @property
    def run_folder(self) -> Path:
        """Journal, checkpoints and figures of the run that goes on, or was the last."""
        return self.state / "run"

    @property
    def run_facts(self) -> dict[str, str]:
        """What of this file a run is bound to from its start; its journal holds it."""
        return {
            "method": self.method,
            "training": self.training.model_dump_json(),
            "seed": str(self.seed),
            "rounds": str(self.rounds.rounds),
            "local_epochs": str(self.local_epochs),
            "privacy": self.privacy.model_dump_json(),
            "secure_sum": "" if self.secure_sum is None else self.secure_sum.model_dump_json(),
        }

    @property
    def certificates(self) -> AuthorityFolder:
        """Where the certificates lie."""
        return AuthorityFolder(self.authority)


def read_federation(path: Path) -> FederationFile:
    """The federation file (or that of a folder), all paths absolute: enough to look after sites.

    Raises:
        ConfigError: every fault of single settings at once.
    """
    file = path / NAME if path.is_dir() else path
    content: dict[str, Any] = read_mapping(file)
    return validated(FederationFile, content, str(file), context={"folder": file.resolve().parent})


def load_federation(path: Path) -> FederationFile:
    """The same for a federation that is to run.

    Raises:
        ConfigError: every fault at once: of single settings, or, where those are sound, of settings that do not go
            together.
    """
    federation = read_federation(path)
    if faults := (*_combination_faults(federation), *_privacy_faults(federation)):
        raise ConfigError(str(path), faults, remedy="correct all of them; nothing has been started")
    return federation


def _combination_faults(federation: FederationFile) -> list[str]:
    method, sites, rounds = federation.method, federation.sites, federation.rounds
    faults = []
    if not sites:
        faults.append("sites: none is named; add a table [sites.NAME] for each that may be asked")
    if not federation.base.is_dir():
        faults.append(f"base: there is no folder {federation.base}")
    if (fault := fault_of_round_count(method, rounds.rounds)) is not None:
        faults.append(f"rounds.rounds: {fault}")
    if rounds.minimum_sites is not None and rounds.minimum_sites > len(sites):
        faults.append(f"rounds.minimum_sites: {rounds.minimum_sites} of {len(sites)} sites cannot be had")
    if federation.secure_sum is None:
        return faults
    checks = ("max-update-norm",) if rounds.max_update_norm is not None else ()
    faults += [f"secure_sum: {fault}" for fault in conflicts(Choices(aggregation=method, update_checks=checks))]
    studies = {name: {Modality.XRAY, Modality.ECG}.intersection(site.modalities) for name, site in sites.items()}
    lacking = lacking_contributors(federation.secure_sum, federation.privacy, studies)
    return faults + [f"secure_sum: {fault}" for fault in lacking]


def _privacy_faults(federation: FederationFile) -> list[str]:
    privacy, method = federation.privacy, aggregation(federation.method)
    if not privacy.on:
        return []
    faults = []
    if method.under_dp == "refused":
        faults.append(f"method {method.name!r} under differential privacy: {method.dp_note}")
    if is_patient_mode(privacy) and federation.training.proximal_mu > 0:
        faults.append("training.proximal_mu: private steps do not pull back to the global tensors; set it to 0")
    if privacy.mode == "hospital":
        named, sites = privacy.public_weights.keys(), federation.sites.keys()
        faults += [f"privacy.public_weights: site {site!r} has none" for site in sorted(sites - named)]
        faults += [f"privacy.public_weights: there is no site {site!r}" for site in sorted(named - sites)]
    for name, site in federation.sites.items():
        try:
            round_plan(privacy, site.patients, rounds=federation.rounds.rounds, local_epochs=federation.local_epochs)
        except ConfigError as error:
            faults += [f"sites.{name}: {fault}" for fault in error.faults]
    return faults
