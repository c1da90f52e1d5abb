"""The one door through which a site's messages leave: checked against what is allowed, written down, then let go."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from client.egress_rules import (
    Fault,
    OpenSum,
    Outgoing,
    Payload,
    SiteName,
    evaluation_faults,
    joined_faults,
    name_faults,
    opened_sum,
    payload_of,
    refusal_faults,
    stage_faults,
    update_faults,
)
from client.policy import SitePolicy
from client.records.audit_log import AuditLog
from client.records.lines import RELEASED, entries
from more_model.errors import ExchangeError
from more_model.exchange import ExchangeSpec, Fact, Joined, Refusal, SumStage, Update
from more_model.score_exchange import Evaluation

if TYPE_CHECKING:
    from more_model.evaluation.federated_terms import EvaluationTerms

#: The kind of entry of a message that was not let out.
WITHHELD = "withheld"
#: The kinds of message that answer a round.
_ANSWERS = ("update", "joined")

Message = TypeVar("Message", bound=Outgoing)


class EgressRefused(ExchangeError):
    """A message that may not leave; nothing of it did. ``codes`` name the rules that it breaks."""

    def __init__(self, faults: list[Fault]) -> None:
        self.codes: tuple[str, ...] = tuple(dict.fromkeys(fault.code for fault in faults))
        super().__init__(
            f"a message of this site was withheld: {'; '.join(fault.words for fault in faults)}",
            remedy="compare the policy with what the federation asks for; the audit log has the rules it breaks",
            avoid="send it by another way: this gate is what the site's people rely on",
        )


class EgressGate:
    """Every message of a site passes `release`. Threads may share a gate; a changed policy needs a new one, which
    learns from the log what has left before. ``spec``: the site's whole specification. ``terms``: of the evaluation
    that the site takes part in.

    Without a policy (None) only refusals leave: the site's name and a code from a fixed list, so that the coordinator
    can see why the site does not take part.
    """

    def __init__(
        self, log: AuditLog, policy: SitePolicy | None, spec: ExchangeSpec, *, terms: EvaluationTerms | None = None
    ) -> None:
        self._log, self._policy, self._spec, self._terms = log, policy, spec, terms
        self._one_at_a_time = threading.Lock()
        self._joined: OpenSum | None = None
        self._sent: dict[tuple[str, int], dict[str, int]] = {}
        self._answered: set[tuple[str, int]] = set()
        for entry in entries(log.path):
            if entry.kind == RELEASED:
                self._remember(entry.content)

    def release(self, message: Message, *, run: str = "") -> Message:
        """Check ``message``, sent in the run of that name, and write it down; returns it once that is on the disk.

        The entry holds names, shapes, types, bytes and Euclidean norms of the tensors, the bytes of every fact, those
        facts word for word that speak of the site's data, and `payload_digest`. Bytes are those of the payload, without
        the transport's framing.

        Raises:
            EgressRefused: it may not leave; that, too, is in the log, without its content.
            EnvironmentFault: the log cannot be written; nothing leaves.
        """
        with self._one_at_a_time:
            payload = payload_of(message)
            about: dict[str, Any] = {
                "message": payload.kind,
                "run": run,
                "round": self._round_of(message),
                "destination": self._policy.federation.name if self._policy is not None else "",
            }
            faults, content = self._faults(message, run), about
            if not faults:
                content = {**about, **_description(payload)}
                content["repeated"] = content["sha256"] in self._sent.get((run, about["round"]), {})
                faults = self._limit_faults(content)
            if faults:
                refused = EgressRefused(faults)
                self._log.append(WITHHELD, {**about, "rules": list(refused.codes)})
                raise refused
            self._log.append(RELEASED, content)
            self._remember(content)
            if isinstance(message, Joined):
                self._joined = opened_sum(message, run, self._spec)
            return message

    def rounds_answered(self, *, apart_from: tuple[str, int] | None = None) -> int:
        """How many rounds, of all runs, this site has answered; for `client.policy_check.SiteFacts`. ``apart_from``: a
        round (name of the run, number) that does not count."""
        with self._one_at_a_time:
            return len(self._answered - {apart_from})

    def _round_of(self, message: object) -> int:
        if isinstance(message, SumStage):
            return self._joined.round if self._joined is not None else 0
        return message.round if isinstance(message, Update | Joined | Evaluation | Refusal) else 0

    def _faults(self, message: object, run: str) -> list[Fault]:
        site, policy = self._log.site, self._policy
        if isinstance(message, Refusal):
            return refusal_faults(message, site)
        if policy is None:
            return [Fault("no-policy", "there is no policy file, so nothing but a refusal may leave")]
        if isinstance(message, Update):
            return update_faults(message, site, self._spec, policy)
        if isinstance(message, Joined):
            return joined_faults(message, site, self._spec, policy)
        if isinstance(message, SumStage):
            return stage_faults(message, site, run, self._joined)
        if isinstance(message, Evaluation):
            return evaluation_faults(message, site, self._spec, policy, self._terms)
        if isinstance(message, SiteName):
            return name_faults(message, site)
        return [Fault("unknown-message", "a kind of message that is not on the list")]

    def _limit_faults(self, content: Mapping[str, Any]) -> list[Fault]:
        """What the policy says of sizes; a message that left before costs nothing again, it reveals nothing new."""
        if self._policy is None or content["message"] in ("refusal", "site-name"):
            return []
        rule, key, faults = self._policy.exchange, (content["run"], content["round"]), []
        total = sum(self._sent.get(key, {}).values()) + (0 if content["repeated"] else content["bytes"])
        if total > rule.max_bytes_per_round:
            words = f"{total} bytes in one round, of which the policy lets {rule.max_bytes_per_round} out"
            faults.append(Fault("bytes-above-policy", words))
        if content["message"] in _ANSWERS and len(self._answered | {key}) > rule.max_rounds:
            words = f"more rounds than the {rule.max_rounds} that the policy lets this site answer"
            faults.append(Fault("rounds-above-policy", words))
        return faults

    def _remember(self, content: Mapping[str, Any]) -> None:
        key = (str(content["run"]), int(content["round"]))
        self._sent.setdefault(key, {})[str(content["sha256"])] = int(content["bytes"])
        if content["message"] in _ANSWERS:
            self._answered.add(key)


def payload_digest(facts: Mapping[str, Fact], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Hex SHA-256 of a message's payload, the same at both ends and over every transport: of the facts as canonical
    JSON, then, in the order of their names, of every array's name, type and shape as JSON and its elements, little
    endian in C order; one line feed after each."""
    digest = hashlib.sha256(_canonical(dict(facts)) + b"\n")
    for name, array in sorted(arrays.items()):
        flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
        digest.update(_canonical([name, flat.dtype.str, list(array.shape)]) + b"\n")
        digest.update(flat.view(np.uint8).data)
        digest.update(b"\n")
    return digest.hexdigest()


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _description(payload: Payload) -> dict[str, Any]:
    facts, arrays = payload.facts, payload.arrays
    sizes = {name: len(name.encode()) + _fact_bytes(value) for name, value in sorted(facts.items())}
    norms = {name: _norm(array) for name, array in arrays.items() if array.dtype.kind == "f"}
    return {
        "facts": sizes,
        "told": {name: facts[name] for name in payload.told},
        "tensors": [
            [name, list(array.shape), array.dtype.name, array.nbytes, norms.get(name)] for name, array in arrays.items()
        ],
        "bytes": sum(sizes.values()) + sum(array.nbytes for array in arrays.values()),
        "norm": math.hypot(*norms.values()) if norms else None,
        "sha256": payload_digest(facts, arrays),
    }


def _norm(array: npt.NDArray[Any]) -> float:
    # Masked integers look like noise whatever they hide: only floats have a norm that says something.
    return float(np.linalg.norm(array.astype(np.float64).reshape(-1)))


def _fact_bytes(value: Fact) -> int:
    return len(value.encode()) if isinstance(value, str) else 8
