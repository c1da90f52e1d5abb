"""The public records that private patients are contrasted with, found once for a run."""

from __future__ import annotations

from pathlib import Path

from client.private_bank import PublicBank, bank_of_cohort
from simulation.settings import RunConfig
from simulation.warm_up import public_examples


def public_bank(config: RunConfig, workspace: Path) -> PublicBank:
    """The bank that ``config`` names: a cohort on disk, or the one that the base was warmed up on (under ``workspace``,
    where it is kept if it is there already).

    Raises:
        ConfigError, DataError, StoreError: see `more_model.cohort_file.load_cohort`.
    """
    choice, model = config.public_bank, config.model.resolved()
    if choice.cohort is not None:
        return bank_of_cohort(
            choice.cohort,
            preprocessing=model.preprocessing,
            negatives=choice.negatives,
            refresh_every=choice.refresh_every,
        )
    assert config.base.warm_up is not None  # the settings ask for one of the two
    examples = public_examples(config.base.warm_up, model, workspace / "public", workers=config.ingest_workers)
    return PublicBank(examples, choice.negatives, choice.refresh_every)
