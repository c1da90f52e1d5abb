"""A coordinator that runs for long keeps nothing of the rounds that are over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from trees.deployment import Deployment, watch_memory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
ROUNDS = 50
#: More than the allocator's noise, and less than keeping one update a round would add in a real federation.
_SLACK_MIB = 8.0


def test_the_coordinators_memory_stays_flat_over_fifty_rounds(
    simulated: Callable[..., Any], module_folder: Path
) -> None:
    with Deployment(module_folder / "f", simulated(ROUNDS).plan) as deployment:
        deployment.start_all()
        seen = watch_memory(deployment, 2700.0)
    assert len(seen.run_mib) >= ROUNDS - 2
    for name, series in (("more-server run", seen.run_mib), ("SuperLink", seen.superlink_mib)):
        early, late = median(series[5:15]), median(series[-10:])
        assert late - early < _SLACK_MIB, f"{name}: {early:.0f} MiB at first, {late:.0f} MiB at the end"
