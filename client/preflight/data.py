"""Are the site's sources readable, and is the store of them whole?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from client.preflight.finding import Finding, fail, ok, warn
from client.site_file import SiteFile
from more_model.data.convert import source_state
from more_model.data.sources import SourcesFile, read_cohort
from more_model.data.split import patient_site_conflicts
from more_model.data.store import SiteStore
from more_model.data.store_files import read_gate
from more_model.data.study import Study
from more_model.errors import DataError, StoreError

#: Files that are opened of a source; the rest is left to the ingest.
_SAMPLE = 200
_WARN_QUARANTINED = 0.05


def check_sources(sources: SourcesFile) -> tuple[list[Finding], Sequence[Study]]:
    """Reads the tables of all sources and opens some of the files that they name; also gives the studies.

    Raises:
        DataError: a table or a folder cannot be used; a patient is on two sites.
    """
    studies = read_cohort(sources.sources, sources.label_tables).studies
    patient_site_conflicts(studies)
    counts = Counter(study.modality.value for study in studies)
    found = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    files = [study for study in studies if study.source is not None]
    step = max(1, len(files) // _SAMPLE)
    opened = files[::step][:_SAMPLE]
    broken = Counter(state for state in map(source_state, opened) if not _readable(state))
    return [ok("sources", f"{len(sources.sources)} sources: {found}"), _opened(len(opened), broken)], studies


def _readable(state: str) -> bool:
    # A WFDB record has several files and lacks some of the possible ones.
    return any(part[:1].isdigit() for part in state.split(";")) and PermissionError.__name__ not in state


def _opened(tried: int, broken: Counter[str]) -> Finding:
    if not broken:
        return ok("source files", f"{tried} files tried, all can be opened")
    kinds = ", ".join(sorted({part for state in broken for part in state.split(";")}))
    cause = f"{broken.total()} of {tried} files tried cannot be opened ({kinds})."
    remedy = "mount the disk that holds them, give this user the right to read them, or correct the root of the source"
    avoid = "take the studies out of the tables: the cause is mostly access, not the data"
    if broken.total() == tried:
        return fail("source files", DataError(cause, remedy=remedy, avoid=avoid))
    return warn("source files", cause, remedy=remedy, avoid=avoid)


def check_store(site: SiteFile, studies: Sequence[Study]) -> list[Finding]:
    """The store's index, sizes, owner and gate; every checksum is for more-client verify.

    Raises:
        StoreError: it is damaged, or another site's.
    """
    if not (site.store / "store.json").is_file():
        return [warn("store", f"{site.store} holds no store yet.", remedy="fill it: more-client ingest")]
    store = SiteStore.open_read(site.store)
    if store.site != site.site:
        raise StoreError(
            f"{site.store} is the store of site {store.site!r}, not of {site.site!r}.",
            remedy="correct store or site in the site file",
            avoid="edit store.json: patients of two sites would end in one store",
        )
    findings = [ok("store", f"{len(store.records)} studies, {len(store.quarantine)} in quarantine")]
    if len(store.quarantine) > _WARN_QUARANTINED * (len(store.records) + len(store.quarantine)):
        findings.append(
            warn(
                "quarantine",
                f"{len(store.quarantine)} studies could not be used.",
                remedy="more-client data-report shows the reasons; mend the cause and ingest again",
                avoid="delete the refused files: the cause is often access or the export, not the data",
            )
        )
    if read_gate(site.store) is None:
        findings.append(
            warn(
                "identifiers",
                "The stored studies were not checked for what may name somebody.",
                remedy="ingest into a new folder with the check on",
            )
        )
    return [*findings, *_not_ingested(store, studies)]


def _not_ingested(store: SiteStore, studies: Sequence[Study]) -> list[Finding]:
    known = store.keys() | store.quarantine.keys()
    new = sum((study.modality, study.study_id) not in known for study in studies)
    if not new:
        return []
    return [warn("new studies", f"{new} studies of the sources are not in the store.", remedy="more-client ingest")]
