"""How private gradients move the model: Adam, under one public curve of learning rates over the whole run."""

from __future__ import annotations

import torch

from more_model.model.more import More
from more_model.training.loop import learning_rate
from more_model.training.settings import TrainingSettings
from privacy.settings import PrivacySettings

#: The mean square forgets within the steps of a round: the state of an optimiser does not travel between rounds.
_BETAS = (0.9, 0.99)


class PrivateRate:
    """The optimiser of one round, number ``index`` (from 0) of ``rounds`` with ``steps`` steps each."""

    def __init__(
        self, model: More, training: TrainingSettings, privacy: PrivacySettings, *, index: int, rounds: int, steps: int
    ) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=privacy.learning_rate, betas=_BETAS)
        self._shape = training.model_copy(update={"learning_rate": privacy.learning_rate})
        self._index, self._rounds = index, rounds
        self.after(0, steps)

    def after(self, done: int, steps: int) -> None:
        """Set the rate of the step that follows ``done`` steps of this round."""
        progress = (self._index + min(1.0, (done + 1) / steps)) / self._rounds
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(progress, self._shape)
