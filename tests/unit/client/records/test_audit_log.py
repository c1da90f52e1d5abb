"""The audit log of a site: on the disk before anything happens, whole after any crash, one writer at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from client.records.audit_log import open_log
from client.records.lines import AuditDamaged, entries
from client.records.verify import verify
from more_model.errors import ConfigError, EnvironmentFault, StoreError
from privacy.ledger.chain import Anchor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records" / "audit.jsonl"


@pytest.fixture
def anchor_file(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "audit"


def filled(path: Path, count: int = 3, **options: Any) -> Anchor:
    with open_log(path, site="north", **options) as log:
        for number in range(count):
            log.append("paused", {"number": number})
        return log.anchor


def numbers(path: Path) -> list[int]:
    return [entry.content["number"] for entry in entries(path) if entry.kind == "paused"]


def test_entries_come_back_in_order_with_kind_content_and_utc_time(path: Path) -> None:
    there = timezone(timedelta(hours=2))
    with open_log(path, site="north", now=lambda: datetime(2026, 5, 1, 1, 30, tzinfo=there)) as log:
        anchor = log.append("paused", {"by": "data person", "steps": [1, 2.5]})
        assert log.anchor == anchor
    created, paused = entries(path)
    assert (created.number, created.kind, created.content["site"]) == (1, "created", "north")
    assert (paused.number, paused.kind, paused.content) == (2, "paused", {"by": "data person", "steps": [1, 2.5]})
    assert paused.at == "2026-04-30T23:30:00.000+00:00"
    assert paused.anchor == anchor
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_goes_on_where_it_ended(path: Path) -> None:
    first = filled(path)
    assert filled(path).count == first.count + 3 == 7
    assert numbers(path) == [0, 1, 2, 0, 1, 2]
    assert verify(path, first).whole


def test_two_logs_never_share_a_head(path: Path, tmp_path: Path) -> None:
    def clock() -> datetime:
        return datetime(2026, 5, 1, tzinfo=UTC)

    assert filled(path, now=clock).head != filled(tmp_path / "other.jsonl", now=clock).head


def test_an_entry_is_synced_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_log(path, site="north") as log:
        done: list[str] = []
        write, sync = os.write, os.fsync
        monkeypatch.setattr(os, "write", lambda fd, data: (done.append("write"), write(fd, data))[1])
        monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), sync(fd))[1])
        log.append("paused", {})
        assert done == ["write", "sync"]


@pytest.mark.parametrize("kind", ["created", "recovered", "Paused", "", "two words", "-x"])
def test_kinds_that_only_the_log_writes_or_nobody(path: Path, kind: str) -> None:
    with open_log(path, site="north") as log, pytest.raises(ValueError, match="no kind of entry"):
        log.append(kind, {})
    assert verify(path).entries == 1


@pytest.mark.parametrize("content", [{"x": float("nan")}, {"x": object()}, {"x": "y" * 5_000_000}])
def test_content_that_cannot_be_written_leaves_the_log_as_it_was(path: Path, content: dict[str, Any]) -> None:
    with open_log(path, site="north") as log:
        with pytest.raises((ValueError, TypeError)):
            log.append("paused", content)
        log.append("paused", {"number": 1})
    assert numbers(path) == [1] and verify(path).whole


def test_a_second_writer_is_refused_in_this_process_and_another(path: Path) -> None:
    with open_log(path, site="north") as log:
        with pytest.raises(StoreError, match="Another process is writing"):
            open_log(path, site="north")
        code = "import sys; from pathlib import Path; from client.records.audit_log import open_log;"
        code += "open_log(Path(sys.argv[1]), site='north')"
        other = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        assert "Another process is writing to the audit log" in other.stderr
        log.append("paused", {"number": 0})
    assert numbers(path) == [0] and filled(path, 1).count == 3


def test_threads_of_one_process_share_a_log(path: Path) -> None:
    with open_log(path, site="north") as log:
        threads = [
            threading.Thread(
                target=lambda start=start: [log.append("paused", {"number": start + n}) for n in range(20)]
            )
            for start in (0, 100, 200)
        ]
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert verify(path).whole  # readers beside the writer
        for thread in threads:
            thread.join()
    assert sorted(numbers(path)) == [start + n for start in (0, 100, 200) for n in range(20)]
    assert verify(path).whole


def test_a_closed_log_takes_nothing(path: Path) -> None:
    with open_log(path, site="north") as log:
        pass
    with pytest.raises(ValueError, match="closed"):
        log.append("paused", {})
    assert verify(path).entries == 1


def test_the_log_of_another_site_is_refused(path: Path) -> None:
    filled(path)
    with pytest.raises(StoreError, match="belongs to another site"):
        open_log(path, site="south")


@pytest.mark.parametrize("keep", ["nothing", "half", "all but the line feed"])
@pytest.mark.parametrize("before", [0, 2])
def test_a_line_that_a_crash_cut_is_recovered_and_kept(path: Path, before: int, keep: str) -> None:
    filled(path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    cut = {"nothing": b"", "half": lines[before][:57], "all but the line feed": lines[before][:-1]}[keep]
    path.write_bytes(b"".join(lines[:before]) + cut)
    assert verify(path).whole and verify(path).unfinished_bytes == len(cut)
    anchor = filled(path, 1)
    report = verify(path, anchor)
    assert report.whole and report.unfinished_bytes == 0
    assert report.kinds.get("recovered", 0) == (1 if cut else 0)
    assert report.kinds["created"] == 1 and report.site == "north"
    assert cut in path.read_bytes(), "what was cut stays in the file"
    assert numbers(path)[-1] == 0


def test_a_recovery_that_a_crash_cut_is_recovered_wherever_it_was_cut(path: Path) -> None:
    filled(path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"entry":{"at":')
    filled(path, 0)
    recovered = path.read_bytes()
    for length in range(len(whole) + 15, len(recovered) + 1, 3):
        path.write_bytes(recovered[:length])
        report = verify(path)
        assert report.whole, (length, report.faults)
        filled(path, 0)
        report = verify(path)
        assert report.whole and report.kinds["recovered"] == 1 and report.unfinished_bytes == 0, length
        assert path.read_bytes().startswith(recovered[:length])


def test_what_a_recovery_speaks_of_cannot_be_changed(path: Path) -> None:
    filled(path, 1)
    path.write_bytes(path.read_bytes() + b'{"entry":{"at":')
    filled(path, 1)
    path.write_bytes(path.read_bytes().replace(b'{"entry":{"at":#\n', b'{"entry":{"at"_#\n'))
    assert verify(path).faults == ("what stands before entry 3 is not what it recovered",)
    path.write_bytes(path.read_bytes().replace(b'{"entry":{"at"_#\n', b""))
    assert verify(path).faults == ("what stands before entry 3 is not what it recovered",)
    with pytest.raises(AuditDamaged, match="not what it recovered"):
        open_log(path, site="north")


KILLED = """
import sys
from pathlib import Path
from client.records.audit_log import open_log
with open_log(Path(sys.argv[1]), site="north") as log:
    number = int(sys.argv[2])
    while True:
        log.append("paused", {"number": number, "filling": "x" * 20_000})
        print(number, flush=True)
        number += 1
