"""What the site's people told the daemon, kept in the audit log alone: an order is in force once it is on the disk."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from client.records.audit_log import AuditLog
from client.records.lines import Entry
from more_model.data.study import Triplet
from more_model.errors import ConfigError, StoreError
from more_model.training.examples import Examples

PAUSED, RESUMED, WITHDRAWN = "paused", "resumed", "patient-withdrawn"
_DOMAIN = b"more-fed withdrawal "


class Orders:
    """Pauses and withdrawals, from the entries of the log and from now on. ``key``: the site's secret, under which
    patients are hashed; threads may share it.

    Raises:
        StoreError: patients were withdrawn under another key, so they could not be recognised any more.
    """

    def __init__(self, log: AuditLog, known: Iterable[Entry], key: bytes) -> None:
        self._log, self._key = log, key
        self._key_digest = hmac.digest(key, _DOMAIN + b"which key", "sha256").hex()[:32]
        self._one_at_a_time = threading.Lock()
        self._paused_since = ""
        self._withdrawn: frozenset[str] = frozenset()
        for entry in known:
            self._take(entry.kind, entry.content, entry.at)

    @property
    def paused_since(self) -> str:
        """UTC, ISO 8601; empty where the site is not paused."""
        return self._paused_since

    @property
    def withdrawn_count(self) -> int:
        """How many patients were withdrawn."""
        return len(self._withdrawn)

    def pause(self) -> None:
        """No new round begins until `resume`, over any restart. Raises EnvironmentFault, as all of these, if it cannot
        be written down."""
        with self._one_at_a_time:
            if not self._paused_since:
                self._order(PAUSED, {})

    def resume(self) -> None:
        """The end of a pause."""
        with self._one_at_a_time:
            if self._paused_since:
                self._order(RESUMED, {})

    def withdraw(self, patient: str) -> bool:
        """Never use a patient again, from the next round on; whether that is new. The log gets a keyed hash of the id.

        Raises:
            ConfigError: an empty id.
        """
        if not patient.strip():
            raise ConfigError("more-client withdraw", ["the patient's id is empty"])
        with self._one_at_a_time:
            hashed = self._hashed(patient)
            if hashed in self._withdrawn:
                return False
            self._order(WITHDRAWN, {"patient": hashed, "key": self._key_digest})
            return True

    def remaining(self, examples: Examples) -> Examples:
        """The examples of patients that were not withdrawn."""
        if not self._withdrawn:
            return examples
        out = {patient for patient in _patients(examples.triplets) if self._hashed(patient) in self._withdrawn}
        return examples.where(lambda triplet: triplet.patient_id not in out)

    def _order(self, kind: str, content: Mapping[str, str]) -> None:
        self._log.append(kind, content)
        self._take(kind, content, datetime.now(UTC).isoformat(timespec="seconds"))

    def _take(self, kind: str, content: object, at: str) -> None:
        if kind in (PAUSED, RESUMED):
            self._paused_since = at if kind == PAUSED else ""
        if kind == WITHDRAWN and isinstance(content, Mapping):
            if content["key"] != self._key_digest:
                raise StoreError(
                    "Patients were withdrawn under another site key; they could not be recognised any more.",
                    remedy="put the site key back that was in use then (keys.site in the site file)",
                    avoid="go on with the new key: withdrawn patients would be trained on again",
                )
            self._withdrawn |= {str(content["patient"])}

    def _hashed(self, patient: str) -> str:
        return hmac.digest(self._key, _DOMAIN + b"patient " + patient.strip().encode(), "sha256").hex()


def _patients(triplets: Iterable[Triplet]) -> set[str]:
    return {triplet.patient_id for triplet in triplets}
