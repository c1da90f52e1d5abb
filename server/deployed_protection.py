"""The coordinator's part in protecting a deployed federation: the counterpart of `client.daemon.protections`.

Both ends compute the terms of every secure sum for themselves, a hospital from the federation card, the coordinator
from what the card is made of: the federation file, and the register of the sites that are enrolled and named there.
"""

from __future__ import annotations

from collections.abc import Mapping

from more_model.data.study import Modality
from more_model.errors import ConfigError
from privacy.rounds import round_plan
from privacy.secure_sum.identity import Roster
from privacy.secure_sum.settings import SumSettings, lacking_contributors, public_weights
from server.federation_file import FederationFile
from server.protection import Protection
from server.secure_rounds import SumFederation
from server.sites import SiteEntry, SiteRegister, declared_faults


def deployed_protection(federation: FederationFile, register: SiteRegister) -> Protection:
    """Privacy, secure sums and the noise of `hospital`, as the federation file says.

    Raises:
        ConfigError: a site whose enrolment declares otherwise than the file, or sums that too few enrolled sites could
            take part in; every fault at once.
        EnvironmentFault: the register cannot be read.
    """
    privacy, settings = federation.privacy, federation.secure_sum
    entries = {name: entry for name, entry in register.enrolled().items() if name in federation.sites}
    faults = declared_faults(federation.sites, entries)
    if settings is not None:
        faults += _unfit_for_sums(federation, settings, entries)
    if faults:
        raise ConfigError(
            "protection of the federation",
            faults,
            remedy="correct the federation file, or enroll the sites that are missing; then give every site a new card",
            avoid="begin the run anyway: the sites would refuse terms that are not those of their card",
        )
    if not privacy.on and settings is None:
        return Protection()
    noise_multiplier = _noise_multiplier(federation)
    if settings is None:
        return Protection(privacy, None, noise_multiplier)
    weights = public_weights(privacy, {name: entry.patients for name, entry in entries.items()})
    roster = Roster({name: entry.identity for name, entry in entries.items()})
    return Protection(privacy, SumFederation(settings, weights, roster, noise_multiplier or 0.0))


def _noise_multiplier(federation: FederationFile) -> float | None:
    """z of mode `hospital`, which no number of patients has a say in; None in any other mode."""
    privacy, rounds = federation.privacy, federation.rounds.rounds
    if privacy.mode != "hospital":
        return None
    return round_plan(privacy, 1, rounds=rounds, local_epochs=federation.local_epochs).noise_multiplier


def _unfit_for_sums(federation: FederationFile, settings: SumSettings, entries: Mapping[str, SiteEntry]) -> list[str]:
    privacy, faults = federation.privacy, []
    if len(entries) < settings.minimum_contributors:
        missing = ", ".join(sorted(federation.sites.keys() - entries.keys())) or "none of those that are named"
        faults.append(
            f"secure_sum: {len(entries)} sites are enrolled, no sum over fewer than {settings.minimum_contributors} is "
            f"revealed; not enrolled: {missing}"
        )
    if privacy.mode == "hospital" and (lacking := sorted(privacy.public_weights.keys() ^ entries.keys())):
        faults.append(f"privacy.public_weights: not the enrolled sites; they differ in {', '.join(lacking)}")
    studies = {Modality.XRAY.value, Modality.ECG.value}
    having = {name: studies.intersection(entry.modalities) for name, entry in entries.items()}
    return faults + [f"secure_sum: {fault}" for fault in lacking_contributors(settings, privacy, having)]
