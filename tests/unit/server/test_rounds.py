"""The round loop over a transport that the test holds in its hands: who takes part, what stops it, how it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from more_model.errors import ConfigError, ExchangeError, RoundError
from more_model.exchange import (
    ExchangeSpec,
    Fingerprint,
    Instruction,
    Refusal,
    TensorDict,
    Tensors,
    TensorSpec,
    Update,
)
from server.aggregation.methods import aggregation
from server.journal import Journal
from server.rounds import Federation, RoundSettings, run_rounds

SITES = ("north", "south", "west")
Answer = Update | Refusal | None
Hospital = Callable[[str, Instruction], Answer]


def trained(site: str, instruction: Instruction) -> Update:
    """What a hospital would answer: changes that depend on the site, the round and the tensors it was sent."""
    deltas = {}
    for name, before in instruction.tensors.items():
        noise = np.random.default_rng([instruction.round, sum(site.encode()), len(name)])
        deltas[name] = (0.1 * noise.normal(size=before.shape) - 0.01 * before).astype(np.float32)
    weight = float(len(site) + instruction.round)
    weights = dict.fromkeys(("xray", "ecg", "text", "shared"), weight)
    digest = instruction.fingerprint.digest()
    counts = {"loss": float(instruction.round) + len(site)}
    return Update(site, instruction.round, deltas, weights, instruction.spec_digest, digest, counts)


@dataclass
class InHand:
    """A transport whose hospitals are functions; it remembers what it was asked to carry."""

    hospital: Hospital = trained
    asked: list[Mapping[str, Instruction]] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    def exchange(self, instructions: Mapping[str, Instruction], *, timeout_s: float) -> Mapping[str, Update | Refusal]:
        self.asked.append(instructions)
        self.timeouts.append(timeout_s)
        answers = {site: self.hospital(site, instruction) for site, instruction in reversed(instructions.items())}
        return {site: answer for site, answer in answers.items() if answer is not None}


@pytest.fixture
def federation(spec: ExchangeSpec, fingerprint: Fingerprint) -> Federation:
    settings = RoundSettings(rounds=4, round_timeout_s=12.5)
    return Federation(SITES, spec, fingerprint, aggregation("ffa"), settings, '{"batch_size": 4}', 7)


def with_settings(federation: Federation, **changes: object) -> Federation:
    return replace(federation, settings=federation.settings.model_copy(update=changes))


def journal_in(folder: Path) -> Journal:
    return Journal(folder, run={"seed": "7"})


def bits(tensors: Tensors) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in tensors.items()}


def test_what_was_seen_of_an_aggregate_is_what_a_resumed_run_goes_on_with(
    federation: Federation, current: TensorDict, tmp_path: Path
) -> None:
    seen: list[tuple[int, dict[str, bytes]]] = []

    def killed(number: int, tensors: Tensors) -> float:
        seen.append((number, bits(tensors)))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return number / 10

    with closing(journal_in(tmp_path)) as journal, pytest.raises(KeyboardInterrupt):
        run_rounds(federation, InHand(), journal, current, on_round=killed)
    transport = InHand()
    with closing(journal_in(tmp_path)) as journal:
        run_rounds(federation, transport, journal, current, on_round=killed)
        assert [record.macro_auroc for record in journal.rounds()] == [0.1, 0.2, 0.3, 0.4]
    # Round 2 is measured once more, and not asked again.
    assert [number for number, _ in seen] == [1, 2, 2, 3, 4] and seen[1] == seen[2]
    assert [next(iter(asked.values())).round for asked in transport.asked] == [3, 4]


def test_every_round_is_asked_aggregated_and_recorded(
    federation: Federation, current: TensorDict, tmp_path: Path
) -> None:
    transport, journal = InHand(), journal_in(tmp_path)
    seen: list[int] = []

    def on_round(number: int, _tensors: Tensors) -> float:
        seen.append(number)
        return number / 10

    last = run_rounds(federation, transport, journal, current, on_round=on_round)
    assert [set(asked) for asked in transport.asked] == [set(SITES)] * 4
    assert transport.timeouts == [12.5] * 4
    assert seen == [1, 2, 3, 4]
    records = journal.rounds()
    assert [record.macro_auroc for record in records] == [0.1, 0.2, 0.3, 0.4]
    assert [record.bytes_up for record in records] == [3 * federation.spec.nbytes] * 4
    # Losses 1 + 5, 1 + 5, 1 + 4 with weights 6, 6, 5.
    assert records[0].loss == pytest.approx((6 * 6 + 6 * 6 + 5 * 5) / 17)
    held = journal.last_checkpoint()
    assert held is not None and bits(held[1]) == bits(last)
    # Every site of a round is sent the aggregate of the round before.
    again = federation.method.combine(
        current, [trained(site, asked) for site, asked in transport.asked[0].items()], federation.spec
    )
    for asked in transport.asked[1].values():
        assert bits(asked.tensors) == bits(again)
        assert (asked.round, asked.rounds, asked.seed, asked.training) == (2, 4, 7, '{"batch_size": 4}')
        assert asked.spec_digest == federation.spec.digest()
        assert asked.fingerprint == federation.fingerprint
    journal.close()


@pytest.mark.parametrize("stopped_in", [1, 2, 4])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    federation: Federation, current: TensorDict, tmp_path: Path, stopped_in: int
) -> None:
    undisturbed = run_rounds(federation, InHand(), journal_in(tmp_path / "undisturbed"), current)

    def stopping(site: str, instruction: Instruction) -> Update:
        if instruction.round == stopped_in and site == "south":
            raise KeyboardInterrupt
        return trained(site, instruction)

    with pytest.raises(KeyboardInterrupt):
        run_rounds(federation, InHand(stopping), journal_in(tmp_path / "stopped"), current)
    transport, journal = InHand(), journal_in(tmp_path / "stopped")
    resumed = run_rounds(federation, transport, journal, current)
    assert bits(resumed) == bits(undisturbed)
    assert [next(iter(asked.values())).round for asked in transport.asked] == list(range(stopped_in, 5))
    assert [record.round for record in journal.rounds()] == [1, 2, 3, 4]


def test_a_finished_run_asks_nobody_and_returns_its_last_tensors(
    federation: Federation, current: TensorDict, tmp_path: Path
) -> None:
    first = run_rounds(federation, InHand(), journal_in(tmp_path), current)
    transport = InHand()
    assert bits(run_rounds(federation, transport, journal_in(tmp_path), current)) == bits(first)
    assert transport.asked == []


def broken(update: Update) -> Update:
    name = next(iter(update.deltas))
    return replace(update, deltas={**update.deltas, name: np.full_like(update.deltas[name], np.nan)})


MISSING = {
    "absent": (lambda _update: None, "no answer within the round's time"),
    "refused": (lambda update: Refusal(update.site, update.round, "StoreError"), "StoreError"),
    "quarantined": (broken, "holds NaN or infinite values"),
}


@pytest.mark.parametrize("state", MISSING)
def test_a_missing_site_leaves_the_others_going_where_that_was_agreed(
    federation: Federation, current: TensorDict, tmp_path: Path, state: str
) -> None:
    change, why = MISSING[state]

    def hospital(site: str, instruction: Instruction) -> Answer:
        update = trained(site, instruction)
        return change(update) if site == "south" and instruction.round == 2 else update

    transport, journal = InHand(hospital), journal_in(tmp_path)
    run_rounds(with_settings(federation, minimum_sites=2), transport, journal, current)
    states = [{part.site: part.state for part in record.sites} for record in journal.rounds()]
    assert states[1] == {"north": "accepted", "south": state, "west": "accepted"}
    assert all(set(round_states.values()) == {"accepted"} for n, round_states in enumerate(states) if n != 1)
    (south,) = [part for part in journal.rounds()[1].sites if part.site == "south"]
    assert why in str(south.why)
    assert [record.bytes_up // federation.spec.nbytes for record in journal.rounds()] == [3, 2, 3, 3]
    # What was aggregated is exactly what the other two sent.
    others = [trained(site, asked) for site, asked in transport.asked[1].items() if site != "south"]
    expected = federation.method.combine(transport.asked[1]["north"].tensors, others, federation.spec)
    assert bits(transport.asked[2]["north"].tensors) == bits(expected)


@pytest.mark.parametrize("state", MISSING)
@pytest.mark.parametrize("minimum", [None, 3])
def test_a_round_with_too_few_sites_is_void_and_says_who_and_why(
    federation: Federation, current: TensorDict, tmp_path: Path, state: str, minimum: int | None
) -> None:
    change, why = MISSING[state]

    def hospital(site: str, instruction: Instruction) -> Answer:
        update = trained(site, instruction)
        return change(update) if site == "south" and instruction.round == 3 else update

    journal = journal_in(tmp_path)
    strict = with_settings(federation, minimum_sites=minimum)
    with pytest.raises(RoundError, match=r"round 3 has 2 usable updates, 3 are needed\. south: " + state) as caught:
        run_rounds(strict, InHand(hospital), journal, current)
    assert why in caught.value.cause
    assert caught.value.exit_code == 7
    assert [record.round for record in journal.rounds()] == [1, 2]
    # Mended and resumed, the run ends as if nothing had happened.
    undisturbed = run_rounds(strict, InHand(), journal_in(tmp_path / "undisturbed"), current)
    assert bits(run_rounds(strict, InHand(), journal, current)) == bits(undisturbed)


def test_nobody_answers(federation: Federation, current: TensorDict, tmp_path: Path) -> None:
    with pytest.raises(RoundError, match=r"round 1 has 0 usable updates, 1 are needed"):
        run_rounds(
            with_settings(federation, minimum_sites=1), InHand(lambda _s, _i: None), journal_in(tmp_path), current
        )


def test_an_answer_from_a_site_that_was_not_asked_is_ignored(
    federation: Federation, current: TensorDict, tmp_path: Path
) -> None:
    class WithStranger(InHand):
        def exchange(
            self, instructions: Mapping[str, Instruction], *, timeout_s: float
        ) -> Mapping[str, Update | Refusal]:
            answers = dict(super().exchange(instructions, timeout_s=timeout_s))
            return {**answers, "stranger": trained("stranger", instructions["north"])}

    usual = run_rounds(federation, InHand(), journal_in(tmp_path / "usual"), current)
    visited = run_rounds(federation, WithStranger(), journal_in(tmp_path / "visited"), current)
    assert bits(visited) == bits(usual)


def test_updates_that_would_overflow_together_end_the_run_and_are_not_recorded(
    federation: Federation, current: TensorDict, tmp_path: Path
) -> None:
    def huge(site: str, instruction: Instruction) -> Update:
        update = trained(site, instruction)
        if instruction.round < 2:
            return update
        return replace(update, deltas={n: np.full_like(d, 3.4e38) for n, d in update.deltas.items()})

    big = {name: np.full_like(value, 3e38) for name, value in current.items()}
    journal = journal_in(tmp_path)
    with pytest.raises(ExchangeError, match="holds NaN or infinite values"), np.errstate(over="ignore"):
        run_rounds(federation, InHand(huge), journal, big)
    assert [record.round for record in journal.rounds()] == [1]
    limited = with_settings(federation, max_update_norm=1e30)
    with pytest.raises(RoundError, match=r"exceeds the federation's limit 1e\+30"):
        run_rounds(limited, InHand(huge), journal, big)


def test_what_cannot_be_aggregated_or_does_not_fit_is_refused_before_anybody_is_asked(
    federation: Federation, current: TensorDict, tmp_path: Path
) -> None:
    transport, journal = InHand(), journal_in(tmp_path)
    with_a = ExchangeSpec((*federation.spec.tensors, TensorSpec("text.query.lora_A.default.weight", (2, 2), "text")))
    with pytest.raises(ConfigError, match="must not travel with this method"):
        run_rounds(replace(federation, spec=with_a), transport, journal, current)
    with pytest.raises(ExchangeError, match="is missing"):
        run_rounds(federation, transport, journal, {name: current[name] for name in list(current)[1:]})
    assert transport.asked == []


@pytest.mark.parametrize(
    "changes", [{"rounds": 0}, {"minimum_sites": 0}, {"round_timeout_s": 0}, {"max_update_norm": 0}, {"surplus": 1}]
)
def test_settings_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        RoundSettings.model_validate(changes)
