"""What a hospital does in one round: check, train on its own data, answer with changes of the agreed tensors only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from client.evaluation import HeldOut, measured, require_measurable
from client.private_round import RoundTraining, charge_round, require_agreed, train_patients_privately
from client.private_site import PrivateSite, trained_groups
from client.protection import UNPROTECTED, Protection
from client.purpose import purpose_of
from client.secure_round import require_invited
from more_model.base import Assembled
from more_model.errors import EnvironmentFault, ExchangeError, MoreError
from more_model.exchange import Instruction, Joined, Refusal, SumStage, TensorDict, Update
from more_model.model.inventory import export_tensors, import_tensors
from more_model.model.lora import only_training
from more_model.score_exchange import Evaluation, Question
from more_model.training.examples import Examples
from more_model.training.loop import Segment, SegmentReport, build_optimiser, resolve_device, train_segment
from more_model.training.seeds import derived_seed
from more_model.training.settings import TrainingSettings
from privacy.hospital import clipped_update
from privacy.rounds import is_patient_mode

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hospital:
    """One site: its name, its training examples and the model assembled from the federation's base.

    protection_of: what the site agreed to in the run of that name. held_out: for federated evaluation, where the site
    takes part in it.
    """

    name: str
    examples: Examples
    assembled: Assembled
    tokenizer: Any
    max_tokens: int
    local_epochs: int
    protection_of: Callable[[str], Protection] = lambda _run: UNPROTECTED
    #: One message at a time: the model is one object, and a question asked twice at once must be answered once.
    lock: AbstractContextManager[Any] = field(default_factory=Lock, repr=False, compare=False)
    held_out: HeldOut | None = None

    def answer(self, instruction: Instruction) -> Update | Joined | Refusal:
        """Train for one round. The same instruction always gives the same update: without privacy because training is
        deterministic, with it because the first one was kept.

        A refusal carries the kind of fault only: the text of an error may name files and patients, so it stays in this
        site's log.

        Raises:
            EnvironmentFault: what the machine lacks, such as room on a disk, may be there later: the question has to
                come again, and no refusal would have it come.
        """
        try:
            with self.lock:
                return self._answer(instruction)
        except EnvironmentFault:
            raise
        except MoreError as error:
            _LOG.warning("round %d refused: %s", instruction.round, error)
            return Refusal(self.name, instruction.round, type(error).__name__)

    def _answer(self, instruction: Instruction) -> Update | Joined:
        protection = self.protection_of(instruction.run)
        update = self._update(instruction, protection)
        if protection.sums is None:
            return update
        return protection.sums.join(instruction, update, self.assembled.spec.upward(instruction.round))

    def continue_sum(self, run: str, message: SumStage) -> SumStage | Refusal:
        """The answer to a later stage of a secure sum."""
        try:
            with self.lock:
                sums = self.protection_of(run).sums
                if sums is None:
                    raise ExchangeError("this site agreed to no secure sums in this run")
                return sums.answer(message)
        except EnvironmentFault:
            raise
        except MoreError as error:
            _LOG.warning("secure sum, stage %s refused: %s", message.stage, error)
            return Refusal(self.name, 0, type(error).__name__)

    def evaluate(self, question: Question) -> Evaluation | Refusal:
        """Counts of this site's held-out patients by score. The same question about the same patients gives the same
        counts; refusals are as in `answer`."""
        try:
            with self.lock:
                self._require_ours(question)
                held_out = require_measurable(question, self.held_out, self.protection_of(question.run))
                return measured(
                    question,
                    held_out,
                    site=self.name,
                    assembled=self.assembled,
                    tokenizer=self.tokenizer,
                    max_tokens=self.max_tokens,
                )
        except EnvironmentFault:
            raise
        except MoreError as error:
            _LOG.warning("evaluation after round %d refused: %s", question.round, error)
            return Refusal(self.name, question.round, type(error).__name__)

    def _update(self, instruction: Instruction, protection: Protection) -> Update:
        self._require_ours(instruction)
        require_agreed(instruction, protection.private)
        require_invited(instruction, protection.sums, self.assembled.spec.upward(instruction.round))
        kept = protection.answers.find(instruction) if protection.answers is not None else None
        if kept is not None:
            return kept
        if protection.answers is not None:
            protection.answers.reserve(instruction, self.assembled.spec.upward(instruction.round).nbytes)
        update = self._trained(instruction, protection)
        if protection.answers is not None:
            protection.answers.keep(instruction, update)
        return update

    def _require_ours(self, message: Instruction | Question) -> None:
        self.assembled.fingerprint.require_same(message.fingerprint)
        if message.spec_digest != self.assembled.spec.digest():
            raise ExchangeError("the coordinator's exchange specification is not this site's")

    def _trained(self, instruction: Instruction, protection: Protection) -> Update:
        model, spec = self.assembled.model, self.assembled.spec.upward(instruction.round)
        training = self._training(instruction)
        model.to(resolve_device(training.settings.device))
        import_tensors(model, instruction.tensors)
        before = export_tensors(model)
        with only_training(model, {tensor.name for tensor in spec.tensors}):
            weights, counts = self._train(training, protection)
        after = export_tensors(model)
        groups = trained_groups(weights)
        deltas = {t.name: np.subtract(after[t.name], before[t.name]) for t in spec.of_towers(groups)}
        if protection.private is not None and not is_patient_mode(protection.private.settings):
            deltas = _clipped(deltas, protection.private, self.name)
        spec.check(deltas, groups)
        return Update(
            site=self.name,
            round=instruction.round,
            deltas=deltas,
            weights=weights,
            spec_digest=self.assembled.spec.digest(),
            fingerprint_digest=self.assembled.fingerprint.digest(),
            counts=counts,
        )

    def _training(self, instruction: Instruction) -> RoundTraining:
        return RoundTraining(
            model=self.assembled.model,
            examples=self.examples,
            settings=TrainingSettings.model_validate_json(instruction.training),
            instruction=instruction,
            local_epochs=self.local_epochs,
            tokenizer=self.tokenizer,
            max_tokens=self.max_tokens,
            purpose=purpose_of(instruction.run, instruction.round, instruction.rounds),
        )

    def _train(self, training: RoundTraining, protection: Protection) -> tuple[Mapping[str, float], dict[str, float]]:
        """Weights and counts of one round. Counts of what training saw are private, and so are weights made of them:
        a protected site says what it has declared, and how many steps everyone could have computed."""
        private = protection.private
        if private is not None and is_patient_mode(private.settings):
            steps = train_patients_privately(training, private)
            return private.declaration.weights(), {"steps": float(steps)}
        if private is not None:
            charge_round(training, private)
        report = self._train_plainly(training)
        if protection.declaration is not None:
            return protection.declaration.weights(), {}
        return _weights(report), _counts(report)

    def _train_plainly(self, training: RoundTraining) -> SegmentReport:
        instruction = training.instruction
        return train_segment(
            training.model,
            build_optimiser(training.model, training.settings),
            training.examples,
            training.settings,
            Segment(instruction.round - 1, instruction.rounds, training.local_epochs),
            tokenizer=training.tokenizer,
            max_tokens=training.max_tokens,
            seed=derived_seed(instruction.seed, self.name, instruction.round),
        )


def _clipped(deltas: TensorDict, private: PrivateSite, site: str) -> TensorDict:
    norms = private.settings.clip_norms()
    if site not in norms:
        raise ExchangeError("the agreed public weights do not name this site")
    return clipped_update(deltas, norms[site])


def _counts(report: SegmentReport) -> dict[str, float]:
    return {
        "loss": report.loss,
        "steps": float(report.steps),
        "pairs_xray": float(report.xray_pairs),
        "pairs_ecg": float(report.ecg_pairs),
        **report.watched,
    }


def _weights(report: SegmentReport) -> dict[str, float]:
    """A site that never saw a pair of a modality did not train that tower, and sends nothing of it."""
    return {
        "xray": float(report.xray_pairs),
        "ecg": float(report.ecg_pairs),
        "text": float(report.triplets),
        "shared": float(report.triplets),
    }
