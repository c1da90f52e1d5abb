"""What protects the updates of each federated arm: the agreed settings, the sites' secrets, the coordinator's part.

In a simulation every arm is another answer to "what if", so each has a ledger and keys of its own, under
``arms/<arm>``. A hospital has one ledger for its whole life.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from client.private_bank import PublicBank
from client.private_site import Declaration, PrivateSite, open_private_site
from client.protection import UNPROTECTED, Protection
from client.secure_round import SumAgreement, SumParticipant
from client.stored_answers import StoredAnswers
from more_model.errors import ConfigError
from more_model.private_file import secret
from more_model.training.examples import Examples
from privacy.rounds import RoundPlan, is_patient_mode, round_plan
from privacy.secure_sum.identity import Identity, Roster
from privacy.secure_sum.masked_rounds import MaskedRoundsFolder
from privacy.secure_sum.settings import PublicWeights, SumSettings, lacking_contributors, public_weights
from privacy.settings import PrivacySettings
from server.protection import Protection as ServerProtection
from server.secure_rounds import SumFederation
from simulation.settings import RunConfig

#: The arm without privacy beside a private one, and those with other budgets.
WITHOUT_PRIVACY = "federated-without-privacy"
_WITH_BUDGET = "federated-epsilon-"
#: What `simulation.run` adds to the name of an arm that is trained once more with another seed.
_FURTHER_SEED = re.compile(r"-seed\d+$")


def curve_arms(config: RunConfig) -> list[str]:
    """The federated arms beside ``federated`` that a privacy-utility curve needs."""
    if not config.privacy_curve:
        return []
    others = [budget for budget in config.privacy_curve if budget != config.privacy.target_epsilon]
    return [WITHOUT_PRIVACY, *(f"{_WITH_BUDGET}{budget:g}" for budget in others)]


def runs_of(config: RunConfig) -> frozenset[str]:
    """The names of all federated arms of a configuration, further seeds included: whoever asks a site to train under
    another name would choose its privacy and get a new budget."""
    seeds = [f"federated-seed{number}" for number in range(2, config.seeds + 1)]
    return frozenset({"federated", *seeds, *curve_arms(config)})


def is_federated(arm: str) -> bool:
    """Whether an arm is trained by hospitals in rounds."""
    return arm == "federated" or arm == WITHOUT_PRIVACY or arm.startswith(_WITH_BUDGET)


def privacy_of_arm(config: RunConfig, arm: str) -> PrivacySettings:
    """The privacy of a federated arm, by its name or that of a further seed of it."""
    name = _FURTHER_SEED.sub("", arm)
    if name == WITHOUT_PRIVACY:
        return PrivacySettings()
    if name.startswith(_WITH_BUDGET):
        budget = float(name.removeprefix(_WITH_BUDGET))
        return config.privacy.model_copy(update={"target_epsilon": budget, "noise_multiplier": None})
    return config.privacy


@dataclass(frozen=True, slots=True)
class ArmProtection:
    """Everything public about the protection of one federated arm, kept in ``folder`` (``arms/<arm>``).

    plans: the privacy of every site, by name; empty without differential privacy.
    """

    run: str
    folder: Path
    privacy: PrivacySettings
    sums: SumSettings | None
    declarations: Mapping[str, Declaration]
    plans: Mapping[str, RoundPlan]

    @property
    def weights(self) -> PublicWeights:
        """Those of the sums: agreed shares under `hospital`, else the declared numbers of patients."""
        return public_weights(self.privacy, {site: own.patients for site, own in self.declarations.items()})

    @property
    def noise_multiplier(self) -> float:
        """z of mode `hospital`, the same for all sites; 0 where no noise is added to sums."""
        return next(iter(self.plans.values())).noise_multiplier if self.privacy.mode == "hospital" else 0.0


def arm_protection(config: RunConfig, arms: Path, arm: str, declarations: Mapping[str, Declaration]) -> ArmProtection:
    """The protection of ``arm`` under the folder of all arms.

    Raises:
        ConfigError: a budget, a delta or a step that the declared number of patients of some site does not allow.
    """
    privacy, choice = privacy_of_arm(config, arm), config.federation
    plans = {
        site: round_plan(privacy, declared.patients, rounds=choice.rounds.rounds, local_epochs=choice.local_epochs)
        for site, declared in declarations.items()
        if privacy.on
    }
    agreed = ArmProtection(arm, arms / arm, privacy, choice.secure_sum, declarations, plans)
    if choice.secure_sum is not None:
        _require_sums_of_every_tower(agreed, choice.secure_sum)
    return agreed


def _require_sums_of_every_tower(agreed: ArmProtection, sums: SumSettings) -> None:
    """A sum over too few sites is never revealed: better said before than found out in a tower that did not train."""
    having = {site: [modality.value for modality in own.modalities] for site, own in agreed.declarations.items()}
    if faults := lacking_contributors(sums, agreed.privacy, having):
        raise ConfigError(
            "secure_sum",
            faults,
            remedy="invite more sites with such studies; under mode hospital allow for more dropouts",
            avoid="lower minimum_contributors below three: of two sites each could subtract its own update",
        )


def site_protection(arm: ArmProtection, site: str, examples: Examples, bank: Callable[[], PublicBank]) -> Protection:
    """The site's end. ``bank`` is called only where the mode contrasts with public records."""
    if not arm.privacy.on and arm.sums is None:
        return UNPROTECTED
    own, declaration = arm.folder / "sites" / site, arm.declarations[site]
    private: PrivateSite | None = None
    if arm.privacy.on:
        private = open_private_site(
            own,
            arm.folder / "witnesses" / f"{site}.json",
            site=site,
            examples=examples,
            settings=arm.privacy,
            plan=arm.plans[site],
            declaration=declaration,
            bank=bank() if is_patient_mode(arm.privacy) else None,
        )
    sums = None if arm.sums is None else _participant(arm, arm.sums, site)
    return Protection(private, sums, declaration, StoredAnswers(own / "answers"))


def server_protection(arm: ArmProtection) -> ServerProtection:
    """The coordinator's end."""
    sums = None
    if arm.sums is not None:
        sums = SumFederation(arm.sums, arm.weights, _roster(arm), arm.noise_multiplier)
    alone = arm.privacy.mode == "hospital" and sums is None
    return ServerProtection(arm.privacy, sums, arm.noise_multiplier if alone else None)


def _participant(arm: ArmProtection, settings: SumSettings, site: str) -> SumParticipant:
    agreement = SumAgreement(settings, arm.weights, arm.privacy, arm.noise_multiplier)
    masked = MaskedRoundsFolder(arm.folder / "sites" / site / "masked")
    return SumParticipant(site, _identity(arm, site), _roster(arm), agreement, masked)


def _roster(arm: ArmProtection) -> Roster:
    return Roster({site: _identity(arm, site).public() for site in arm.declarations})


def _identity(arm: ArmProtection, site: str) -> Identity:
    return Identity.from_bytes(secret(arm.folder / "sites" / site / "identity"))
