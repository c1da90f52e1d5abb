"""What travels between a hospital and the coordinator, and the checks that nothing else does. Needs only numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from more_model.errors import ExchangeError

Tensors = Mapping[str, npt.NDArray[np.float32]]
TensorDict = dict[str, npt.NDArray[np.float32]]

#: Names of the records in a message; both ends use them.
TENSORS_RECORD = "tensors"
FACTS_RECORD = "facts"
#: A stage of a secure sum is a query of this kind, with these facts beside those of the stage.
SUM_ACTION = "secure_sum"
STAGE_FACT = "stage"
RUN_FACT = "run"
#: Beside an instruction and no part of it: what became of the site's answer to the round before, where it is not in
#: the aggregate.
VERDICT_FACT = "verdict"
#: The stage that a site answers the instruction itself with.
JOINED_STAGE = "advertise"

#: Exchange groups: each tensor belongs to one; a site sends only the groups that it trained.
TOWERS = ("xray", "ecg", "text", "shared")

#: What a site may say of its training beside counts, as means over its steps: each term of the loss and the term's
#: chance level, and the norm of each tower's gradient (`more_model.training.watch`).
WATCHED = frozenset(
    {"loss_xray", "loss_ecg", "chance_xray", "chance_ecg", "gradient_xray", "gradient_ecg", "gradient_text"}
)

Fact = int | float | str

#: Rounds, counted from 1, in which a tensor travels up, from the sites to the coordinator. Down it goes in every round.
UpRounds = Literal["every", "odd", "even", "none"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor that may travel, always as float32."""

    name: str
    shape: tuple[int, ...]
    tower: str
    up: UpRounds = "every"

    @property
    def nbytes(self) -> int:
        """Bytes on the wire, without framing."""
        return 4 * int(np.prod(self.shape, dtype=np.int64))

    def goes_up(self, round_number: int) -> bool:
        """Whether a site sends its change of this tensor in a round."""
        return self.up in ("every", "odd" if round_number % 2 else "even")


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """Every tensor that may travel, in a fixed order. All of them go down in every round; what a site may send, and
    the coordinator accept, is `upward` of the round."""

    tensors: tuple[TensorSpec, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of one full exchange in one direction."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def digest(self) -> str:
        """Hex SHA-256 over names, shapes, groups and the rounds of those that do not always go up, in order."""
        content = [
            [tensor.name, list(tensor.shape), tensor.tower, *([] if tensor.up == "every" else [tensor.up])]
            for tensor in self.tensors
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def upward(self, round_number: int) -> ExchangeSpec:
        """What goes up in a round: both ends know it from the number of the round (from 1) alone."""
        return ExchangeSpec(tuple(tensor for tensor in self.tensors if tensor.goes_up(round_number)))

    def of_towers(self, towers: Sequence[str]) -> tuple[TensorSpec, ...]:
        """The tensors of some groups, in order."""
        return tuple(tensor for tensor in self.tensors if tensor.tower in towers)

    def check(self, tensors: Tensors, towers: Sequence[str] = TOWERS) -> None:
        """Refuse whatever is not exactly the tensors of ``towers``, finite, float32 and of the right shape.

        Raises:
            ExchangeError: names the first offending tensors and what is wrong with each.
        """
        wanted = {tensor.name: tensor for tensor in self.of_towers(towers)}
        faults = [f"{name} may not travel" for name in sorted(tensors.keys() - wanted.keys())]
        faults += [f"{name} is missing" for name in sorted(wanted.keys() - tensors.keys())]
        for name in sorted(wanted.keys() & tensors.keys()):
            faults += [f"{name} {fault}" for fault in _array_faults(tensors[name], wanted[name])]
        if faults:
            shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
            raise ExchangeError(
                f"the tensors do not fit the exchange specification: {shown}",
                remedy="use one model configuration and LoRA method on both sides; `more-model describe` prints them",
                avoid="drop or rename tensors by hand",
            )


def _array_faults(array: Any, spec: TensorSpec) -> list[str]:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        return [f"is {getattr(array, 'dtype', type(array).__name__)}, not float32"]
    if array.shape != spec.shape:
        return [f"has shape {list(array.shape)}, not {list(spec.shape)}"]
    return [] if np.isfinite(array).all() else ["holds NaN or infinite values"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digests of all that must be equal at every site before training together makes sense, by name of the part."""

    parts: Mapping[str, str]

    def digest(self) -> str:
        """Hex SHA-256 over all parts."""
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()

    def differing(self, other: Fingerprint) -> list[str]:
        """The names of the parts that are not equal, in alphabetical order."""
        names = sorted(self.parts.keys() | other.parts.keys())
        return [name for name in names if self.parts.get(name) != other.parts.get(name)]

    def require_same(self, other: Fingerprint) -> None:
        """Refuse another base.

        Raises:
            ExchangeError: says which parts differ.
        """
        if differing := self.differing(other):
            raise ExchangeError(
                f"the base of this site is not the federation's: {', '.join(differing)} differ",
                remedy="install the base folder that the coordinator published, unchanged",
                avoid="train anyway: averages over different bases mean nothing",
            )


@dataclass(frozen=True, slots=True)
class Instruction:
    """What the coordinator asks of one site for one round: the global tensors and how to train.

    ``run`` names the run. ``privacy`` and ``secure_sum`` are JSON of `privacy.settings.PrivacySettings` and of
    `privacy.secure_sum.settings.SumInvitation`; empty: none.
    """

    round: int
    rounds: int
    tensors: Tensors
    training: str
    seed: int
    spec_digest: str
    fingerprint: Fingerprint
    run: str = ""
    privacy: str = ""
    secure_sum: str = ""

    def facts(self) -> dict[str, Fact]:
        """All but the tensors, as flat scalars."""
        return {
            "round": self.round,
            "rounds": self.rounds,
            "training": self.training,
            "seed": self.seed,
            "spec_digest": self.spec_digest,
            "fingerprint": json.dumps(dict(self.fingerprint.parts), sort_keys=True),
            "run": self.run,
            "privacy": self.privacy,
            "secure_sum": self.secure_sum,
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], tensors: Tensors) -> Instruction:
        """The inverse of `facts`; raises ExchangeError on a malformed message."""
        try:
            return cls(
                round=int(facts["round"]),
                rounds=int(facts["rounds"]),
                tensors=tensors,
                training=str(facts["training"]),
                seed=int(facts["seed"]),
                spec_digest=str(facts["spec_digest"]),
                fingerprint=Fingerprint({str(k): str(v) for k, v in json.loads(str(facts["fingerprint"])).items()}),
                run=str(facts["run"]),
                privacy=str(facts["privacy"]),
                secure_sum=str(facts["secure_sum"]),
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ExchangeError(f"malformed instruction: {type(error).__name__} at {error}") from error


@dataclass(frozen=True, slots=True)
class Update:
    """What one site answers: changes (after minus before) of the groups it trained, public weights, and counts.

    ``weights`` maps a group to the number of pairs (text: of triplets) it was trained on. ``counts`` are sums over the
    whole site, never per patient.
    """

    site: str
    round: int
    deltas: Tensors
    weights: Mapping[str, float]
    spec_digest: str
    fingerprint_digest: str
    counts: Mapping[str, float] = field(default_factory=dict)

    def facts(self) -> dict[str, Fact]:
        """All but the tensors, as flat scalars."""
        return {
            "site": self.site,
            "round": self.round,
            "weights": json.dumps(dict(self.weights), sort_keys=True),
            "counts": json.dumps(dict(self.counts), sort_keys=True),
            "spec_digest": self.spec_digest,
            "fingerprint_digest": self.fingerprint_digest,
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], deltas: Tensors) -> Update:
        """The inverse of `facts`; raises ExchangeError on a malformed message."""
        try:
            return cls(
                site=str(facts["site"]),
                round=int(facts["round"]),
                deltas=deltas,
                weights={str(k): float(v) for k, v in json.loads(str(facts["weights"])).items()},
                spec_digest=str(facts["spec_digest"]),
                fingerprint_digest=str(facts["fingerprint_digest"]),
                counts={str(k): float(v) for k, v in json.loads(str(facts["counts"])).items()},
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ExchangeError(f"malformed update: {type(error).__name__} at {error}") from error


@dataclass(frozen=True, slots=True)
class Refusal:
    """A site's answer when it does not do what was asked: a short code, never the text of an exception."""

    site: str
    round: int
    code: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A site's answer when its update goes into a secure sum: nothing of the update, only the site's ``keys`` (an
    advertisement of `privacy.secure_sum.messages`, as flat scalars)."""

    site: str
    round: int
    keys: Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class SumStage:
    """A message of a later stage of a secure sum, in either direction: ``facts`` and ``arrays`` of one of
    `privacy.secure_sum.messages`."""

    stage: str
    facts: Mapping[str, Fact]
    arrays: Mapping[str, npt.NDArray[np.unsignedinteger[Any]]] = field(default_factory=dict)
