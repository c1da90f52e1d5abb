"""A cohort that lies in site stores, named by one small TOML file: what training saw, and what it did not.

stores = ["workspace/sites/north", "workspace/sites/south"]
splits = "workspace/splits.json"      # optional: patient -> split; otherwise by the rule below
synthetic = true

[split]
test = 0.3
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from more_model.data.pairing import PairingRule, pair
from more_model.data.preprocessing import Preprocessing
from more_model.data.sources import resolve
from more_model.data.split import SplitRule, assign_splits
from more_model.data.store import SiteStore
from more_model.data.study import Split
from more_model.errors import DataError
from more_model.settings import load_settings
from more_model.training.examples import Examples
from more_model.training.words import LabelWording, with_label_prompts

NAME = "cohort.toml"


class CohortFile(BaseModel):
    """See the head of this module; relative paths are taken from the file's own folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stores: tuple[Path, ...]
    splits: Path | None = None
    split: SplitRule = SplitRule()
    pairing: PairingRule = PairingRule()
    label_wordings: tuple[LabelWording, ...] = ()
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class SiteExamples:
    """One stored site: its store, its triplets, the counts of its pairing, how many texts were worded from labels."""

    store: SiteStore
    examples: Examples
    pairing: Mapping[str, int]
    prompts_made: int

    @property
    def name(self) -> str:
        """The site."""
        return self.store.site


@dataclass(frozen=True, slots=True)
class Cohort:
    """All sites of a cohort file."""

    sites: tuple[SiteExamples, ...]
    synthetic: bool

    @property
    def examples(self) -> Examples:
        """The triplets of all sites, in the order of the file; source number i is that of site i."""
        return Examples.merged([site.examples for site in self.sites])


def load_cohort(path: Path, *, preprocessing: Preprocessing | None = None) -> Cohort:
    """A cohort file, a folder that holds one (such as a run directory), or a single site store.

    Raises:
        ConfigError: the file is not valid (all faults).
        DataError: there is none, or its stores have no study.
        StoreError: a store is damaged, or was written with another preprocessing than the one given.
    """
    file = _file_of(path)
    stores = [SiteStore.open_read(folder, preprocessing=preprocessing) for folder in file.stores]
    records = [record for store in stores for record in store.records]
    if not records:
        raise DataError(f"{path}: the stores hold no study", remedy="ingest first (more-client ingest)")
    splits = assign_splits(records, file.split) if file.splits is None else _stated(file.splits)
    sites = [read_stored(store, file.pairing, file.label_wordings, splits) for store in stores]
    return Cohort(tuple(sites), file.synthetic)


def read_stored(
    store: SiteStore, pairing: PairingRule, wordings: Sequence[LabelWording], splits: Mapping[str, Split]
) -> SiteExamples:
    """The triplets of one store, missing reports worded from labels where ``wordings`` says how."""
    result = pair(store.records, pairing, splits, store.site)
    triplets, made = with_label_prompts(result.triplets, wordings)
    return SiteExamples(store, Examples.of(triplets, store), result.counts, made)


def _file_of(path: Path) -> CohortFile:
    if (path / "store.json").is_file():
        return CohortFile(stores=(path,))
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"{path} is neither a cohort file, nor a folder with a {NAME}, nor a site store",
            remedy="give a run directory (runs/demo), a folder that `more-client ingest` filled, or a cohort file",
        )
    settings = load_settings(CohortFile, file)
    folders = tuple(file.parent / store.expanduser() for store in settings.stores)
    changes = {
        "stores": folders,
        "splits": None if settings.splits is None else file.parent / settings.splits.expanduser(),
        "pairing": resolve(settings.pairing, file.parent),
    }
    return settings.model_copy(update=changes)


def _stated(path: Path) -> dict[str, Split]:
    try:
        return {str(patient): Split(split) for patient, split in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} does not say to which split each patient belongs",
            remedy="it has to be one JSON object: patient -> train, validation or test",
        ) from error
