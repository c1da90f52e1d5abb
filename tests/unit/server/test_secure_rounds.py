"""Rounds as secure sums: sites lost at every stage, sites that misbehave, void rounds, and what the journal says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from client.secure_round import SumAgreement, SumParticipant
from more_model.errors import ConfigError, MoreError, RoundError
from more_model.exchange import ExchangeSpec, Fingerprint, Instruction, Joined, Refusal, SumStage, TensorDict, Update
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.masked_rounds import MaskedRoundsFolder
from privacy.secure_sum.settings import PublicWeights, SumSettings
from privacy.settings import PrivacySettings
from server.aggregation.methods import aggregation
from server.journal import Journal
from server.protection import Protection
from server.rounds import Federation, RoundSettings, run_rounds
from server.secure_rounds import SumFederation

SITES = tuple(f"site-{number}" for number in range(7))
PATIENTS = {site: 20.0 + 10 * place for place, site in enumerate(SITES)}
SETTINGS = SumSettings(rounding="nearest", clip_norm=50.0)
STAGES = ("advertise", "share", "mask", "confirm", "reveal")


def update_of(site: str, instruction: Instruction, spec: ExchangeSpec) -> Update:
    generator = np.random.default_rng([instruction.round, *site.encode()])
    deltas = {t.name: generator.normal(size=t.shape).astype(np.float32) for t in spec.tensors}
    weights = dict.fromkeys(("xray", "ecg", "text", "shared"), PATIENTS[site])
    digest = instruction.fingerprint.digest()
    return Update(site, instruction.round, deltas, weights, instruction.spec_digest, digest)


@dataclass
class Hospitals:
    """A transport to real participants; ``lost`` sites stop answering at a stage of a round, ``answers`` are replaced
    by something else."""

    spec: ExchangeSpec
    participants: Mapping[str, SumParticipant]
    lost: Mapping[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)
    instead: Mapping[tuple[str, str], SumStage | Update | Refusal] = field(default_factory=dict)
    seen: list[SumStage] = field(default_factory=list)
    round: int = 0

    def exchange(
        self, instructions: Mapping[str, Instruction], *, timeout_s: float
    ) -> Mapping[str, Update | Joined | Refusal]:
        answers: dict[str, Update | Joined | Refusal] = {}
        self.seen.clear()
        for site, instruction in instructions.items():
            self.round = instruction.round
            if site not in self.lost.get((self.round, "advertise"), ()):
                own = update_of(site, instruction, self.spec)
                answer = self.instead.get((site, "advertise"))
                assert not isinstance(answer, SumStage)
                answers[site] = answer or self.participants[site].join(instruction, own, self.spec)
        return answers

    def ask(self, messages: Mapping[str, SumStage], *, run: str, timeout_s: float) -> Mapping[str, SumStage | Refusal]:
        answers: dict[str, SumStage | Refusal] = {}
        for site, message in messages.items():
            if site in self.lost.get((self.round, message.stage), ()):
                continue
            try:
                answer = self.instead.get((site, message.stage)) or self.participants[site].answer(message)
            except MoreError as error:
                answer = Refusal(site, 0, type(error).__name__)
            assert not isinstance(answer, Update)
            answers[site] = answer
            if isinstance(answer, SumStage):
                self.seen.append(answer)
        return answers


@pytest.fixture
def hospitals(spec: ExchangeSpec, tmp_path: Path) -> Hospitals:
    identities = {site: Identity.generate() for site in SITES}
    roster = Roster({site: identity.public() for site, identity in identities.items()})
    agreement = SumAgreement(SETTINGS, PublicWeights(PATIENTS), PrivacySettings(), 0.0)
    return Hospitals(
        spec,
        {
            site: SumParticipant(site, identities[site], roster, agreement, MaskedRoundsFolder(tmp_path / site))
            for site in SITES
        },
    )


@pytest.fixture
def federation(spec: ExchangeSpec, fingerprint: Fingerprint, hospitals: Hospitals) -> Federation:
    roster = hospitals.participants[SITES[0]]._roster
    return Federation(
        sites=SITES,
        spec=spec,
        fingerprint=fingerprint,
        method=aggregation("ffa"),
        settings=RoundSettings(rounds=1, minimum_sites=4),
        training="{}",
        seed=1,
        run="a run",
        protection=Protection(sums=SumFederation(SETTINGS, PublicWeights(PATIENTS), roster)),
    )


def run(federation: Federation, hospitals: Hospitals, folder: Path, current: TensorDict) -> tuple[TensorDict, Journal]:
    journal = Journal(folder / "journal", run={"seed": "1"})
    return run_rounds(federation, hospitals, journal, current), journal


def expected(current: TensorDict, sites: tuple[str, ...], spec: ExchangeSpec, federation: Federation) -> TensorDict:
    """The weighted mean of the updates of ``sites`` on the grid, in exact integers."""
    step = SETTINGS.clip_norm / (2 ** (SETTINGS.bits - 1) - 1)
    weights = PublicWeights(PATIENTS).integers(SETTINGS.max_weight)
    instruction = Instruction(1, 1, current, "{}", 1, spec.digest(), federation.fingerprint, "a run")
    total = sum(weights[site] for site in sites)
    result = {}
    for tensor in spec.tensors:
        whole = np.zeros(tensor.shape, dtype=np.int64)
        for site in sites:
            delta = update_of(site, instruction, spec).deltas[tensor.name]
            whole += weights[site] * np.rint(delta / step).astype(np.int64)
        mean = (whole.astype(np.float64) * step / total).astype(np.float32)
        result[tensor.name] = (current[tensor.name].astype(np.float64) + mean).astype(np.float32)
    return result


def test_the_mean_is_that_of_the_same_integers_in_the_clear_bit_for_bit(
    federation: Federation, hospitals: Hospitals, current: TensorDict, spec: ExchangeSpec, tmp_path: Path
) -> None:
    tensors, journal = run(federation, hospitals, tmp_path, current)
    wanted = expected(current, SITES, spec, federation)
    assert all(np.array_equal(tensors[name], wanted[name]) for name in wanted)
    assert {part.state for part in journal.rounds()[0].sites} == {"accepted"}


@pytest.mark.parametrize("stage", STAGES)
def test_two_sites_lost_at_a_stage_change_the_sum_only_where_they_had_not_put_anything_in(
    stage: str, federation: Federation, hospitals: Hospitals, current: TensorDict, spec: ExchangeSpec, tmp_path: Path
) -> None:
    hospitals.lost = {(1, stage): SITES[1:3]}
    tensors, journal = run(federation, hospitals, tmp_path, current)
    counted = SITES if stage in ("confirm", "reveal") else (SITES[0], *SITES[3:])
    wanted = expected(current, counted, spec, federation)
    assert all(np.array_equal(tensors[name], wanted[name]) for name in wanted)
    states = {part.site: part for part in journal.rounds()[0].sites}
    assert {site for site, part in states.items() if part.state == "accepted"} == set(counted)
    assert f"stage {stage}" in str(states[SITES[1]].why)


def test_too_few_sites_make_the_round_void_and_the_next_one_goes_on(
    federation: Federation, hospitals: Hospitals, current: TensorDict, tmp_path: Path
) -> None:
    hospitals.lost = {(1, "mask"): SITES[:4]}
    two = replace(federation, settings=RoundSettings(rounds=2, minimum_sites=4))
    tensors, journal = run(two, hospitals, tmp_path, current)
    first, second = journal.rounds()
    assert {part.state for part in first.sites} == {"void"}
    assert "3 sites finished stage mask, 5 are needed" in str(first.sites[0].why)
    assert {part.state for part in second.sites} == {"accepted"}
    assert any(not np.array_equal(tensors[name], current[name]) for name in current)


def test_a_void_round_leaves_the_tensors_as_they_were(
    federation: Federation, hospitals: Hospitals, current: TensorDict, tmp_path: Path
) -> None:
    hospitals.lost = {(1, "reveal"): SITES[:4]}
    tensors, _ = run(federation, hospitals, tmp_path, current)
    assert all(np.array_equal(tensors[name], current[name]) for name in current)


def test_more_void_rounds_than_allowed_end_the_run(
    federation: Federation, hospitals: Hospitals, current: TensorDict, tmp_path: Path
) -> None:
    hospitals.lost = {(number, "share"): SITES[:4] for number in (1, 2)}
    strict = replace(federation, settings=RoundSettings(rounds=3, minimum_sites=4, max_void_rounds=1))
    with pytest.raises(RoundError, match="2 rounds came to nothing, 1 may; round 2"):
        run(strict, hospitals, tmp_path, current)


def test_fewer_contributors_than_the_federation_wants_make_a_void_round(
    federation: Federation, hospitals: Hospitals, current: TensorDict, tmp_path: Path
) -> None:
    hospitals.lost = {(1, "mask"): SITES[:1]}
    everyone = replace(federation, settings=RoundSettings(rounds=1))
    tensors, journal = run(everyone, hospitals, tmp_path, current)
    assert "6 sites are in the sum, 7 are needed" in str(journal.rounds()[0].sites[1].why)
    # Not one mask was taken off: a sum that is known and thrown away could be compared with the next one.
    assert {message.stage for message in hospitals.seen} == {"share", "mask"}
    assert all(np.array_equal(tensors[name], current[name]) for name in current)


def test_rounds_that_every_site_refuses_are_void_too(
    federation: Federation, hospitals: Hospitals, current: TensorDict, tmp_path: Path
) -> None:
    hospitals.instead = {(site, "advertise"): Refusal(site, 1, "BudgetExhausted") for site in SITES}
    long = replace(federation, settings=RoundSettings(rounds=8, minimum_sites=4))
    with pytest.raises(RoundError, match=r"3 rounds came to nothing, 2 may.*BudgetExhausted"):
        run(long, hospitals, tmp_path, current)


def test_an_update_in_the_clear_is_dropped_and_its_site_named(
    federation: Federation, hospitals: Hospitals, current: TensorDict, spec: ExchangeSpec, tmp_path: Path
) -> None:
    instruction = Instruction(1, 1, current, "{}", 1, spec.digest(), federation.fingerprint, "a run")
    hospitals.instead = {(SITES[0], "advertise"): update_of(SITES[0], instruction, spec)}
    tensors, journal = run(federation, hospitals, tmp_path, current)
    part = journal.rounds()[0].sites[0]
    assert (part.state, part.why) == ("quarantined", "it sent its update in the clear, which was dropped unread")
    wanted = expected(current, SITES[1:], spec, federation)
    assert all(np.array_equal(tensors[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (SumStage("mask", {"session": "x", "site": SITES[0]}), "another round"),
        (SumStage("share", {}), "another stage"),
        (SumStage("mask", {}), "malformed"),
        (SumStage("mask", {"session": "x", "site": SITES[1]}), "calls itself"),
    ],
    ids=["session", "stage", "malformed", "name"],
)
def test_an_answer_that_cannot_be_used_costs_its_site_only(
    answer: SumStage, why: str, federation: Federation, hospitals: Hospitals, current: TensorDict, tmp_path: Path
) -> None:
    hospitals.instead = {(SITES[0], "mask"): answer}
    _, journal = run(federation, hospitals, tmp_path, current)
    part = journal.rounds()[0].sites[0]
    assert part.state == "quarantined" and why in str(part.why)


def test_a_round_is_asked_of_the_sites_once(
    federation: Federation, hospitals: Hospitals, current: TensorDict, tmp_path: Path
) -> None:
    """The coordinator died after the masked inputs had arrived; after its restart the same round comes to nothing."""
    run(federation, hospitals, tmp_path / "first", current)
    tensors, journal = run(federation, hospitals, tmp_path / "again", current)
    assert {part.state for part in journal.rounds()[0].sites} == {"refused"}
    assert "SumRefused at stage mask" in str(journal.rounds()[0].sites[0].why)
    assert all(np.array_equal(tensors[name], current[name]) for name in current)


def test_what_a_sum_cannot_do_is_refused_before_any_site_is_asked(
    federation: Federation, hospitals: Hospitals, current: TensorDict, tmp_path: Path
) -> None:
    bounded = replace(federation, settings=RoundSettings(rounds=1, max_update_norm=3.0))
    with pytest.raises(ConfigError, match="the norm of a masked update means nothing"):
        run(bounded, hospitals, tmp_path, current)
    assert hospitals.round == 0
