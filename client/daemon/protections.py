"""How a site protects its updates in a run: what the first instruction asked for and the policy allowed, and from then
on nothing else. The agreement is an entry of the audit log, so it outlives the daemon."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from client.daemon.opening import OpenSite
from client.daemon.sums import card_sums, participant, require_as_on_card
from client.policy import SitePolicy
from client.private_bank import PublicBank, bank_of_cohort
from client.private_round import privacy_of
from client.private_site import Declaration, PrivateSite, require_strangers
from client.protection import Protection
from client.records.audit_log import AuditLog
from client.records.lines import Entry
from client.secure_round import SumParticipant
from client.stored_answers import StoredAnswers
from more_model.errors import ConfigError
from more_model.exchange import Instruction
from more_model.training.examples import Examples
from privacy.ledger.dataset import data_set
from privacy.ledger.ledger import open_ledger
from privacy.ledger.spending import Budget
from privacy.rounds import RoundPlan, is_patient_mode, round_plan
from privacy.settings import PrivacySettings

_LOG = logging.getLogger(__name__)
AGREED = "agreed"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What one run is about: its privacy settings, for how many rounds noise and cost were planned, and the digest of
    what the federation card says of its secure sums, empty for updates in the clear."""

    privacy: PrivacySettings
    rounds: int
    sums: str

    @property
    def protected(self) -> bool:
        """Whether updates leave with noise, in sums, or both."""
        return self.privacy.on or bool(self.sums)


