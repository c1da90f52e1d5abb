"""Refuses training set-ups whose epsilon would be false, and says why and what to use instead.

The arithmetic of clipping, noise and accounting always yields a number. Whether it means anything depends on how the
loss, the sampling and the accounting fit together; nothing in a library notices when they do not. `check_design` holds
every known way to get it wrong, as a table. `privacy.isolation` looks at the model itself and tries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from more_model.errors import ConfigError
from privacy.accounting import Adjacency
from privacy.sensitivity import Mode

Loss = Literal["per-example", "decoupled", "group-contrastive", "in-batch-contrastive", "queue", "batch-coupled"]
Clipped = Literal["example", "patient", "group", "batch", "update"]
Sampling = Literal["poisson", "poisson-then-chunked", "shuffled", "fixed-size", "everyone"]
Divisor = Literal["public", "realised"]
EmptyStep = Literal["noised", "skipped", "one-random-record"]
Entropy = Literal["operating-system", "experiment-seed"]
Accountant = Literal["pld", "exact-gaussian", "rdp", "opacus-prv", "opacus-rdp", "opacus-gdp"]


@dataclass(frozen=True)
class Design:
    """How a private training works, as far as its epsilon depends on it.

    loss: ``per-example`` and ``decoupled`` see one unit and public data; ``group-contrastive`` contrasts inside a fixed
    group; ``in-batch-contrastive`` across the batch; ``queue`` remembers earlier batches (MoCo); ``batch-coupled`` is
    anything else that mixes units (balanced or mined batches, mixture-of-experts routing losses).
    clipped: what one clipped contribution is made of. claimed: the unit of the claim. sampling: of the clipped things;
    ``poisson-then-chunked`` draws records first and forms groups by position. group_assignment: how patients come to
    their group. divisor, empty_step, noise, accountant, adjacency: see `RULES`.
    """

    loss: Loss
    clipped: Clipped
    claimed: Literal["study", "patient", "hospital"]
    sampling: Sampling
    adjacency: Adjacency
    accountant: Accountant = "pld"
    amplification: bool = True
    group_assignment: Literal["keyed-hash", "by-position"] = "keyed-hash"
    divisor: Divisor = "public"
    empty_step: EmptyStep = "noised"
    noise: Entropy = "operating-system"
    weights: Literal["public", "from-data"] = "public"
    studies_per_patient: int = 1


@dataclass(frozen=True)
class Rule:
    """One way to get it wrong: ``broken`` recognises it, the rest teaches."""

    name: str
    broken: Callable[[Design], bool]
    what: str
    why: str
    instead: str


_DESIGNS: Mapping[Mode, Design] = MappingProxyType(
    {
        "patient-decoupled": Design("decoupled", "patient", "patient", "poisson", "add-remove"),
        "patient-groups": Design("group-contrastive", "group", "patient", "poisson", "replace"),
        "patient-shuffled": Design(
            "group-contrastive", "group", "patient", "shuffled", "replace", "exact-gaussian", amplification=False
        ),
        "hospital": Design(
            "in-batch-contrastive", "update", "hospital", "everyone", "add-remove", "exact-gaussian",
            amplification=False,
        ),
    }
)  # fmt: skip


def design_of(mode: Mode) -> Design:
    """How a mode works when it is used as intended; `dataclasses.replace` what a training does differently, then
    `check_design`."""
    return _DESIGNS[mode]


RULES: tuple[Rule, ...] = (
    Rule(
        "in-batch-contrast",
        lambda d: d.loss in {"in-batch-contrastive", "group-contrastive"} and d.clipped in {"example", "patient"},
        "an in-batch contrastive loss under per-example clipping",
        "every record is a negative of all n others that it is contrasted with, so one record moves all their clipped "
        "gradients: the sum moves by up to 2 n C, not C",
        "patient-decoupled (each patient against a public bank), or patient-groups (the group is clipped as a whole)",
    ),
    Rule(
        "whole-batch-clip",
        lambda d: d.clipped == "batch" and (d.adjacency == "add-remove" or d.sampling == "poisson"),
        "clipping the gradient of the whole batch",
        "one record turns one vector of norm C into another: the sum moves by up to 2 C, there is one clipped thing a "
        "step to average the noise over, and drawing records amplifies nothing because the others' gradient changes",
        "patient-groups: many small groups, each clipped, and groups drawn",
    ),
    Rule(
        "groups-mixed",
        lambda d: d.loss == "in-batch-contrastive" and d.clipped == "group",
        "an in-batch contrastive loss that reaches beyond the clipped group",
        "a record in another group would change this group's gradient, so more than one clipped gradient moves",
        "a loss that contrasts inside the group only (group_info_nce)",
    ),
    Rule(
        "queue",
        lambda d: d.loss == "queue" and d.clipped != "update",
        "a queue or memory bank of earlier private embeddings",
        "a record stays in the losses of others long after its own step, outside any clipping and any sampling",
        "a bank of public records, embedded anew in each step without gradient (decoupled_loss)",
    ),
    Rule(
        "batch-coupled",
        lambda d: d.loss == "batch-coupled" and d.clipped != "update",
        "a loss that mixes the units of a batch (hard-negative mining, balancing over the batch, routing losses)",
        "one record changes which others count and how much, so their clipped gradients move as well",
        "a loss of one unit alone, with choices that depend on that unit, a key and public data only",
    ),
    Rule(
        "divisor",
        lambda d: d.divisor == "realised",
        "dividing by the number of units that were really drawn",
        "that number is private: one unit more rescales everybody's contribution, and the noise level betrays the size",
        "the public expected number of units, sampling rate times public number of units",
    ),
    Rule(
        "empty-step",
        lambda d: d.empty_step != "noised",
        "a step that is skipped, or filled up, when nobody was drawn",
        "a missing step shows that nobody was drawn; a random record in its place moves the sum by up to 2 C",
        "take the step with noise alone",
    ),
    Rule(
        "chunked-after-sampling",
        lambda d: d.sampling == "poisson-then-chunked",
        "drawing records first and cutting groups from what was drawn",
        "whether one record was drawn shifts the groups of all others, so the sampling does not reduce epsilon at all",
        "fixed groups by keyed hash, and groups as the things that are drawn",
    ),
    Rule(
        "groups-by-position",
        lambda d: d.clipped == "group" and d.group_assignment == "by-position",
        "groups formed by position in the data",
        "leaving one record out shifts everybody behind it into other groups: the sum moves by up to 2 C times the "
        "number of groups",
        "group_of: a keyed hash of the patient's id into a public number of groups",
    ),
    Rule(
        "no-amplification",
        lambda d: d.amplification and d.sampling in {"shuffled", "fixed-size", "everyone"},
        "amplification by sampling claimed for batches that are not Poisson draws",
        "shuffled batches have been shown to leak up to several times the epsilon of a Poisson accountant",
        "Poisson draws (poisson_draw), or patient-shuffled, which claims none",
    ),
    Rule(
        "group-adjacency",
        lambda d: d.clipped in {"group", "batch"} and d.adjacency == "add-remove",
        "add-remove accounting of clipped groups",
        "a patient that leaves a group turns its clipped gradient into another one: the sum moves by 2 C, not by C",
        "replace, with z = sigma / C (patient-groups)",
    ),
    Rule(
        "accountant-relation",
        lambda d: d.adjacency == "replace" and d.accountant in {"opacus-prv", "opacus-rdp", "rdp"},
        "an add-remove accountant for the adjacency replace",
        "Opacus' accountants know add-remove only, and RDP accountants have no Poisson sampling under replace (or read "
        "the noise multiplier as sigma / 2C): the epsilon would be far too small",
        "privacy.accounting, which takes z = sigma / C for both adjacencies",
    ),
    Rule(
        "gdp",
        lambda d: d.accountant == "opacus-gdp",
        "the central-limit (GDP) accountant",
        "it is an approximation that reports too little (4.69 instead of 5.13 for z = 1, q = 0.0256, 1000 steps)",
        "privacy.accounting",
    ),
    Rule(
        "study-as-patient",
        lambda d: d.claimed == "patient" and d.clipped == "example" and d.studies_per_patient != 1,
        "a guarantee for patients from training that clips single studies",
        "a patient with m studies moves the sum by up to m C and is drawn m times as often",
        "draw patients, average their loss over at most m studies, clip once (chosen_studies); or claim studies only",
    ),
    Rule(
        "noise-from-seed",
        lambda d: d.noise == "experiment-seed",
        "noise from the experiment's seed",
        "whoever knows the seed draws the same noise and subtracts it",
        "privacy.noise, which takes every number from the operating system",
    ),
    Rule(
        "weights-from-data",
        lambda d: d.clipped == "update" and d.weights == "from-data",
        "weights of hospitals that come from their data",
        "the largest weight sets the noise, so it must be known beforehand; and the numbers themselves are private",
        "public, fixed weights that sum to 1 (public_weights)",
    ),
)


def design_faults(design: Design) -> tuple[str, ...]:
    """One sentence of what, why and what instead for every rule that the design breaks."""
    return tuple(f"{rule.what}: {rule.why}. Instead: {rule.instead}" for rule in RULES if rule.broken(design))


def check_design(design: Design) -> None:
    """Refuse a design whose epsilon would be false.

    Raises:
        ConfigError: holds every fault, each with its reason and the alternative.
    """
    faults = design_faults(design)
    if faults:
        raise ConfigError(
            "differential privacy",
            faults,
            remedy="change the training as each line says, or train with mode none and claim nothing",
            avoid="print an epsilon for this training: the formula would give one, and it would be false",
        )
