"""Reads what the status is made of: journal, register, live state, evaluations, certificates. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from more_model.errors import ConfigError
from server.authority import days_left
from server.federation_file import NAME as FEDERATION
from server.federation_file import FederationFile, read_federation
from server.journal import open_to_read, read_rounds
from server.sites import NAME as REGISTER
from server.sites import SiteRegister
from server.status import evaluations, live
from server.status.model import Closed, Sources

#: A coordinator's run holds its journal itself; a simulation holds one for its federated arm.
_JOURNALS = ("journal.sqlite", "arms/federated/journal.sqlite")


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched: a federation's run, or the run of a simulation (without ``federation``)."""

    run: Path
    federation: FederationFile | None = None


def watched(folder: Path, federation: Path | None = None) -> Watched:
    """``folder``: of a run, or of a federation (with ``federation.toml``) whose run is in its state folder.

    Raises:
        ConfigError: there is neither, or the federation file has faults.
    """
    if federation is None and not (folder / FEDERATION).is_file():
        if _journal(folder) is None and not (folder / live.NAME).is_file():
            fault = f"there is no {FEDERATION}, no {' and no '.join(_JOURNALS)} in this folder"
            raise ConfigError(str(folder), [fault], remedy="give the folder of a federation or of a run")
        return Watched(folder)
    settings = read_federation(folder if federation is None else federation)
    return Watched(settings.run_folder if federation is None else folder, settings)


def read_sources(what: Watched) -> Sources:
    """Everything that there is by now; a file that is not there yet says nothing.

    Raises:
        RoundError: a journal or evaluations that cannot be read.
        EnvironmentFault: a register that cannot be used.
        MoreError: a live state of another version.
    """
    federation = what.federation
    journal = _journal(what.run)
    return Sources(
        name=federation.name if federation is not None else what.run.resolve().name,
        closed=read_closed(journal) if journal is not None else (),
        federation=federation,
        entries=SiteRegister(federation.state / REGISTER).entries() if federation is not None else None,
        live=live.read_live(what.run / live.NAME),
        measured=evaluations.read_evaluations(what.run),
        certificates=_certificates(federation) if federation is not None else {},
    )


def read_closed(journal: Path) -> tuple[Closed, ...]:
    """The closed rounds of a journal that may be in use. RoundError where it cannot be read."""
    with open_to_read(journal) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'rounds'").fetchone():
            # A run that was just started has made the file and not yet its tables.
            return ()
        times = dict(database.execute("SELECT round, closed_at FROM rounds").fetchall())
        # Rounds are only ever added, so one that is closed between the two questions is left for the next look.
        records = [record for record in read_rounds(database) if record.round in times]
    return tuple(Closed(record, datetime.fromisoformat(times[record.round]).astimezone(UTC)) for record in records)


def _journal(folder: Path) -> Path | None:
    return next((found for place in _JOURNALS if (found := folder / place).is_file()), None)


def _certificates(federation: FederationFile) -> dict[str, float]:
    """Days left. Behind a reverse proxy of somebody else's, only of those that lie here."""
    files = federation.certificates
    return {path.name: days_left(path) for path in (files.server_certificate, files.root) if path.is_file()}
