"""What one evaluation is asked to do; written to the run directory as it was resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from more_model.evaluation.embedded import UncertaintyPolicy
from more_model.evaluation.private_training import PrivateTerms
from more_model.evaluation.protocols.protocol import Blank, ProtocolChoice

Mode = Literal["zero-shot", "linear-probe", "fine-tune", "fusion"]
Recipe = Literal["published", "lora"]

_TRAINED: tuple[Mode, ...] = ("linear-probe", "fine-tune")

#: Which model an outcome is of: the one asked about, one with random weights, one trained on the labels alone.
CHECKPOINT, RANDOM, SUPERVISED = "checkpoint", "random encoder", "supervised"


class EvaluationSettings(BaseModel):
    """One protocol, one checkpoint, one or several modes.

    ``fractions`` are shares of the training labels that a probe or a fine-tuning sees; each but the whole is drawn
    ``seeds`` times, and as many random encoders are asked. ``prompts`` is another prompt set than the protocol's own.
    ``epochs`` replaces those of every fine-tuning recipe. ``baselines`` adds randomly initialised encoders with the
    same probe, and with fine-tuning a model of the same size trained from random weights. With ``privacy``, what trains
    on labels does so under differential privacy, without such baselines.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    data: Path
    checkpoint: Path
    base: Path | None = None
    modes: tuple[Mode, ...] = Field(default=("zero-shot", "linear-probe"), min_length=1)
    choice: ProtocolChoice = ProtocolChoice()
    labels: tuple[str, ...] = ()
    prompts: str | None = None
    uncertainty: UncertaintyPolicy = "ignore"
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(0.01, 0.1, 1.0), min_length=1)
    recipes: tuple[Recipe, ...] = ("published", "lora")
    epochs: int | None = Field(default=None, ge=1)
    seeds: int = Field(default=3, ge=1, le=100)
    baselines: bool = True
    replicates: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0)
    quarantine_ceiling: float = Field(default=0.05, ge=0, le=1)
    threads: int = Field(default=2, ge=1)
    workers: int = Field(default=1, ge=1)
    device: str = "auto"
    privacy: PrivateTerms | None = None

    @field_validator("modes", "labels", "fractions", "recipes")
    @classmethod
    def _once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(values))

    @field_validator("privacy")
    @classmethod
    def _what_can_be_private(cls, value: PrivateTerms | None, info: ValidationInfo) -> PrivateTerms | None:
        if value is None:
            return None
        modes, fractions = info.data.get("modes", _TRAINED), info.data.get("fractions", (1.0,))
        faults = []
        if "fusion" in modes:
            faults.append("mode fusion fits weights on training patients without noise; leave it out")
        if not set(modes) & set(_TRAINED):
            faults.append(f"no mode trains on labels, so there is nothing to protect; add {' or '.join(_TRAINED)}")
        if fractions != (1.0,):
            faults.append(
                "a share of the training labels is drawn class by class, by looking at the labels of all patients; "
                "leave the fraction out (1)"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return value

    @property
    def open_modes(self) -> tuple[Mode, ...]:
        """The modes that run without a privacy budget: all of them where there is none."""
        return tuple(mode for mode in self.modes if self.privacy is None or mode not in _TRAINED)

    @property
    def blank(self) -> Blank:
        """What a label that is not mentioned counts as; policy ``published`` decides it as well."""
        return "absent" if self.uncertainty == "published" else self.choice.blank
