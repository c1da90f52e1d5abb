"""What a hospital brings to training with privacy: what it has declared in public, what it agreed to, its secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from client.private_bank import PublicBank
from more_model.data.study import Modality
from more_model.errors import ConfigError
from more_model.private_file import secret
from more_model.training.examples import Examples
from privacy.ledger.dataset import data_set
from privacy.ledger.ledger import Ledger, open_ledger
from privacy.ledger.spending import Budget
from privacy.rounds import RoundPlan
from privacy.settings import PrivacySettings


@dataclass(frozen=True, slots=True)
class Declaration:
    """What everyone may know of a site: about how many patients train there, and which kinds of studies they have.

    Under privacy the site's weight in the average comes from this, never from the data of a round.
    """

    patients: int
    modalities: frozenset[Modality]

    def weights(self) -> dict[str, float]:
        """Public weight of every exchange group (as `more_model.exchange.Update`)."""
        patients = float(self.patients)
        return {
            "xray": patients if Modality.XRAY in self.modalities else 0.0,
            "ecg": patients if Modality.ECG in self.modalities else 0.0,
            "text": patients,
            "shared": patients,
        }


def declare(examples: Examples) -> Declaration:
    """The declaration of a site whose people say what it has: patients with a pair, rounded up to two digits, and
    modalities. Never fewer than there are: delta is held against this number.

    To be made once, by a person, before a federation starts; a later change would be a release of its own.
    """
    usable = examples.trainable()
    patients = len({triplet.patient_id for triplet in usable.triplets})
    unit = 10 ** max(0, len(str(patients)) - 2)
    have = {
        Modality.XRAY: any(t.xray is not None and t.xray_report for t in usable.triplets),
        Modality.ECG: any(t.ecg is not None and t.ecg_report for t in usable.triplets),
    }
    return Declaration(-(-patients // unit) * unit, frozenset(m for m, present in have.items() if present))


@dataclass(frozen=True, slots=True)
class PrivateSite:
    """One site in one run with differential privacy.

    settings, plan: what the site's people agreed to, for how many rounds, with how much noise; an instruction that asks
    for anything else is refused. bank: the public records (patient modes). key: the site's secret, which decides groups
    and chosen studies. ledger and ``data_set``: where every step is paid for beforehand.
    """

    settings: PrivacySettings
    plan: RoundPlan
    declaration: Declaration
    bank: PublicBank | None
    ledger: Ledger
    data_set: str
    key: bytes = field(repr=False)


def open_private_site(
    folder: Path,
    witness: Path,
    *,
    site: str,
    examples: Examples,
    settings: PrivacySettings,
    plan: RoundPlan,
    declaration: Declaration,
    bank: PublicBank | None,
) -> PrivateSite:
    """The site with the key and the ledger in ``folder``, made there if it is new; the ledger's witness lies at
    ``witness``, in another folder.

    The budget is what the whole run is planned to cost, so that a run that goes wrong cannot spend more.

    Raises:
        ConfigError: a bank with patients of this site; what `privacy.ledger.ledger.open_ledger` refuses.
        LedgerDamaged: see there.
    """
    require_strangers(bank, examples)
    folder.mkdir(parents=True, exist_ok=True)
    witness.parent.mkdir(parents=True, exist_ok=True)
    key = secret(folder / "key")
    patients = sorted({triplet.patient_id for triplet in examples.trainable().triplets})
    data = data_set(f"{site}, training patients", patients, key)
    ledger = open_ledger(folder / "ledger.sqlite", witness, site=site, key_digest=data.key_digest)
    promised = settings.target_epsilon or plan.claim().result.epsilon
    ledger.register(data, Budget(promised, plan.delta))
    return PrivateSite(settings, plan, declaration, bank, ledger, data.digest, key)


def require_strangers(bank: PublicBank | None, examples: Examples) -> None:
    """Refuse (ConfigError) a bank with patients of this site. Once and before any round: a refusal in a round would
    tell the coordinator who is a patient."""
    own = {(triplet.site, triplet.patient_id) for triplet in examples.triplets}
    if bank is not None and any((t.site, t.patient_id) in own for t in bank.examples.triplets):
        raise ConfigError(
            "public bank",
            ["it holds patients of this site: their embeddings would enter without noise"],
            remedy="agree on a bank of records that nobody's privacy depends on",
        )


def trained_groups(weights: Mapping[str, float]) -> Sequence[str]:
    """The exchange groups with a weight."""
    return [group for group, weight in weights.items() if weight > 0]
