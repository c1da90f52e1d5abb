"""What one evaluation is asked to do; written to the run directory as it was resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from more_model.evaluation.embedded import UncertaintyPolicy
from more_model.evaluation.protocols.protocol import ProtocolChoice

Mode = Literal["zero-shot", "linear-probe", "fine-tune", "fusion"]
Recipe = Literal["published", "lora"]


class EvaluationSettings(BaseModel):
    """One protocol, one checkpoint, one or several modes.

    ``fractions`` are shares of the training labels that a probe or a fine-tuning sees; each but the whole is drawn
    ``seeds`` times. ``prompts`` is another prompt set than the protocol's own. ``baselines`` adds the randomly
    initialised encoder with the same probe, and with fine-tuning a model of the same size trained from random weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    data: Path
    checkpoint: Path
    base: Path | None = None
    modes: tuple[Mode, ...] = ("zero-shot", "linear-probe")
    choice: ProtocolChoice = ProtocolChoice()
    labels: tuple[str, ...] = ()
    prompts: str | None = None
    uncertainty: UncertaintyPolicy = "ignore"
    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    recipes: tuple[Recipe, ...] = ("published", "lora")
    seeds: int = Field(default=3, ge=1, le=100)
    baselines: bool = True
    replicates: int = Field(default=1000, ge=0)
    seed: int = Field(default=0, ge=0)
    quarantine_ceiling: float = Field(default=0.05, ge=0, le=1)
    threads: int = Field(default=2, ge=1)
    workers: int = Field(default=1, ge=1)
    device: str = "auto"
