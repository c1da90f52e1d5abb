"""A mail server for tests: as much of SMTP (RFC 5321, 3207 STARTTLS, 4954 AUTH PLAIN) as a letter needs."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from trees.certificates import MadeCertificate


@dataclass
class Mailbox:
    """What arrived. ``passwords``: user, password, and whether it came inside TLS."""

    port: int = 0
    letters: list[bytes] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    passwords: list[tuple[str, str, bool]] = field(default_factory=list)


@contextmanager
def smtp_server(certificate: MadeCertificate | None) -> Iterator[Mailbox]:
    """Listens on 127.0.0.1 for as long as the block runs; offers STARTTLS where there is a certificate."""
    mailbox, up = Mailbox(), threading.Event()
    ends: list[Callable[[], object]] = []
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)

    async def serve() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await _talk(reader, writer, mailbox, context)
            except (OSError, asyncio.IncompleteReadError):
                pass  # The other side hung up, which is what some tests are about.
            finally:
                writer.close()

        done, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(done.set))
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        mailbox.port = server.sockets[0].getsockname()[1]
        up.set()
        await done.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert up.wait(10)
    try:
        yield mailbox
    finally:
        ends[0]()
        thread.join(5)


async def _talk(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mailbox: Mailbox, context: ssl.SSLContext | None
) -> None:
    secure = False

    async def say(line: str) -> None:
        writer.write(line.encode() + b"\r\n")
        await writer.drain()

    await say("220 test")
    while line := (await reader.readline()).decode().strip():
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case "EHLO":
                offers = ["STARTTLS"] if context and not secure else ["AUTH PLAIN"] if secure else []
                for line in ("test", *offers):
                    await say(f"250-{line}")
                await say("250 8BITMIME")
            case "STARTTLS" if context is not None:
                await say("220 go ahead")
                await writer.start_tls(context)
                secure = True
            case "AUTH":
                _, user, password = base64.b64decode(rest.split(" ")[1]).decode().split("\0")
                mailbox.passwords.append((user, password, secure))
                await say("235 welcome")
            case "RCPT":
                mailbox.receivers.append(rest.partition("<")[2].rstrip(">"))
                await say("250 ok")
            case "DATA":
                await say("354 go on")
                mailbox.letters.append(await reader.readuntil(b"\r\n.\r\n"))
                await say("250 ok")
            case "QUIT":
                await say("221 bye")
                return
            case _:
                await say("250 ok")
