"""A federation's run over real hospitals: what it is made of, how it goes on after any crash, and what comes out."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more_model.base import Assembled, assemble, load_base
from more_model.errors import ConfigError, RoundError
from more_model.evaluation.federated_terms import EvaluationTerms, evaluation_terms
from more_model.exchange import Tensors
from more_model.model.inventory import export_tensors
from more_model.private_file import write_new
from more_model.run_folder import RunFolder
from server.aggregation.methods import aggregation
from server.deployed_protection import deployed_protection
from server.federation_file import FederationFile
from server.flower_delivery import Delivery, Waits
from server.flower_grid import GridTransport
from server.flower_session import open_session
from server.journal import NAME as JOURNAL
from server.journal import Journal, RoundRecord, hold_journal, verdicts
from server.rounds import Federation, run_rounds
from server.run_progress import RunProgress
from server.run_scores import Asking, RunScores
from server.sites import SiteRegister
from server.status.live import NAME as LIVE
from server.status.live import LiveState
from server.superlink_service import register_of, superlink_folder

_LOG = logging.getLogger(__name__)
_RUN_NAME, _ENDED = "name", "ended.json"
#: What one answer may bring: every tensor, in a secure sum as words of up to twice the size, and beside them facts such
#: as counts by score, keys and shares.
_WORDS, _FACTS_BYTES = 2, 8 * 2**20


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. ``short``: rounds that lack some site's update. ``best``: the round with the highest metric, 0
    for the start, None without federated evaluation. ``digest``: of the last checkpoint. ``early``: the gain had
    stopped."""

    run: str
    records: tuple[RoundRecord, ...]
    short: int
    best: int | None
    digest: str
    early: bool

    def as_json(self) -> dict[str, Any]:
        """For people and scripts."""
        return {
            "run": self.run,
            "rounds": len(self.records),
            "short_rounds": self.short,
            "best_round": self.best,
            "checkpoint_sha256": self.digest,
            "stopped_early": self.early,
            "status": "complete" if not self.short else "partial",
        }


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a run is made of, and nothing that was begun."""

    file: FederationFile
    name: str
    assembled: Assembled
    federation: Federation
    terms: EvaluationTerms | None

    @property
    def facts(self) -> Mapping[str, str]:
        """What must not change between start and resume; the journal holds it."""
        federation = self.federation
        return {
            **self.file.run_facts,
            "run": self.name,
            "spec": federation.spec.digest(),
            "fingerprint": federation.fingerprint.digest(),
            "sites": ",".join(federation.sites),
            "evaluation": self._evaluation,
        }

    @property
    def _evaluation(self) -> str:
        """Figures on other terms, of other patients or another metric cannot be compared with those that are there."""
        choice = self.file.evaluation
        return "" if choice is None or self.terms is None else f"{self.terms.digest()} {choice.split} {choice.metric}"


def prepare(file: FederationFile) -> Prepared:
    """Check everything that can be checked without a site.

    Raises:
        ConfigError: sites that are not enrolled, or settings that do not go together.
        ExchangeError: a damaged base.
    """
    register = register_of(file)
    gone = file.sites.keys() - register.enrolled().keys()
    for site in sorted(revoked := _revoked_meanwhile(file, register, gone)):
        _LOG.warning("%s was revoked; the run goes on without it", site)
    if missing := sorted(gone - revoked):
        raise ConfigError(
            "sites",
            [f"{site}: named in federation.toml and not enrolled" for site in missing],
            remedy="enroll them (more-server enroll), or take them out of federation.toml",
        )
    base = load_base(file.base)
    assembled = assemble(base, file.method, file.public_seed)
    name = run_name(file)
    federation = Federation(
        sites=tuple(sorted(file.sites)),
        spec=assembled.spec,
        fingerprint=assembled.fingerprint,
        method=aggregation(file.method),
        settings=file.rounds,
        training=file.training.model_dump_json(),
        seed=file.seed,
        run=name,
        protection=deployed_protection(file, register),
    )
    federation.check()
    terms = evaluation_terms(file.evaluation.prompts) if file.evaluation is not None else None
    return Prepared(file, name, assembled, federation, terms)


def _revoked_meanwhile(file: FederationFile, register: SiteRegister, gone: AbstractSet[str]) -> set[str]:
    """Those of the sites ``gone`` that a run which has begun may go on without. Sums know their sites by keys on every
    site's card: there a site less is another federation."""
    needed = file.rounds.minimum_sites or len(file.sites)
    began = (file.run_folder / JOURNAL).exists()
    if not began or file.secure_sum is not None or len(file.sites) - len(gone) < needed:
        return set()
    return {entry.name for entry in register.entries()} & set(gone)


def run_name(file: FederationFile) -> str:
    """The name of the run in the run folder, made once: sites keep agreements, answers and budgets by it.

    Raises:
        EnvironmentFault: another process makes it at this moment.
    """
    path = file.run_folder / _RUN_NAME
    file.run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # Two first starts at one moment must not take two names.
        with closing(hold_journal(file.run_folder)):
            if not path.exists():
                write_new(path, f"{file.name}-{secrets.token_hex(4)}\n".encode())
    return path.read_text(encoding="utf-8").strip()


