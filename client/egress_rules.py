"""What may leave a site, kind by kind. Whatever is not on a list here is refused, whichever part of the site made it.

The coordinator checks the same again (`server.admission`, `privacy.secure_sum.coordinator`): neither trusts the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from client.policy import SitePolicy
from client.policy_check import POLICY_CODES, evaluation_fault, spec_faults
from more_model.errors import ExchangeError, MoreError
from more_model.exchange import (
    JOINED_STAGE,
    STAGE_FACT,
    TOWERS,
    WATCHED,
    ExchangeSpec,
    Fact,
    Joined,
    Refusal,
    SumStage,
    Update,
)
from more_model.score_exchange import MEASURED_SPLITS, Evaluation, fault_of_counts
from privacy.secure_sum.messages import Advertisement, Confirmation, MaskedInput, Revealed, SealedShares

if TYPE_CHECKING:
    from more_model.evaluation.federated_terms import EvaluationTerms

#: More pairs than any site has.
_MAX_NUMBER = 1e9
_COUNTS = frozenset({"loss", "steps", "pairs_xray", "pairs_ecg"}) | WATCHED
#: Under differential privacy everything counted from the data is private; the number of steps is public.
_PUBLIC_COUNTS = frozenset({"steps"})
#: How each message of a secure sum from a site is read, by its stage.
_STAGES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    JOINED_STAGE: Advertisement.from_parts,
    "share": SealedShares.from_parts,
    "mask": MaskedInput.from_parts,
    "confirm": Confirmation.from_parts,
    "reveal": Revealed.from_parts,
}
#: What a refusal says where the reason is a bug.
UNEXPECTED = "unexpected-error"
#: What it says where the site's people have stopped the site.
PAUSED, DRAINING = "paused", "draining"

EgressCode = Literal[
    "unknown-message",
    "no-policy",
    "other-site",
    "unknown-facts",
    "tensors-outside-specification",
    "tensors-not-allowed",
    "secure-sum-required",
    "secure-sum-not-allowed",
    "no-such-secure-sum",
    "evaluation-not-allowed",
    "unknown-refusal-code",
    "bytes-above-policy",
    "rounds-above-policy",
]


@dataclass(frozen=True, slots=True)
class SiteName:
    """A site's answer to the question who it is."""

    site: str


Outgoing = Update | Joined | SumStage | Evaluation | Refusal | SiteName


@dataclass(frozen=True, slots=True)
class Payload:
    """A message as it goes on the wire: ``facts`` are flat scalars, ``arrays`` by name. ``told``: the facts that say
    something of the site, and not only serve the exchange; the log keeps them word for word."""

    kind: str
    facts: Mapping[str, Fact]
    arrays: Mapping[str, npt.NDArray[Any]]
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenSum:
    """A secure sum that this site has joined: its session, its round, and the words of each group that it put in."""

    session: str
    run: str
    round: int
    words: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message may not leave; ``words`` name nothing that the message brought along."""

    code: EgressCode
    words: str


def payload_of(message: object) -> Payload:
    """The payload of a message; ``kind`` is ``unknown`` for anything else than the five kinds."""
    if isinstance(message, Update):
        return Payload("update", message.facts(), message.deltas, ("weights", "counts"))
    if isinstance(message, Joined):
        return Payload("joined", {**message.keys, STAGE_FACT: JOINED_STAGE}, {}, ("weights",))
    if isinstance(message, SumStage):
        return Payload("sum-stage", {**message.facts, STAGE_FACT: message.stage}, message.arrays, (STAGE_FACT,))
    if isinstance(message, Evaluation):
        return Payload("evaluation", message.facts(), {}, ("split", "minimum_count", "show_site"))
    if isinstance(message, Refusal):
        return Payload("refusal", {"refusal": message.code, "site": message.site}, {}, ("refusal", "site"))
    if isinstance(message, SiteName):
        return Payload("site-name", {"site": message.site}, {}, ("site",))
    return Payload("unknown", {}, {})


def update_faults(update: Update, site: str, spec: ExchangeSpec, policy: SitePolicy) -> list[Fault]:
    """Of an update in the clear; ``spec`` is the site's whole specification."""
    faults = [] if update.site == site else [_other_site()]
    if policy.privacy.secure_sums == "required":
        faults.append(Fault("secure-sum-required", "the policy lets updates into secure sums only"))
    upward = spec.upward(update.round)
    faults += [Fault("tensors-not-allowed", words) for words in spec_faults(policy, spec)]
    counts = _COUNTS if policy.privacy.unprotected else _PUBLIC_COUNTS
    numbers = [*update.weights.values(), *update.counts.values()]
    if not update.weights.keys() <= set(TOWERS) or not update.counts.keys() <= counts:
        faults.append(Fault("unknown-facts", "weights or counts that are not on the list for this policy"))
    elif not all(_plausible(number) for number in numbers) or min(update.weights.values(), default=0.0) < 0:
        faults.append(Fault("unknown-facts", "weights or counts that are no finite numbers of a plausible size"))
    elif update.spec_digest != spec.digest() or not _is_digest(update.fingerprint_digest) or update.round < 1:
        faults.append(Fault("unknown-facts", "not the round, specification and base of a site's answer"))
    else:
        groups = [group for group, weight in update.weights.items() if weight > 0]
        faults += _spec_fault(upward, update.deltas, groups)
    return faults


