"""Every process of a federation is killed at random instants; a supervisor starts it again, and the bits are the same.

Seed, instants, and for how long the federation stood still are printed.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from trees.deployment import Deployment, Service, command, eventually

from server.status.evaluations import read_evaluations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SEED = int(os.environ.get("MORE_FED_KILL_SEED", "20"))
#: How often each process is killed; ``start`` holds the SuperLink and the gate, ``daemon`` trains.
TIMES = {"superlink": 4, "run": 4, "supernode": 4, "daemon": 4, "relay": 3, "start": 1}
UNDISTURBED = 3
#: Some more than there are kills: an instant may fall behind the end of its round.
ROUNDS = 30
#: Beyond Flower's own minute after a lost node, and a back-off.
RECOVERY_S = 240.0
_COMMANDS = {"superlink": "flower-superlink", "supernode": "flower-supernode", "relay": "more-client relay"}


@dataclass(frozen=True)
class Kill:
    """victim: kind, with its site. round: the one that was open. after_s: the instant, from the opening of the round.
    closed_s: from the kill to the end of the round."""

    victim: str
    round: int
    after_s: float
    closed_s: float

    def stood_still_s(self, ordinary_s: float) -> float:
        """How much later the round ended than an ordinary one would have."""
        return max(0.0, self.after_s + self.closed_s - ordinary_s)


@dataclass(frozen=True)
class Ended:
    deployment: Deployment
    kills: Sequence[Kill]


def journal(folder: Path) -> list[tuple[int, str, float]]:
    """Closed rounds: number, digest of the checkpoint, seconds."""
    path = folder / "journal.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0)) as database:
        if not list(database.execute("SELECT 1 FROM sqlite_master WHERE name = 'rounds'")):
            return []
        return list(database.execute("SELECT round, checkpoint_sha256, seconds FROM rounds ORDER BY round"))


def opened(folder: Path) -> int:
    """The round that was opened last."""
    path = folder / "events.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return max((event["round"] for event in events if event["event"] == "round opened"), default=0)


def victim_of(deployment: Deployment, kind: str, site: str) -> tuple[Service, str | None]:
    """The service whose process tree holds the victim, and how its command line is known; None for the top."""
    if kind in ("run", "start", "superlink"):
        return (deployment.run if kind == "run" else deployment.link), _COMMANDS.get(kind)
    return deployment.hospitals[site].daemon, _COMMANDS.get(kind)


def kill(deployment: Deployment, kind: str, site: str) -> None:
    """SIGKILL, and what a supervisor of the top-level command does: start it again at once."""
    service, name = victim_of(deployment, kind, site)
    if name is None:
        service.kill()
        service.start()
        return
    eventually(lambda: bool(service.children(name)), f"{name} runs", RECOVERY_S)
    service.kill(service.children(name)[0])


def disturb(deployment: Deployment, kind: str, site: str, share: float, ordinary_s: float) -> Kill:
    """Kill within the next round that opens, ``share`` of an ordinary round after its opening, and wait for its end."""
    folder = deployment.run_folder
    last = len(journal(folder))
    eventually(lambda: opened(folder) > last, f"round {last + 1} is opened", RECOVERY_S)
    began = time.monotonic()
    time.sleep(share * ordinary_s)
    assert deployment.run.running, f"the run has ended before the last kill\n{deployment.logs()}"
    number, at = len(journal(folder)) + 1, time.monotonic()
    kill(deployment, kind, site)
    eventually(
        lambda: len(journal(folder)) >= number, f"round {number} ends after {kind} {site} was killed", RECOVERY_S
    )
    name = kind if kind in ("run", "start", "superlink") else f"{kind} of {site}"
    return Kill(name, number, at - began, time.monotonic() - at)


def line(each: Kill, ordinary_s: float) -> str:
    still = each.stood_still_s(ordinary_s)
    return f"  round {each.round:2}, {each.after_s:5.1f} s in: {each.victim:20} stood still for {still:5.1f} s"


def summary(kills: Sequence[Kill], ordinary_s: float) -> Iterator[str]:
    by_kind = defaultdict(list)
    for each in kills:
        by_kind[each.victim.split()[0]].append(each.stood_still_s(ordinary_s))
    for kind, times in sorted(by_kind.items()):
        yield f"  {kind:10} killed {len(times)} times: median {median(times):5.1f} s, longest {max(times):5.1f} s"


@pytest.fixture(scope="module")
def simulation(simulated: Callable[..., Any]) -> Any:
    return simulated(ROUNDS)


@pytest.fixture(scope="module")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print at once, whatever pytest keeps back."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(words: str) -> None:
        with capture.global_and_fixture_disabled():
            print(words, flush=True)

    return say


@pytest.fixture(scope="module")
def ended(simulation: Any, module_folder: Path, say: Callable[[str], None]) -> Iterator[Ended]:
    """The federation, after all kills and the rest of its rounds."""
    draw = random.Random(SEED)
    order = [kind for kind, times in TIMES.items() for _ in range(times)]
    draw.shuffle(order)
    plan = replace(simulation.plan, settings={"evaluation": {"split": "test"}})
    with Deployment(module_folder / "f", plan) as deployment:
        deployment.start_all()
        deployment.run.start()
        eventually(lambda: len(journal(deployment.run_folder)) >= UNDISTURBED, "the first rounds end", RECOVERY_S)
        ordinary_s = median(seconds for *_, seconds in journal(deployment.run_folder))
        say(f"\nseed {SEED}; an ordinary round takes {ordinary_s:.1f} s")
        kills: list[Kill] = []
        try:
            for kind in order:
                site, share = draw.choice(sorted(plan.sites)), draw.random()
                kills.append(disturb(deployment, kind, site, share, ordinary_s))
                say(line(kills[-1], ordinary_s))
            eventually(lambda: not deployment.run.running, "the run ends by itself", 900.0)
            assert deployment.run.process is not None and deployment.run.process.returncode == 0
        except BaseException:
            print(deployment.logs())
            raise
        say("\n".join(summary(kills, ordinary_s)))
        yield Ended(deployment, kills)


def test_the_last_checkpoint_is_that_of_the_undisturbed_simulation(ended: Ended, simulation: Any) -> None:
    simulated = [row[:2] for row in journal(simulation.out / "arms" / "federated")]
    assert [row[:2] for row in journal(ended.deployment.run_folder)] == simulated and len(simulated) == ROUNDS
    outcome = ended.deployment.outcome()
    assert outcome["checkpoint_sha256"] == simulated[-1][1]
    assert (outcome["status"], outcome["rounds"], outcome["short_rounds"]) == ("complete", ROUNDS, 0)


def test_every_process_was_killed_as_often_as_planned(ended: Ended) -> None:
    counts: dict[str, int] = defaultdict(int)
    for each in ended.kills:
        counts[each.victim.split()[0]] += 1
    assert counts == TIMES and sum(counts.values()) == 20


def test_every_round_was_measured_with_every_site(ended: Ended) -> None:
    measured = read_evaluations(ended.deployment.run_folder)
    assert sorted({result.round for result in measured}) == list(range(ROUNDS + 1))
    assert all(set(result.sites) == set(ended.deployment.hospitals) for result in measured)


def test_the_audit_logs_are_whole_and_no_answer_left_in_two_forms(ended: Ended) -> None:
    for hospital in ended.deployment.hospitals.values():
        verified = json.loads(command("more-client", "audit", "verify", str(hospital.audit_log), "--json"))
        assert verified["whole"], verified
        updates = digests(hospital.audit("released"), "update")
        assert sorted(updates) == list(range(1, ROUNDS + 1))
        for released in (updates, digests(hospital.audit("released"), "evaluation")):
            assert {number: found for number, found in released.items() if len(found) > 1} == {}


def digests(released: Sequence[Mapping[str, Any]], kind: str) -> Mapping[int, set[str]]:
    """By round, of every message of that kind."""
    found: dict[int, set[str]] = defaultdict(set)
    for content in released:
        if content["message"] == kind:
            found[content["round"]].add(content["sha256"])
    return found
