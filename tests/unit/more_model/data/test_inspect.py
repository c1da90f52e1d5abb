"""Inspection ends in a verdict, whatever the file does to its reader."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

from more_model.cli import app
from more_model.data.bounded import Outcome, bounded_worker
from more_model.data.examine import examine
from more_model.data.inspect import inspect_file, inspect_files

Beating = Callable[..., npt.NDArray[np.float64]]
Write = Callable[..., Path]
RAMP = np.tile(np.arange(64, dtype=np.uint16) * 64, (48, 1))


def test_kind_comes_from_the_content(
    write_dicom: Write, write_wfdb: Write, beating_mv: Beating, tmp_path: Path
) -> None:
    record = write_wfdb(beating_mv())
    (tmp_path / "image.jpeg").write_text("FINDINGS: Clear lungs.\nIMPRESSION: Normal.\n")
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "image.png").rename(tmp_path / "report.txt")
    paths = [write_dicom(RAMP, "scan.txt"), tmp_path / "report.txt", record, record.with_suffix(".dat")]
    verdicts = list(inspect_files([*paths, tmp_path / "image.jpeg"]))
    assert [verdict.kind for verdict in verdicts] == ["xray", "xray", "ecg", "ecg", "report"]
    assert all(verdict.accepted and not verdict.reason for verdict in verdicts)
    assert verdicts[0].name == "scan.txt"
    assert verdicts[2].facts["shape"] == [5000, 12] and verdicts[2].facts["training_shape"] == [12, 1000]
    assert verdicts[2].facts["sampling_rate_hz"] == 500.0 and verdicts[2].facts["unit"] == "mV"
    assert verdicts[2].facts["leads"][:4] == ["I", "II", "III", "aVR"]
    assert verdicts[4].facts["words"] == 3 and verdicts[4].facts["origin"] == "findings+impression"


def test_a_refused_image_is_still_described(write_dicom: Write) -> None:
    verdict = examine(write_dicom(RAMP, Modality="CT", WindowCenter=2048, WindowWidth=4096))
    assert (verdict["kind"], verdict["accepted"], verdict["reason"]) == ("xray", False, "not-a-radiograph")
    assert verdict["facts"]["shape"] == [48, 64] and verdict["facts"]["corrections"] == ["voi-window"]


def test_a_refused_ecg_is_still_described(write_wfdb: Write, beating_mv: Beating) -> None:
    verdict = examine(write_wfdb(beating_mv()[:, :2], ("I", "II")))
    assert (verdict["kind"], verdict["reason"]) == ("ecg", "missing-leads")
    assert verdict["facts"]["leads"] == ["I", "II"] and "training_shape" not in verdict["facts"]


def test_nothing_shown_identifies_the_patient(write_dicom: Write, tmp_path: Path) -> None:
    damaged = write_dicom(RAMP, "damaged.dcm", NumberOfFrames="1", PatientComments="Secret^Name")
    damaged.write_bytes(damaged.read_bytes().replace(b"DX", b"\xff\xfe", 1))
    report = tmp_path / "report.txt"
    report.write_text("FINDINGS: Secret^Name has clear lungs. SECRET-ID\n")
    for path in (write_dicom(RAMP), write_dicom(RAMP, "ct.dcm", Modality="CT"), damaged, report):
        shown = json.dumps(examine(path))
        assert "Secret" not in shown and "SECRET" not in shown


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty-file"),
        (b"%PDF-1.7 ...", "unknown-format"),
        (b"\x1f\x8b\x08\x00abc", "unknown-format"),
        (b"PK\x03\x04abc", "unknown-format"),
        (os.urandom(64) + b"\x00" * 64, "unknown-format"),
        (b"\x08\x00\x05\x00CS\n\x00ISO_IR 100", "no-dicom-header"),
        (b"\x00" * 128 + b"DICM", "unknown-transfer-syntax"),
        (b"\x00" * 128 + b"DICM" + b"\xff" * 50, "damaged-dicom"),
        (b"   \n\n", "empty-report"),
        (b"INDICATION: cough\n", "empty-report"),
        (b"\xff\xd8\xff\xe0nonsense", "damaged-pixels"),
        (b"record 12 500 5000\nrecord.dat 16 200/mV 16 0 0 0 0 I\n", "bad-header"),
    ],
)
def test_useless_files_have_named_refusals(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "record.hea" if content.startswith(b"record") else tmp_path / "file"
    path.write_bytes(content)
    verdict = examine(path)
    assert not verdict["accepted"] and verdict["message"]
    assert verdict["reason"] in ({reason, "unknown-transfer-syntax"} if reason == "damaged-dicom" else {reason})


def test_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert examine(tmp_path / "pipe")["reason"] == "not-a-file"
    assert examine(tmp_path)["reason"] == "not-a-file"
    assert examine(tmp_path / "absent")["reason"] == "file-not-found"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_reports_in_the_usual_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "report").write_text("Vänster grenblock, övrigt normalt.", encoding=encoding)
    verdict = examine(tmp_path / "report")
    assert verdict["accepted"] and verdict["facts"]["words"] == 4 and verdict["facts"]["characters"] == 34


def test_a_fault_of_a_reader_is_named_and_says_nothing(monkeypatch: pytest.MonkeyPatch, write_dicom: Write) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("Secret^Name")

    monkeypatch.setattr("more_model.data.examine.read_xray", broken)
    verdict = examine(write_dicom(RAMP))
    assert verdict["reason"] == "reader-failed" and "ZeroDivisionError" in verdict["message"]
    assert "Secret" not in json.dumps(verdict)


@pytest.fixture
def hostile_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module outside the project that crashes, hangs or hoards on request; its parent must survive all three."""
    script = tmp_path / "hostile_reader.py"
    script.write_text(
        "import os, signal, time\n"
        "from more_model.data.bounded import serve\n"
        "def handle(request):\n"
        "    print('noise that is no answer', flush=True)\n"
        "    if request == 'crash': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if request == 'leave': os._exit(0)\n"
        "    if request == 'hang': time.sleep(600)\n"
        "    if request == 'hoard': return str(len(bytearray(4 * 2**30)))\n"
        "    return 'done ' + request\n"
        "serve(handle)\n"
    )
    start = subprocess.Popen

    def popen(arguments: list[str], **options: Any) -> Any:
        assert arguments[2:4] == ["-m", "hostile_reader"]
        options["env"]["PYTHONPATH"] += os.pathsep + str(tmp_path)
        return start(arguments, **options)

    monkeypatch.setattr("more_model.data.bounded.subprocess.Popen", popen)
    yield "hostile_reader"