class Protections:
    """Agreements of all runs. Not for several threads at once. ``key``: the site's secret."""

    def __init__(self, site: OpenSite, log: AuditLog, known: Iterable[Entry], key: bytes) -> None:
        self._site, self._log, self._key = site, log, key
        self._answers = StoredAnswers(site.file.work / "answers")
        self._agreed = {str(entry.content["run"]): _agreement(entry) for entry in known if entry.kind == AGREED}
        self._of_run: dict[str, Protection] = {}
        self._bank: PublicBank | None = None

    def of_run(self, run: str) -> Protection:
        """What protects the run; answers are kept in any case, so that a repeated question gets the same one. Raises
        ConfigError for a protected run that neither `agree` nor `reopen` has opened."""
        agreed = self._agreed.get(run)
        if run not in self._of_run and agreed is not None and agreed.protected:
            raise ConfigError(run, ["the protection of this run is not open"])
        return self._of_run.get(run, Protection(answers=self._answers))

    def agree(self, instruction: Instruction, policy: SitePolicy, training: Examples) -> None:
        """Agree to the protection of a run at its first instruction, one that the policy allows; for later ones nothing
        changes. Opened for ``training``, the patients of now. What cannot be opened is not agreed to.

        Raises:
            ConfigError: privacy without a declaration or, for patients, without a public bank; with more patients than
                were declared; a federation card that is missing, of another site, or not the one agreed to.
            ExchangeError: the run is not what the federation card says.
            LedgerDamaged, StoreError: the ledger, or a key, cannot be used.
            EnvironmentFault: the agreement cannot be written down.
        """
        known = self._agreed.get(instruction.run)
        agreed = known or self._asked(instruction)
        protection = self._opened(instruction.run, agreed, policy, training)
        if known is None:
            privacy = agreed.privacy.model_dump_json()
            content = {"run": instruction.run, "privacy": privacy, "rounds": agreed.rounds, "sums": agreed.sums}
            self._log.append(AGREED, content)
            self._agreed[instruction.run] = agreed
        self._of_run[instruction.run] = protection

    def reopen(self, run: str, policy: SitePolicy, training: Examples) -> None:
        """Open what was agreed before the daemon was started again, for a question that comes before the next
        instruction; no change for other runs. Raises as `agree`."""
        agreed = self._agreed.get(run)
        if agreed is not None and run not in self._of_run:
            self._of_run[run] = self._opened(run, agreed, policy, training)

    def _asked(self, instruction: Instruction) -> Agreement:
        privacy, card = privacy_of(instruction), self._site.card
        require_as_on_card(instruction, privacy, card)
        return Agreement(privacy, instruction.rounds, card_sums(card).digest() if instruction.secure_sum else "")

    def _opened(self, run: str, agreed: Agreement, policy: SitePolicy, training: Examples) -> Protection:
        if not agreed.protected:
            return Protection(answers=self._answers)
        private = self._private(agreed, policy, training) if agreed.privacy.on else None
        sums = self._participant(run, agreed) if agreed.sums else None
        return Protection(private, sums, self._declared(), self._answers)

    def _participant(self, run: str, agreed: Agreement) -> SumParticipant:
        # One for the whole run: it holds the keys of the sum that this site has joined and not ended yet.
        if (opened := self._of_run.get(run)) is not None and opened.sums is not None:
            return opened.sums
        sums = card_sums(self._site.card)
        if sums.digest() != agreed.sums:
            raise ConfigError(
                "federation card",
                ["it says otherwise of secure sums than the card that this run was agreed on"],
                remedy="begin a new run on the new card, or put the former card back until this run has ended",
            )
        return participant(self._site, sums, _noise_of_sums(agreed, self._site.file.federation.local_epochs))

    def _private(self, agreed: Agreement, policy: SitePolicy, training: Examples) -> PrivateSite:
        file, usable = self._site.file, training.trainable()
        patients = sorted({triplet.patient_id for triplet in usable.triplets})
        declaration = self._declared()
        _require_as_declared(len(patients), declaration)
        bank = self._public_bank(agreed.privacy) if is_patient_mode(agreed.privacy) else None
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
        return PrivateSite(agreed.privacy, plan, declaration, bank, ledger, data.digest, self._key)

    def _public_bank(self, privacy: PrivacySettings) -> PublicBank:
        part = self._site.file.public_bank
        if part is None:
            raise ConfigError(
                "public_bank",
                [f"{privacy.mode} contrasts patients with public records, and the site file names none"],
                remedy="put the public records of the federation here, and name their cohort file under [public_bank]",
                avoid="name records of this site's own patients: they would enter without noise",
            )
        if self._bank is None:
            bank = bank_of_cohort(
                part.cohort,
                preprocessing=self._site.preprocessing,
                negatives=part.negatives,
                refresh_every=part.refresh_every,
            )
            require_strangers(bank, self._site.examples)
            _LOG.info("public bank: %d records, digest %s", len(bank.examples), bank.examples.digest())
            self._bank = bank
        return self._bank

    def _declared(self) -> Declaration:
        declaration = self._site.declaration
        if declaration is None:
            raise ConfigError(
                "privacy",
                ["this site has declared no number of patients"],
                remedy="put enrolment.json of more-client init beside the folder of the keys",
            )
        return declaration


def _require_as_declared(patients: int, declaration: Declaration) -> None:
    if patients > declaration.patients:
        raise ConfigError(
            "privacy",
            [f"{patients} patients train here, and only {declaration.patients} were declared"],
            remedy="make new keys with a larger number and enroll the site again",
            avoid="train with the smaller number: delta and noise were computed from it",
        )


@lru_cache(maxsize=8)
def _plan(privacy: str, patients: int, rounds: int, local_epochs: int) -> RoundPlan:
    settings = PrivacySettings.model_validate_json(privacy)
    return round_plan(settings, patients, rounds=rounds, local_epochs=local_epochs)


def _noise_of_sums(agreed: Agreement, local_epochs: int) -> float:
    """z of the noise that all sites together add to a sum; 0 where none is added."""
    if agreed.privacy.mode != "hospital":
        return 0.0
    # The number of patients has no say in this mode.
    return _plan(agreed.privacy.model_dump_json(), 1, agreed.rounds, local_epochs).noise_multiplier


def _agreement(entry: Entry) -> Agreement:
    settings = PrivacySettings.model_validate_json(str(entry.content["privacy"]))
    return Agreement(settings, int(entry.content["rounds"]), str(entry.content.get("sums", "")))
