"""Time and peak memory of softmax and linear attention over the number of tokens, on the CPU.

One attention layer of the published size (width 768, 12 heads), one picture, forward and backward in float32. Each
figure comes from a process of its own, because a process never gives its peak memory back. Softmax is measured twice:
torch's fused kernel alone, and with the DropKey mask of training, which is a matrix of tokens by tokens. CPU time
counts, summed over threads: on a busy machine the time on the wall says more about the neighbours.

    python benchmarks/attention.py --out attention.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

TOKENS = (197, 785, 3137)  # 224, 448 and 896 px in patches of 16, and the class token
KINDS = {"softmax": ("softmax", 0.0), "softmax, DropKey 0.2": ("softmax", 0.2), "linear, DropKey 0.2": ("linear", 0.2)}
WIDTH, HEADS = 768, 12


def measure(kind: str, tokens: int, repeats: int, threads: int) -> dict[str, Any]:
    """Median CPU and wall seconds of one step, and how far it raised the peak of this process, in MiB."""
    import torch

    from more_model.model.dropkey import DropKeyAttention
    from more_model.model.linear_attention import LinearAttention

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    name, rate = KINDS[kind]
    attention = (LinearAttention if name == "linear" else DropKeyAttention)(WIDTH, num_heads=HEADS).train()

    def step(count: int) -> tuple[float, float]:
        x = torch.randn(1, count, WIDTH, requires_grad=True)
        cpu, wall = time.process_time(), time.perf_counter()
        attention(x).sum().backward()
        return time.process_time() - cpu, time.perf_counter() - wall

    attention.drop_key_rate = rate
    step(8)  # loads what the first step of any size loads
    before = _peak_mib()
    step(tokens)
    raised = _peak_mib() - before
    cpu, wall = zip(*(step(tokens) for _ in range(repeats)), strict=True)
    return {
        "cpu_seconds": statistics.median(cpu),
        "cpu_seconds_range": [min(cpu), max(cpu)],
        "wall_seconds": statistics.median(wall),
        "peak_mib": raised,
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_all(repeats: int, threads: int) -> dict[str, Any]:
    """Every kind at every length, with the facts of the machine."""
    rows = []
    load = os.getloadavg()[0]
    for tokens in TOKENS:
        for kind in KINDS:
            command = [sys.executable, __file__, "--one", kind, "--tokens", str(tokens)]
            command += ["--repeats", str(repeats), "--threads", str(threads)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append({"tokens": tokens, "attention": kind, **json.loads(answer)})
            print(rows[-1], file=sys.stderr)
    return {
        "machine": {
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "threads": threads,
            "load_before_and_after": [round(load, 2), round(os.getloadavg()[0], 2)],
            "python": platform.python_version(),
            "torch": version("torch"),
            "timm": version("timm"),
        },
        "layer": {"width": WIDTH, "heads": HEADS, "batch": 1, "dtype": "float32", "repeats": repeats},
        "rows": rows,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def as_table(result: dict[str, Any]) -> str:
    """Markdown: one line per length, CPU milliseconds and MiB per kind."""
    lines = ["| tokens | " + " | ".join(f"{kind}: CPU ms | MiB" for kind in KINDS) + " |"]
    lines.append("| ---: |" + " ---: | ---: |" * len(KINDS))
    for tokens in TOKENS:
        cells = [str(tokens)]
        for kind in KINDS:
            row = next(row for row in result["rows"] if (row["tokens"], row["attention"]) == (tokens, kind))
            cells += [f"{1000 * row['cpu_seconds']:.0f}", f"{row['peak_mib']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=7, help="steps per figure; the median counts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(measure(given.one, given.tokens, given.repeats, given.threads)))
        return
    result = measure_all(given.repeats, given.threads)
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(as_table(result))


if __name__ == "__main__":
    main()
