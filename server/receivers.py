"""Whom alerts are told to: a webhook or people by e-mail, one message at a time."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Protocol

import httpx

from more_model.errors import ConfigError
from server.federation_file import NotificationsPart

#: Of one attempt, per step (connect, send, answer).
TIMEOUT_S = 15.0
_SMTPS = 465


@dataclass(frozen=True, slots=True)
class Message:
    """What is told: one alert (``key``), in plain words."""

    key: str
    federation: str
    kind: str
    about: str
    words: str
    round: int | None
    at: datetime


class NotDelivered(Exception):
    """A receiver that could not be reached; ``final``: asking again would not help."""

    def __init__(self, cause: str, *, final: bool = False) -> None:
        self.final = final
        super().__init__(cause)


class Channel(Protocol):
    """One receiver. ``name`` is for the log, without secrets."""

    @property
    def name(self) -> str: ...

    def deliver(self, message: Message) -> None:
        """Raises NotDelivered."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """POSTs JSON; ``text`` is what chat programs show. Proxies of the environment are used, redirects are not
    followed: they could lead anywhere."""

    address: str
    timeout_s: float = TIMEOUT_S

    @property
    def name(self) -> str:
        """Without the path, which is the secret of most webhooks."""
        return f"webhook at {httpx.URL(self.address).host}"

    def deliver(self, message: Message) -> None:
        """Raises NotDelivered, for good where the receiver refuses the request as such."""
        content = {
            "schema": 1,
            "text": f"{message.federation}: {message.words}",
            "federation": message.federation,
            "kind": message.kind,
            "about": message.about,
            "round": message.round,
            "time": message.at.isoformat(timespec="seconds"),
        }
        try:
            # Without reading what comes back: it may be of any length.
            with httpx.stream("POST", self.address, json=content, timeout=self.timeout_s) as answer:
                status = answer.status_code
        except (httpx.HTTPError, OSError) as error:
            raise NotDelivered(type(error).__name__) from error
        if not 200 <= status < 300:
            again = status >= 500 or status in (408, 425, 429)
            raise NotDelivered(f"status {status}", final=not again)


@dataclass(frozen=True, slots=True)
class Email:
    """Sends through one SMTP server with TLS (STARTTLS, or from the start on port 465); only a server on this machine
    may do without, and never gets a password then. The user is the ``sender``. ``tls`` is for servers with an authority
    of their own."""

    server: str
    sender: str
    receivers: tuple[str, ...]
    password_file: Path | None = None
    tls: ssl.SSLContext | None = None
    timeout_s: float = TIMEOUT_S

    @property
    def name(self) -> str:
        """The server."""
        return f"e-mail through {self.server}"

    def deliver(self, message: Message) -> None:
        """Raises NotDelivered, for good where the server refuses the sender, the receivers or the password."""
        try:
            with self._connected() as connection:
                connection.send_message(self._letter(message))
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError, smtplib.SMTPRecipientsRefused) as error:
            raise NotDelivered(type(error).__name__, final=True) from error
        except (smtplib.SMTPException, OSError) as error:
            raise NotDelivered(type(error).__name__) from error

    def _connected(self) -> smtplib.SMTP:
        host, _, port = self.server.rpartition(":")
        host = host.strip("[]")
        context = self.tls if self.tls is not None else ssl.create_default_context()
        if int(port) == _SMTPS:
            connection: smtplib.SMTP = smtplib.SMTP_SSL(host, int(port), timeout=self.timeout_s, context=context)
        else:
            connection = smtplib.SMTP(host, int(port), timeout=self.timeout_s)
        try:
            connection.ehlo()
            local = host in ("127.0.0.1", "localhost", "::1") and self.password_file is None
            if int(port) != _SMTPS and (connection.has_extn("starttls") or not local):
                connection.starttls(context=context)
                connection.ehlo()
            if self.password_file is not None:
                connection.login(self.sender, self.password_file.read_text(encoding="utf-8").strip())
        except BaseException:
            connection.close()
            raise
        return connection

    def _letter(self, message: Message) -> EmailMessage:
        letter = EmailMessage()
        letter["Subject"] = f"[{message.federation}] {message.kind}" + (f": {message.about}" if message.about else "")
        letter["From"], letter["To"] = self.sender, ", ".join(self.receivers)
        letter["Date"] = format_datetime(message.at)
        letter["Message-ID"] = make_msgid(domain="more-fed.invalid")
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(
            f"{message.words}\n\nThe status page of the federation says more. You are told again only once this has "
            "been over for a while and comes back.\n"
        )
        return letter


def channels(settings: NotificationsPart) -> tuple[Channel, ...]:
    """The receivers that a federation file names.

    Raises:
        ConfigError: the address of the SMTP server has no port.
    """
    found: list[Channel] = [Webhook(address) for address in settings.webhooks]
    if settings.email_to:
        assert settings.smtp_server is not None and settings.email_from is not None  # the file demands both
        if not settings.smtp_server.rpartition(":")[2].isdigit():
            raise ConfigError("notifications", [f"smtp_server {settings.smtp_server!r}: give host:port"])
        found.append(Email(settings.smtp_server, settings.email_from, settings.email_to, settings.smtp_password_file))
    return tuple(found)
