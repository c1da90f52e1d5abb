"""The settings of fine-tuning, and the three recipes of this project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import ConfigError
from more_model.evaluation.classifier import RecipeName
from more_model.settings import validated
from more_model.training.settings import TrainingSettings


class FineTuneRecipe(BaseModel):
    """How a classifier trains. The defaults are the published ones, as far as those are known (lr, weight decay,
    epochs, patience); batch size and the constant rate are ours.

    Training stops once the validation loss (masked BCE, lower is better) has not improved for ``patience`` epochs, and
    the best epoch is restored. The loss and not the AUROC decides: it exists for every validation set that states a
    label, and does not jump where there are few positives.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: RecipeName
    learning_rate: float = Field(default=3e-5, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    epochs: int = Field(default=20, ge=1)
    patience: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=2)
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    final_rate_fraction: float = Field(default=1.0, ge=0, le=1)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    #: How many of the last blocks recipe ``published`` opens; a tower with fewer opens all.
    blocks: int = Field(default=3, ge=1)
    #: Multiply the term of a positive by negatives / positives of its label in training.
    class_weights: bool = False
    augment: bool = True

    def schedule(self) -> TrainingSettings:
        """What the optimiser and the learning rate of `more_model.training.loop` read."""
        return TrainingSettings(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_fraction=self.warmup_fraction,
            final_rate_fraction=self.final_rate_fraction,
        )


_CHANGES: Mapping[RecipeName, Mapping[str, Any]] = {
    "published": {},
    "lora": {"learning_rate": 1e-3, "warmup_fraction": 0.1, "final_rate_fraction": 0.05},
    # From random weights: more epochs and more patience, or the baseline would be weak for want of training.
    "supervised": {
        "learning_rate": 5e-4,
        "warmup_fraction": 0.1,
        "final_rate_fraction": 0.05,
        "epochs": 60,
        "patience": 10,
    },
}


def recipe(name: str, overrides: Mapping[str, Any] | None = None) -> FineTuneRecipe:
    """A recipe by name, with ``overrides`` laid over it.

    Raises:
        ConfigError: no such recipe, or the result is not valid (all faults).
    """
    changes = next((changes for known, changes in _CHANGES.items() if known == name), None)
    if changes is None:
        raise ConfigError(f"recipe {name!r}", [f"there is no such recipe; there are {', '.join(_CHANGES)}"])
    return validated(FineTuneRecipe, {"name": name, **changes, **(overrides or {})}, f"recipe {name!r}")
