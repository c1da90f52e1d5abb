"""docs/site-handbook.md is walked through: its commands as they stand there, from a bare home to an accepted round.

The hospital's person is a user without rights and with an empty home folder; the coordinator's commands come from
docs/coordinator-handbook.md, all but the installation, which is the same. Two things are not as at a real site: the
federation is given ports that are free, and files are copied instead of sent. What a telephone call tells is typed.

Slow: `make install` alone fetches and unpacks gigabytes (UV_CACHE_DIR can name a cache that the user may write to).
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trees.deployment import eventually, free_ports
from trees.handbook import walk
from trees.shell import Shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
#: What says where this machine gets packages from, and whom it trusts there.
_PACKAGES = re.compile(r"(PIP|UV)_\w+|(SSL_CERT|REQUESTS_CA|CURL_CA)\w*|(HTTPS?|NO|ALL)_PROXY", re.IGNORECASE)
#: Where `more-client start` offers its messages unless told otherwise, as the handbook does not.
_RUNTIME_PORT = 9094
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "runs", "dist", "build", "__pycache__", ".*_cache", "*.egg-info")


@dataclass(frozen=True)
class Walked:
    """Where both stand at the end, what either was told, and whose files the hospital's are."""

    hospital: Shell
    coordinator: Shell
    printed: dict[str, str]
    user: int


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user may enter, with a short path: a Unix socket will lie below it."""
    folder = Path(tempfile.mkdtemp(prefix="more-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def user() -> int | None:
    """Number of a user without rights; None where this one has none."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        pytest.skip("this runs as root, and there is no user nobody to become")


@pytest.fixture(scope="module")
def environment(user: int | None) -> dict[str, str]:
    """What a fresh login has, and where packages come from."""
    code = "import sys, venv, ensurepip, ssl, sqlite3; sys.exit(not (3, 11) <= sys.version_info < (3, 14))"
    folders = (Path(sys.base_prefix) / "bin", Path("/usr/local/bin"), Path("/usr/bin"))
    as_user: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    for folder in folders:
        try:
            done = subprocess.run([folder / "python3", "-c", code], capture_output=True, check=False, **as_user)
        except OSError:
            continue
        if done.returncode == 0:
            kept = {name: value for name, value in os.environ.items() if _PACKAGES.fullmatch(name)}
            return {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **kept}
    pytest.skip(f"a user without rights finds no Python 3.11 to 3.13 with venv in {', '.join(map(str, folders))}")


def _given(folder: Path, user: int | None) -> None:
    """Make what was copied here the user's."""
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)