def run_deployment(prepared: Prepared, stop: threading.Event) -> Ended | None:
    """Run the rounds that the journal does not hold yet; None where ``stop`` was set before the end.

    Raises:
        RoundError: too few sites in time, too few usable updates, or another run's journal.
        ConfigError: the metric for the best round has no value before round 1.
        EnvironmentFault: the journal cannot be written.
    """
    folder = RunFolder(prepared.file.run_folder)
    live = LiveState(folder.path / LIVE)
    with closing(Journal(folder.path, run=prepared.facts)) as journal, live.beating():
        try:
            ended = _Run(prepared, journal, live, folder, stop).to_the_end()
        except Exception as error:
            live.phase("ended", type(error).__name__ if not isinstance(error, RoundError) else error.cause)
            raise
        live.phase("ended", None if ended is not None else "stopped by its operator")
        if ended is not None:
            folder.write_json(_ENDED, ended.as_json())
        return ended


class _Stopped(Exception):
    """The operator ended the run between two answers."""


class _Run:
    """One start of a run."""

    def __init__(
        self, prepared: Prepared, journal: Journal, live: LiveState, folder: RunFolder, stop: threading.Event
    ) -> None:
        self._prepared, self._journal, self._live, self._folder, self._stop = prepared, journal, live, folder, stop
        file, federation = prepared.file, prepared.federation
        self._needed = federation.settings.minimum_sites or len(federation.sites)
        self._progress = RunProgress(
            live,
            folder,
            sites=federation.sites,
            rounds=federation.settings.rounds,
            timeout_s=federation.settings.round_timeout_s,
            stop=self._over,
        )
        superlink, most_bytes = superlink_folder(file), _WORDS * federation.spec.nbytes + _FACTS_BYTES
        self._delivery = Delivery(
            lambda: open_session(superlink, file.listen.superlink_port, most_bytes=most_bytes),
            federation.sites,
            Waits(self._needed, file.waits.absent_s, file.waits.ttl_beyond_round_s),
            self._progress.watch(),
            stop,
        )
        self._transport = GridTransport(_unless_stopped(self._delivery, stop), self._verdicts)
        self._scores = self._run_scores()

    def to_the_end(self) -> Ended | None:
        whole = False
        try:
            self._connect()
            initial = export_tensors(self._prepared.assembled.model)
            if self._scores is not None:
                self._progress.measuring()
                self._scores.before_training(initial)
            run_rounds(
                self._prepared.federation,
                self._transport,
                self._journal,
                initial,
                on_round=self._after_round if self._scores is not None else None,
                observer=self._progress,
            )
            whole = True
            return self._ended()
        except _Stopped:
            return None
        finally:
            self._delivery.close(whole)

    def _connect(self) -> None:
        file = self._prepared.file
        if (self._folder.path / _ENDED).exists():
            return
        there = self._delivery.connect(len(file.sites), file.waits.connect_s)
        if self._stop.is_set():
            raise _Stopped
        if len(there) < self._needed:
            missing = ", ".join(sorted(file.sites.keys() - there))
            wait_s = file.waits.connect_s
            raise RoundError(
                f"{len(there)} of {len(file.sites)} sites connected within {wait_s:g} s; missing: {missing}",
                remedy="look at the daemons of the missing sites (more-client status there), then run again",
                avoid="take the sites out of federation.toml without telling the others",
            )

    def _after_round(self, number: int, tensors: Tensors) -> float | None:
        assert self._scores is not None
        self._progress.measuring()
        return self._scores.after_round(number, tensors)

    def _verdicts(self) -> dict[str, str]:
        closed = self._journal.rounds()
        return verdicts(closed[-1]) if closed else {}

    def _over(self) -> bool:
        if self._stop.is_set():
            raise _Stopped
        return self._scores is not None and self._scores.stop()

    def _run_scores(self) -> RunScores | None:
        prepared = self._prepared
        if prepared.file.evaluation is None or prepared.terms is None:
            return None
        federation = prepared.federation
        asking = Asking(prepared.name, federation.spec, federation.fingerprint, federation.sites, prepared.terms)
        return RunScores(
            prepared.file.evaluation, asking, self._transport, self._folder.path, note=self._progress.measured
        )

    def _ended(self) -> Ended:
        records = tuple(self._journal.rounds())
        best = self._scores.best() if self._scores is not None else None
        short = sum(any(part.state != "accepted" for part in record.sites) for record in records)
        early = len(records) < self._prepared.federation.settings.rounds
        return Ended(self._prepared.name, records, short, best, self._journal.last_digest(), early)


def _unless_stopped(delivery: Delivery, stop: threading.Event) -> Callable[..., Any]:
    def send(asked: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        replies = delivery(asked, timeout_s)
        if stop.is_set():
            # What is not there was not late: the round is asked again by the next start.
            raise _Stopped
        return replies

    return send


def new_run(file: FederationFile) -> Path | None:
    """Put an ended or given-up run aside, so that the next start begins another; returns where it lies now.

    Raises:
        EnvironmentFault: the run goes on in another process.
    """
    if not (file.run_folder / _RUN_NAME).exists():
        return None
    aside = file.state / "runs" / run_name(file)
    aside.parent.mkdir(mode=0o700, exist_ok=True)
    with closing(hold_journal(file.run_folder)):
        return file.run_folder.rename(aside)
