"""Alerts reach people once each, over a real HTTP server and a real SMTP conversation with TLS."""

from __future__ import annotations

import email
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from trees.certificates import MadeCertificate, write_certificate
from trees.smtp_server import Mailbox, smtp_server

from more_model.errors import ConfigError
from more_model.supervision import Backoff
from server.federation_file import NotificationsPart
from server.notify import Notifier
from server.receivers import Email, Message, NotDelivered, Webhook, channels
from server.status.alerts import Alert

STALL = Alert("stall", "", None, "Round 4 is past its deadline; it waits for north.")
DROP = Alert("drop", "north", "north", "north gave no answer in round 4.", "patient 1234567 could not be read")
AT_ONCE = Backoff(first_s=0.001, longest_s=0.001)


def until(condition: Callable[[], Any], tries: int = 2000) -> None:
    wait = threading.Event()
    for _ in range(tries):
        if condition():
            return
        wait.wait(0.005)
    pytest.fail("it did not happen")


@dataclass
class Hook:
    """What a webhook's receiver got, and how it answers: the codes in order, then 200 for ever."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    got: list[dict[str, Any]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/secret-path"


@contextmanager
def receiver(hook: Hook) -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(hook.answers.pop(0) if hook.answers else 200)
            self.send_header("location", f"http://127.0.0.1:{hook.port}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with receiver(Hook()) as running:
        yield running


def test_a_webhook_gets_our_words_and_nothing_of_the_sites(hook: Hook) -> None:
    with Notifier("consortium", [Webhook(hook.address)], backoff=AT_ONCE) as notifier:
        notifier.update([DROP], round_number=4)
        until(lambda: hook.got)
    (content,) = hook.got
    assert datetime.fromisoformat(content.pop("time")).tzinfo == UTC
    assert content == {
        "schema": 1, "text": "consortium: north gave no answer in round 4.", "federation": "consortium",
        "kind": "drop", "about": "north", "round": 4,
    }  # fmt: skip


def test_what_fails_for_a_moment_is_tried_again(hook: Hook) -> None:
    hook.answers = [503, 429]
    with Notifier("consortium", [Webhook(hook.address)], backoff=AT_ONCE) as notifier:
        notifier.update([STALL])
        until(lambda: len(hook.got) == 3)
        notifier.update([STALL, DROP])
        until(lambda: len(hook.got) == 4)
    assert [each["kind"] for each in hook.got] == ["stall"] * 3 + ["drop"]


def test_what_is_refused_for_good_is_given_up(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.answers = [404, 302]
    with caplog.at_level(logging.WARNING), Notifier("x", [Webhook(hook.address)], backoff=AT_ONCE) as notifier:
        notifier.update([STALL])
        notifier.update([STALL, DROP])
        until(lambda: caplog.text.count("given up") == 2)
    assert [each["kind"] for each in hook.got] == ["stall", "drop"], "a redirect is not followed"
    assert "webhook at 127.0.0.1: stall of the run: status 404; given up" in caplog.text
    assert "secret-path" not in caplog.text


def test_each_alert_is_told_once_until_it_has_been_gone_for_a_while(hook: Hook) -> None:
    now = [1_800_000_000.0]
    with Notifier("x", [Webhook(hook.address)], settled_s=600, clock=lambda: now[0]) as notifier:
        looks: Sequence[tuple[float, list[Alert]]] = [
            (0, [STALL]), (5, [STALL]), (5, []), (500, [STALL]), (0, [STALL, DROP]), (5, [DROP]), (601, [DROP]),
            (0, [STALL, DROP]),
        ]  # fmt: skip
        for passed, alerts in looks:
            now[0] += passed
            notifier.update(alerts)
        until(lambda: len(hook.got) >= 3)
    assert [each["kind"] for each in hook.got] == ["stall", "drop", "stall"]


def test_a_restart_tells_only_what_was_not_delivered(hook: Hook, tmp_path: Path) -> None:
    told = tmp_path / "alerts.json"
    with Notifier("x", [Webhook(hook.address)], told=told, backoff=AT_ONCE) as notifier:
        notifier.update([STALL])
        until(told.exists)
    hook.answers = [503] * 50
    with Notifier("x", [Webhook(hook.address)], told=told, backoff=Backoff(first_s=60, longest_s=60)) as notifier:
        notifier.update([STALL, DROP])
        until(lambda: len(hook.got) == 2)
    assert json.loads(told.read_text()) == ["stall:"]
    hook.answers = []
    with Notifier("x", [Webhook(hook.address)], told=told) as notifier:
        notifier.update([STALL, DROP])
        until(lambda: len(json.loads(told.read_text())) == 2)
    assert [each["kind"] for each in hook.got] == ["stall", "drop", "drop"]


class Stuck:
    """A receiver that does not come back until it is let go."""

    name = "stuck"

    def __init__(self) -> None:
        self.free, self.busy = threading.Event(), threading.Event()

    def deliver(self, message: Message) -> None:
        self.busy.set()
        self.free.wait(30)


def test_a_receiver_that_hangs_holds_up_neither_the_caller_nor_the_others(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Stuck()
    many = [Alert("drop", f"site-{number}", f"site-{number}", "gone") for number in range(150)]
    with Notifier("x", [stuck, Webhook(hook.address)]) as notifier:
        notifier.update([STALL])
        assert stuck.busy.wait(10)
        for alert in many:
            notifier.update([STALL, alert])
        until(lambda: len(hook.got) >= 51)
        assert not stuck.free.is_set()
        stuck.free.set()
    assert "stuck: drop is not told, too many wait already" in caplog.text


@pytest.fixture
def authority(tmp_path: Path) -> MadeCertificate:
    return write_certificate(tmp_path, "authority")


@pytest.fixture
def mailbox(tmp_path: Path, authority: MadeCertificate) -> Iterator[Mailbox]:
    with smtp_server(write_certificate(tmp_path, "server", authority=authority)) as running:
        yield running


def letter(mailbox: Mailbox) -> EmailMessage:
    until(lambda: mailbox.letters)
    found = email.message_from_bytes(mailbox.letters[0], policy=default)
    assert isinstance(found, EmailMessage)
    return found


def test_a_letter_goes_through_tls_with_the_password(
    mailbox: Mailbox, authority: MadeCertificate, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    post = Email(f"localhost:{mailbox.port}", "fed@a.org", ("b@a.org", "c@a.org"), tmp_path / "password", trusting)
    with Notifier("consortium", [post], backoff=AT_ONCE) as notifier:
        notifier.update([DROP])
        found = letter(mailbox)
    assert (found["subject"], found["to"]) == ("[consortium] drop: north", "b@a.org, c@a.org")
    assert found.get_content().startswith("north gave no answer in round 4.\r\n")
    assert "1234567" not in found.as_string()
    assert mailbox.passwords == [("fed@a.org", "s3cret", True)], "the password was sent inside TLS"
    assert mailbox.receivers == ["b@a.org", "c@a.org"]


def test_a_server_that_is_not_trusted_gets_no_letter(mailbox: Mailbox) -> None:
    message = Message("drop:n", "x", "drop", "n", "words", 1, datetime.now(UTC))
    with pytest.raises(NotDelivered, match="SSLCertVerificationError"):
        Email(f"localhost:{mailbox.port}", "a@a.org", ("b@a.org",)).deliver(message)
    assert (mailbox.letters, mailbox.passwords) == ([], [])


def test_without_tls_only_this_machine_is_written_to_and_never_a_password(tmp_path: Path) -> None:
    message = Message("drop:n", "x", "drop", "n", "words", 1, datetime.now(UTC))
    (tmp_path / "password").write_text("s3cret")
    with smtp_server(None) as mailbox:
        server = f"127.0.0.1:{mailbox.port}"
        Email(server, "a@a.org", ("b@a.org",)).deliver(message)
        assert len(mailbox.letters) == 1
        with pytest.raises(NotDelivered) as caught:
            Email(server, "a@a.org", ("b@a.org",), tmp_path / "password").deliver(message)
        assert caught.value.final
        assert (len(mailbox.letters), mailbox.passwords) == (1, [])


def test_receivers_are_those_of_the_federation_file(tmp_path: Path) -> None:
    settings = NotificationsPart(
        webhooks=("https://chat.example.org/hook/1",),
        email_to=("a@example.org",),
        email_from="fed@example.org",
        smtp_server="mail.example.org:587",
    )
    assert [each.name for each in channels(settings)] == [
        "webhook at chat.example.org",
        "e-mail through mail.example.org:587",
    ]
    assert channels(NotificationsPart()) == ()
    with pytest.raises(ConfigError, match="give host:port"):
        channels(settings.model_copy(update={"smtp_server": "mail.example.org"}))
