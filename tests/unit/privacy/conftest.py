"""A toy pair of towers, cohorts to try sensitivity on, and a search for the worst neighbour.

A random batch proves nothing about sensitivity: its records push the gradients in all directions and a coupled loss
looks harmless. A hospital's data are many near-identical normal studies and a few odd ones; that is what the
correlated cohort is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from privacy.losses import PatientPair, decoupled_loss, group_info_nce
from privacy.private_step import private_parameters
from privacy.unit_gradients import LossOfUnit, clip_factors, unit_gradients

INPUTS, EMBEDDING, TEMPERATURE = 12, 6, 0.1
Record = dict[str, Tensor]


class Towers(nn.Module):
    """Two encoders (images, texts) of one hidden layer each."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = (
            nn.Sequential(nn.Linear(INPUTS, 16), nn.Tanh(), nn.Linear(16, EMBEDDING)) for _ in range(2)
        )

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        return functional.normalize(self.image(images), dim=-1), functional.normalize(self.text(texts), dim=-1)


@dataclass(frozen=True)
class Toy:
    """Towers, their parameters, a public bank, and losses of a patient and of a group on them."""

    towers: Towers
    parameters: dict[str, Tensor]
    bank: Record

    def embed(self, parameters: Mapping[str, Tensor], record: Record) -> tuple[Tensor, Tensor]:
        outputs = torch.func.functional_call(self.towers, dict(parameters), (record["image"], record["text"]))
        return outputs  # type: ignore[no-any-return]

    def patient_loss(self, parameters: Mapping[str, Tensor], patient: Record) -> Tensor:
        """``patient``: image [m, d], text [m, d], present [m]."""
        first, second = self.embed(parameters, patient)
        bank_first, bank_second = self.embed(parameters, self.bank)
        pair = PatientPair(first, second, patient["present"], bank_first.detach(), bank_second.detach())
        return decoupled_loss(pair, TEMPERATURE)

    def group_loss(self, parameters: Mapping[str, Tensor], group: Record) -> Tensor:
        """``group``: image [k, d], text [k, d], present [k], patients [k]."""
        first, second = self.embed(parameters, group)
        return group_info_nce(first, second, group["present"], group["patients"], TEMPERATURE)

    def row_losses(self, parameters: Mapping[str, Tensor], batch: Record) -> Tensor:
        """The published in-batch loss, one number a record: what must not be clipped record by record."""
        first, second = self.embed(parameters, batch)
        logits = first @ second.T / TEMPERATURE
        rows = torch.arange(len(logits))
        forth = functional.cross_entropy(logits, rows, reduction="none")
        return (forth + functional.cross_entropy(logits.T, rows, reduction="none")) / 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The toy's tensors are tiny: more threads would spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy() -> Toy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        towers = Towers()
        for part in (towers.image, towers.text):
            for layer in (part[0], part[2]):
                nn.init.normal_(layer.weight, std=0.6)
        bank = {"image": torch.randn(32, INPUTS), "text": torch.randn(32, INPUTS)}
    return Toy(towers, private_parameters(towers), bank)


@pytest.fixture(scope="session")
def random_cohort() -> Callable[[int, int], Record]:
    """``random_cohort(n, seed)``: n unrelated records, image and text [n, d]."""

    def made(count: int, seed: int) -> Record:
        draws = torch.Generator().manual_seed(seed)
        return {name: torch.randn(count, INPUTS, generator=draws) for name in ("image", "text")}

    return made


@pytest.fixture(scope="session")
def correlated_cohort() -> Callable[[int, int], Record]:
    """``correlated_cohort(n, seed)``: n - 1 near-identical normal records and, last, an odd one."""

    def made(count: int, seed: int) -> Record:
        draws = torch.Generator().manual_seed(seed)
        cohort = {}
        for name in ("image", "text"):
            normal = torch.randn(1, INPUTS, generator=draws)
            rows = normal + 0.05 * torch.randn(count, INPUTS, generator=draws)
            rows[-1] = 2 * torch.randn(INPUTS, generator=draws)
            cohort[name] = rows
        return cohort

    return made


@pytest.fixture(scope="session")
def contribution() -> Callable[[LossOfUnit, Mapping[str, Tensor], Any, float], Tensor]:
    """``contribution(loss_of_unit, parameters, units, C)``: sum of the clipped gradients as one vector, written so that
    it can be differentiated by the units."""

    def summed(loss_of_unit: LossOfUnit, parameters: Mapping[str, Tensor], units: Any, clip_norm: float) -> Tensor:
        gradients = unit_gradients(loss_of_unit, parameters, units)
        factors, _ = clip_factors(gradients, clip_norm)
        return torch.cat([torch.tensordot(factors, gradient, dims=1).flatten() for gradient in gradients.values()])

    return summed


@pytest.fixture(scope="session")
def adam_search() -> Callable[..., list[Tensor]]:
    """``adam_search(distance, start, steps=...)``: tensors that make ``distance(*tensors)`` large, from ``start``."""

    def found(distance: Callable[..., Tensor], start: list[Tensor], *, steps: int = 120, rate: float = 0.1) -> Any:
        leaves = [tensor.clone().requires_grad_(True) for tensor in start]
        optimiser = torch.optim.Adam(leaves, lr=rate)
        best, best_value = [leaf.detach().clone() for leaf in leaves], -1.0
        for _ in range(steps):
            optimiser.zero_grad()
            value = distance(*leaves)
            if value.item() > best_value:
                best, best_value = [leaf.detach().clone() for leaf in leaves], value.item()
            (-value).backward()
            optimiser.step()
        return best

    return found
