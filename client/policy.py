"""What a site allows, written by its own people: whatever a policy does not name is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationInfo, field_validator

from client.policy_hours import Window, parsed_window
from more_model.exchange import TOWERS
from more_model.settings import load_settings
from privacy.sensitivity import Mode

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _digest(text: str) -> str:
    # As `openssl x509 -fingerprint -sha256` and `sha256sum` print them.
    plain = text.replace(":", "").lower()
    if not _SHA256.fullmatch(plain):
        raise ValueError("must be a SHA-256, 64 hexadecimal digits")
    return plain


def _window(text: str) -> str:
    parsed_window(text)
    return text


def _group(text: str) -> str:
    if text not in TOWERS:
        raise ValueError(f"must be one of {', '.join(TOWERS)}")
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must be a time zone such as Europe/Berlin that this machine knows") from error
    return name


Digest = Annotated[str, AfterValidator(_digest)]
Count = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class FederationRule(_Part):
    """Which federation: its name, and the SHA-256 of the certificate (DER) of its authority."""

    name: str = Field(default="", max_length=100)
    ca_fingerprint: Digest | None = None


class CodeRule(_Part):
    """Which code: SHA-256 of the installed packages (`client.installed_code`) and of the app bundles whose
    runs are answered (`client.flower_relay_service`)."""

    installed: tuple[Digest, ...] = ()
    bundles: tuple[Digest, ...] = ()


class ExchangeRule(_Part):
    """What may leave: one of these specifications (by digest), or whatever consists of these groups of tensors; where
    both are given, both must hold. Bytes count once, however often the same message is sent."""

    specifications: tuple[Digest, ...] = ()
    groups: tuple[Annotated[str, AfterValidator(_group)], ...] = ()
    max_bytes_per_round: Count = 0
    max_rounds: Count = 0


class PrivacyRule(_Part):
    """With which protection: privacy modes with what a run may cost each patient, updates without differential privacy
    only where ``unprotected`` says so, and whether an update may leave outside a secure sum."""

    modes: tuple[Mode, ...] = ()
    epsilon: float = Field(default=0.0, ge=0, allow_inf_nan=False, strict=True)
    delta: Share = 0.0
    unprotected: StrictBool = False
    secure_sums: Literal["required", "allowed", "refused"] = "required"

    @field_validator("epsilon", "delta")
    @classmethod
    def _a_budget_for_modes(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("modes") and value == 0:
            raise ValueError("modes are allowed, so say what a run may cost: above 0")
        return value


class EvaluationRule(_Part):
    """Whether this site measures models on its held-out patients: on these terms (digest of
    `more_model.evaluation.federated_terms.EvaluationTerms`), telling no count of fewer patients than
    ``minimum_count``. Where updates need differential privacy or secure sums, only if counts are declared public.
    ``show_site``: the other sites may see this site's own figures."""

    terms: tuple[Digest, ...] = ()
    minimum_count: int | None = Field(default=None, ge=1, strict=True)
    counts_are_public: StrictBool = False
    show_site: StrictBool = False


class ScheduleRule(_Part):
    """When: windows of the week as `mon-fri 19:00-06:00`, on the wall clock of ``time_zone``."""

    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    windows: tuple[Annotated[str, AfterValidator(_window)], ...] = ()

    def parsed(self) -> tuple[Window, ...]:
        """The windows."""
        return tuple(parsed_window(text) for text in self.windows)


class ResourceRule(_Part):
    """With how much: the share of a GPU's memory and time, and the fewest patients a training may use."""

    gpu_share: Share = 0.0
    minimum_patients: int | None = Field(default=None, ge=1, strict=True)


class SitePolicy(BaseModel):
    """All of it. `SitePolicy()` allows nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    federation: FederationRule = FederationRule()
    code: CodeRule = CodeRule()
    exchange: ExchangeRule = ExchangeRule()
    privacy: PrivacyRule = PrivacyRule()
    evaluation: EvaluationRule = EvaluationRule()
    schedule: ScheduleRule = ScheduleRule()
    resources: ResourceRule = ResourceRule()


def load_policy(path: Path) -> SitePolicy | None:
    """The policy in a TOML file; None where there is no file, and then everything is refused.

    Raises:
        ConfigError: all faults of the file; nothing may run until they are corrected.
    """
    return load_settings(SitePolicy, path) if path.exists() else None
