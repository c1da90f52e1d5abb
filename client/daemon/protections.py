"""How a site protects its updates in a run: what the first instruction asked for and the policy allowed, and from then
on nothing else. The agreement is an entry of the audit log, so it outlives the daemon."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from client.daemon.opening import OpenSite
from client.policy import SitePolicy
from client.private_round import privacy_of
from client.private_site import Declaration, PrivateSite
from client.protection import Protection
from client.records.audit_log import AuditLog
from client.records.lines import Entry
from client.stored_answers import StoredAnswers
from more_model.errors import ConfigError
from more_model.exchange import Instruction
from more_model.training.examples import Examples
from privacy.ledger.dataset import data_set
from privacy.ledger.ledger import open_ledger
from privacy.ledger.spending import Budget
from privacy.rounds import RoundPlan, round_plan
from privacy.settings import PrivacySettings

AGREED = "agreed"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What one run is about: its privacy settings, and for how many rounds noise and cost were planned."""

    privacy: PrivacySettings
    rounds: int


class Protections:
    """Agreements of all runs. Not for several threads at once. ``key``: the site's secret."""

    def __init__(self, site: OpenSite, log: AuditLog, known: Iterable[Entry], key: bytes) -> None:
        self._site, self._log, self._key = site, log, key
        self._answers = StoredAnswers(site.file.work / "answers")
        self._agreed = {str(entry.content["run"]): _agreement(entry) for entry in known if entry.kind == AGREED}
        self._of_run: dict[str, Protection] = {}

    def of_run(self, run: str) -> Protection:
        """What protects the run; answers are kept in any case, so that a repeated question gets the same one.

        A run that was agreed on before the daemon started is known as such only after `prepare`: until then nothing of
        it is answered (ConfigError).
        """
        if run in self._of_run:
            return self._of_run[run]
        if (agreed := self._agreed.get(run)) is not None and agreed.privacy.on:
            raise ConfigError(run, ["the daemon was started again; the next round of this run opens its ledger"])
        return Protection(answers=self._answers)

    def prepare(self, instruction: Instruction, policy: SitePolicy, training: Examples) -> None:
        """Agree to the privacy of a run at its first instruction (one that ``policy`` allows), and open the ledger for
        ``training``, the patients of now.

        Raises:
            ConfigError: privacy without a declaration, or with more patients than were declared.
            LedgerDamaged, StoreError, EnvironmentFault: ledger, key or log cannot be used.
        """
        run = instruction.run
        if run not in self._agreed:
            agreed = Agreement(privacy_of(instruction), instruction.rounds)
            content = {"run": run, "privacy": agreed.privacy.model_dump_json(), "rounds": agreed.rounds}
            self._log.append(AGREED, content)
            self._agreed[run] = agreed
        agreed = self._agreed[run]
        private = self._private(agreed, policy, training) if agreed.privacy.on else None
        declaration = private.declaration if private is not None else None
        self._of_run[run] = Protection(private, None, declaration, self._answers)

    def _private(self, agreed: Agreement, policy: SitePolicy, training: Examples) -> PrivateSite:
        file, usable = self._site.file, training.trainable()
        patients = sorted({triplet.patient_id for triplet in usable.triplets})
        declaration = self._declared(len(patients))
        plan = _plan(
            agreed.privacy.model_dump_json(), declaration.patients, agreed.rounds, file.federation.local_epochs
        )
        data = data_set(f"{file.site}, training patients", patients, self._key)
        for place in (file.controls.ledger, file.controls.witness):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = open_ledger(file.controls.ledger, file.controls.witness, site=file.site, key_digest=data.key_digest)
        if data.digest not in ledger.state().accounts:
            # The whole life of the site, until its people change the budget in the ledger on purpose.
            ledger.register(data, Budget(policy.privacy.epsilon, policy.privacy.delta))
        return PrivateSite(agreed.privacy, plan, declaration, None, ledger, data.digest, self._key)

    def _declared(self, patients: int) -> Declaration:
        declaration = self._site.declaration
        if declaration is None:
            raise ConfigError(
                "privacy",
                ["this site has declared no number of patients"],
                remedy="put enrolment.json of more-client init beside the folder of the keys",
            )
        if patients > declaration.patients:
            raise ConfigError(
                "privacy",
                [f"{patients} patients train here, and only {declaration.patients} were declared"],
                remedy="make new keys with a larger number and enroll the site again",
                avoid="train with the smaller number: delta and noise were computed from it",
            )
        return declaration


@lru_cache(maxsize=8)
def _plan(privacy: str, patients: int, rounds: int, local_epochs: int) -> RoundPlan:
    settings = PrivacySettings.model_validate_json(privacy)
    return round_plan(settings, patients, rounds=rounds, local_epochs=local_epochs)


def _agreement(entry: Entry) -> Agreement:
    settings = PrivacySettings.model_validate_json(str(entry.content["privacy"]))
    return Agreement(settings, int(entry.content["rounds"]))
