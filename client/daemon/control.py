"""The socket of the site's people: its requests, and how their commands reach the daemon, or do without it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from client.wire import Frame, Limits, WireError, receive, send
from more_model.errors import EnvironmentFault, MoreError

STATUS, PAUSE, RESUME, DRAIN, WITHDRAW = "status", "pause", "resume", "drain", "withdraw"
LIMITS = Limits(facts=64 * 1024, arrays=0)
_WAIT_S = 30.0


def control_path(socket_path: Path) -> Path:
    """Beside the relay's socket; only the site's own user and root may use it."""
    return socket_path.with_name(f"{socket_path.name}.ctl")


def ask(socket_path: Path, kind: str, **facts: str) -> dict[str, Any] | None:
    """What the daemon says; None where no daemon listens.

    Raises:
        EnvironmentFault: this user may not ask, the daemon does not answer, or could not do it.
    """
    path = control_path(socket_path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_WAIT_S)
            connection.connect(str(path))
            send(connection, Frame(kind, facts))
            answer = receive(connection, LIMITS)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, EOFError) as error:
        raise EnvironmentFault(
            f"The daemon at {path} does not answer ({type(error).__name__}).",
            remedy="run this as the daemon's user; if it is that user, look at the daemon's own log",
        ) from error
    content: dict[str, Any] = json.loads(str(answer.facts.get("content", "{}")))
    if answer.kind != "done":
        raise EnvironmentFault(
            str(content.get("cause", "the daemon did not understand")), remedy=str(content.get("remedy", ""))
        )
    return content


def answering(actions: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]) -> Callable[[Frame], Frame]:
    """A handler of the daemon's end: each request by its kind, with its facts.

    Raises WireError for a request that there is not.
    """

    def handle(asked: Frame) -> Frame:
        if asked.kind not in actions:
            raise WireError(f"the daemon is not asked {asked.kind[:40]!r}")
        try:
            return Frame("done", {"content": json.dumps(dict(actions[asked.kind](asked.facts)))})
        except (MoreError, OSError) as error:
            # People are told: this socket leads nowhere but to them.
            known = error if isinstance(error, MoreError) else EnvironmentFault(str(error), remedy="check the disk")
            content = {"cause": known.cause or str(known), "remedy": known.remedy}
            return Frame("fault", {"content": json.dumps(content)})

    return handle
