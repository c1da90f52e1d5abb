"""Is what is installed what the federation runs on: versions, and the base?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from client.preflight.finding import Finding, fail, ok, warn
from client.site_file import SiteFile
from more_model.base import assemble, load_base
from more_model.data.packages import load_package
from more_model.data.sources import SourcesFile
from more_model.errors import ConfigError, EnvironmentFault
from more_model.exchange import Fingerprint
from more_model.model.config import load_config

_DISTRIBUTION = "more-fed"
_SHOWN = ("torch", "flwr")


def check_versions() -> Iterator[Finding]:
    """Python and every package against what this release asks for."""
    requirement = load_package("packaging.requirements", "compare versions").Requirement
    specifiers = load_package("packaging.specifiers", "compare versions").SpecifierSet
    python = sys.version.split()[0]
    faults = []
    wanted = metadata(_DISTRIBUTION)["Requires-Python"]
    if not specifiers(wanted).contains(python, prereleases=True):
        faults.append(f"Python {python}, and not {wanted}")
    for line in requires(_DISTRIBUTION) or ():
        asked = requirement(line)
        if asked.marker is not None and not asked.marker.evaluate():
            continue
        try:
            found = version(asked.name)
        except PackageNotFoundError:
            faults.append(f"{asked.name} is missing")
            continue
        if not asked.specifier.contains(found, prereleases=True):
            faults.append(f"{asked.name} {found}, and not {asked.specifier}")
    if faults:
        yield fail(
            "versions",
            EnvironmentFault(
                f"This environment is not the release's: {'; '.join(faults)}.",
                remedy="install the release from its lock file into an environment of its own",
                avoid="upgrade single packages: sites on other versions are refused, or compute other bits",
            ),
        )
    else:
        shown = ", ".join(f"{name} {version(name)}" for name in _SHOWN)
        yield ok("versions", f"more-fed {version(_DISTRIBUTION)} on Python {python}; {shown}")


def check_base(site: SiteFile) -> Finding:
    """The base is whole, and is the federation's.

    Raises:
        ExchangeError: another base than the federation's; the message says which parts differ.
        ConfigError, EnvironmentFault: it cannot be read.
    """
    federation = site.federation
    own = assemble(load_base(site.base), federation.method, federation.public_seed).fingerprint
    if not federation.fingerprint:
        return warn(
            "base",
            f"whole (fingerprint {own.digest()[:16]}), but the site file does not say the federation's.",
            remedy="put what the coordinator published into [federation.fingerprint]",
        )
    own.require_same(Fingerprint(federation.fingerprint))
    return ok("base", f"the federation's (fingerprint {own.digest()[:16]})")


def check_preprocessing(site: SiteFile, sources: SourcesFile) -> Finding:
    """An ingest makes the arrays that the base takes.

    Raises:
        ConfigError: it does not; every difference.
    """
    base = load_config(site.base / "model.toml").preprocessing.model_dump()
    own = sources.preprocessing.model_dump()
    faults = [f"{name} is {own[name]}, the base takes {base[name]}" for name in base if own[name] != base[name]]
    if faults:
        raise ConfigError(
            f"{site.sources}, preprocessing",
            faults,
            remedy="take the base's values, and ingest into a new folder",
            avoid="change the base: it would not be the federation's any more",
        )
    return ok("preprocessing", "the base's")
