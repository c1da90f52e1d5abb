"""Secure sums of three daemons over their sockets, with what the federation card says."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from client.hospital import Hospital
from client.protection import Protection
from client.secure_round import SumAgreement, SumParticipant
from client.site_keys import make_keys
from client.stored_answers import StoredAnswers
from more_model.data.study import Modality
from more_model.errors import ConfigError
from more_model.exchange import Instruction, Joined, Refusal, SumStage, TensorDict, Update
from more_model.federation_card import FederationCard, load_card, write_card
from more_model.model.inventory import export_tensors
from more_model.private_file import secret
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.masked_rounds import MaskedRoundsFolder
from privacy.secure_sum.settings import PublicWeights, SumSettings
from privacy.settings import PrivacySettings
from server.aggregation.methods import aggregation
from server.card import card_of
from server.deployed_protection import deployed_protection
from server.federation_file import FederationFile
from server.journal import Journal, RoundRecord
from server.rounds import Federation, Transport, run_rounds
from server.secure_rounds import set_up
from server.sites import SiteRegister

if TYPE_CHECKING:
    from client.private_site import Declaration
    from more_model.base import Assembled
    from simulation.workbench import Workbench

RUN, ROUNDS = "secure run", 2
#: Rounded to the nearest: the same updates then give the same sum.
SUMS: dict[str, Any] = {"rounding": "nearest", "clip_norm": 50.0}
STAGES = ["advertise", "share", "mask", "confirm", "reveal"]
#: Public, and not those that train there.
PATIENTS = {"site-1": 40, "site-2": 100, "site-3": 70}
KINDS = ("xray", "ecg", "report")
HOSPITAL = {
    "mode": "hospital", "delta": 0.01, "target_epsilon": 8.0, "clip_norm": 0.5,
    "public_weights": {"site-1": 0.25, "site-2": 0.5, "site-3": 0.25},
}  # fmt: skip


@dataclass
class Consortium:
    """Three sites that are enrolled and hold the card, and what their coordinator computes for itself."""

    bench: Workbench
    sites: dict[str, Any]
    file: FederationFile
    register: SiteRegister
    parts: Assembled

    def card(self) -> FederationCard:
        """As the coordinator gives it out now."""
        return card_of(self.file, self.register, self.parts, b"a bundle")

    def publish(self) -> None:
        """Every site gets the card; it is read when the daemon starts."""
        card = self.card()
        for site in self.sites.values():
            write_card(card, site.folder / "federation-card.json")
            site.content["federation"]["card"] = "federation-card.json"

    def federation(self) -> Federation:
        return Federation(
            sites=tuple(self.sites),
            spec=self.parts.spec,
            fingerprint=self.parts.fingerprint,
            method=aggregation(self.file.method),
            settings=self.file.rounds,
            training=self.bench.config.training.model_dump_json(),
            seed=3,
            run=RUN,
            protection=deployed_protection(self.file, self.register),
        )

    def instruction(self, number: int = 1, **changes: Any) -> Instruction:
        """What the coordinator asks in a round, on the tensors of the beginning."""
        of_run, spec = self.federation(), self.parts.spec
        sums, privacy = of_run.protection.sums, of_run.protection.privacy
        assert sums is not None
        invited = set_up(sums, spec.upward(number), of_run.fingerprint, privacy, run=RUN, number=number).invitation
        parts: dict[str, Any] = {
            "round": number,
            "rounds": ROUNDS,
            "tensors": export_tensors(self.parts.model),
            "training": of_run.training,
            "seed": 3,
            "spec_digest": spec.digest(),
            "fingerprint": of_run.fingerprint,
            "run": RUN,
            "privacy": privacy.model_dump_json() if privacy.on else "",
            "secure_sum": invited.to_json(),
        }
        return Instruction(**{**parts, **changes})

    def train(self, transport: Transport, folder: Path) -> tuple[TensorDict, list[RoundRecord]]:
        journal = Journal(folder, run={})
        try:
            initial = export_tensors(self.parts.model)
            return run_rounds(self.federation(), transport, journal, initial), journal.rounds()
        finally:
            journal.close()


NewConsortium = Callable[..., Consortium]


@pytest.fixture
def consortium(miniature_bench: Workbench, new_site: Callable[..., Any], tmp_path: Path) -> NewConsortium:
    """``consortium(privacy=...)``: enrolled, and with the card; no daemon is started."""

    def build(privacy: Mapping[str, Any] | None = None, sums: Mapping[str, Any] | None = None) -> Consortium:
        register, sites = SiteRegister(tmp_path / "sites.sqlite"), {name: new_site(name) for name in PATIENTS}
        for name, site in sites.items():
            made = make_keys(site.folder, name, patients=PATIENTS[name], modalities=KINDS)
            register.enroll(made.enrolment, by="a test")
            site.policy["privacy"] = {"unprotected": True, "secure_sums": "required"}
            if privacy is not None:
                site.policy["privacy"] |= {"modes": ["hospital"], "epsilon": 8.0, "delta": 0.01}
        told = next(iter(sites.values())).content["federation"]
        (tmp_path / "authority").mkdir()
        copyfile(told["root_certificate"], tmp_path / "authority" / "root.pem")
        file = FederationFile.model_validate(
            {
                "name": told["name"],
                "public_address": told["address"],
                "base": miniature_bench.base_folder,
                "authority": tmp_path / "authority",
                "method": told["method"],
                "public_seed": told["public_seed"],
                "rounds": {"rounds": ROUNDS},
                "privacy": privacy or {},
                "secure_sum": {**SUMS, **(sums or {})},
                "sites": {name: {"patients": number, "modalities": KINDS} for name, number in PATIENTS.items()},
            }
        )
        made_up = Consortium(miniature_bench, sites, file, register, miniature_bench.assembled())
        made_up.publish()
        return made_up

    return build


@dataclass
class Daemons:
    """A transport to daemons behind their sockets. Every question is asked twice, as after an answer that was lost.
    ``restart``: (round, stage, site) before which a daemon is started again."""

    running: dict[str, Any]
    again: Callable[[str], None]
    restart: frozenset[tuple[int, str, str]] = frozenset()
    round: int = 0

    def exchange(
        self, instructions: Mapping[str, Instruction], *, timeout_s: float
    ) -> Mapping[str, Update | Joined | Refusal]:
        answers: dict[str, Update | Joined | Refusal] = {}
        for site, asked in instructions.items():
            self.round = asked.round
            found = self._twice(site, "advertise", "train", asked.facts(), asked.tensors)
            facts = dict(found.facts)
            assert found.kind == "joined" and facts.pop("stage") == "advertise" and not found.arrays, facts
            answers[site] = Joined(site, asked.round, facts)
        return answers

    def ask(self, messages: Mapping[str, SumStage], *, run: str, timeout_s: float) -> Mapping[str, SumStage | Refusal]:
        answers: dict[str, SumStage | Refusal] = {}
        for site, asked in messages.items():
            found = self._twice(site, asked.stage, "sum-stage", {**asked.facts, "stage": asked.stage, "run": run}, {})
            facts = dict(found.facts)
            if found.kind == "refusal":
                answers[site] = Refusal(site, self.round, str(facts["refusal"]))
            else:
                answers[site] = SumStage(str(facts.pop("stage")), facts, found.arrays)
        return answers

    def _twice(self, site: str, stage: str, kind: str, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        if (self.round, stage, site) in self.restart:
            self.again(site)
        first, second = (self.running[site].ask(kind, facts, tensors) for _ in range(2))
        assert first.facts == second.facts and first.arrays.keys() == second.arrays.keys()
        assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)
        return first


@contextmanager
def daemons(consortium: Consortium, here: Callable[..., Any], *restart: tuple[int, str, str]) -> Iterator[Daemons]:
    """All three, running."""
    with ExitStack() as stack:
        open_: dict[str, ExitStack] = {}
        running: dict[str, Any] = {}

        def start(site: str) -> None:
            if site in open_:
                open_[site].close()
            open_[site] = stack.enter_context(ExitStack())
            running[site] = open_[site].enter_context(here(consortium.sites[site]))

        for name in consortium.sites:
            start(name)
        yield Daemons(running, start, frozenset(restart))


def in_one_process(consortium: Consortium, folder: Path) -> Transport:
    """The same hospitals, keys and weights, without a daemon and without a card."""
    bench, words = consortium.bench, consortium.bench.scorer
    identities = {
        name: Identity.from_bytes(secret(site.folder / "keys" / "identity")) for name, site in consortium.sites.items()
    }
    roster = Roster({name: identity.public() for name, identity in identities.items()})
    weights = PublicWeights({name: float(number) for name, number in PATIENTS.items()})
    agreement = SumAgreement(SumSettings.model_validate(SUMS), weights, PrivacySettings(), 0.0)

    def hospital(name: str) -> Hospital:
        masked = MaskedRoundsFolder(folder / name / "masked")
        sums = SumParticipant(name, identities[name], roster, agreement, masked)
        declared: Declaration = _declaration(PATIENTS[name])
        protection = Protection(None, sums, declared, StoredAnswers(folder / name / "answers"))
        return Hospital(
            name,
            bench.training_examples(name),
            bench.assembled(),
            words.tokenizer,
            words.max_tokens,
            1,
            lambda _run: protection,
        )

    hospitals = {name: hospital(name) for name in consortium.sites}

    class InProcess:
        def exchange(self, instructions: Mapping[str, Instruction], *, timeout_s: float) -> Any:
            return {site: hospitals[site].answer(asked) for site, asked in instructions.items()}

        def ask(self, messages: Mapping[str, SumStage], *, run: str, timeout_s: float) -> Any:
            return {site: hospitals[site].continue_sum(run, asked) for site, asked in messages.items()}

    return InProcess()


def _declaration(patients: int) -> Declaration:
    from client.private_site import Declaration

    return Declaration(patients, frozenset(Modality(kind) for kind in KINDS))


def test_three_daemons_give_the_bits_of_hospitals_in_one_process(
    consortium: NewConsortium, here: Callable[..., Any], tmp_path: Path
) -> None:
    ours = consortium()
    with daemons(ours, here) as transport:
        found, records = ours.train(transport, tmp_path / "daemons")
    assert {part.state for record in records for part in record.sites} == {"accepted"}
    expected, _ = ours.train(in_one_process(ours, tmp_path), tmp_path / "alone")
    start = export_tensors(ours.parts.model)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert any(not np.array_equal(found[name], start[name]) for name in start)
    for site in ours.sites.values():
        released = [entry.content for entry in site.audit("released")]
        assert {entry["message"] for entry in released} == {"joined", "sum-stage"}, "nothing leaves in the clear"
        assert [entry["repeated"] for entry in released] == [False, True] * (len(STAGES) * ROUNDS)
        (agreed,) = site.audit("agreed")
        assert agreed.content["sums"] and agreed.content["run"] == RUN


def test_a_daemon_that_is_started_again_in_the_middle_of_a_sum_is_back_in_the_next_round(
    consortium: NewConsortium, here: Callable[..., Any], tmp_path: Path
) -> None:
    ours = consortium()
    with daemons(ours, here, (1, "share", "site-2")) as transport:
        _, (lost, whole) = ours.train(transport, tmp_path / "journal")
    of_site = {part.site: (part.state, part.why) for part in lost.sites}
    assert of_site["site-2"] == ("refused", "ExchangeError at stage share")
    assert of_site["site-1"][0] == of_site["site-3"][0] == "void", "of three, none can be spared"
    assert {part.state for part in whole.sites} == {"accepted"}
    keys = [entry.content["sha256"] for entry in ours.sites["site-2"].audit("released")]
    assert len(set(keys)) * 2 == len(keys), "no message of one session is ever sent in another"


def test_keys_do_not_outlive_the_daemon_and_a_masked_round_is_not_masked_again(
    consortium: NewConsortium, here: Callable[..., Any]
) -> None:
    ours = consortium()
    site, asked = ours.sites["site-1"], ours.instruction()
    with here(site) as daemon:
        first = daemon.train(asked)
        assert daemon.train(asked).facts == first.facts, "nothing has come of it yet"
    with here(site) as daemon:
        second = daemon.train(asked)
        assert second.kind == "joined" and second.facts["masking_key"] != first.facts["masking_key"]
        nonsense = {"run": RUN, "stage": "share", "session": second.facts["session"], "advertisements": "[]"}
        assert "refusal" in daemon.ask("sum-stage", nonsense).facts
        third = daemon.train(asked)
        assert third.kind == "joined" and third.facts["masking_key"] != second.facts["masking_key"]
    MaskedRoundsFolder(site.folder / "records" / "masked").claim(RUN, 1)
    with here(site) as daemon:
        assert daemon.train(asked).facts["refusal"] == "ExchangeError"
        assert daemon.train(ours.instruction(2)).kind == "joined"


def test_under_hospital_privacy_both_ends_plan_the_same_noise(
    consortium: NewConsortium, here: Callable[..., Any], tmp_path: Path
) -> None:
    ours = consortium(privacy=HOSPITAL, sums={"dropouts": 0, "bits": 24, "max_weight": 2})
    assert ours.federation().protection.sums is not None
    site = ours.sites["site-2"]
    with here(site) as daemon:
        assert daemon.train(ours.instruction()).kind == "joined"
    with here(site) as daemon:
        stage = {"run": RUN, "stage": "share"}
        assert daemon.ask("sum-stage", stage).facts["refusal"] == "ExchangeError", "opened, and no sum goes on"
        assert daemon.train(ours.instruction(2)).kind == "joined"
        assert daemon.train(ours.instruction(2, rounds=3)).facts["refusal"] == "ExchangeError"


def test_what_the_card_does_not_promise_is_refused_and_not_agreed_to(
    consortium: NewConsortium, here: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ours = consortium()
    site = ours.sites["site-1"]
    site.policy["privacy"] = {
        "unprotected": True, "secure_sums": "allowed", "modes": ["hospital"], "epsilon": 9.0, "delta": 0.1
    }  # fmt: skip
    with here(site) as daemon, caplog.at_level(logging.WARNING):
        for changes, why in (
            ({"secure_sum": ""}, "promises secure sums, the coordinator asks for updates in the clear"),
            ({"privacy": json.dumps(HOSPITAL)}, "other privacy than the federation card promises"),
        ):
            caplog.clear()
            assert daemon.train(ours.instruction(**changes)).facts["refusal"] == "ExchangeError"
            assert why in caplog.text
        caplog.clear()
        other = json.loads(ours.instruction().secure_sum)
        other["weights"]["site-2"] = 1.0
        assert daemon.train(ours.instruction(secure_sum=json.dumps(other))).facts["refusal"] == "ExchangeError"
        assert "not those that this site agreed to" in caplog.text
    del site.content["federation"]["card"]
    stranger = ours.instruction(run="another run")
    with here(site) as daemon, caplog.at_level(logging.WARNING):
        caplog.clear()
        assert daemon.train(stranger).facts["refusal"] == "ConfigError"
        assert "has no federation card" in caplog.text
    assert [entry.content["run"] for entry in site.audit("agreed")] == [RUN], "the card's sums, with its weights"


def test_a_run_goes_on_with_the_card_that_it_was_agreed_on(
    consortium: NewConsortium, here: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ours = consortium()
    site, path = ours.sites["site-1"], ours.sites["site-1"].folder / "federation-card.json"
    with here(site) as daemon:
        assert daemon.train(ours.instruction()).kind == "joined"
    former = load_card(path)
    write_card(former.model_copy(update={"bundle": "0" * 64}), path)
    with here(site) as daemon:
        assert daemon.train(ours.instruction(2)).kind == "joined", "sums do not depend on the bundle"
    changed = former.sites["site-2"].model_copy(update={"identity_key": Identity.generate().public().hex()})
    write_card(former.model_copy(update={"sites": {**former.sites, "site-2": changed}}), path)
    with here(site) as daemon, caplog.at_level(logging.WARNING):
        assert daemon.train(ours.instruction(2)).facts["refusal"] == "ConfigError"
        assert "than the card that this run was agreed on" in caplog.text


def test_a_card_that_is_wrong_about_this_site_or_of_another_federation(
    consortium: NewConsortium, here: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ours = consortium()
    site, path = ours.sites["site-1"], ours.sites["site-1"].folder / "federation-card.json"
    card = load_card(path)
    wrong = {"identity_key": "1" * 64, "patients": PATIENTS["site-1"] + 1}
    sites = {**card.sites, "site-1": card.sites["site-1"].model_copy(update=wrong)}
    write_card(card.model_copy(update={"sites": sites}), path)
    with here(site) as daemon, caplog.at_level(logging.WARNING):
        assert daemon.train(ours.instruction()).facts["refusal"] == "ConfigError"
        assert "is not that of keys.identity" in caplog.text and "number of patients" in caplog.text
    assert site.audit("agreed") == []
    write_card(card.model_copy(update={"name": "another"}), path)
    with pytest.raises(ConfigError, match="name: another, and chest in the site file"), here(site):
        pass
