"""Is there room for what the site will write?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.preflight.finding import Finding, fail, ok, warn
from client.site_file import SiteFile
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import SiteStore
from more_model.data.study import Modality, Study
from more_model.errors import EnvironmentFault, StoreError

#: A line of the index, and the words of a report, generously.
_LINE_BYTES = 1024
_REPORT_BYTES = 4096
#: Audit log, ledger, stored answers, and what an ingest writes before it is settled.
_RESERVE_BYTES = 2**30
_FEW_INODES = 1000


def store_bytes(counts: Counter[Modality], preprocessing: Preprocessing) -> int:
    """What a store of so many studies takes; see `more_model.data.store` for its layout."""
    size = {
        Modality.XRAY: preprocessing.image_size**2,
        Modality.ECG: 12 * preprocessing.ecg_samples * 2,
        Modality.REPORT: _REPORT_BYTES,
    }
    return sum(count * (size[modality] + _LINE_BYTES) for modality, count in counts.items())


def check_disks(site: SiteFile, studies: Sequence[Study], preprocessing: Preprocessing) -> Iterator[Finding]:
    """One finding a disk that the site writes to."""
    needs = {
        site.store: store_bytes(_not_stored(site, studies), preprocessing),
        site.work: 0,
        site.controls.audit_log.parent: 0,
        site.controls.ledger.parent: 0,
    }
    if site.receiver is not None:
        needs[site.receiver.spool] = int(site.receiver.keep_free_gib * 2**30)
    by_disk: dict[int, list[Path]] = {}
    for path in needs:
        by_disk.setdefault(_existing(path).stat().st_dev, []).append(path)
    for paths in by_disk.values():
        yield _of_disk(_existing(paths[0]), _RESERVE_BYTES + sum(needs[path] for path in paths))


def _not_stored(site: SiteFile, studies: Sequence[Study]) -> Counter[Modality]:
    try:
        known = SiteStore.open_read(site.store).keys()
    except StoreError:
        # There is none, or it has to be made anew, which the check of the store says.
        known = set()
    return Counter(study.modality for study in studies if (study.modality, study.study_id) not in known)


def _of_disk(folder: Path, needed_bytes: int) -> Finding:
    facts = os.statvfs(folder)
    free_bytes = facts.f_bavail * facts.f_frsize
    said = f"{folder}: {_gib(free_bytes)} free, {_gib(needed_bytes)} needed"
    remedy = "free some space, or put the store on a larger disk (store in the site file)"
    if free_bytes < needed_bytes:
        return fail("disk", EnvironmentFault(said, remedy=remedy, avoid="delete files of the store"))
    if facts.f_files > 0 and facts.f_favail < _FEW_INODES:
        return fail("disk", EnvironmentFault(f"{folder}: no room for more files (inodes)", remedy=remedy))
    if free_bytes < 2 * needed_bytes:
        return warn("disk", said, remedy=remedy)
    return ok("disk", said)


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
