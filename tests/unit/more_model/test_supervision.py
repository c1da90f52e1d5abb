"""Real child processes: kept running, ended in order, and never left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from more_model.errors import EnvironmentFault
from more_model.supervision import Backoff, Program, Supervised, console_script

QUICK = Backoff(first_s=0.05, longest_s=0.05, jitter=0.0)


def program(folder: Path, code: str, **options: object) -> Program:
    return Program("child", [sys.executable, "-u", "-c", code], folder, **options)  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_waits_double_up_to_the_longest_and_are_shortened_by_chance() -> None:
    backoff = Backoff(first_s=2, longest_s=60, jitter=0.5)
    assert [backoff.wait_s(failures, 0.0) for failures in (1, 2, 3, 6, 10_000)] == [2, 4, 8, 60, 60]
    assert backoff.wait_s(1, 0.5) == 1.5
    assert backoff.wait_s(10_000, 0.999) > 30


def test_a_program_that_ends_is_started_again_and_its_log_is_kept(tmp_path: Path) -> None:
    child = Supervised(program(tmp_path, "import os; print('pid', os.getpid())"), QUICK)
    child.start()
    eventually(lambda: len(child.last_lines) >= 3)
    child.stop()
    assert child.starts >= 3
    assert len(set(child.last_lines)) == len(child.last_lines), "each start was another process"
    assert child.pid is None


def test_what_is_to_be_done_before_a_start_is_done_before_each(tmp_path: Path) -> None:
    done: list[int] = []
    child = Supervised(program(tmp_path, "print('started')", before=lambda: done.append(child.starts)), QUICK)
    child.start()
    eventually(lambda: child.starts >= 3)
    child.stop()
    assert done[:3] == [0, 1, 2]


def test_a_program_that_ran_long_enough_starts_over_at_the_first_wait(tmp_path: Path) -> None:
    draws: list[float] = []
    settled = Backoff(first_s=0.01, longest_s=1000, settled_s=0.0, jitter=0.0)
    child = Supervised(program(tmp_path, "pass"), settled, draw=lambda: draws.append(0.0) or 0.0)  # type: ignore[func-returns-value]
    child.start()
    eventually(lambda: child.starts >= 4)
    child.stop()
    assert len(draws) >= 3, "with doubling waits this would take far longer than this test"


def test_a_program_is_killed_when_it_does_not_end_on_request(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(600)"
    child = Supervised(program(tmp_path, stubborn), QUICK)
    child.start()
    eventually(lambda: "up" in child.last_lines)
    pid = child.pid
    assert pid is not None
    child.stop(timeout_s=0.3)
    assert not alive(pid)


def test_what_a_killed_program_had_started_goes_with_it(tmp_path: Path) -> None:
    starts_another = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)\n"
        "time.sleep(600)"
    )
    child = Supervised(program(tmp_path, starts_another), Backoff(first_s=600, longest_s=600))
    child.start()
    eventually(lambda: len(child.last_lines) == 1)
    pid, grandchild = child.pid, int(child.last_lines[0])
    assert pid is not None and alive(grandchild)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(grandchild))
    child.stop()


def test_a_program_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor = (
        "import sys, time; from pathlib import Path\n"
        "from more_model.supervision import Program, Supervised\n"
        "code = 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'\n"
        "child = Supervised(Program('child', [sys.executable, '-c', code], Path(sys.argv[1])))\n"
        "child.start()\n"
        "while not child.last_lines: time.sleep(0.02)\n"
        "print(child.last_lines[0], flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", supervisor, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert alive(pid)
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not alive(pid))


def test_a_line_that_tells_of_a_broken_program_restarts_it(tmp_path: Path) -> None:
    code = "import time; print('Exception in thread heart'); time.sleep(600)"
    child = Supervised(program(tmp_path, code, broken=lambda line: "Exception in thread" in line), QUICK)
    child.start()
    eventually(lambda: child.starts >= 2)
    child.stop()


def test_its_log_is_passed_on_without_colours_and_at_its_own_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        r"print('\x1b[93mWARNING \x1b[0m:   certificate ends soon'); print('INFO: fine');"
        r"print('2026-01-01T00:00:00Z INFO [uvicorn.access] a request'); import time; time.sleep(600)"
    )
    child = Supervised(program(tmp_path, code), QUICK)
    with caplog.at_level(logging.INFO, "more_model.supervision"):
        child.start()
        eventually(lambda: len(child.last_lines) == 3)
        child.stop()
    passed = [(record.levelname, record.getMessage()) for record in caplog.records if record.name.endswith(".child")]
    assert passed == [("WARNING", "WARNING :   certificate ends soon"), ("INFO", "INFO: fine")]


def test_environment_and_folder_are_the_programs_own(tmp_path: Path) -> None:
    code = "import os, time; print(os.environ['COLOUR'], os.getcwd(), oct(os.umask(0))); time.sleep(600)"
    folder = tmp_path / "its own"
    child = Supervised(program(folder, code, environment={"COLOUR": "green"}), QUICK)
    child.start()
    eventually(lambda: len(child.last_lines) == 1)
    child.stop()
    assert child.last_lines == (f"green {folder} 0o77",)


def test_a_console_script_that_is_not_installed_is_named() -> None:
    with pytest.raises(EnvironmentFault, match="flower-nothing is not installed"):
        console_script("flower-nothing")
