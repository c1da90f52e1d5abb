"""Differentially private training of a classifier: Opacus takes the gradients apart, everything else is our own step.

The loss is masked cross-entropy, one value a study, and a step has at most one study of a patient: so Opacus'
per-example gradients are per-patient gradients, and the clipped sum moves by at most C when a patient is added or
removed. That is what Opacus is for. Its other parts are not used, each for a reason:

- its noise comes from a torch generator. On a CPU that is a Mersenne twister whose whole state follows from 32 bits of
  the seed, so 2^32 trials find all noise of a run, wherever the seed came from. `privacy.noise` takes every number from
  the operating system;
- its loader draws with a generator of that kind too, and the size of the private data set is its divisor;
- its accountants are a second opinion (in tests), never what is printed.

The classifier trains in evaluation mode: no dropout, no augmentation, nothing drawn by position in the batch.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from client.opacus_gradients import check_classifier, loss_of_study, opacus_gradients
from client.private_fine_tuning_ledger import Paid, charged
from more_model.errors import ConfigError
from more_model.evaluation.bootstrap import Unit
from more_model.evaluation.private_training import PrivateStudies, PrivateTerms
from more_model.training.loop import build_optimiser, learning_rate
from more_model.training.settings import TrainingSettings
from more_model.training.threads import using_threads
from privacy.claims import Claim, mode_claim
from privacy.ledger.spending import Charge
from privacy.planning import noise_for
from privacy.private_step import private_parameters, private_step, put_gradient
from privacy.sampling import chosen_studies, poisson_draw
from privacy.sensitivity import MODES, Mode
from privacy.unit_gradients import ClippedSum, GradientsOfUnits
from privacy.unit_gradients import Unit as Drawn
from privacy.validity import check_design, design_of

#: The loss is another one, but unit, adjacency and sampling are those of this mode, and so is the accounting.
MODE: Mode = "patient-decoupled"
#: Bounds memory: the gradients of so many patients are held at once, each as large as what trains.
_PATIENTS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class OpacusTraining:
    """One budget (see `more_model.evaluation.private_training.PrivateTraining`). ``key`` decides which study stands for
    a patient; it is drawn for each evaluation and kept by nobody."""

    terms: PrivateTerms
    noise_multiplier: float
    steps: int
    claim: Claim
    paid: Paid
    key: bytes = field(repr=False)

    def fit(
        self,
        module: nn.Module,
        studies: PrivateStudies,
        settings: TrainingSettings,
        *,
        steps: int,
        threads: int,
        on_step: Callable[[int, int], None] | None = None,
    ) -> None:
        """See the Protocol. No two trainings are alike: draws and noise come from the operating system.

        Of ``settings``, the learning rate, its course and the weight decay have a say.
        """
        device = next(module.parameters()).device
        with using_threads(threads), torch.autocast(device.type, enabled=False):
            check_classifier(module, studies.made_up.to(device), studies.target.shape[1])
            patients = one_study_each(studies, self.key)
            optimiser = build_optimiser(module, settings)
            with opacus_gradients(module) as gradients:
                for step in range(1, steps + 1):
                    self.paid.take_step()
                    for group in optimiser.param_groups:
                        group["lr"] = learning_rate(step / steps, settings)
                    drawn = patients[poisson_draw(len(patients), self.terms.sampling_rate)].tolist()
                    chunks = _read(studies, drawn, device)
                    take_private_step(module, optimiser, gradients, chunks, self.terms, self.noise_multiplier)
                    if on_step is not None:
                        on_step(step, steps)

    def facts(self) -> dict[str, Any]:
        """See the Protocol."""
        claim, terms = self.claim, self.terms
        return {
            "sentence": claim.sentence,
            "unit": claim.unit,
            "adjacency": MODES[MODE].adjacency,
            "neighbours": claim.neighbours,
            "epsilon": claim.result.epsilon,
            "delta": claim.result.delta,
            "accountant": claim.result.accountant,
            "assumptions": list(claim.result.assumptions),
            "warnings": list(claim.warnings),
            "noise_multiplier": self.noise_multiplier,
            "clip_norm": terms.clip_norm,
            "sampling_rate": terms.sampling_rate,
            "steps": self.steps,
            "public_patients": terms.public_patients,
            "ledger": {"charged": self.paid.charged, "says": self.paid.says},
        }


@contextmanager
def open_private_training(terms: PrivateTerms, steps: int, patients: frozenset[Unit]) -> Iterator[OpacusTraining]:
    """One budget for ``steps`` steps over all trainings that follow; registered as an entry point, so that
    `more_model.evaluation` finds it.

    Raises:
        ConfigError: terms that no epsilon follows from.
        BudgetExhausted: the site's ledger refuses the steps.
    """
    check_design(replace(design_of(MODE), loss="per-example"))
    noise, rate = terms.noise_multiplier, terms.sampling_rate
    if noise is None:
        assert terms.epsilon is not None  # exactly one of the two is given
        noise = noise_for(MODE, rate, steps, terms.epsilon, terms.delta)
    claim = mode_claim(MODE, noise, 1.0, rate, steps, terms.delta)
    if not math.isfinite(claim.result.epsilon):
        raise ConfigError(
            "private fine-tuning",
            [f"no epsilon holds at delta {terms.delta:g} with so little noise ({noise:g}) over {steps} steps"],
            remedy="raise the noise multiplier, or give --epsilon and let it follow",
        )
    with charged(terms, Charge(MODE, noise, rate, steps, terms.delta), patients) as paid:
        yield OpacusTraining(terms, noise, steps, claim, paid, os.urandom(32))


def take_private_step(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    gradients: GradientsOfUnits,
    chunks: Iterable[Drawn],
    terms: PrivateTerms,
    noise_multiplier: float,
) -> ClippedSum:
    """One step of the optimiser on the noised mean gradient of the patients in ``chunks``, who may be none. What is
    returned is private."""
    private = private_step(
        loss_of_study(module),
        private_parameters(module),
        chunks,
        clip_norm=terms.clip_norm,
        noise_multiplier=noise_multiplier,
        expected_units=terms.expected_patients,
        gradients=gradients,
    )
    put_gradient(module, private.gradient)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return private.drawn


def one_study_each(studies: PrivateStudies, key: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The places [patients] of the studies that stand for their patients, chosen by a keyed hash of patient and content
    (a place would say how many studies of others come before)."""
    places: dict[Unit, list[int]] = {}
    for place, unit in enumerate(studies.units):
        places.setdefault(unit, []).append(place)
    return np.array([_chosen(studies, key, unit, own) for unit, own in places.items()], dtype=np.int64)


def _chosen(studies: PrivateStudies, key: bytes, unit: Unit, places: list[int]) -> int:
    if len(places) == 1:
        return places[0]
    place_of = {_content(studies, place): place for place in places}
    [study] = chosen_studies(key, repr(unit), list(place_of), 1)
    return place_of[study]


def _content(studies: PrivateStudies, place: int) -> str:
    target = np.nan_to_num(studies.target[place], nan=-1.0)  # one bit pattern for every NaN
    return hashlib.sha256(studies.read([place]).numpy().tobytes() + target.tobytes()).hexdigest()


def _read(studies: PrivateStudies, places: Sequence[int], device: torch.device) -> Iterator[Drawn]:
    for start in range(0, len(places), _PATIENTS_AT_ONCE):
        chunk = places[start : start + _PATIENTS_AT_ONCE]
        target = torch.from_numpy(studies.target[chunk]).float()
        yield {"study": studies.read(chunk).to(device), "target": target.to(device)}
