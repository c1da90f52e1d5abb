"""What all arms of a run share: the base, the sites, the settings and the scorer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from client.private_bank import PublicBank
from client.private_site import declare
from more_model.base import Assembled, assemble, load_base
from more_model.checkpoint import save_checkpoint
from more_model.data.study import Split
from more_model.model.inventory import export_tensors
from more_model.model.more import More, build_more
from more_model.progress import OnProgress
from more_model.training.examples import Examples
from more_model.training.loop import resolve_device
from more_model.training.seeds import derived_seed
from simulation.cohort import SiteCohort
from simulation.protection import ArmProtection, arm_protection
from simulation.public_bank import public_bank
from simulation.scoring import Scorer
from simulation.settings import RunConfig


@dataclass(frozen=True, slots=True)
class Workbench:
    """One prepared run."""

    config: RunConfig
    folder: Path
    base_folder: Path
    base_origin: str
    cohorts: tuple[SiteCohort, ...]
    scorer: Scorer
    on_progress: OnProgress

    @property
    def sites(self) -> tuple[str, ...]:
        """Site names, in the order of their partitions."""
        return tuple(cohort.name for cohort in self.cohorts)

    @property
    def device(self) -> torch.device:
        """Where models of this run live."""
        return resolve_device(self.config.training.device)

    def training_examples(self, site: str | None = None) -> Examples:
        """The training split of one site, or of all sites together."""
        parts = [c.examples.of_split(Split.TRAIN) for c in self.cohorts if site is None or c.name == site]
        return Examples.merged(parts)

    def protection(self, arm: str) -> ArmProtection:
        """What protects the updates of a federated arm."""
        declarations = {site: declare(self.training_examples(site)) for site in self.sites}
        return arm_protection(self.config, self.folder / "arms", arm, declarations)

    def public_bank(self) -> PublicBank:
        """The public records of the run."""
        return public_bank(self.config, self.folder / "workspace")

    def assembled(self) -> Assembled:
        """A fresh model on the base, with the run's LoRA method."""
        choice = self.config.federation
        built = assemble(load_base(self.base_folder), choice.method, choice.public_seed)
        built.model.to(self.device)
        return built

    def save_checkpoint(self, model: More, path: Path) -> None:
        """Write what ``model`` learned, with the name of its base, for `more_model.checkpoint.load_checkpoint`."""
        path.parent.mkdir(exist_ok=True)
        choice = self.config.federation
        save_checkpoint(
            path,
            export_tensors(model),
            method=choice.method,
            public_seed=choice.public_seed,
            fingerprint=self.assembled().fingerprint,
            base=self.base_folder,
        )

    def random_model(self) -> More:
        """The same architecture with random weights everywhere: what a probe can do alone, the zero of zero-shot."""
        base = load_base(self.base_folder)
        seed = derived_seed(self.config.seed, "random encoder")
        model = build_more(base.config, seed=seed, pad_id=int(base.tokenizer.pad_token_id))
        return model.to(self.device)
