"""The loss of a private step at the present parameters, and the way back of the bank's share of its gradient."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from client.private_bank import DrawnBank, PublicBank, draw_bank, embedded, tensors_of_bank
from client.private_loss import TowersLoss, UnitModel, decoupled, in_group
from more_model.training.settings import TrainingSettings
from privacy.private_step import private_parameters
from privacy.unit_gradients import Tensors


class Contrast:
    """What the units of a step are contrasted with, and how the gradient of that comes back to the model.

    bank: public records, embedded with the model as it is (`patient-decoupled`); None where a unit is a group of
    patients, who are contrasted with each other. words: see `client.private_bank.draw_bank`.

    A patient's loss has a gradient in the embeddings of the bank as well. Left out, the model would gain by moving all
    patients in one direction, away from a bank that seems to stand still and in truth follows: until everything is in
    one place. It is clipped and noised with the rest of the patient's gradient; that the noised sum is then carried
    back through the towers, which see public records only, costs no further privacy.
    """

    def __init__(self, model: UnitModel, bank: PublicBank | None, training: TrainingSettings, **words: Any) -> None:
        self._model, self._bank, self._training, self._words = model, bank, training, words
        self._drawn: DrawnBank = []
        self.draw()

    def draw(self) -> None:
        """Other records from now on."""
        if self._bank is not None:
            device = next(self._model.parameters()).device
            self._drawn = draw_bank(self._bank, self._training, device=device, **self._words)

    def loss(self) -> TowersLoss:
        """The loss of a unit at the model's present parameters."""
        if self._bank is None:
            return in_group(self._model)
        with torch.no_grad():
            return decoupled(self._model, embedded(self._model.model, self._drawn))

    def parameters(self, loss: TowersLoss) -> dict[str, Tensor]:
        """What the private step must be given with ``loss``: everything of the model that trains, and
        the bank's embeddings, by name."""
        return {**private_parameters(self._model), **loss.public}

    def carried_back(self, gradient: Tensors) -> dict[str, Tensor]:
        """The private gradient in the model's parameters alone, that in the bank's embeddings carried back to them; a
        few records at a time, which bounds memory."""
        trained = {name: parameter for name, parameter in self._model.named_parameters() if parameter.requires_grad}
        total = {name: gradient[name] for name in trained}
        done: Counter[str] = Counter()
        for records in self._drawn:
            with torch.enable_grad():
                made = tensors_of_bank(embedded(self._model.model, [records]))
            ends = [(t, gradient[n][done[n] : done[n] + len(t)]) for n, t in made.items() if t.requires_grad]
            done.update({name: len(tensor) for name, tensor in made.items()})
            if not ends:  # frozen towers have nothing to give
                continue
            returned = torch.autograd.grad(
                [end for end, _ in ends],
                list(trained.values()),
                [back for _, back in ends],
                allow_unused=True,
                materialize_grads=True,
            )
            total = {name: total[name] + back for name, back in zip(trained, returned, strict=True)}
        return total
