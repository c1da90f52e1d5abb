"""Where questions are answered, one after the other: what the policy allows, what the hospital says, what may leave."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import torch

from client.daemon.opening import OpenSite
from client.daemon.orders import Orders
from client.daemon.protections import Protections
from client.daemon.rules import PolicyWatch, Rules
from client.egress_rules import DRAINING, PAUSED, UNEXPECTED, Outgoing, SiteName, payload_of
from client.evaluation import HeldOut
from client.hospital import Hospital
from client.policy import SitePolicy
from client.policy_check import Reason, SiteFacts, check_bundle, check_instruction, check_question
from client.records.audit_log import AuditLog
from client.wire import BUNDLE_FACT, EVALUATE, SUM_STAGE, TRAIN, WHO, Frame, WireError
from more_model.errors import EnvironmentFault, ExchangeError, MoreError
from more_model.evaluation.federated_terms import EvaluationTerms
from more_model.exchange import RUN_FACT, STAGE_FACT, VERDICT_FACT, Instruction, Joined, Refusal, SumStage
from more_model.score_exchange import Question
from more_model.training.examples import Examples
from more_model.training.loop import resolve_device
from more_model.training.settings import TrainingSettings

_LOG = logging.getLogger(__name__)
Parsed = TypeVar("Parsed")
_LONGEST_NAME, _LONGEST_VERDICT = 200, 300


class Unanswerable(EnvironmentFault):
    """There is no answer now, not even a refusal: the question has to be asked again."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the newest question could not be answered at all, and what helps. ``since``: UTC, ISO 8601."""

    cause: str
    remedy: str
    since: str


@dataclass(frozen=True, slots=True)
class Activity:
    """What the site does, for its people. ``since``: UTC, ISO 8601."""

    kind: str
    run: str
    round: int
    since: str


