"""Telling systemd how the daemon is, as sd_notify(3) does: a datagram to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(*lines: str) -> bool:
    """Send state to the service manager; False where there is none. Never an error: a daemon that works well must not
    end because nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
        channel.setblocking(False)
        channel.sendto("\n".join(lines).encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        return True
    return False


def watchdog_period_s() -> float | None:
    """How often `ALIVE` has to come at the latest; None where no watchdog waits for it (sd_watchdog_enabled(3))."""
    micros, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(micros) / 1e6 if micros.isdigit() and pid == str(os.getpid()) else None
