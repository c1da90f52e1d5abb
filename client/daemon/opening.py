"""The site, opened once: store, base, model, certificate and keys. A fault here ends the daemon before it listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from client.card_change import require_same_federation
from client.card_folder import AgreedCard, read_card
from client.installed_code import installed_code_digest
from client.preflight.certificates import check_root
from client.private_site import Declaration
from client.site_file import SiteFile
from client.site_keys import ENROLMENT
from more_model.base import Assembled, assemble, load_base
from more_model.cohort_file import read_stored
from more_model.data.preprocessing import Preprocessing
from more_model.data.split import assign_splits
from more_model.data.store import SiteStore
from more_model.data.study import Modality, Split
from more_model.enrolment import Enrolment
from more_model.errors import ConfigError, DataError, MoreError, StoreError
from more_model.exchange import Fingerprint
from more_model.training.examples import Examples


@dataclass(frozen=True, slots=True)
class OpenSite:
    """examples: all triplets of the store, of every split, withdrawn patients among them. code: digest of the installed
    packages when the daemon started. declaration: what the site has declared publicly, None before it has.
    preprocessing: of the base. card: what the coordinator published of the federation, where the site has it."""

    file: SiteFile
    examples: Examples
    assembled: Assembled
    tokenizer: Any
    max_tokens: int
    code: str
    declaration: Declaration | None
    preprocessing: Preprocessing
    card: AgreedCard | None

    @property
    def training(self) -> Examples:
        """Of the training patients."""
        return self.examples.of_split(Split.TRAIN)


def open_site(file: SiteFile) -> OpenSite:
    """Everything that is opened once. Studies that are ingested later come in with the next start.

    Raises:
        ConfigError: the root certificate is not the one that the site was told of; an enrolment that cannot be read; a
            federation card that cannot be, or of another federation.
        StoreError: the store is damaged, another site's, or of another preprocessing.
        DataError: the store holds no study.
        ExchangeError: the base is damaged, or not the federation's.
    """
    code = installed_code_digest()
    _require_root(file)
    base = load_base(file.base)
    store = SiteStore.open_read(file.store, preprocessing=base.config.preprocessing)
    if store.site != file.site:
        raise StoreError(
            f"{file.store} is the store of site {store.site!r}, not of {file.site!r}.",
            remedy="correct store or site in the site file",
            avoid="edit store.json: patients of two sites would end in one store",
        )
    if not store.records:
        raise DataError(f"{file.store}: the store holds no study", remedy="ingest first (more-client ingest)")
    splits = assign_splits(store.records, file.split)
    stored = read_stored(store, file.pairing, file.label_wordings, splits)
    assembled = assemble(base, file.federation.method, file.federation.public_seed)
    if file.federation.fingerprint:
        assembled.fingerprint.require_same(Fingerprint(file.federation.fingerprint))
    return OpenSite(
        file,
        stored.examples,
        assembled,
        base.tokenizer,
        base.config.text.max_tokens,
        code,
        _declaration(file),
        base.config.preprocessing,
        _card(file),
    )


def _require_root(file: SiteFile) -> None:
    finding = check_root(file)
    if finding.level == "fail":
        raise ConfigError("federation.root_certificate", [finding.cause], remedy=finding.remedy, avoid=finding.avoid)


def _card(file: SiteFile) -> AgreedCard | None:
    if file.federation.card is None:
        return None
    found = read_card(file.federation.card)
    require_same_federation(file, found.card)
    return found


def _declaration(file: SiteFile) -> Declaration | None:
    """What the site's people signed at `more-client init`; the file lies beside the folder of the keys."""
    path = file.keys.node.parent.parent / ENROLMENT
    if not path.is_file():
        return None
    try:
        enrolment = Enrolment.read(path.read_bytes(), str(path))
    except MoreError as error:
        raise ConfigError(str(path), [error.cause], remedy="put back the file that more-client init wrote") from error
    return Declaration(enrolment.patients, frozenset(Modality(kind) for kind in enrolment.modalities))