class Desk:
    """All answers of a site. Threads may bring questions at once: they wait for each other, but for `WHO`."""

    def __init__(
        self,
        site: OpenSite,
        watch: PolicyWatch,
        orders: Orders,
        protections: Protections,
        terms: EvaluationTerms | None,
        log: AuditLog,
    ) -> None:
        self._site, self._watch, self._orders, self._protections = site, watch, orders, protections
        self._terms, self._log = terms, log
        self._one_at_a_time = threading.Lock()
        self._draining = False
        self._open_sum = ""
        self.activity: Activity | None = None
        self.obstacle: Obstacle | None = None
        self.last_refusal = self.last_verdict = ""

    @property
    def busy(self) -> bool:
        """Whether a question is being answered, or a secure sum that this site has joined goes on."""
        return self._one_at_a_time.locked() or bool(self._open_sum)

    def drain(self) -> None:
        """Begin nothing new from now on; what has begun is finished."""
        self._draining = True

    def answer(self, asked: Frame, still_wanted: Callable[[], bool] = lambda: True) -> Frame:
        """The frame that leaves as the answer, once the gate has let it out.

        ``still_wanted``: whether the one who asked is still there; asked before anything long begins.

        Raises:
            WireError: not a question.
            Unanswerable: the audit log cannot be written, or the disk is full.
        """
        if asked.kind == WHO:
            return self._unhindered(self._who)
        with self._one_at_a_time:
            if not still_wanted():
                raise Unanswerable("the one who asked has gone")
            try:
                return self._unhindered(lambda: self._in_turn(asked))
            finally:
                self.activity = None

    def _unhindered(self, answer: Callable[[], Frame]) -> Frame:
        """What ``answer`` gives; where it cannot be given at all, the site's people see why until one can."""
        try:
            answered = answer()
        except (EnvironmentFault, OSError) as error:
            known = error if isinstance(error, EnvironmentFault) else _disk_fault(error)
            since = self.obstacle.since if self.obstacle is not None else _now()
            self.obstacle = Obstacle(known.cause, known.remedy, since)
            raise Unanswerable(known.cause, remedy=known.remedy, avoid=known.avoid) from error
        self.obstacle = None
        return answered

    def _in_turn(self, asked: Frame) -> Frame:
        facts = dict(asked.facts)
        # The relay's word, not the coordinator's: it takes the digest itself, and puts it over whatever came.
        bundle, verdict = str(facts.pop(BUNDLE_FACT, "")), str(facts.pop(VERDICT_FACT, ""))
        _require_plain(str(facts.get(RUN_FACT, "")))
        self._note(verdict)
        if asked.kind == TRAIN:
            instruction = self._at_home(_read(lambda: Instruction.from_parts(facts, asked.arrays)))
            self._begin(TRAIN, instruction.run, instruction.round)
            return self._answered(instruction.run, instruction.round, lambda: self._train(instruction, bundle))
        if asked.kind == EVALUATE:
            question = _read(lambda: Question.from_parts(facts, asked.arrays))
            self._begin(EVALUATE, question.run, question.round)
            return self._answered(question.run, question.round, lambda: self._evaluate(question, bundle))
        if asked.kind == SUM_STAGE:
            run, stage = str(facts.pop(RUN_FACT, "")), str(facts.pop(STAGE_FACT, ""))
            self._begin(SUM_STAGE, run, 0)
            return self._answered(run, 0, lambda: self._sum(run, SumStage(stage, facts), bundle))
        raise WireError(f"a site is not asked {asked.kind[:40]!r}")

    def _note(self, verdict: str) -> None:
        """What the coordinator says became of an answer of this site. It stands in logs, so it is one line."""
        words = "".join(letter if letter.isprintable() else "?" for letter in verdict[:_LONGEST_VERDICT])
        if words and words != self.last_verdict:
            _LOG.warning("the coordinator says of an answer of this site: %s", words)
            self._log.append("verdict", {"said": words})
            self.last_verdict = words

    def _begin(self, kind: str, run: str, number: int) -> None:
        self.activity = Activity(kind, run, number, _now())

    def _who(self) -> Frame:
        rules = self._watch.rules()
        name = self._site.file.site
        return self._released("", SiteName(name) if rules.policy is not None else Refusal(name, 0, "no-policy"))

    def _answered(self, run: str, number: int, answer: Callable[[], Outgoing]) -> Frame:
        """What ``answer`` gives, through the gate; a refusal where it raises or where the gate keeps it."""
        site = self._site.file.site
        try:
            return self._released(run, answer())
        except EnvironmentFault:
            raise
        except MoreError as error:
            _LOG.warning("%s, round %d: %s", run, number, error)
            return self._released(run, Refusal(site, number, type(error).__name__))
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - the site is the boundary: whatever a bug says stays in this log
            _LOG.exception("unexpected error in %s, round %d", run, number)
            return self._released(run, Refusal(site, number, UNEXPECTED))

    def _released(self, run: str, message: Outgoing) -> Frame:
        # The rules of now, not those of when the question came: a policy that was tightened meanwhile holds.
        payload = payload_of(self._watch.rules().gate.release(message, run=run))
        if isinstance(message, Joined):
            self._open_sum = run
        if isinstance(message, Refusal):
            self.last_refusal = message.code
            self._open_sum = "" if run == self._open_sum else self._open_sum
        if isinstance(message, SumStage) and message.stage == "reveal":
            self._open_sum = ""
        return Frame(payload.kind, payload.facts, payload.arrays)

    def _train(self, instruction: Instruction, bundle: str) -> Outgoing:
        rules, examples = self._watch.rules(), self._orders.remaining(self._site.training)
        facts = self._facts(rules, examples, instruction, bundle)
        refused = self._stopped(instruction.round) or self._refusal(
            instruction.round, check_instruction(rules.policy, instruction, facts, datetime.now(UTC))
        )
        if refused is not None or rules.policy is None:
            return refused or Refusal(self._site.file.site, instruction.round, "no-policy")
        self._protections.agree(instruction, rules.policy, examples)
        return self._hospital(examples, rules.policy).answer(instruction)

    def _evaluate(self, question: Question, bundle: str) -> Outgoing:
        rules, examples = self._watch.rules(), self._orders.remaining(self._site.training)
        facts = self._facts(rules, examples, question, bundle)
        refused = self._stopped(question.round) or self._refusal(
            question.round, check_question(rules.policy, question, facts, datetime.now(UTC))
        )
        if refused is not None or rules.policy is None:
            return refused or Refusal(self._site.file.site, question.round, "no-policy")
        self._protections.reopen(question.run, rules.policy, examples)
        return self._hospital(examples, rules.policy).evaluate(question)

    def _sum(self, run: str, message: SumStage, bundle: str) -> Outgoing:
        rules = self._watch.rules()
        if rules.policy is None:
            return Refusal(self._site.file.site, 0, "no-policy")
        if (refused := self._refusal(0, check_bundle(rules.policy, bundle))) is not None:
            return refused
        # A stage goes on with what was checked when it was joined; the gate knows which one that is.
        examples = self._orders.remaining(self._site.training)
        self._protections.reopen(run, rules.policy, examples)
        return self._hospital(examples, rules.policy).continue_sum(run, message)

    def _stopped(self, number: int) -> Refusal | None:
        code = PAUSED if self._orders.paused_since else DRAINING if self._draining else ""
        return Refusal(self._site.file.site, number, code) if code else None

    def _refusal(self, number: int, reasons: tuple[Reason, ...]) -> Refusal | None:
        for reason in reasons:
            _LOG.warning("round %d refused: %s", number, reason.words)
        codes = dict.fromkeys(reason.code for reason in reasons)
        return Refusal(self._site.file.site, number, ", ".join(codes)) if codes else None

    def _at_home(self, instruction: Instruction) -> Instruction:
        """The same on this site's device, with no more threads than it gives."""
        file = self._site.file
        try:
            training = TrainingSettings.model_validate_json(instruction.training)
        except ValueError as error:
            raise WireError("the training settings of an instruction cannot be read") from error
        device = training.device if file.device == "auto" else file.device
        changes = {"device": device, "threads": min(training.threads, file.threads)}
        return replace(instruction, training=training.model_copy(update=changes).model_dump_json())

    def _facts(self, rules: Rules, examples: Examples, asked: Instruction | Question, bundle: str) -> SiteFacts:
        file, declared = self._site.file, self._site.declaration
        return SiteFacts(
            federation=file.federation.name,
            ca_fingerprint=file.federation.ca_fingerprint,
            code=self._site.code,
            bundle=bundle,
            spec=self._site.assembled.spec,
            patients=len({triplet.patient_id for triplet in examples.trainable().triplets}),
            declared_patients=declared.patients if declared is not None else 0,
            local_epochs=file.federation.local_epochs,
            gpu_share=self._gpu_share(rules.policy, asked),
            rounds_answered=rules.gate.rounds_answered(apart_from=(asked.run, asked.round)),
        )

    def _gpu_share(self, policy: SitePolicy | None, asked: Instruction | Question) -> float:
        """On a GPU, the share of its memory that the policy gives, which torch is then held to; all of it where the
        policy gives none. How much of its time training takes is nobody's to bound here."""
        name = self._site.file.device
        if isinstance(asked, Instruction):
            name = TrainingSettings.model_validate_json(asked.training).device
        device = resolve_device(name)
        share = policy.resources.gpu_share if policy is not None else 0.0
        if device.type != "cuda":
            return 0.0
        if share > 0:
            torch.cuda.set_per_process_memory_fraction(share, device.index or 0)
        return share or 1.0

    def _hospital(self, examples: Examples, policy: SitePolicy) -> Hospital:
        site = self._site
        return Hospital(
            name=site.file.site,
            examples=examples,
            assembled=site.assembled,
            tokenizer=site.tokenizer,
            max_tokens=site.max_tokens,
            local_epochs=site.file.federation.local_epochs,
            protection_of=self._protections.of_run,
            held_out=self._held_out(policy),
        )

    def _held_out(self, policy: SitePolicy) -> HeldOut | None:
        rule = policy.evaluation
        if self._terms is None or rule.minimum_count is None:
            return None
        return HeldOut(
            self._orders.remaining(self._site.examples),
            self._terms,
            minimum_count=max(rule.minimum_count, self._site.file.evaluation_threshold),
            counts_are_public=rule.counts_are_public,
            show_site=rule.show_site,
            threads=self._site.file.threads,
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _disk_fault(error: OSError) -> EnvironmentFault:
    where = f": {error.filename}" if error.filename else ""
    return EnvironmentFault(
        f"{error.strerror or type(error).__name__}{where}",
        remedy="make room on the disks of work and records; the question is asked again, nothing is lost",
        avoid="delete the audit log, the ledger or stored answers",
    )


def _require_plain(run: str) -> None:
    """A run's name stands in logs, in the ledger and in status."""
    if len(run) > _LONGEST_NAME or not run.isprintable():
        raise WireError(f"the name of a run has at most {_LONGEST_NAME} printable characters")


def _read(read: Callable[[], Parsed]) -> Parsed:
    try:
        return read()
    except ExchangeError as error:
        raise WireError(error.cause) from error
