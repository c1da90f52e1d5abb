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
        """What protects the run, once it is open; answers are kept in any case, so that a repeated question gets the
        same one. Raises ConfigError for a private run that is not open yet."""
        if run not in self._of_run and (agreed := self._agreed.get(run)) is not None and agreed.privacy.on:
            raise ConfigError(run, ["the ledger of this run is not open yet: the daemon was started again"])
        return self._of_run.get(run, Protection(answers=self._answers))

    def agree(self, instruction: Instruction) -> None:
        """Agree to the privacy of a run at its first instruction, one that the policy allows; for later ones nothing
        changes. Raises EnvironmentFault if it cannot be written down."""
        if instruction.run in self._agreed:
            return
        agreed = Agreement(privacy_of(instruction), instruction.rounds)
        content = {"run": instruction.run, "privacy": agreed.privacy.model_dump_json(), "rounds": agreed.rounds}
        self._log.append(AGREED, content)
        self._agreed[instruction.run] = agreed

    def open(self, run: str, policy: SitePolicy, training: Examples) -> None:
        """Open the ledger for ``training``, the patients of now, where the run was agreed to be private.

        Raises:
            ConfigError: privacy without a declaration, or with more patients than were declared.
            LedgerDamaged, StoreError, EnvironmentFault: the ledger cannot be used.
        """
        agreed = self._agreed.get(run)
        if agreed is not None and agreed.privacy.on:
            private = self._private(agreed, policy, training)
            self._of_run[run] = Protection(private, None, private.declaration, self._answers)

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
