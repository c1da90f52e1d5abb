"""Who may read and write the site's files: keys are their owner's alone, nobody else writes anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from client.preflight.finding import Finding, fail, ok, warn
from client.site_file import SiteFile
from more_model.errors import ConfigError, EnvironmentFault
from privacy.ledger.files import check_places

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_files(site: SiteFile, config: Path) -> Iterator[Finding]:
    """Every path of the site file for the mode that it needs; one finding where all is well."""
    faults = [*_keys(site), *_written(site), *_others(site, config), *_places(site)]
    yield from faults
    if os.geteuid() == 0:
        yield warn(
            "user",
            "This runs as root.",
            remedy="use a user of its own for the daemon; it needs no right of root",
        )
    if not faults:
        yield ok("files", "keys are private, folders are writable for this user and for nobody else")


def _keys(site: SiteFile) -> Iterator[Finding]:
    for name, path in site.keys.all.items():
        if not path.is_file():
            yield fail(
                f"key {name}",
                EnvironmentFault(f"There is no {path}.", remedy="make the site's keys: more-client init"),
            )
            continue
        facts = path.stat()
        if facts.st_mode & _OTHERS or facts.st_uid != os.geteuid():
            yield fail(
                f"key {name}",
                EnvironmentFault(
                    f"{path} has mode {stat.S_IMODE(facts.st_mode):04o} and may be read by others than this user.",
                    remedy=f"chown it to this user; chmod 600 {path}; if others could read it, make a new key",
                    avoid="copy keys between machines or into a backup that others read",
                ),
            )


def _written(site: SiteFile) -> Iterator[Finding]:
    """Folders that the site writes to, or that it will have to make."""
    controls = site.controls
    wanted = {site.store, site.work, site.socket.parent, controls.audit_log.parent, controls.audit_anchor.parent}
    wanted |= {controls.ledger.parent, controls.witness.parent}
    if site.receiver is not None:
        wanted.add(site.receiver.spool)
    for folder in sorted(wanted):
        place = next(place for place in (folder, *folder.parents) if place.exists())
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            yield fail(
                "folder",
                EnvironmentFault(
                    f"This user cannot write to {place}" + ("." if place == folder else f", to make {folder}."),
                    remedy="give the folder to this user, or remount the disk for writing",
                ),
            )


def _others(site: SiteFile, config: Path) -> Iterator[Finding]:
    """What nobody else may change: what is configured, what decides, what trains, what is remembered."""
    guarded = {config.resolve(), config.resolve().parent, *(path for _, path in site.paths())}
    guarded |= {path.parent for path in guarded}
    for path in sorted(guarded):
        if not path.exists() or path.is_symlink():
            continue
        mode = path.stat().st_mode
        # In a sticky folder such as /tmp, nobody can replace what belongs to another.
        if mode & _OTHERS_WRITE and not (path.is_dir() and mode & stat.S_ISVTX):
            yield fail(
                "write mode",
                EnvironmentFault(
                    f"{path} has mode {stat.S_IMODE(mode):04o}: others may write to it.",
                    remedy=f"chmod go-w {path}, and look whether anything in it was changed",
                    avoid="widen rights to make an error go away",
                ),
            )


def _places(site: SiteFile) -> Iterator[Finding]:
    try:
        check_places(site.controls.ledger, site.controls.witness)
    except ConfigError as error:
        yield fail("ledger", error)
