"""What cannot be combined with secure summation, and why: only the sum of all updates exists at the coordinator.

Whatever needs the single updates is refused when the configuration is read, not in round one. A name that is not known
here is refused too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from more_model.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Choices:
    """The parts of a run's configuration that decide. ``update_checks`` are the coordinator's checks of each update,
    ``compression`` is what a site does to its update before it travels."""

    aggregation: str = "ffa"
    robust_rule: str = "mean"
    compression: str = "none"
    update_checks: Sequence[str] = ()


_NEEDS_FACTORS = "it combines each site's A with the same site's B, which a sum of all A and a sum of all B cannot give"
_NEEDS_EACH = "it compares or orders the single updates, and the coordinator has only their sum"

#: None: only a weighted sum is needed. Otherwise why it cannot be used.
AGGREGATIONS: Mapping[str, str | None] = MappingProxyType(
    {
        "fedit": None,
        "ffa": None,
        "rolora": None,
        "fedsvd": None,  # re-factorises the mean, which is post-processing of the sum
        "fed-sb": None,
        "fedex": _NEEDS_FACTORS,
        "flora": "it stacks the factors of every site",
        "flexlora": _NEEDS_FACTORS,
        "lora-fair": _NEEDS_FACTORS,
    }
)
ROBUST_RULES: Mapping[str, str | None] = MappingProxyType(
    {
        "mean": None,
        "norm-bound": None,  # each site bounds its own update: `Plan.clip_norm`
        "median-norm-bound": "the median needs the norm of every update; bound at a public constant instead",
        "median": _NEEDS_EACH,
        "trimmed-mean": _NEEDS_EACH,
        "krum": _NEEDS_EACH,
        "multi-krum": _NEEDS_EACH,
        "bulyan": _NEEDS_EACH,
    }
)
COMPRESSIONS: Mapping[str, str | None] = MappingProxyType(
    {
        "none": None,
        "int8": None,
        "int16": None,
        "shared-index-sparsity": None,
        "top-k": "each site would keep other entries, and which ones tells of its data; masks need one public set",
        "error-feedback": "`prepare` has no place for it: added after clipping it would break the norm bound",
    }
)
UPDATE_CHECKS: Mapping[str, str | None] = MappingProxyType(
    {
        "aggregate-on-public-set": None,
        "max-update-norm": "the norm of a masked update means nothing; every site clips to the plan's norm instead",
        "finite": "a masked update is always finite; every site refuses its own NaN and infinite values instead",
        "cosine-to-aggregate": _NEEDS_EACH,
        "evaluate-each-update": "no single update exists that could be evaluated; evaluate the aggregate",
    }
)


def conflicts(choices: Choices) -> tuple[str, ...]:
    """Every reason why ``choices`` cannot be used with secure summation; empty when they can."""
    named = [
        ("aggregation", choices.aggregation, AGGREGATIONS),
        ("robust rule", choices.robust_rule, ROBUST_RULES),
        ("compression", choices.compression, COMPRESSIONS),
        *(("update check", check, UPDATE_CHECKS) for check in choices.update_checks),
    ]
    faults = []
    for kind, name, known in named:
        if name not in known:
            faults.append(f"{kind} {name!r}: nobody has decided whether it needs single updates")
        elif (reason := known[name]) is not None:
            faults.append(f"{kind} {name!r}: {reason}")
    return tuple(faults)


def require_compatible(choices: Choices) -> None:
    """Refuse what needs single updates: ConfigError with every reason at once."""
    faults = conflicts(choices)
    if faults:
        linear = ", ".join(name for name, reason in AGGREGATIONS.items() if reason is None)
        raise ConfigError(
            "secure summation",
            faults,
            remedy=f"aggregate linearly ({linear}), bound the norm at the sites, check the aggregate on a public set; "
            "or do without secure summation and give each site's updates differential privacy of their own",
            avoid="switch secure summation off for a round to look at single updates",
        )
