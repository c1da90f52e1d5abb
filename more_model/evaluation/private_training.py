"""What fine-tuning asks of differential privacy, and what it may ask for: this room has none of its own.

Training patients are the ones protected. The implementation is found as the entry point ``opacus`` of the group
`GROUP`, so that a machine without it can do everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from more_model.errors import EnvironmentFault
from more_model.evaluation.bootstrap import Unit
from more_model.evaluation.embedded import Float64
from more_model.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

GROUP = "more_fed.private_fine_tuning"
IMPLEMENTATION = "opacus"


def _needed(why: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value is None:
            raise ValueError(why)
        return value

    return BeforeValidator(check)


_Delta = Annotated[
    float,
    _needed("an epsilon means nothing without its delta; give one below 1 / (number of training patients)"),
    Field(gt=0, lt=1),
]
_Rate = Annotated[
    float,
    _needed("give the probability with which a step draws each patient, such as 0.05: it decides epsilon"),
    Field(gt=0, le=1),
]
_Patients = Annotated[
    int,
    _needed(
        "give the number of training patients as a number that may be published (rounded is fine): every step divides "
        "by the patients expected in it, and the number really there is one of the things to hide"
    ),
    Field(ge=1),
]


class PrivateTerms(BaseModel):
    """The budget and everything that has to be public beforehand; nothing may be chosen by looking at the patients.

    ``epsilon`` or ``noise_multiplier`` (z = sigma / C): the other follows. Either is for all trainings of an evaluation
    together. ``site_key``: a file with the secret with which the site's ``ledger`` knows patients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    noise_multiplier: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    public_patients: _Patients
    delta: _Delta
    clip_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    sampling_rate: _Rate
    ledger: Path | None = None
    witness: Path | None = None
    site_key: Path | None = None

    @field_validator("noise_multiplier")
    @classmethod
    def _one_way_to_set_the_noise(cls, value: float | None, info: ValidationInfo) -> float | None:
        if "epsilon" in info.data and (value is None) == (info.data["epsilon"] is None):
            raise ValueError("give exactly one of epsilon and noise multiplier; the other follows from it")
        return value

    @field_validator("delta")
    @classmethod
    def _below_one_patient(cls, value: float, info: ValidationInfo) -> float:
        patients = info.data.get("public_patients", 1)
        if value * patients >= 1:
            raise ValueError(
                f"must be below 1 / {patients}; at or above that, publishing the whole record of one patient drawn at "
                "random would count as private"
            )
        return value

    @field_validator("site_key")
    @classmethod
    def _a_whole_ledger(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        given = {"ledger": info.data.get("ledger"), "witness": info.data.get("witness"), "site key": value}
        missing = [name for name, path in given.items() if path is None]
        if missing and len(missing) < len(given):
            raise ValueError(f"ledger, witness and site key go together; missing: {', '.join(missing)}")
        return value

    @property
    def expected_patients(self) -> float:
        """The public divisor of every step."""
        return self.sampling_rate * self.public_patients

    def steps(self, epochs: int) -> int:
        """Steps in which every patient is drawn ``epochs`` times on average; a public number."""
        return math.ceil(epochs / self.sampling_rate - 1e-9)


@dataclass(frozen=True, slots=True, eq=False)
class PrivateStudies:
    """What one training may draw from.

    ``units`` [n] is the patient of each study, ``target`` [n, tasks] of 0, 1 and NaN, ``read`` gives the arrays of the
    n-th, m-th, ... study as the module takes them. ``made_up`` are a few arrays of that shape that are nobody's: the
    module is tried out on them.
    """

    units: Sequence[Unit]
    target: Float64
    read: Callable[[Sequence[int]], Tensor]
    made_up: Tensor


class PrivateTraining(Protocol):
    """One budget, from which several classifiers are trained."""

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
        """Train ``module`` (studies -> logits [n, tasks]) in place by `masked_bce`, for exactly ``steps`` steps of
        Poisson-drawn patients, one study of each; it is left in evaluation mode. ``on_step`` gets the steps done and
        ``steps``.

        Raises:
            ConfigError: a module whose epsilon would be false (batch normalisation, parts without a gradient).
            RoundError: more steps than the budget was made for.
        """

    def facts(self) -> dict[str, Any]:
        """What may be said about all of it together, ready for JSON: ``sentence``, ``unit``, ``adjacency``,
        ``epsilon``, ``delta``, ``accountant``, ``assumptions``, ``warnings``, ``noise_multiplier``, ``clip_norm``,
        ``sampling_rate``, ``steps``, ``public_patients``, and ``ledger``: what was charged, or that nothing was."""


class OpenPrivateTraining(Protocol):
    """Makes one budget for ``steps`` steps over all trainings, and charges it where there is a ledger.

    ``patients`` are those of all trainings. Steps that did not run are given back at the end.

    Raises ConfigError (terms that no epsilon can be computed from) and BudgetExhausted.
    """

    def __call__(
        self, terms: PrivateTerms, steps: int, patients: frozenset[Unit]
    ) -> AbstractContextManager[PrivateTraining]: ...


def installed_private_training() -> OpenPrivateTraining:
    """The implementation that is installed.

    Raises:
        EnvironmentFault: there is none, or a package that it needs is missing.
    """
    found = [entry for entry in entry_points(group=GROUP) if entry.name == IMPLEMENTATION]
    if not found:
        raise EnvironmentFault(
            f"Private fine-tuning is not installed: nothing is registered as {IMPLEMENTATION!r} in the entry-point "
            f"group {GROUP}.",
            remedy="install the whole more-fed distribution (its package client brings it)",
            avoid="train without --dp and call the result private",
        )
    try:
        loaded: OpenPrivateTraining = found[0].load()
    except ImportError as error:
        raise EnvironmentFault(
            f"Private fine-tuning cannot be loaded: {error}.", remedy="install the package that it names"
        ) from error
    return loaded
