"""How long the coordinator works for one secure sum: `python benchmarks/secure_sum.py --parameters 3000000`.

A whole round with real keys, shares and masks, first with everyone, then with sites lost at each stage in turn, then
with some lost at every stage. The time of the coordinator's calls is added up (the waiting for sites is not in it),
every sum is compared with the plain sum of the integers bit for bit, and what one site spends is shown beside it.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from privacy.quantise import Encoded
from privacy.secure_sum.coordinator import Coordinator, SecureSum
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.site import Conditions, Site
from privacy.secure_sum.terms import Terms, usual_threshold

STAGES = ("advertise", "share", "mask", "confirm", "reveal")
LARGEST, WEIGHT = 2**23 - 1, 100
T = TypeVar("T")


class Forgetful:
    """Every round here is a new one: nothing needs to be remembered on a disk."""

    def claim(self, run: str, number: int) -> None:
        """Accepts."""


@dataclass
class Clock:
    """Seconds spent in calls: on the wall and of the processor."""

    wall: float = 0.0
    cpu: float = 0.0
    calls: list[float] = field(default_factory=list)

    def time(self, call: Callable[[], T]) -> T:
        """Calls, and adds its seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        self.calls.append(time.perf_counter() - wall)
        self.wall += self.calls[-1]
        self.cpu += time.process_time() - cpu
        return result


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=3_000_000)
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--lost", type=int, default=2, help="sites lost at a stage")
    parser.add_argument("--colluders", type=int, default=1)
    asked = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    print("| sites | words | lost | in the sum | coordinator: s | CPU s | one site's masks: s |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for word_bits in (32, 64):
        cases: list[dict[str, int]] = [{}, *({stage: asked.lost} for stage in STAGES)]
        for case in cases:
            print(row(asked.sites, asked.parameters, word_bits, case, asked.colluders), flush=True)
    # The smallest federation of which a majority and the colluders are left after losses at four stages.
    needed = next(n for n in range(3, 51) if usual_threshold(n, asked.colluders) <= n - 4 * asked.lost)
    case = dict.fromkeys(("advertise", "share", "mask", "reveal"), asked.lost)
    print(row(needed, asked.parameters, 64, case, asked.colluders))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process, all sites in it: {peak_mib:.0f} MiB")


def row(count: int, parameters: int, word_bits: int, lost: Mapping[str, int], colluders: int) -> str:
    """One line of the table; raises AssertionError unless the sum is exact."""
    names = [f"s{number:02d}" for number in range(count)]
    left, gone = list(names), {}
    for stage, number in lost.items():
        gone[stage], left = left[:number], left[number:]
    inside = [name for name in names if not any(name in gone.get(stage, ()) for stage in STAGES[:3])]
    largest = min(LARGEST, (2 ** (word_bits - 1) - 1) // (count * WEIGHT))
    terms = Terms(
        "benchmark", 1, "", tuple(names), usual_threshold(count, colluders), {"shared": parameters}, word_bits, largest,
        WEIGHT, colluders=colluders,
    )  # fmt: skip
    coordinator, site = Clock(), Clock()
    result, plain = play(terms, gone, coordinator, site)
    assert result.sums["shared"].tobytes() == plain.tobytes(), "the masked sum is not the plain sum"
    assert list(result.weights["shared"]) == inside
    words = "; ".join(f"{number} at {stage}" for stage, number in lost.items()) or "none"
    return (
        f"| {count} | {word_bits} bit | {words} | {len(inside)} | {coordinator.wall:.2f} | {coordinator.cpu:.2f} | "
        f"{sum(site.calls) / len(site.calls):.2f} |"
    )


def play(
    terms: Terms, gone: Mapping[str, Collection[str]], clock: Clock, masking: Clock
) -> tuple[SecureSum, np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]]:
    """A whole round; the result and the plain sum of the integers that went in."""
    identities = {name: Identity.generate() for name in terms.sites}
    roster = Roster({name: identity.public() for name, identity in identities.items()})
    conditions = Conditions(terms.agreement, colluders=terms.colluders)
    sites = {name: Site(name, identities[name], roster, conditions, Forgetful()) for name in terms.sites}
    coordinator = Coordinator(terms, roster)
    for name, site in sites.items():
        if name not in gone.get("advertise", ()):
            advertisement = site.advertise(terms, {"shared": WEIGHT})
            clock.time(lambda a=advertisement: coordinator.receive_advertisement(a))  # type: ignore[misc]
    participants = clock.time(coordinator.close_advertising)
    for name in (entry.site for entry in participants.advertisements):
        if name not in gone.get("share", ()):
            shares = sites[name].share(participants)
            clock.time(lambda s=shares: coordinator.receive_shares(s))  # type: ignore[misc]
    plain = np.zeros(terms.words["shared"], f"<u{terms.word_bits // 8}")
    for name, delivery in clock.time(coordinator.close_sharing).items():
        if name not in gone.get("mask", ()):
            encoded = random_integers(terms)
            plain += encoded.words["shared"]
            masked = masking.time(lambda n=name, d=delivery, e=encoded: sites[n].mask(d, e))  # type: ignore[misc]
            clock.time(lambda m=masked: coordinator.receive_masked(m))  # type: ignore[misc]
    proposal = clock.time(coordinator.close_masking)
    for name in proposal.survivors:
        if name not in gone.get("confirm", ()):
            confirmation = sites[name].confirm(proposal)
            clock.time(lambda c=confirmation: coordinator.receive_confirmation(c))  # type: ignore[misc]
    request = clock.time(coordinator.close_confirming)
    for name in request.signatures:
        if name not in gone.get("reveal", ()):
            revealed = sites[name].reveal(request)
            clock.time(lambda r=revealed: coordinator.receive_revealed(r))  # type: ignore[misc]
    return clock.time(coordinator.finish), plain


def random_integers(terms: Terms) -> Encoded:
    """Weighted integers over the whole range that the terms allow."""
    count = terms.words["shared"]
    integers = np.random.default_rng().integers(-terms.largest, terms.largest, count, endpoint=True)
    return Encoded(
        {"shared": (integers * WEIGHT).astype(f"<u{terms.word_bits // 8}")}, {"shared": WEIGHT}, terms.largest
    )


def processor() -> str:
    """The processor's name where the system tells it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