@pytest.fixture(scope="module")
def walked(checkout: Path, place: Path, user: int | None, environment: dict[str, str]) -> Iterator[Walked]:
    """Both handbooks' numbered sections, carried out."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", _RUNTIME_PORT)) == 0:
            pytest.skip(f"another site's daemon runs on this machine (port {_RUNTIME_PORT})")
    homes = [place / name for name in ("hospital", "coordinator")]
    for home in homes:
        home.mkdir(mode=0o755)
    shutil.copytree(checkout, homes[0] / "more-fed", ignore=_NOT_COPIED, symlinks=True)
    (homes[1] / "more-fed").symlink_to(homes[0] / "more-fed")
    for home in homes:
        _given(home, user)
    installed = {"PATH": f"{homes[0]}/more-fed/.venv/bin:{environment['PATH']}"}
    with (
        Shell(homes[0], environment, user=user) as hospital,
        Shell(homes[1], {**environment, **installed}, user=user) as coordinator,
    ):
        printed = _Walk(checkout / "docs", hospital, coordinator, user).all()
        yield Walked(hospital, coordinator, printed, os.geteuid() if user is None else user)


class _Walk:
    """Who does what when; every block of a numbered section is run once, or the walk fails."""

    def __init__(self, docs: Path, hospital: Shell, coordinator: Shell, user: int | None) -> None:
        self._site, self._federation = walk(docs / "site-handbook.md"), walk(docs / "coordinator-handbook.md")
        self._hospital, self._coordinator, self._user = hospital, coordinator, user

    def all(self) -> dict[str, str]:
        """What was printed, by a word for it."""
        printed = {}
        self._at_hospital(1)
        self._at_hospital(2, timeout_s=900)
        printed["keys"] = self._at_hospital(3)
        fleet, superlink, status = free_ports(3)
        self._at_coordinator(1)
        self._federation.pop(2)
        printed["init"] = self._at_coordinator(3, typed=(f"localhost:{fleet}",))
        self._take_free_ports(fleet, superlink, status)
        self._at_coordinator(4)
        self._at_coordinator(5)
        self._send(self._hospital.home / "more" / "enrolment.json", self._coordinator.home / "inbox")
        printed["enrolled"] = self._at_coordinator(6)
        for name in ("card", "base"):
            self._send(self._coordinator.home / "federation" / name, self._hospital.home / "from-coordinator")
        told = _found(r"fingerprint of the authority +(\S+)", printed["enrolled"])
        assert self._site.pop(4) == []
        printed["card"] = self._at_hospital(5, typed=(told,))
        self._at_hospital(6)
        self._at_hospital(7)
        printed["preflight"] = self._at_hospital(8)
        start, *rest = self._site.pop(9)
        self._hospital.run(start)
        self._at_coordinator(7)
        for block in rest[:-1]:
            printed["left"] = self._hospital.run(block)
        self._at_coordinator(8)
        self._hospital.run(rest[-1])
        assert not self._site and not self._federation, "sections that nobody carried out"
        return printed

    def _at_hospital(self, number: int, *, typed: tuple[str, ...] = (), timeout_s: float = 300) -> str:
        return _run(self._hospital, self._site.pop(number), typed, timeout_s)

    def _at_coordinator(self, number: int, *, typed: tuple[str, ...] = ()) -> str:
        return _run(self._coordinator, self._federation.pop(number), typed, 300)

    def _take_free_ports(self, fleet: int, superlink: int, status: int) -> None:
        file = self._coordinator.home / "federation" / "federation.toml"
        own = f'fleet_host = "127.0.0.1"\nsuperlink_port = {superlink}\nstatus_port = {status}\n'
        before = file.read_text(encoding="utf-8")
        assert f"[listen]\nfleet_port = {fleet}\n" in before
        file.write_text(before.replace("[listen]\n", f"[listen]\n{own}"), encoding="utf-8")

    def _send(self, what: Path, to: Path) -> None:
        to.mkdir(exist_ok=True)
        if what.is_dir():
            shutil.copytree(what, to / what.name)
        else:
            shutil.copy(what, to)
        _given(to, self._user)


def _run(shell: Shell, blocks: list[str], typed: tuple[str, ...], timeout_s: float) -> str:
    assert blocks
    # What is typed waits for the first block that reads.
    return "".join(
        shell.run(block, typed=typed if number == 0 else (), timeout_s=timeout_s) for number, block in enumerate(blocks)
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def _asked(shell: Shell, line: str) -> Any:
    return json.loads(shell.run(line).strip().splitlines()[-1])


def test_the_first_round_was_accepted_and_the_second_too(walked: Walked) -> None:
    rounds = _asked(walked.coordinator, "more-server rounds ~/federation --json")["rounds"]
    assert [(closed["round"], closed["sites"]["north"]["state"]) for closed in rounds] == [
        (1, "accepted"),
        (2, "accepted"),
    ]
    assert all(closed["sites"]["north"]["pairs_xray"] > 0 for closed in rounds)


def test_both_heard_the_same_on_the_telephone(walked: Walked) -> None:
    keys = _found(r"Fingerprint, to be read out by telephone: (\S+)", walked.printed["keys"])
    assert keys == _found(r"Fingerprint, to be compared by telephone: (\S+)", walked.printed["enrolled"])
    card = _found(r"Digest of the card, to be compared by telephone: (\S+)", walked.printed["card"])
    assert card == _found(r"digest of the card +(\S+)", walked.printed["enrolled"])
    authority = _found(r"fingerprint: (\S+)", walked.printed["init"])
    assert authority == _found(r"fingerprint of the authority +(\S+)", walked.printed["enrolled"])


def test_preflight_found_nothing_that_fails(walked: Walked) -> None:
    assert "Site north: 0 failures" in walked.printed["preflight"]


def test_the_hospital_saw_what_left(walked: Walked) -> None:
    assert "The audit log of site north is whole" in walked.printed["left"]
    assert int(_found(r"payload that left +(\d+) bytes", walked.printed["left"])) > 0
    assert "<html" in (walked.hospital.home / "more" / "page.html").read_text(encoding="utf-8")


def test_it_took_no_rights(walked: Walked) -> None:
    assert walked.user != 0
    folder = walked.hospital.home / "more"
    assert {path.lstat().st_uid for path in folder.rglob("*")} == {walked.user}
    assert {path.stat().st_mode & 0o077 for path in (folder / "keys").iterdir()} == {0}


def test_the_daemon_drained(walked: Walked) -> None:
    log = walked.hospital.home / "more" / "daemon.log"
    eventually(lambda: "Stopped; nothing was left unfinished." in log.read_text(), "the daemon ends after drain")


def test_the_model_was_taken_out(walked: Walked) -> None:
    summary = json.loads((walked.coordinator.home / "result" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "complete" and len(summary["rounds"]) == 2
