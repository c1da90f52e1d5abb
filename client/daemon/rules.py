"""The policy that holds now: read again whenever its file has changed, and no policy at all where it has a fault."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.egress import EgressGate
from client.policy import SitePolicy, load_policy
from client.records.audit_log import AuditLog
from more_model.errors import MoreError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rules:
    """policy: None where there is none, or none that can be read. digest: hex SHA-256 of the file, empty without one.
    fault: why it cannot be read, in words for the site."""

    policy: SitePolicy | None
    gate: EgressGate
    digest: str
    fault: str


class PolicyWatch:
    """`rules` compares the file's content with what was last read; threads may share a watch."""

    def __init__(self, path: Path, log: AuditLog, gate_for: Callable[[SitePolicy | None], EgressGate]) -> None:
        self._path, self._log, self._gate_for = path, log, gate_for
        self._one_at_a_time = threading.Lock()
        self._seen: str | None = None
        self._rules: Rules | None = None

    def rules(self) -> Rules:
        """The rules of this moment. A changed policy is in the audit log before it holds.

        Raises:
            EnvironmentFault: the log cannot be written.
        """
        with self._one_at_a_time:
            digest, unreadable = _digest(self._path)
            seen = unreadable or digest
            if self._rules is None or seen != self._seen:
                # Nothing holds while it is read: an error on the way must not leave the former policy in force.
                self._rules = None
                self._rules = self._read(digest, unreadable)
                self._seen = seen
            return self._rules

    def forget(self) -> None:
        """The next question reads the policy again. Takes no lock: a signal may come while one is held."""
        self._seen = None

    def _read(self, digest: str, unreadable: str) -> Rules:
        policy, fault = None, unreadable
        if not unreadable:
            try:
                policy = load_policy(self._path)
            except MoreError as error:
                fault = error.explain()
        if fault:
            _LOG.error("the policy cannot be used, so everything is refused: %s", fault)
        self._log.append("policy", {"sha256": digest, "holds": policy is not None})
        return Rules(policy, self._gate_for(policy), digest, fault)


def _digest(path: Path) -> tuple[str, str]:
    """SHA-256 of the file (empty without one), and why it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest(), ""
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        return "", f"{path} cannot be read: {error.strerror}"