"""


def test_kill_9_in_the_middle_of_appending_loses_no_entry_that_was_returned(path: Path) -> None:
    """Real processes, killed after one entry more each time; whatever one has printed is in the log for ever."""
    told: list[int] = []
    for start in range(4):
        process = subprocess.Popen([sys.executable, "-c", KILLED, path, str(100 * start)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        told += [int(process.stdout.readline()) for _ in range(start + 1)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
    anchor = filled(path, 0)
    assert set(told) <= set(numbers(path))
    assert verify(path, anchor).whole


CUT_BY_A_SIGNAL = """
import os, signal, sys
from pathlib import Path
from client.records.audit_log import open_log
log = open_log(Path(sys.argv[1]), site="north")
write = os.write
def half(descriptor, data):
    write(descriptor, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = half
log.append("paused", {"number": 7})
"""


def test_kill_9_between_the_halves_of_a_line(path: Path) -> None:
    filled(path, 1)
    before = path.read_bytes()
    killed = subprocess.run([sys.executable, "-c", CUT_BY_A_SIGNAL, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    torn = path.read_bytes()
    assert torn.startswith(before) and len(torn) > len(before) and not torn.endswith(b"\n")
    assert verify(path).unfinished_bytes == len(torn) - len(before)
    filled(path, 1)
    report = verify(path)
    assert report.whole and report.kinds == {"created": 1, "paused": 2, "recovered": 1}


def test_a_full_disk_is_said_and_the_log_goes_on_when_there_is_space(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_log(path, site="north") as log:
        log.append("paused", {"number": 0})
        write = os.write

        def full(descriptor: int, data: bytes) -> int:
            if len(data) <= 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:40])

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            for _ in range(2):
                with pytest.raises(EnvironmentFault, match="No space left on device"):
                    log.append("paused", {"number": 1})
        anchor = log.append("paused", {"number": 2})
    report = verify(path, anchor)
    assert report.whole and report.kinds["recovered"] == 1
    assert numbers(path) == [0, 2]


def test_a_real_full_file_system_call(path: Path) -> None:
    """The kernel itself refuses: a limit on the size of files cuts a line in the middle."""
    code = """
import resource, signal, sys
from pathlib import Path
from client.records.audit_log import open_log
from more_model.errors import EnvironmentFault
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
with open_log(path, site="north") as log:
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, resource.RLIM_INFINITY))
    try:
        log.append("paused", {"number": 1})
    except EnvironmentFault as fault:
        print(fault.cause)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.append("paused", {"number": 2})
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert numbers(path) == [2] and verify(path).kinds == {"created": 1, "paused": 1, "recovered": 1}


