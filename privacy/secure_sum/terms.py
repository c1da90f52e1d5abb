"""What coordinator and sites agree on before a round: who, how many, how large the numbers may be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from more_model.errors import ConfigError, ExchangeError
from privacy.secure_sum.identity import canonical

#: On a complete graph each site makes a mask with each other site; beyond this a sparse graph would be cheaper.
MAX_SITES = 50
WORD_BITS = (32, 64)
#: Of two contributors each learns the other's value by subtracting its own.
MINIMUM_CONTRIBUTORS = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """The public terms of one round of secure summation.

    ``run`` and ``round`` name it; ``agreement`` is a digest of all else that must be equal at every site before a sum
    means something (exchange specification, base, grids, clipping norm, noise). ``sites`` are those invited.
    ``threshold`` sites are needed to unmask. ``words`` gives the number of integers of each exchange group, added
    modulo 2^``word_bits``; each is at most ``largest`` in magnitude before it is multiplied by the site's public
    integer weight, at most ``max_weight``. The sum of a group over fewer than ``minimum_contributors`` sites stays
    hidden. Up to ``colluders`` sites may work together with the coordinator.
    """

    run: str
    round: int
    agreement: str
    sites: tuple[str, ...]
    threshold: int
    words: Mapping[str, int]
    word_bits: int
    largest: int
    max_weight: int
    minimum_contributors: int = MINIMUM_CONTRIBUTORS
    colluders: int = 1

    def facts(self) -> dict[str, int | str]:
        """Flat scalars; collections as JSON."""
        return {
            "run": self.run,
            "round": self.round,
            "agreement": self.agreement,
            "sites": json.dumps(list(self.sites)),
            "threshold": self.threshold,
            "words": json.dumps(dict(self.words), sort_keys=True),
            "word_bits": self.word_bits,
            "largest": self.largest,
            "max_weight": self.max_weight,
            "minimum_contributors": self.minimum_contributors,
            "colluders": self.colluders,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Terms:
        """The inverse of `facts`; raises ExchangeError on malformed ones. Follow with `check_terms`."""
        try:
            whole = ("round", "threshold", "word_bits", "largest", "max_weight", "minimum_contributors", "colluders")
            return cls(
                run=str(facts["run"]),
                agreement=str(facts["agreement"]),
                sites=tuple(str(site) for site in json.loads(str(facts["sites"]))),
                words={str(group): _whole(count) for group, count in json.loads(str(facts["words"])).items()},
                **{name: _whole(facts[name]) for name in whole},
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ExchangeError(f"malformed terms of a secure sum ({type(error).__name__})") from error

    def digest(self) -> str:
        """Hex SHA-256 that names this session in every message."""
        return hashlib.sha256(canonical(["terms", self.facts()])).hexdigest()


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("not a whole number of 63 bits")
    return value


def usual_threshold(sites: int, colluders: int = 1) -> int:
    """The smallest threshold at which two different lists of survivors cannot both be confirmed.

    The coordinator could show one half of the sites a list with site A among the survivors and the other half one
    without, and so collect both secrets of A. Each list needs ``threshold`` signatures; a colluding site signs both.
    Hence 2 t > sites + colluders (Bonawitz et al. 2017, section 6).
    """
    return (sites + colluders) // 2 + 1


def check_terms(terms: Terms) -> None:
    """Refuse terms under which a sum could overflow, could not be unmasked, or would not hide anything.

    Raises:
        ConfigError: all faults at once.
    """
    faults = [*_faults_of_sites(terms), *_faults_of_numbers(terms)]
    if faults:
        raise ConfigError(
            "terms of the secure sum",
            faults,
            remedy="invite more sites, lower the weights, or use 64 bit words",
            avoid="lower the threshold: the coordinator could then unmask single sites",
        )


def _faults_of_sites(terms: Terms) -> list[str]:
    count, faults = len(terms.sites), []
    if list(terms.sites) != sorted(set(terms.sites)):
        faults.append("sites must be named once each, in alphabetical order")
    if count > MAX_SITES:
        faults.append(f"{count} sites: at most {MAX_SITES}, every two of which make a mask together")
    if terms.colluders < 0:
        faults.append(f"colluders {terms.colluders}: must not be negative")
    fewest = max(MINIMUM_CONTRIBUTORS, terms.colluders + 2)
    if not fewest <= terms.minimum_contributors <= count:
        faults.append(
            f"minimum_contributors {terms.minimum_contributors}: must be at least {fewest} (of fewer, "
            f"one site or {terms.colluders} colluders could subtract all but one) and at most the {count} invited"
        )
    if not usual_threshold(count, terms.colluders) <= terms.threshold <= count:
        faults.append(
            f"threshold {terms.threshold}: must be at least {usual_threshold(count, terms.colluders)} for {count} "
            f"sites of which {terms.colluders} may collude, and at most {count}"
        )
    return faults


def _faults_of_numbers(terms: Terms) -> list[str]:
    count, faults = len(terms.sites), []
    if terms.round < 1:
        faults.append(f"round {terms.round}: must be at least 1")
    if not terms.words or any(count < 1 for count in terms.words.values()):
        faults.append("every exchange group must hold at least one number, and there must be a group")
    if terms.largest < 1 or terms.max_weight < 1:
        faults.append(f"largest {terms.largest} and max_weight {terms.max_weight} must be at least 1")
    if terms.word_bits not in WORD_BITS:
        faults.append(f"word_bits {terms.word_bits}: must be 32 or 64")
    elif (bound := count * terms.max_weight * terms.largest) >= 2 ** (terms.word_bits - 1):
        faults.append(
            f"the sum could overflow: {count} sites x weight {terms.max_weight} x {terms.largest} = {bound:.3g}, "
            f"but {terms.word_bits} bit words hold less than {2 ** (terms.word_bits - 1):.3g} in either direction"
        )
    return faults
