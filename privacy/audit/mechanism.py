"""Level 1: does the code add the noise that its claim counts on?

The functions that training calls are called on two adjacent data sets, tens of thousands of times; how well their
outputs can be told apart is compared with what is claimed of one release. Nothing is trained. Such a test sees gross
errors (a coupled loss, a third of the noise, none); an error by a factor of two is seen by the other half of the
level, which needs no noise: by how much the sum moves, against the declared sensitivity.

Many outputs a call. Side by side in one wide parameter vector lie ``copies`` copies of the parameters, each with the
same gradient. With clipping norm C sqrt(copies) and noise multiplier z / sqrt(copies) the mechanism clips each copy to
C, since the joint norm is sqrt(copies) times that of one, and adds N(0, z^2 C^2) to it: the copies are exactly that
many independent releases with (C, z), made by the code that makes one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from more_model.exchange import ExchangeSpec, TensorSpec
from privacy.audit.bounds import ThresholdBound, best_threshold_bound
from privacy.audit.neighbours import (
    CLIP_NORM,
    PATIENTS,
    Neighbours,
    Side,
    coupled_neighbours,
    decoupled_neighbours,
    group_neighbours,
)
from privacy.claims import mode_claim
from privacy.hospital import private_sum, weighted_sum
from privacy.private_step import private_step
from privacy.quantise import decode, tensor_grid
from privacy.secure_sum.distributed_noise import MIN_DEVIATIONS, DistributedNoise
from privacy.secure_sum.plan import Plan, terms_of
from privacy.secure_sum.prepare import clip, prepare
from privacy.sensitivity import Mode, hospital_bound, sensitivity
from privacy.unit_gradients import GradientsOfUnits, LossOfUnit, Tensors, unit_gradients

Matrix = NDArray[np.floating[Any]]

DRAWS = 20_000
DELTA = 1e-5
CONFIDENCE = 0.95
#: Noise in units of C. With less, the bound that so many draws can certify would be no larger than the claim.
_NOISE_MULTIPLIER = {"add-remove": 2.0, "replace": 4.0}
_COPIES = 5_000
#: Rounding of float32 sums.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Mechanism:
    """One private release, on two adjacent data sets.

    noise_multiplier: z of the release. declared: the L2 sensitivity that its claim counts on. difference: [numbers],
    how far the sum really moves, without noise. first, second: ``(copies) -> [copies, numbers]``, independent releases.
    control: known to be wrong, run to see whether the test finds it.
    """

    name: str
    mode: Mode
    change: str
    noise_multiplier: float
    declared: float
    difference: NDArray[np.float64]
    first: Callable[[int], Matrix]
    second: Callable[[int], Matrix]
    control: bool = False


@dataclass(frozen=True)
class MechanismResult:
    """``claimed``: epsilon of one release. ``moved``: how far the sum moves, ``declared`` what is claimed of that.
    ``bound``: what the noisy outputs certify."""

    name: str
    mode: Mode
    change: str
    control: bool
    noise_multiplier: float
    claimed: float
    moved: float
    declared: float
    bound: ThresholdBound

    @property
    def told_apart(self) -> bool:
        """Whether the outputs of the two data sets differ more than the claim allows."""
        return self.bound.epsilon > self.claimed

    @property
    def refuted(self) -> bool:
        """Whether the claim is false: the outputs are told apart too well, or the sum moves too far."""
        return self.told_apart or self.moved > self.declared * (1 + _TOLERANCE)


def audit_mechanism(
    mechanism: Mechanism, *, draws: int = DRAWS, delta: float = DELTA, confidence: float = CONFIDENCE
) -> MechanismResult:
    """Compare what ``draws`` releases a side show with the claim of one release.

    Raises:
        ConfigError: too few draws.
    """
    direction = mechanism.difference / np.linalg.norm(mechanism.difference)
    with _one_thread():
        sides = [_projected(outputs, direction, draws) for outputs in (mechanism.first, mechanism.second)]
    claim = mode_claim(mechanism.mode, mechanism.noise_multiplier, 1.0, 1.0, 1, delta)
    return MechanismResult(
        mechanism.name, mechanism.mode, mechanism.change, mechanism.control, mechanism.noise_multiplier,
        claim.result.epsilon, float(np.linalg.norm(mechanism.difference)), mechanism.declared,
        best_threshold_bound(sides[0], sides[1], delta, confidence),
    )  # fmt: skip


def mechanisms() -> Iterator[Mechanism]:
    """Everything that this system releases under a claim, and one control."""
    yield step_mechanism(decoupled_neighbours())
    yield step_mechanism(group_neighbours())
    yield hospital_mechanism()
    yield distributed_mechanism()
    yield step_mechanism(coupled_neighbours(), noise_multiplier=4.0, control=True)


def step_mechanism(
    neighbours: Neighbours, *, noise_multiplier: float | None = None, control: bool = False
) -> Mechanism:
    """`privacy.private_step.private_step`, the step of every patient-level mode."""
    noise = noise_multiplier or _NOISE_MULTIPLIER["add-remove" if neighbours.mode == "patient-decoupled" else "replace"]

    def outputs(side: Side) -> Callable[[int], Matrix]:
        return lambda copies: _step_outputs(side, neighbours.parameters, noise, copies)

    return Mechanism(
        neighbours.name, neighbours.mode, neighbours.change, noise, sensitivity(neighbours.mode, CLIP_NORM),
        neighbours.difference().numpy(), outputs(neighbours.before), outputs(neighbours.after), control,
    )  # fmt: skip


def hospital_mechanism() -> Mechanism:
    """`privacy.hospital.private_sum`: the update of the hospital with the largest weight is set to zero."""
    weights = {"north": 0.6, "south": 0.4}
    norms = dict.fromkeys(weights, 1.0)
    noise = _NOISE_MULTIPLIER["add-remove"]

    def released(sites: tuple[str, ...]) -> Callable[[int], Matrix]:
        def outputs(copies: int) -> Matrix:
            root = math.sqrt(copies)
            wide = {site: norm * root for site, norm in norms.items()}
            made = private_sum(_updates(sites, copies), weights, wide, noise / root, _spec(copies))
            return made["head"]

        return outputs

    sums = [
        weighted_sum(_updates(sites, 1), weights, norms, _spec(1))["head"] for sites in (("south",), tuple(weights))
    ]
    return Mechanism(
        "one round, hospital: the sum of all updates", "hospital", "the update of the largest hospital is set to zero",
        noise, sensitivity("hospital", hospital_bound(weights, norms)), (sums[1] - sums[0])[0],
        released(("south",)), released(tuple(weights)),
    )  # fmt: skip


def distributed_mechanism() -> Mechanism:
    """The noise of secure summation, of which each site adds a share, rounded to the grid and added modulo 2^k.

    What is left of it when as many sites got lost and as many work with the coordinator as the settings allow for: the
    shares of the others are all there is. Masks are left out: they leave the sum as it is, bit for bit.
    """
    noise = DistributedNoise(_NOISE_MULTIPLIER["add-remove"], 1.0, sites=6, dropouts=1, colluders=2)
    sites = tuple(f"site {number}" for number in range(noise.honest))

    def released(contributing: tuple[str, ...]) -> Callable[[int], Matrix]:
        return lambda copies: _distributed_outputs(contributing, sites, noise, copies)

    moved = clip({"head": _updates(sites, 1)[sites[0]]["head"]}, noise.sensitivity).deltas["head"][0]
    return Mechanism(
        "one round, secure sum: the shares of noise of the honest sites", "hospital",
        "the update of one hospital is set to zero", noise.noise_multiplier,
        sensitivity("hospital", noise.sensitivity), moved.astype(np.float64), released(sites[1:]), released(sites),
    )  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    """More threads than one would spend their time waiting for each other, the tensors are so small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _projected(outputs: Callable[[int], Matrix], direction: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    counts = [min(_COPIES, draws - start) for start in range(0, draws, _COPIES)]
    return np.concatenate([outputs(count).astype(np.float64) @ direction for count in counts])


def _step_outputs(side: Side, parameters: Tensors, noise_multiplier: float, copies: int) -> Matrix:
    root = math.sqrt(copies)
    private = private_step(
        side.loss,
        {name: tensor.expand(copies, *tensor.shape) for name, tensor in parameters.items()},
        [side.units],
        clip_norm=CLIP_NORM * root,
        noise_multiplier=noise_multiplier / root,
        expected_units=float(PATIENTS),
        gradients=_of_one_copy(copies),
    )
    matrix: Matrix = torch.cat([part.flatten(1) for part in private.gradient.values()], dim=1).numpy()
    return matrix


def _of_one_copy(copies: int) -> GradientsOfUnits:
    """`unit_gradients` of the first copy, which is that of all of them: [n, copies, *shape] by parameter name."""

    def gradients(loss: LossOfUnit, parameters: Tensors, units: Any) -> dict[str, Tensor]:
        one = unit_gradients(loss, {name: tensor[0] for name, tensor in parameters.items()}, units)
        return {name: found[:, None].expand(-1, copies, *found.shape[1:]) for name, found in one.items()}

    return gradients


#: Numbers in the update of a hospital.
_NUMBERS = 24


def _spec(copies: int) -> ExchangeSpec:
    return ExchangeSpec((TensorSpec("head", (copies, _NUMBERS), "text"),))


def _updates(sites: tuple[str, ...], copies: int) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Nearly the same update at every site, as after a warm start, and longer than the clipping norm."""
    shared = np.random.default_rng(5).normal(size=_NUMBERS)
    made = {}
    for site in sites:
        own = shared + 0.1 * np.random.default_rng(len(site) + ord(site[-1])).normal(size=_NUMBERS)
        made[site] = {"head": np.tile(own.astype(np.float32), (copies, 1))}
    return made


def _distributed_outputs(
    contributing: tuple[str, ...], sites: tuple[str, ...], noise: DistributedNoise, copies: int
) -> Matrix:
    """[copies, numbers]: the decoded sum over ``sites``; those not in ``contributing`` send zeros and their noise."""
    root, spec = math.sqrt(copies), _spec(copies)
    shares = DistributedNoise(
        noise.noise_multiplier / root, noise.sensitivity * root, noise.sites, noise.dropouts, noise.colluders
    )
    reach = noise.sensitivity * root + (MIN_DEVIATIONS + 1) * shares.share_std
    plan = Plan(spec, {"head": tensor_grid(reach, 16)}, noise.sensitivity * root, noise=shares)
    everyone = [f"site {number}" for number in range(noise.sites)]
    terms = terms_of(
        plan, run="audit", number=1, sites=everyone, fingerprint_digest="", word_bits=32, max_weight=1,
        minimum_contributors=noise.minimum_contributors, colluders=noise.colluders,
    )  # fmt: skip
    updates = _updates(sites, copies)
    nothing = {"head": np.zeros((copies, _NUMBERS), dtype=np.float32)}
    total = None
    for site in sites:
        words = prepare(updates[site] if site in contributing else nothing, {"text": 1}, plan, terms).encoded.words
        total = words["text"] if total is None else total + words["text"]
    assert total is not None
    return decode({"text": total}, {"text": 1}, spec, plan.grids)["head"]