def joined_faults(joined: Joined, site: str, spec: ExchangeSpec, policy: SitePolicy) -> list[Fault]:
    """Of the keys for a secure sum."""
    faults = [Fault("tensors-not-allowed", words) for words in spec_faults(policy, spec)]
    if policy.privacy.secure_sums == "refused":
        faults.append(Fault("secure-sum-not-allowed", "the policy refuses secure sums"))
    if joined.site != site or joined.keys.get("site") != site:
        faults.append(_other_site())
    faults += _stage_faults(JOINED_STAGE, joined.keys, {})
    if not faults and not set(json.loads(str(joined.keys["weights"]))) <= set(TOWERS):
        faults.append(Fault("unknown-facts", "weights of unknown groups"))
    return faults


def stage_faults(message: SumStage, site: str, run: str, joined: OpenSum | None) -> list[Fault]:
    """Of a later stage of a secure sum: it belongs to the one that this site has joined, and brings nothing else."""
    if joined is None or message.facts.get("session") != joined.session or run != joined.run:
        return [Fault("no-such-secure-sum", "this site has not joined the secure sum of that session")]
    faults = [] if message.facts.get("site") == site else [_other_site()]
    faults += _stage_faults(message.stage, message.facts, message.arrays)
    return faults or _words_faults(message, joined)


def opened_sum(joined: Joined, run: str, spec: ExchangeSpec) -> OpenSum:
    """The secure sum that a released message joins."""
    upward, weights = spec.upward(joined.round), json.loads(str(joined.keys["weights"]))
    words = {group: sum(tensor.nbytes // 4 for tensor in upward.of_towers([group])) for group in weights}
    return OpenSum(str(joined.keys["session"]), run, joined.round, words)


def evaluation_faults(
    evaluation: Evaluation, site: str, spec: ExchangeSpec, policy: SitePolicy, terms: EvaluationTerms | None
) -> list[Fault]:
    """Of counts of held-out patients by score; ``terms``: what the site agreed to, None where it agreed to nothing."""
    if terms is None or evaluation.terms_digest != terms.digest():
        return [Fault("evaluation-not-allowed", "this site did not agree to these terms of evaluation")]
    faults = [] if evaluation.site == site else [_other_site()]
    if words := evaluation_fault(policy, evaluation.terms_digest):
        faults.append(Fault("evaluation-not-allowed", words))
    if evaluation.minimum_count < (policy.evaluation.minimum_count or math.inf):
        faults.append(Fault("evaluation-not-allowed", "counts of fewer patients than the policy's minimum_count"))
    if evaluation.show_site and not policy.evaluation.show_site:
        faults.append(Fault("evaluation-not-allowed", "the policy does not let the other sites see these figures"))
    ours = evaluation.spec_digest == spec.digest() and _is_digest(evaluation.fingerprint_digest)
    if not ours or evaluation.split not in MEASURED_SPLITS or evaluation.round < 0:
        faults.append(Fault("unknown-facts", "not the split, round, specification and base of a site's answer"))
    if (fault := fault_of_counts(evaluation, labels=terms.names, bins=terms.bins.count)) is not None:
        faults.append(Fault("unknown-facts", fault))
    return faults


def refusal_faults(refusal: Refusal, site: str) -> list[Fault]:
    """Of a refusal: its code is made of the codes of a policy and the names of errors, joined by a comma."""
    faults = [] if refusal.site == site else [_other_site()]
    known = POLICY_CODES | set(_error_names(MoreError)) | {UNEXPECTED, PAUSED, DRAINING}
    if not set(refusal.code.split(", ")) <= known:
        faults.append(Fault("unknown-refusal-code", "a refusal that is not made of known codes"))
    return faults


def name_faults(name: SiteName, site: str) -> list[Fault]:
    """Of the site's name."""
    return [] if name.site == site else [_other_site()]


def _stage_faults(stage: str, facts: Mapping[str, Fact], arrays: Mapping[str, Any]) -> list[Fault]:
    if stage not in _STAGES:
        return [Fault("unknown-message", "a secure sum has no such stage")]
    try:
        # What reads and writes to the same again holds nothing but the parts of that message.
        known = _STAGES[stage](facts, arrays).facts() == dict(facts)
    except ExchangeError as error:
        return [Fault("unknown-facts", error.cause)]
    return [] if known else [Fault("unknown-facts", "facts that do not belong to this stage of a secure sum")]


def _words_faults(message: SumStage, joined: OpenSum) -> list[Fault]:
    if message.stage != "mask":
        return []
    arrays = message.arrays
    fit = arrays.keys() == joined.words.keys() and all(
        isinstance(array, np.ndarray)
        and array.dtype in (np.uint32, np.uint64)
        and array.shape == (joined.words[group],)
        for group, array in arrays.items()
    )
    return [] if fit else [Fault("tensors-outside-specification", "not the masked words of the groups put in")]


def _spec_fault(spec: ExchangeSpec, deltas: Mapping[str, Any], groups: list[str]) -> list[Fault]:
    foreign = len(deltas.keys() - {tensor.name for tensor in spec.tensors})
    if foreign:
        return [Fault("tensors-outside-specification", f"{foreign} tensors that may not travel in this round")]
    try:
        spec.check(deltas, groups)
    except ExchangeError as error:
        return [Fault("tensors-outside-specification", error.cause)]
    return []


def _error_names(kind: type[MoreError]) -> list[str]:
    return [kind.__name__, *(name for child in kind.__subclasses__() for name in _error_names(child))]


def _plausible(number: Any) -> bool:
    return (
        not isinstance(number, bool)
        and isinstance(number, int | float)
        and math.isfinite(number)
        and abs(number) <= _MAX_NUMBER
    )


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _other_site() -> Fault:
    return Fault("other-site", "it speaks for another site")
