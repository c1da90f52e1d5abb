"""A real browser for tests: headless Chromium over its DevTools pipe (no port is opened, nobody else can connect).

The protocol: JSON messages that end in a zero byte, commands on file descriptor 3, replies and events on 4
(https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--disable-breakpad", "--mute-audio", "--window-size=1200,900",
    # Whatever a page or the browser itself tries, no name resolves; servers of tests are on this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
LIMIT_S = 30.0
Event = dict[str, Any]


class BrowserFault(AssertionError):
    """The browser refused a command, a script on the page failed, or something awaited did not come."""


def executable() -> str | None:
    """Where Chromium is: MORE_FED_CHROMIUM, else the first of the usual names on the path."""
    return os.environ.get("MORE_FED_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def running_browser(program: str, profile: Path) -> Iterator[Connection]:
    """A browser with a profile of its own under ``profile``; it and its children are ended afterwards."""
    commands, to_browser = os.pipe()
    from_browser, replies = os.pipe()
    # Out of the way of 3 and 4, which one of them may have got.
    child = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 16) for end in (commands, replies)]
    log = str(profile / "chromium.log")
    process = os.posix_spawn(
        program,
        [program, *FLAGS, f"--user-data-dir={profile / 'data'}", "about:blank"],
        {**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, child[0], 3),
            (os.POSIX_SPAWN_DUP2, child[1], 4),
        ],
        setpgroup=0,
    )
    for end in (*child, commands, replies):
        os.close(end)
    try:
        yield Connection(to_browser, from_browser)
    finally:
        # The group is this browser's own: posix_spawn made it.
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(to_browser)
        os.close(from_browser)


@dataclass
class Connection:
    """The pipe to one browser. Every event goes to the listeners of its session."""

    to_browser: int
    from_browser: int
    listeners: dict[str, list[Event]] = field(default_factory=dict)
    _number: int = 0
    _received: bytes = b""

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command and its reply."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        waiting = memoryview(json.dumps(message).encode() + b"\0")
        while waiting:
            waiting = waiting[os.write(self.to_browser, waiting) :]
        end = time.monotonic() + LIMIT_S
        while (received := self._next(end)) is None or received.get("id") != number:
            if received is None:
                raise BrowserFault(f"{method}: no reply within {LIMIT_S:.0f} s")
            self._hand_on(received)
        if "error" in received:
            raise BrowserFault(f"{method}: {received['error'].get('message')}")
        reply: dict[str, Any] = received["result"]
        return reply

    def listen(self, duration_s: float) -> None:
        """Takes in events for a while; returns after the first."""
        if (received := self._next(time.monotonic() + duration_s)) is not None:
            self._hand_on(received)

    def _hand_on(self, event: Event) -> None:
        self.listeners.setdefault(event.get("sessionId", ""), []).append(event)

    def _next(self, end: float) -> Event | None:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self.from_browser], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(self.from_browser, 2**20)
            if not chunk:
                raise BrowserFault("the browser ended; its profile folder holds chromium.log")
            self._received += chunk
        first, _, self._received = self._received.partition(b"\0")
        message: Event = json.loads(first)
        return message


@dataclass
class Page:
    """One tab in a browser context of its own: no storage is shared with the tab of another test."""

    connection: Connection
    context: str
    target: str
    session: str
    downloads: Path

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A DevTools command for this tab."""
        return self.connection.call(method, self.session, **parameters)

    def events(self, method: str) -> list[dict[str, Any]]:
        """The parameters of every event of this kind so far."""
        return [event["params"] for event in self.connection.listeners[self.session] if event["method"] == method]

    def goto(self, where: Path | str) -> None:
        """Loads a local file, or an address on this machine, and waits until it is loaded."""
        before = len(self.events("Page.loadEventFired"))
        self.call("Page.navigate", url=where if isinstance(where, str) else where.resolve().as_uri())
        self.until(lambda: len(self.events("Page.loadEventFired")) > before, "the page to load")

    def reload(self) -> bool:
        """Loads the page again, as the reader's reload key does; whether the page asked before (the answer is yes)."""
        loads, dialogs = len(self.events("Page.loadEventFired")), len(self.events("Page.javascriptDialogOpening"))

        def asked() -> bool:
            return len(self.events("Page.javascriptDialogOpening")) > dialogs

        self.call("Page.reload")
        self.until(lambda: asked() or len(self.events("Page.loadEventFired")) > loads, "a question or the page")
        if asked():
            self.call("Page.handleJavaScriptDialog", accept=True)
        self.until(lambda: len(self.events("Page.loadEventFired")) > loads, "the page to load again")
        return asked()

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression (JSON), promises awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserFault(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, condition: str | Callable[[], Any], what: str = "") -> Any:
        """Waits for a JavaScript expression or a function to become true, and returns it."""
        end = time.monotonic() + LIMIT_S
        while not (value := self.evaluate(condition) if isinstance(condition, str) else condition()):
            if time.monotonic() > end:
                raise BrowserFault(f"waited {LIMIT_S:.0f} s for {what or condition}")
            self.connection.listen(0.02)
        return value

    def click(self, selector: str) -> None:
        """Scrolls to an element and clicks its middle with the mouse."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key: its DOM name, its Windows key code and the text that it types (Enter: "\\r")."""
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def type(self, text: str) -> None:
        """Text into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, path: Path) -> None:
        """Gives a file to a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def downloaded(self, name: str) -> Path:
        """Waits for a download of this name to be complete."""
        path = self.downloads / name
        self.until(path.is_file, f"the download {name}")
        return path

    def requests(self) -> list[str]:
        """The address of everything that the page asked for."""
        return [str(event["request"]["url"]) for event in self.events("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Errors of scripts, refusals by the Content Security Policy, and what else the console would show in red."""
        logged = [event["entry"] for event in self.events("Log.entryAdded")]
        errors = [str(entry["text"]) for entry in logged if entry["level"] == "error"]
        return errors + [str(event["exceptionDetails"]) for event in self.events("Runtime.exceptionThrown")]


@contextmanager
def open_page(connection: Connection, downloads: Path, *, context: str | None = None) -> Iterator[Page]:
    """A fresh tab whose downloads go to ``downloads``; closed afterwards, its storage forgotten.

    With the ``context`` of another page it is a further tab beside it, with the same storage.
    """
    own = context is None
    context = context or str(connection.call("Target.createBrowserContext")["browserContextId"])
    target = connection.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
    session = connection.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    connection.listeners[session] = []
    page = Page(connection, context, target, session, downloads)
    for domain in ("Page", "Network", "Runtime", "Log", "DOM"):
        page.call(f"{domain}.enable")
    connection.call(
        "Browser.setDownloadBehavior", behavior="allow", browserContextId=context, downloadPath=str(downloads)
    )
    try:
        yield page
    finally:
        if own:
            connection.call("Target.disposeBrowserContext", browserContextId=context)
        else:
            connection.call("Target.closeTarget", targetId=target)
