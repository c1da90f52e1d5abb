"""The coordinator's part in what protects the sites' updates, and which combinations cannot work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, TensorDict, Tensors, Update
from privacy.hospital import private_sum
from privacy.secure_sum.compatibility import Choices, require_compatible
from privacy.settings import PrivacySettings
from server.aggregation.methods import LoraAggregation
from server.secure_rounds import SumFederation


@dataclass(frozen=True, slots=True)
class Protection:
    """privacy: what the sites are asked for. sums: secure sums, if any. noise_multiplier: z of mode `hospital` without
    secure sums, whose noise the coordinator adds: the sites must then trust it with their updates."""

    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    sums: SumFederation | None = None
    noise_multiplier: float | None = None

    @property
    def noise_here(self) -> bool:
        """Whether the coordinator clips and adds the noise."""
        return self.privacy.mode == "hospital" and self.sums is None


#: Updates arrive as they are and are averaged.
UNPROTECTED = Protection()


def check_protection(
    protection: Protection, method: LoraAggregation, sites: Sequence[str], *, max_update_norm: float | None
) -> None:
    """Refuse what cannot be combined.

    Raises:
        ConfigError: every reason at once.
    """
    if protection.sums is not None:
        checks = ("max-update-norm",) if max_update_norm is not None else ()
        require_compatible(Choices(aggregation=method.name, update_checks=checks))
    faults = []
    if protection.privacy.on and method.under_dp == "refused":
        faults.append(f"method {method.name!r} under differential privacy: {method.dp_note}")
    if protection.privacy.mode == "hospital":
        named = protection.privacy.public_weights.keys()
        faults += [f"site {site!r}: has no public weight" for site in sites if site not in named]
        faults += [f"public_weights: there is no site {site!r}" for site in sorted(named - set(sites))]
        if protection.noise_here and max_update_norm is not None:
            faults.append(
                "max_update_norm with mode hospital: who is quarantined would depend on the norm of an update without "
                "noise; the coordinator clips every update instead"
            )
    if protection.noise_here and protection.noise_multiplier is None:
        faults.append("mode hospital needs the noise multiplier of the run")
    if faults:
        raise ConfigError(
            "privacy of the federation", faults, remedy="choose a linear method, and weights of all sites"
        )


def noised(protection: Protection, updates: Sequence[Update], spec: ExchangeSpec) -> Update:
    """The updates of one round as a single one: clipped, weighted with public weights, summed, noised."""
    privacy = protection.privacy
    assert protection.noise_multiplier is not None  # check_protection
    deltas: Mapping[str, Tensors] = {update.site: update.deltas for update in updates}
    weights, norms = privacy.public_weights, privacy.clip_norms()
    return single(private_sum(deltas, weights, norms, protection.noise_multiplier, spec), spec)


def single(mean: TensorDict, spec: ExchangeSpec) -> Update:
    """A mean change as the only update of a round, so that one aggregation serves for both."""
    groups = sorted({tensor.tower for tensor in spec.tensors if tensor.name in mean})
    return Update("sum of the sites", 0, mean, dict.fromkeys(groups, 1.0), spec.digest(), "")
