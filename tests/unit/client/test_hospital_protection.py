"""A hospital with privacy: agreed settings, paid steps, answers kept, and refusals that cost nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from client.hospital import Hospital
from client.private_bank import PublicBank
from client.private_site import Declaration, declare, open_private_site
from client.protection import Protection
from client.secure_round import SumAgreement, SumParticipant
from client.stored_answers import StoredAnswers
from more_model.base import Assembled
from more_model.data.study import Modality
from more_model.errors import ConfigError
from more_model.exchange import Fingerprint, Instruction, Joined, Refusal, TensorDict, Update
from more_model.model.inventory import exchange_spec, export_tensors
from more_model.training.settings import TrainingSettings
from privacy.rounds import RoundPlan, round_plan
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.masked_rounds import MaskedRoundsFolder
from privacy.secure_sum.settings import PublicWeights, SumInvitation, SumSettings, make_plan, make_terms
from privacy.settings import PrivacySettings

if TYPE_CHECKING:
    from more_model.training.examples import Examples

SETTINGS = PrivacySettings(
    mode="patient-decoupled", target_epsilon=8.0, delta=0.01, sampling_rate=0.5, max_studies_per_patient=2
)
ROUNDS = 2
FINGERPRINT = Fingerprint({"base": "any"})


class Site:
    """A hospital with its ledger in a folder, and the instructions that it is given."""

    start: TensorDict

    def __init__(self, folder: Path, model: Any, examples: Examples, bank: Examples, tokenizer: Any) -> None:
        self.folder, self.model = folder, model
        self.declaration = declare(examples)
        self.settings = SETTINGS
        self._parts: dict[str, Any] = {
            "name": "north",
            "examples": examples,
            "assembled": Assembled(model, exchange_spec(model), FINGERPRINT),
            "tokenizer": tokenizer,
            "max_tokens": 64,
            "local_epochs": 1,
        }
        self.bank = PublicBank(bank, negatives=8)

    @property
    def plan(self) -> RoundPlan:
        """What the site and the coordinator have agreed to."""
        return round_plan(self.settings, self.declaration.patients, rounds=ROUNDS, local_epochs=1)

    def hospital(self, **changes: Any) -> Hospital:
        """As after a start of its process."""
        private = open_private_site(
            self.folder / "site",
            self.folder / "witness" / "north.json",
            site="north",
            examples=self._parts["examples"],
            settings=self.settings,
            plan=self.plan,
            declaration=self.declaration,
            bank=self.bank,
        )
        private = replace(private, **changes)
        protection = Protection(private, None, private.declaration, StoredAnswers(self.folder / "answers"))
        return Hospital(**self._parts, protection_of=lambda _run: protection)

    def instruction(self, number: int = 1, **changes: Any) -> Instruction:
        """A round that asks for what was agreed to."""
        spec = exchange_spec(self.model)
        parts: dict[str, Any] = {
            "round": number,
            "rounds": ROUNDS,
            "tensors": self.start,
            "training": TrainingSettings(threads=1, device="cpu").model_dump_json(),
            "seed": 3,
            "spec_digest": spec.digest(),
            "fingerprint": FINGERPRINT,
            "run": "trial",
            "privacy": self.settings.model_dump_json(),
        }
        return Instruction(**{**parts, **changes})

    def charged(self) -> int:
        """Steps that the ledger holds."""
        with closing(sqlite3.connect(self.folder / "site" / "ledger.sqlite")) as database:
            texts = [json.loads(row[1]) for row in database.execute("SELECT * FROM entries ORDER BY number")]
        return sum(text["content"]["charge"]["steps"] for text in texts if text["kind"] == "charge")


@pytest.fixture
def site(
    tmp_path: Path,
    small_model: Callable[..., Any],
    toy_site: Callable[..., Examples],
    small_tokenizer: Any,
) -> Site:
    made = Site(tmp_path, small_model(), toy_site([2] * 6 + [1] * 6), toy_site([1] * 8, site="public"), small_tokenizer)
    made.start = export_tensors(made.model)
    return made


def answered(hospital: Hospital, instruction: Instruction) -> Update:
    answer = hospital.answer(instruction)
    assert isinstance(answer, Update), answer
    return answer


def test_a_round_is_paid_for_and_says_nothing_but_the_update(site: Site) -> None:
    update = answered(site.hospital(), site.instruction())
    assert site.charged() == site.plan.accounted_steps
    assert update.weights == site.declaration.weights() == {"xray": 12.0, "ecg": 12.0, "text": 12.0, "shared": 12.0}
    assert update.counts == {"steps": float(site.plan.optimiser_steps)}
    assert all(np.any(delta) for delta in update.deltas.values())


def test_the_same_question_gets_the_same_answer_and_is_paid_for_once(site: Site) -> None:
    first = answered(site.hospital(), site.instruction())
    again = answered(site.hospital(), site.instruction())
    assert all(np.array_equal(first.deltas[name], again.deltas[name]) for name in first.deltas)
    assert site.charged() == site.plan.accounted_steps


def test_another_question_of_the_same_round_is_another_release(site: Site) -> None:
    hospital = site.hospital()
    first = answered(hospital, site.instruction())
    other = answered(hospital, site.instruction(seed=4))
    assert site.charged() == 2 * site.plan.accounted_steps
    assert any(not np.array_equal(first.deltas[name], other.deltas[name]) for name in first.deltas)


def test_training_stops_before_the_budget_is_crossed_and_a_restart_changes_nothing(site: Site) -> None:
    for number in range(1, ROUNDS + 1):
        answered(site.hospital(), site.instruction(number))
    spent = site.charged()
    before = site.hospital().protection_of("trial").private
    assert before is not None and before.ledger.spent(before.data_set).epsilon <= 8.0
    for hospital in (site.hospital(), site.hospital()):  # a second one as after a restart
        refusal = hospital.answer(site.instruction(2, seed=9))
        assert isinstance(refusal, Refusal) and refusal.code == "BudgetExhausted"
    assert site.charged() == spent == ROUNDS * site.plan.accounted_steps


@pytest.mark.parametrize(
    "asked",
    [
        "",
        SETTINGS.model_copy(update={"target_epsilon": 20.0}).model_dump_json(),
        SETTINGS.model_copy(update={"clip_norm": 100.0}).model_dump_json(),
        '{"mode": "patient-decoupled"',
    ],
    ids=["no privacy", "larger budget", "larger norm", "not JSON"],
)
def test_other_privacy_than_agreed_is_refused_before_anything_is_paid(site: Site, asked: str) -> None:
    refusal = site.hospital().answer(site.instruction(privacy=asked))
    assert isinstance(refusal, Refusal) and refusal.code == "ExchangeError"
    assert site.charged() == 0


@pytest.mark.parametrize(("number", "rounds"), [(1, 1), (1, 1000), (0, ROUNDS), (-3, ROUNDS), (ROUNDS + 1, ROUNDS)])
def test_a_run_of_another_length_than_agreed_is_refused_before_anything_is_paid(
    site: Site, number: int, rounds: int
) -> None:
    """Noise and charges were planned for the agreed rounds: with others the charge would not be that of the noise."""
    refusal = site.hospital().answer(site.instruction(number, rounds=rounds))
    assert isinstance(refusal, Refusal) and refusal.code == "ExchangeError"
    assert site.charged() == 0


def test_two_messages_at_once_are_answered_one_after_the_other(site: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    hospital = site.hospital()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: answered(hospital, site.instruction()), range(2))
    assert all(np.array_equal(first.deltas[name], second.deltas[name]) for name in first.deltas)
    assert site.charged() == site.plan.accounted_steps


def test_a_round_that_was_lost_after_it_was_paid_for_can_be_repeated_where_rounds_are_spare(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.settings = SETTINGS.model_copy(update={"spare_rounds": 1})
    monkeypatch.setattr(StoredAnswers, "keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        site.hospital().answer(site.instruction())
    monkeypatch.undo()
    for number in range(1, ROUNDS + 1):
        answered(site.hospital(), site.instruction(number))
    assert site.charged() == (ROUNDS + 1) * site.plan.accounted_steps == site.plan.all_steps


def test_privacy_asked_of_a_site_that_agreed_to_none_is_refused(site: Site) -> None:
    hospital = replace(site.hospital(), protection_of=lambda _run: Protection())
    assert isinstance(hospital.answer(site.instruction()), Refusal)


def test_a_secure_sum_that_nobody_agreed_to_is_refused(site: Site) -> None:
    refusal = site.hospital().answer(site.instruction(secure_sum="{}"))
    assert isinstance(refusal, Refusal) and site.charged() == 0


@pytest.mark.parametrize(
    "changes", [{"round": 2}, {"run": "another"}, {"agreement": "0" * 64}, {"minimum_contributors": 2}], ids=str
)
def test_terms_of_a_sum_are_looked_at_before_anything_is_paid(site: Site, changes: dict[str, Any]) -> None:
    settings, weights = SumSettings(), PublicWeights({"north": 12.0, "south": 12.0, "west": 12.0})
    identity = Identity.generate()
    rounds = MaskedRoundsFolder(site.folder / "masked")
    agreement = SumAgreement(settings, weights, SETTINGS, 0.0)
    sums = SumParticipant("north", identity, Roster({"north": identity.public()}), agreement, rounds)
    plain = site.hospital().protection_of("trial")
    hospital = replace(site.hospital(), protection_of=lambda _run: replace(plain, sums=sums))
    spec = exchange_spec(site.model)
    plan = make_plan(settings, spec, SETTINGS, weights, 0.0)
    terms = make_terms(
        settings, plan, run="trial", number=1, sites=tuple(weights.of_site), fingerprint_digest=FINGERPRINT.digest()
    )
    asked = SumInvitation(settings, weights, 0.0, replace(terms, **changes)).to_json()
    assert isinstance(hospital.answer(site.instruction(secure_sum=asked)), Refusal)
    assert site.charged() == 0
    sound = SumInvitation(settings, weights, 0.0, terms).to_json()
    assert isinstance(hospital.answer(site.instruction(secure_sum=sound)), Joined)
    assert site.charged() == site.plan.accounted_steps
    rounds.claim("trial", 1)
    assert isinstance(hospital.answer(site.instruction(seed=4, secure_sum=sound)), Refusal)
    assert site.charged() == site.plan.accounted_steps


def test_a_tower_of_an_undeclared_modality_stays_as_it_was(site: Site) -> None:
    lacking = Declaration(12, frozenset({Modality.ECG}))
    update = answered(site.hospital(declaration=lacking), site.instruction())
    assert not [name for name in update.deltas if name.startswith("xray")]
    after = export_tensors(site.model)
    assert all(np.array_equal(after[name], site.start[name]) for name in after if name.startswith("xray"))
    assert all(parameter.requires_grad for name, parameter in site.model.named_parameters() if name in after)


def test_a_damaged_answer_is_not_trained_again(site: Site) -> None:
    answered(site.hospital(), site.instruction())
    (kept,) = (site.folder / "answers").iterdir()
    kept.write_bytes(kept.read_bytes()[:50])
    refusal = site.hospital().answer(site.instruction())
    assert isinstance(refusal, Refusal) and refusal.code == "StoreError"
    assert site.charged() == site.plan.accounted_steps


def test_only_the_newest_answers_are_kept(site: Site, tmp_path: Path) -> None:
    update = answered(site.hospital(), site.instruction())
    answers = StoredAnswers(tmp_path / "many")
    for number in range(1, 5):
        answers.keep(site.instruction(number), replace(update, round=number))
    assert answers.find(site.instruction(4)) is not None and answers.find(site.instruction(1)) is None
    assert len(list((tmp_path / "many").iterdir())) == 2
    answers.keep(site.instruction(1), update)  # a run that began anew: the one just given is never the one to go
    assert answers.find(site.instruction(1)) is not None


def test_answers_are_for_their_owner_only(site: Site) -> None:
    answered(site.hospital(), site.instruction())
    (kept,) = (site.folder / "answers").iterdir()
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_declaration_is_rounded_up_to_two_digits(toy_site: Callable[..., Examples]) -> None:
    assert declare(toy_site([1] * 9)).patients == 9
    assert declare(toy_site([1] * 57)).patients == 57
    assert declare(toy_site([1] * 121)).patients == 130


def test_a_bank_with_patients_of_the_site_is_refused_before_any_round(site: Site) -> None:
    site.bank = site.bank.__class__(site.hospital().examples)
    with pytest.raises(ConfigError, match="patients of this site"):
        site.hospital()
