"""All checks, in the order in which they depend on each other; one that fails keeps none of the others from running."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from client.preflight.certificates import check_receiver, check_root, of_coordinator
from client.preflight.connection import check_clock, check_proxy, shake_hands, unchecked, unreachable
from client.preflight.data import check_sources, check_store
from client.preflight.disk import check_disks
from client.preflight.finding import Finding, fail, ok
from client.preflight.installation import check_base, check_preprocessing, check_versions
from client.preflight.memory import check_gpu, check_memory
from client.preflight.permissions import check_files
from client.preflight.policy import check_policy
from client.site_file import SiteFile
from more_model.data.preprocessing import Preprocessing
from more_model.data.sources import load_sources
from more_model.data.study import Study
from more_model.errors import EnvironmentFault, MoreError
from more_model.progress import OnProgress

_Value = TypeVar("_Value")
Check = Callable[[], Finding | Iterable[Finding]]


def run_preflight(site: SiteFile, config: Path, *, offline: bool = False, progress: OnProgress) -> list[Finding]:
    """Findings of every check. ``offline``: without those that need the coordinator."""
    findings: list[Finding] = []
    studies, preprocessing = _read_sources(site, findings, progress)
    checks: dict[str, Check] = {
        "versions": check_versions,
        "files": lambda: check_files(site, config),
        "policy": lambda: check_policy(site),
        "store": lambda: check_store(site, studies),
        "disk": lambda: check_disks(site, studies, preprocessing),
        "memory": lambda: check_memory(site),
        "gpu": lambda: check_gpu(site),
        "base": lambda: check_base(site),
        "root certificate": lambda: check_root(site),
        "receiver": lambda: check_receiver(site),
        "proxy": lambda: check_proxy(site.federation),
        "coordinator": lambda: _coordinator(site, offline=offline),
    }
    for done, (name, check) in enumerate(checks.items(), start=1):
        progress(name, done - 1, done)
        findings += collected(name, check)
        progress(name, done, done)
    return findings


def _read_sources(
    site: SiteFile, findings: list[Finding], progress: OnProgress
) -> tuple[Sequence[Study], Preprocessing]:
    """The site's studies, as far as they can be told, and how they are prepared."""
    progress("sources", 0, 1)
    studies: list[Study] = []
    preprocessing = Preprocessing()

    def check() -> Iterator[Finding]:
        nonlocal preprocessing
        sources = load_sources(site.sources)
        preprocessing = sources.preprocessing
        found, named = check_sources(sources)
        studies.extend(named)
        yield from found
        yield check_preprocessing(site, sources)

    findings += collected("sources", check)
    progress("sources", 1, 1)
    return studies, preprocessing


def collected(name: str, check: Check) -> list[Finding]:
    """The findings of one check; an error that it ends with is its last."""
    findings: list[Finding] = []
    try:
        found = check()
        for finding in (found,) if isinstance(found, Finding) else found:
            findings.append(finding)  # noqa: PERF402 - what came before an error has to stay
    except MoreError as error:
        findings.append(fail(name, error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        cause = f"{where}{error.strerror or type(error).__name__}"
        remedy = "check that the path exists, and that this user may read it"
        findings.append(fail(name, EnvironmentFault(cause, remedy=remedy)))
    return findings


def _coordinator(site: SiteFile, *, offline: bool) -> Iterator[Finding]:
    if offline or not site.federation.root_certificate.is_file():
        yield from unchecked("asked not to connect" if offline else "there is no root certificate to trust")
        return
    try:
        handshake = shake_hands(site.federation)
    except OSError as error:
        yield unreachable(site.federation, error)
        return
    way = f", through {handshake.proxy}" if handshake.proxy else ""
    yield ok("coordinator", f"{site.federation.address} answers with a certificate of the federation{way}")
    yield of_coordinator(handshake.certificate)
    yield check_clock(handshake)
