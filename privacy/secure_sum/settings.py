"""Secure sums as configured, and the invitation to one that goes to every site with the round's instruction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import ConfigError, ExchangeError
from more_model.exchange import ExchangeSpec
from privacy.quantise import MAX_BITS, MIN_BITS, Rounding, integer_weight, tensor_grid
from privacy.secure_sum.distributed_noise import MIN_DEVIATIONS, DistributedNoise, check_distributed_noise
from privacy.secure_sum.plan import Plan, terms_of
from privacy.secure_sum.prepare import require_fine_and_long
from privacy.secure_sum.terms import MINIMUM_CONTRIBUTORS, Terms
from privacy.settings import PrivacySettings


class SumSettings(BaseModel):
    """All public, and the same at every site. With 20 bits, weights up to 100 and words of 32 bits, 40 sites fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Each site scales its whole update down to this norm; it also sets the grid.
    clip_norm: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    bits: int = Field(default=20, ge=MIN_BITS, le=MAX_BITS)
    rounding: Rounding = "stochastic"
    word_bits: Literal[32, 64] = 32
    #: Integer weight of the site with most patients; the others have proportionally less, but at least 1.
    max_weight: int = Field(default=100, ge=1)
    minimum_contributors: int = Field(default=MINIMUM_CONTRIBUTORS, ge=MINIMUM_CONTRIBUTORS)
    colluders: int = Field(default=1, ge=0)
    #: With privacy mode `hospital`: sites whose share of the noise may be missing.
    dropouts: int = Field(default=1, ge=0)


@dataclass(frozen=True, slots=True)
class PublicWeights:
    """What the sites' public numbers (patients, or shares) say: ``of_site`` by name, all above zero."""

    of_site: Mapping[str, float]

    def integers(self, max_weight: int) -> dict[str, int]:
        """The integer weight of every site."""
        most = max(self.of_site.values())
        return {site: integer_weight(weight, most, max_weight) for site, weight in self.of_site.items()}


def public_weights(privacy: PrivacySettings, patients: Mapping[str, int]) -> PublicWeights:
    """Those of all sites of a run: the agreed shares under `hospital`, else the declared numbers of patients."""
    if privacy.mode == "hospital":
        return PublicWeights(dict(privacy.public_weights))
    return PublicWeights({site: float(number) for site, number in patients.items()})


def fewest_contributors(settings: SumSettings, privacy: PrivacySettings, sites: int) -> int:
    """No sum over fewer of ``sites`` sites is revealed: fewer could be told apart, or, under `hospital`, lack noise."""
    fewest = settings.minimum_contributors
    return max(fewest, sites - settings.dropouts) if privacy.mode == "hospital" else fewest


def lacking_contributors(
    settings: SumSettings, privacy: PrivacySettings, modalities: Mapping[str, Collection[str]]
) -> list[str]:
    """The modalities whose sum would never be revealed, in words: too few sites have them. ``modalities``: by site."""
    fewest = fewest_contributors(settings, privacy, len(modalities))
    having = Counter(modality for of_site in modalities.values() for modality in of_site)
    return [
        f"{modality}: {sites} sites have such studies, no sum over fewer than {fewest} is revealed"
        for modality, sites in sorted(having.items())
        if sites < fewest
    ]


def make_plan(
    settings: SumSettings, spec: ExchangeSpec, privacy: PrivacySettings, weights: PublicWeights, noise_multiplier: float
) -> Plan:
    """What each site does to its update before it is masked. With privacy mode `hospital` every site adds its share of
    ``noise_multiplier`` z times the sensitivity; otherwise ``noise_multiplier`` is not looked at.

    Raises:
        ConfigError: a mode `hospital` that clips sites differently.
    """
    noise, clip_norm, bound = None, settings.clip_norm, settings.clip_norm
    if privacy.mode == "hospital":
        if privacy.hospital_clipping != "same":
            raise ConfigError(
                "secure sum",
                ['hospital_clipping = "equalised": under masks every site clips to one norm'],
                remedy='choose hospital_clipping = "same", or public weights that are alike',
            )
        clip_norm = privacy.clip_norm
        noise = DistributedNoise(
            noise_multiplier,
            settings.max_weight * clip_norm,
            len(weights.of_site),
            settings.dropouts,
            settings.colluders,
        )
        check_distributed_noise(noise)
        smallest = min(weights.integers(settings.max_weight).values())
        bound = clip_norm + (MIN_DEVIATIONS + 0.1) * noise.share_std / smallest
    grids = {tensor.name: tensor_grid(bound, settings.bits) for tensor in spec.tensors}
    plan = Plan(spec, grids, clip_norm, settings.rounding, noise)
    if noise is not None:
        for weight in (smallest, settings.max_weight):
            for name in grids:
                require_fine_and_long(plan, name, noise.share_std / weight)
    return plan


def make_terms(
    settings: SumSettings, plan: Plan, *, run: str, number: int, sites: Sequence[str], fingerprint_digest: str
) -> Terms:
    """The terms of round ``number``; ConfigError as `privacy.secure_sum.plan.terms_of`."""
    fewest = settings.minimum_contributors
    if plan.noise is not None:
        fewest = max(fewest, plan.noise.minimum_contributors)
    return terms_of(
        plan,
        run=run,
        number=number,
        sites=sites,
        fingerprint_digest=fingerprint_digest,
        word_bits=settings.word_bits,
        max_weight=settings.max_weight,
        minimum_contributors=fewest,
        colluders=settings.colluders,
    )


@dataclass(frozen=True, slots=True)
class SumInvitation:
    """The part of an instruction that asks a site into a secure sum."""

    settings: SumSettings
    weights: PublicWeights
    noise_multiplier: float
    terms: Terms

    def to_json(self) -> str:
        """For `more_model.exchange.Instruction.secure_sum`."""
        content = {
            "settings": self.settings.model_dump(),
            "weights": dict(self.weights.of_site),
            "noise_multiplier": self.noise_multiplier,
            "terms": self.terms.facts(),
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SumInvitation:
        """The inverse of `to_json`; raises ExchangeError on anything else."""
        try:
            content = json.loads(text)
            weights = {str(site): float(weight) for site, weight in content["weights"].items()}
            return cls(
                SumSettings.model_validate(content["settings"]),
                PublicWeights(weights),
                float(content["noise_multiplier"]),
                Terms.from_facts(content["terms"]),
            )
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ExchangeError(f"malformed invitation to a secure sum ({type(error).__name__})") from error
