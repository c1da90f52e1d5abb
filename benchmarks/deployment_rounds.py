"""What a round costs beside training: `python benchmarks/deployment_rounds.py --rounds 50`.

A coordinator and three hospitals as processes of their own on this machine, over TLS, with a model so small that
training takes no time to speak of ("idle-fast" sites). Shown are the seconds of a round as the journal has them, those
that the slowest site trained, their difference, and the memory of the coordinator's processes over the rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from trees.deployment import Deployment, closed_rounds, watch_memory  # noqa: E402
from trees.simulated import simulate  # noqa: E402

_TRAINED = re.compile(r"a train message was answered in ([0-9.]+) s")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--within", type=float, default=3600.0, help="seconds for the whole run")
    asked = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory(prefix="more-") as name:
        # Base and stores are those of a simulation that trains nothing.
        plan = simulate(Path(name), asked.rounds, {"arms": ["base"], "partition": {"missing": None}}).plan
        plan = replace(plan, allowance=("--unprotected", "--max-rounds", str(asked.rounds + 1)))
        with Deployment(Path(name) / "f", plan) as it:
            it.start_all()
            seen = watch_memory(it, asked.within)
            closed = closed_rounds(it.run_folder)
            trained = [[float(text) for text in _TRAINED.findall(h.daemon.text())] for h in it.hospitals.values()]
    whole = [event["seconds"] for event in closed]
    slowest = [max(site[number] for site in trained) for number in range(min(map(len, trained)))]
    beside = [seconds - busy for seconds, busy in zip(whole, slowest, strict=False)]
    print("| seconds of a round | median | 5 % to 95 % |\n| --- | ---: | ---: |")
    rows = {"whole round": whole, "slowest site, question to answer": slowest, "everything else": beside}
    for what, seconds in rows.items():
        cut = quantiles(seconds, n=20)
        print(f"| {what} | {median(seconds):.1f} | {cut[0]:.1f} to {cut[-1]:.1f} |")
    print("| MiB after round | more-server run | SuperLink |\n| ---: | ---: | ---: |")
    for number in sorted({1, 5, *range(10, len(seen.run_mib) + 1, 10)}):
        if number <= len(seen.run_mib):
            print(f"| {number} | {seen.run_mib[number - 1]:.0f} | {seen.superlink_mib[number - 1]:.0f} |")


if __name__ == "__main__":
    main()
