"""What a hospital does in one round: check, train on its own data, answer with changes of the agreed tensors only."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from more_model.base import Assembled
from more_model.errors import ExchangeError, MoreError
from more_model.exchange import Instruction, Refusal, Update
from more_model.model.inventory import export_tensors, import_tensors
from more_model.training.examples import Examples
from more_model.training.loop import Segment, SegmentReport, build_optimiser, resolve_device, train_segment
from more_model.training.seeds import derived_seed
from more_model.training.settings import TrainingSettings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hospital:
    """One site: its name, its training examples and the model assembled from the federation's base."""

    name: str
    examples: Examples
    assembled: Assembled
    tokenizer: Any
    max_tokens: int
    local_epochs: int

    def answer(self, instruction: Instruction) -> Update | Refusal:
        """Train for one round. The same instruction always gives the same update.

        A refusal carries the kind of fault only: the text of an error may name files and patients, so it stays in this
        site's log.
        """
        try:
            return self._train(instruction)
        except MoreError as error:
            _LOG.warning("round %d refused: %s", instruction.round, error)
            return Refusal(self.name, instruction.round, type(error).__name__)

    def _train(self, instruction: Instruction) -> Update:
        model, spec = self.assembled.model, self.assembled.spec
        self.assembled.fingerprint.require_same(instruction.fingerprint)
        if instruction.spec_digest != spec.digest():
            raise ExchangeError("the coordinator's exchange specification is not this site's")
        settings = TrainingSettings.model_validate_json(instruction.training)
        model.to(resolve_device(settings.device))
        import_tensors(model, instruction.tensors)
        before = export_tensors(model)
        report = train_segment(
            model,
            build_optimiser(model, settings),
            self.examples,
            settings,
            Segment(instruction.round - 1, instruction.rounds, self.local_epochs),
            tokenizer=self.tokenizer,
            max_tokens=self.max_tokens,
            seed=derived_seed(instruction.seed, self.name, instruction.round),
        )
        weights = _weights(report)
        after = export_tensors(model)
        travelling = spec.of_towers([tower for tower, weight in weights.items() if weight > 0])
        deltas = {tensor.name: np.subtract(after[tensor.name], before[tensor.name]) for tensor in travelling}
        spec.check(deltas, [tower for tower, weight in weights.items() if weight > 0])
        return Update(
            site=self.name,
            round=instruction.round,
            deltas=deltas,
            weights=weights,
            spec_digest=spec.digest(),
            fingerprint_digest=self.assembled.fingerprint.digest(),
            counts={
                "loss": report.loss,
                "steps": float(report.steps),
                "pairs_xray": float(report.xray_pairs),
                "pairs_ecg": float(report.ecg_pairs),
                **report.watched,
            },
        )


def _weights(report: SegmentReport) -> dict[str, float]:
    """A site that never saw a pair of a modality did not train that tower, and sends nothing of it."""
    return {
        "xray": float(report.xray_pairs),
        "ecg": float(report.ecg_pairs),
        "text": float(report.triplets),
        "shared": float(report.triplets),
    }