def test_a_log_that_was_changed_is_not_written_to(path: Path) -> None:
    filled(path)
    damaged = path.read_bytes().replace(b'{"number":1}', b'{"number":9}')
    path.write_bytes(damaged)
    with pytest.raises(AuditDamaged, match="entry 3 is not what was written"):
        open_log(path, site="north")
    assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    ("meddle", "match"),
    [
        (lambda path: os.truncate(path, 300), "lost entries"),
        (lambda path: os.truncate(path, 0), "it has 0, and 4 were written"),
        (lambda path: path.unlink(), "moved away or replaced"),
        (lambda path: path.rename(path.with_suffix(".old")) and filled(path, 5), "moved away or replaced"),
        (lambda path: path.write_bytes(path.read_bytes() + b"by hand\n"), "line 5 is not an entry"),
    ],
)
def test_a_log_that_is_meddled_with_while_it_is_open_takes_nothing_more(
    path: Path, meddle: Callable[[Path], object], match: str
) -> None:
    with open_log(path, site="north") as log:
        for number in range(3):
            log.append("paused", {"number": number})
        meddle(path)
        for _ in range(2):
            with pytest.raises(AuditDamaged, match=match):
                log.append("paused", {"number": 9})


def test_the_file_only_grows(path: Path) -> None:
    """So that `chattr +a` fits: opened for appending, never truncated."""
    with open_log(path, site="north") as log:
        flags = fcntl.fcntl(log._descriptor, fcntl.F_GETFL)  # what the kernel was told is nowhere else to be seen
        assert flags & os.O_APPEND


def test_the_anchor_file_finds_a_log_that_lost_entries(path: Path, anchor_file: Path) -> None:
    anchor = filled(path, anchor_file=anchor_file)
    assert anchor_file.read_text().strip() == str(anchor)
    shorter = b"".join(path.read_bytes().splitlines(keepends=True)[:-1])
    path.write_bytes(shorter)
    with pytest.raises(AuditDamaged, match="it has 3, and 4 were written"):
        open_log(path, site="north", anchor_file=anchor_file)
    assert path.read_bytes() == shorter
    path.unlink()
    with pytest.raises(AuditDamaged, match="it has 0, and 4 were written"):
        open_log(path, site="north", anchor_file=anchor_file)


def test_the_anchor_file_finds_a_chain_that_was_computed_anew(path: Path, anchor_file: Path) -> None:
    filled(path, anchor_file=anchor_file)
    path.unlink()
    filled(path, 5)
    with pytest.raises(AuditDamaged, match="entry 4 is not the one that was written"):
        open_log(path, site="north", anchor_file=anchor_file)


def test_a_log_ahead_of_its_anchor_file_is_what_a_crash_leaves(path: Path, anchor_file: Path) -> None:
    filled(path, anchor_file=anchor_file)
    behind = anchor_file.read_bytes()
    filled(path, anchor_file=anchor_file)
    anchor_file.write_bytes(behind)
    assert filled(path, 1, anchor_file=anchor_file).count == 8
    assert anchor_file.read_text().startswith("8:")


def test_a_missing_or_unreadable_anchor_file_is_not_made_up(path: Path, anchor_file: Path) -> None:
    filled(path, 0)
    filled(path, 1, anchor_file=anchor_file)  # nothing had happened yet, so there was nothing to lose
    anchor_file.write_bytes(b"4:abc\n")
    with pytest.raises(AuditDamaged, match="cannot be read"):
        open_log(path, site="north", anchor_file=anchor_file)
    anchor_file.unlink()
    with pytest.raises(AuditDamaged, match=r"is gone.*\n.*--write-anchor"):
        open_log(path, site="north", anchor_file=anchor_file)


def test_the_anchor_file_lies_elsewhere(path: Path) -> None:
    with pytest.raises(ConfigError, match="lies in the log's folder"):
        open_log(path, site="north", anchor_file=path.parent / "below" / "anchor")


def test_lines_are_json_for_any_other_reader(path: Path) -> None:
    anchor = filled(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["entry"]["number"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["head"] == anchor.head


def test_reading_without_a_log(path: Path) -> None:
    with pytest.raises(AuditDamaged, match="no audit log"):
        list(entries(path))
    with pytest.raises(AuditDamaged, match="no audit log"):
        verify(path)
