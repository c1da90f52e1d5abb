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
from pathlib import Path
from statistics import median, quantiles

import tomli_w

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "tests"))

from trees.deployment import (  # noqa: E402
    Deployment,
    Plan,
    SiteData,
    closed_rounds,
    command,
    watch_memory,
)

from simulation.settings import load_run_config  # noqa: E402

_TRAINED = re.compile(r"a train message was answered in ([0-9.]+) s")
_SITES = ("site-1", "site-2", "site-3")
_TINY = {
    "preprocessing": {"image_size": 32, "ecg_rate_hz": 50, "ecg_seconds": 10},
    "xray": {"patch_size": 8, "width": 16, "depth": 1, "heads": 2},
    "ecg": {"width": 16, "depth": 1, "heads": 2, "channels": 8, "kernel": 5, "stride": 5, "second_stride": 4},
    "text": {"width": 16, "depth": 1, "heads": 2, "vocabulary": 300, "max_tokens": 48},
    "heads": {"hidden": 16, "embedding": 8},
    "lora": {"rank": 2},
}


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
    with (
        tempfile.TemporaryDirectory(prefix="more-") as name,
        Deployment(Path(name) / "f", plan(Path(name), asked.rounds)) as it,
    ):
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


def plan(folder: Path, rounds: int) -> Plan:
    """A tiny federation: base and stores from a simulation of the same data that trains nothing."""
    (folder / "texts.txt").write_text(
        "chest x-ray report: no acute process.\necg report: sinus rhythm.\n", encoding="utf-8"
    )
    content = {
        "name": "rounds",
        "seed": 3,
        "arms": ["base"],
        "ingest_workers": 1,
        "model": {"preset": "tiny", "overrides": _TINY},
        "base": {"kind": "seeded", "tokenizer_texts": "texts.txt"},
        "data": {
            "synthetic": {
                "patients": 60, "seed": 5, "hospitals": 3, "first_subject_id": 10_000_000,
                "image_px": 64, "max_visits": 1,
            },
        },
        "partition": {"kind": "iid", "sites": len(_SITES)},
        "training": {"batch_size": 8, "learning_rate": 2e-3, "threads": 1, "device": "cpu"},
        "evaluation": {
            "prompts": "chexpert_ecg", "replicates": 20, "linear_probe": False, "retrieval": False, "examples": 0,
        },
    }  # fmt: skip
    config = folder / "rounds.toml"
    config.write_text(tomli_w.dumps(content), encoding="utf-8")
    command("more-sim", "run", str(config), "--out", str(folder / "run"))
    chosen, workspace = load_run_config(config), folder / "run" / "workspace"
    kinds = ("xray", "ecg", "report")
    return Plan(
        base=workspace / "base",
        training=chosen.training.model_dump(mode="json", exclude_none=True),
        split=chosen.data.split.model_dump(mode="json", exclude_none=True),
        seed=chosen.seed,
        rounds=rounds,
        method=chosen.federation.method,
        public_seed=chosen.federation.public_seed,
        local_epochs=chosen.federation.local_epochs,
        sites={name: SiteData(workspace / "sites" / name, 100, kinds) for name in _SITES},
        allowance=("--unprotected", "--max-rounds", str(rounds + 1)),
    )


if __name__ == "__main__":
    main()