def test_crash_hang_and_hoard_cost_one_file_each(hostile_worker: str) -> None:
    with bounded_worker(hostile_worker, timeout_s=2.0, max_memory_bytes=2**31) as ask:
        assert ask("a") == Outcome("answered", "done a")
        assert ask("crash") == Outcome("crashed")
        assert ask("b\n\udcff") == Outcome("answered", "done b\n\udcff")
        assert ask("leave") == Outcome("crashed")
        assert ask("hoard") == Outcome("out-of-memory")
        began = time.monotonic()
        assert ask("hang") == Outcome("timed-out")
        assert time.monotonic() - began < 30.0
        assert ask("c") == Outcome("answered", "done c")


def test_a_worker_that_cannot_start_is_a_crash() -> None:
    with bounded_worker("more_model.data.no_such_module", timeout_s=2.0, max_memory_bytes=2**31) as ask:
        assert ask("a") == Outcome("crashed")


def test_too_little_memory_is_a_verdict(write_dicom: Write) -> None:
    verdict = inspect_file(write_dicom(RAMP), max_memory_bytes=2**24)
    assert not verdict.accepted and verdict.reason in {"reader-crashed", "too-much-memory", "reader-failed"}


def test_control_characters_in_a_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2Jb\n"
    path.write_bytes(b"")
    assert inspect_file(path).name == "a?[2Jb?"


def test_command_line(write_dicom: Write, tmp_path: Path) -> None:
    good = write_dicom(RAMP)
    (tmp_path / "empty.txt").write_text("")
    accepted = CliRunner().invoke(app, ["inspect", str(good)])
    assert accepted.exit_code == 0, accepted.output
    assert "image.dcm: xray, accepted" in accepted.stdout and "shape: 48, 64" in accepted.stdout
    refused = CliRunner().invoke(app, ["inspect", str(good), str(tmp_path / "empty.txt"), "--json"])
    assert refused.exit_code == 3
    first, second = (json.loads(line) for line in refused.stdout.splitlines())
    assert first["accepted"] and first["facts"]["modality"] == "DX"
    assert (second["name"], second["accepted"], second["reason"]) == ("empty.txt", False, "empty-file")
