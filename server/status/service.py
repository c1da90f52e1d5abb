"""What keeps the status up: the page, and a look every few seconds for alerts and trackers.

Nothing here can hold up a round: it reads files, in threads of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from more_model.errors import MoreError
from more_model.local_page.serving import served
from server.federation_file import NotificationsPart
from server.notify import Notifier
from server.receivers import channels
from server.status.app import status_app
from server.status.model import Status, build_status
from server.status.sources import Watched, read_sources
from server.status.tokens import NAME as TOKENS
from server.status.tokens import TokenFile
from server.tracking import trackers

_LOG = logging.getLogger(__name__)
#: How often alerts and trackers are brought up to date.
LOOK_S = 5.0
_AFTER_FAULT_S = 30.0
_TOLD = "alerts.json"


def current(what: Watched) -> Status:
    """The status at this moment. Raises what `read_sources` and `build_status` raise."""
    return build_status(read_sources(what), datetime.now(UTC))


def token_file(what: Watched) -> TokenFile:
    """Where the tokens of the page are."""
    folder = what.run if what.federation is None else what.federation.state
    return TokenFile(folder / TOKENS)


@contextmanager
def status_page(what: Watched, port: int) -> Iterator[int]:
    """Serves the page for as long as the block runs, on ``port`` of 127.0.0.1 (0: any); yields the port.

    Raises:
        EnvironmentFault: the port is taken.
    """
    app = status_app(lambda: current(what), token_file(what))
    with served(app, port, name="status page", setting="listen.status_port", connections=64) as taken:
        yield taken


@contextmanager
def watch(what: Watched, *, every_s: float = LOOK_S) -> Iterator[None]:
    """Tells of alerts and feeds the trackers for as long as the block runs, as the federation file says. Only one
    process should: two would tell everything twice."""
    settings = NotificationsPart() if what.federation is None else what.federation.notifications
    folder, name = (
        (what.run, what.run.name) if what.federation is None else (what.federation.state, what.federation.name)
    )
    done = threading.Event()
    with Notifier(name, channels(settings), told=folder / _TOLD) as notifier:

        def tell(status: Status) -> None:
            notifier.update(status.alerts, round_number=status.round)

        # A thread each: a tracker's server that hangs must not hold up an alert.
        threads = [
            threading.Thread(target=_repeat, args=(what, job, done, every_s), name=f"status {number}", daemon=True)
            for number, job in enumerate((tell, *trackers(what.run, name)))
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join(10.0)


def _repeat(what: Watched, job: Callable[[Status], None], done: threading.Event, every_s: float) -> None:
    while True:
        wait_s = every_s
        try:
            job(current(what))
        except (MoreError, OSError) as error:
            _LOG.warning("the status cannot be read now and is tried again: %s", error)
            wait_s = max(every_s, _AFTER_FAULT_S)
        except Exception:  # noqa: BLE001 - a tracker is somebody else's program and may raise whatever it likes
            _LOG.exception("the status was not passed on and is tried again")
            wait_s = max(every_s, _AFTER_FAULT_S)
        if done.wait(wait_s):
            return
