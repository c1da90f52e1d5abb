"""Ingest from real files: what is kept, what is refused; interruptions, retries and processes change nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.data import convert as convert_module
from more_model.data import convert_pool
from more_model.data.convert import Converted, Refused, convert, source_state
from more_model.data.ingest import ingest
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import SiteStore
from more_model.data.study import Modality, Study
from more_model.errors import DataError, EnvironmentFault, InputRefused, StoreError

SMALL = Preprocessing(image_size=16, ecg_rate_hz=50, ecg_seconds=2)
LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
FILES = ("index.jsonl", "quarantine.jsonl", "xray.bin", "ecg.bin")


def write_png(path: Path, mode: str = "L", shade: int = 0) -> Path:
    from PIL import Image

    grey = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8) * 2
    grey[:, :30] = np.maximum(grey[:, :30], shade)
    Image.fromarray(grey).convert(mode).save(path)
    return path


def write_record(path: Path, leads: Sequence[str] = LEADS) -> Path:
    """A WFDB record, format 16, 100 Hz, 2 s, 200 units a mV; lead number n swings by n + 1 tenths of a mV."""
    swing = np.sin(np.arange(200) / 7.0)[:, None] * (np.arange(len(leads)) + 1) * 20
    path.with_suffix(".dat").write_bytes(swing.astype("<i2").tobytes())
    lines = [f"{path.name} {len(leads)} 100 200"]
    lines += [f"{path.name}.dat 16 200/mV 16 0 0 0 0 {lead}" for lead in leads]
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Two films (one RGBA), two traces, a report file, an ECG text, and four studies that cannot be used."""
    (tmp_path / "report.txt").write_text(" FINAL REPORT\n FINDINGS:  The heart is large.\n\n IMPRESSION:  Edema.\n")
    (tmp_path / "cut.png").write_bytes(write_png(tmp_path / "whole.png").read_bytes()[:60])
    eight = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2")

    def film(name: str, path: Path) -> Study:
        return Study(Modality.XRAY, name, f"p-{name}", f"g-{name}", source=path, labels={"Edema": 1.0})

    def trace(name: str, path: Path) -> Study:
        return Study(Modality.ECG, name, f"p-{name}", f"g-{name}", site="ward-3", source=path)

    def report(name: str, about: Modality, **content: Any) -> Study:
        return Study(Modality.REPORT, name, "p-a", "g-a", describes=about, **content)

    return [
        film("a", write_png(tmp_path / "a.png")),
        report("ra", Modality.XRAY, source=tmp_path / "report.txt"),
        film("missing", tmp_path / "missing.png"),
        trace("e", write_record(tmp_path / "e")),
        report("re", Modality.ECG, text="Rhythm: sinus\n IMPRESSION: none "),
        trace("eight", write_record(tmp_path / "eight", eight)),
        film("b", write_png(tmp_path / "b.png", "RGBA")),
        film("cut", tmp_path / "cut.png"),
        report("empty", Modality.XRAY, text="INDICATION: \n"),
        trace("f", write_record(tmp_path / "f")),
    ]


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_usable_studies_are_stored_and_the_others_refused_by_reason(studies: list[Study], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = ingest(studies, tmp_path / "s", "north", SMALL, ceiling=0.5, progress=lambda *step: seen.append(step))
    assert report.studies == 10
    assert report.stored == {"xray": 2, "ecg": 2, "report": 2}
    assert sum(report.refused.values()) == 4
    assert {"file-not-found", "missing-leads", "empty-report"} < set(report.refused)
    assert report.refused_share == 0.4
    assert report.corrections["alpha-dropped"] == 1
    assert seen == [(done, 10) for done in range(1, 11)]
    store = SiteStore.open_read(tmp_path / "s")
    assert store.verify() == 6
    assert {key[1] for key in store.quarantine} == {"missing", "eight", "cut", "empty"}
    assert "V3" in store.quarantine[Modality.ECG, "eight"].message


def test_what_is_stored(studies: list[Study], tmp_path: Path) -> None:
    ingest(studies, tmp_path / "s", "north", SMALL, ceiling=0.5)
    store = SiteStore.open_read(tmp_path / "s")
    by_id = {record.study_id: record for record in store.records}
    assert by_id["ra"].text == "The heart is large. Edema."
    # Words of an ECG report are kept whole, whatever looks like a section.
    assert by_id["re"].text == "Rhythm: sinus IMPRESSION: none"
    assert by_id["a"].labels == {"Edema": 1.0}
    assert by_id["e"].attributes["site"] == "ward-3"
    image = store.xrays[by_id["a"].row or 0]
    # 40 x 60 pixels: the aspect is kept, so a third of the square is padding, above and below.
    assert not image[:2].any() and not image[-2:].any() and image[4:-4].any()
    trace = store.ecgs[by_id["e"].row or 0].astype(np.float32)
    # Standard order is aVR, aVL, aVF; the file has aVF before aVL. Amplitudes stay in millivolts.
    spans = np.ptp(trace, axis=1)
    expected = 0.2 * np.array([1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11, 12])
    assert np.allclose(spans, expected, rtol=0.08)


def test_a_second_run_changes_nothing(studies: list[Study], tmp_path: Path) -> None:
    first = ingest(studies, tmp_path / "s", "north", SMALL, ceiling=0.5)
    before = content(tmp_path / "s")
    second = ingest(studies, tmp_path / "s", "north", SMALL, ceiling=0.5)
    assert second.stored == {}
    assert second.already_stored == first.stored
    assert second.refused == first.refused
    assert second.changed == 0
    assert content(tmp_path / "s") == before


def test_new_studies_are_added_to_old_ones(studies: list[Study], tmp_path: Path) -> None:
    whole = ingest(studies, tmp_path / "whole", "north", SMALL, ceiling=1.0)
    ingest(studies[:4], tmp_path / "parts", "north", SMALL, ceiling=1.0)
    rest = ingest(studies, tmp_path / "parts", "north", SMALL, ceiling=1.0)
    assert rest.stored == {"xray": 1, "ecg": 1, "report": 1}
    assert rest.refused == whole.refused
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_a_refused_study_is_tried_again_once_its_file_changes(studies: list[Study], tmp_path: Path) -> None:
    ingest(studies, tmp_path / "s", "north", SMALL, ceiling=1.0)
    write_png(tmp_path / "missing.png")
    write_record(tmp_path / "eight")
    again = ingest(studies, tmp_path / "s", "north", SMALL, ceiling=1.0)
    assert again.stored == {"xray": 1, "ecg": 1}
    assert sum(again.refused.values()) == 2
    assert {key[1] for key in SiteStore.open_read(tmp_path / "s").quarantine} == {"cut", "empty"}


def test_changed_facts_of_stored_studies_are_counted(studies: list[Study], tmp_path: Path) -> None:
    ingest(studies, tmp_path / "s", "north", SMALL, ceiling=1.0)
    changed = [replace(study, labels={"Edema": 0.0}) if study.study_id == "a" else study for study in studies]
    assert ingest(changed, tmp_path / "s", "north", SMALL, ceiling=1.0).changed == 1


def test_past_the_ceiling_it_fails_and_keeps_all(studies: list[Study], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"4 of 10 studies \(40\.0%\) were refused, above the ceiling of 39\.0%"
    ) as caught:
        ingest(studies, tmp_path / "s", "north", SMALL, ceiling=0.39)
    assert "file-not-found (1)" in str(caught.value)
    assert "p-" not in str(caught.value)
    store = SiteStore.open_read(tmp_path / "s")
    assert (len(store.records), len(store.quarantine)) == (6, 4)
    ingest(studies, tmp_path / "s", "north", SMALL, ceiling=0.4)


def test_another_site_or_preprocessing_is_refused(studies: list[Study], tmp_path: Path) -> None:
    ingest(studies[:1], tmp_path / "s", "north", SMALL)
    with pytest.raises(StoreError, match="site 'north'"):
        ingest(studies, tmp_path / "s", "south", SMALL)
    with pytest.raises(StoreError, match="ecg_scaling is millivolt, not minmax"):
        ingest(studies, tmp_path / "s", "north", SMALL.model_copy(update={"ecg_scaling": "minmax"}))


def test_an_id_given_twice_is_refused(studies: list[Study], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="id of a xray study is given twice"):
        ingest([studies[0], studies[0]], tmp_path / "s", "north", SMALL)


def test_an_interrupt_keeps_what_was_read(studies: list[Study], tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(studies, tmp_path / "s", "north", SMALL, progress=interrupt)
    assert len(SiteStore.open_read(tmp_path / "s").records) == 4
    rest = ingest(studies, tmp_path / "s", "north", SMALL, ceiling=0.5)
    assert sum(rest.already_stored.values()) == 4
    ingest(studies, tmp_path / "whole", "north", SMALL, ceiling=0.5)
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_workers_leave_interrupts_to_their_parent() -> None:
    before = signal.getsignal(signal.SIGINT)
    with convert_pool._pool(1) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before


KILLED = """
import os, pickle, sys
from pathlib import Path
from more_model.data import store
from more_model.data.ingest import ingest
store._COMMIT_STUDIES = 3
folder = Path(sys.argv[1])
studies, preprocessing = pickle.loads((folder / "arguments").read_bytes())
ingest(studies, folder / "s", "north", preprocessing, progress=lambda done, _: os._exit(9) if done == 8 else None)
"""


def test_a_killed_process_loses_and_doubles_nothing(studies: list[Study], tmp_path: Path) -> None:
    import pickle

    (tmp_path / "arguments").write_bytes(pickle.dumps((studies, SMALL)))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=120, check=False)
    assert killed.returncode == 9
    survived = SiteStore.open_read(tmp_path / "s")
    assert survived.verify() + len(survived.quarantine) == 6
    ingest(studies, tmp_path / "s", "north", SMALL, ceiling=0.5)
    ingest(studies, tmp_path / "whole", "north", SMALL, ceiling=0.5)
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_a_full_disk_is_named_and_loses_nothing(
    studies: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    ingest(studies[:2], tmp_path / "s", "north", SMALL)
    with monkeypatch.context() as patched:

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(os, "fsync", full)
        with pytest.raises(EnvironmentFault, match=r"disk of .* is full"):
            ingest(studies, tmp_path / "s", "north", SMALL, ceiling=1.0)
    assert SiteStore.open_read(tmp_path / "s").verify() == 2
    ingest(studies, tmp_path / "s", "north", SMALL, ceiling=1.0)
    ingest(studies, tmp_path / "whole", "north", SMALL, ceiling=1.0)
    assert content(tmp_path / "s") == content(tmp_path / "whole")


class _Bomb(type(Path())):  # type: ignore[misc]
    """A path that ends the process which unpickles it, as a fault inside a decoder would."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_processes_change_no_byte_and_a_crash_costs_one_study(tmp_path: Path) -> None:
    films = [
        Study(
            Modality.XRAY,
            f"x{number}",
            "p",
            f"g{number}",
            source=write_png(tmp_path / f"{number}.png", shade=5 * number),
        )
        for number in range(40)
    ]
    ingest(films, tmp_path / "one", "north", SMALL)
    guilty = 3
    broken = [replace(film, source=_Bomb(film.source)) if place == guilty else film for place, film in enumerate(films)]
    report = ingest(broken, tmp_path / "two", "north", SMALL, workers=2)
    assert report.stored == {"xray": 39}
    assert report.refused == {"reader-crashed": 1}
    one, two = SiteStore.open_read(tmp_path / "one"), SiteStore.open_read(tmp_path / "two")
    names = [record.study_id for record in one.records]
    assert [record.study_id for record in two.records] == names[:guilty] + names[guilty + 1 :]
    assert np.array_equal(two.xrays, np.delete(one.xrays, guilty, axis=0))
    assert len(np.unique(one.xrays.reshape(40, -1), axis=0)) > 35


class _PoolThatBreaksOnce:
    """Runs everything in place; its first job is lost with its worker while the jobs after it are finished."""

    def __init__(self, breaks: list[bool]) -> None:
        self._breaks = breaks

    def __enter__(self) -> _PoolThatBreaksOnce:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self._breaks.pop() if self._breaks else False:
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(function(*arguments))
        return future


def test_outcomes_keep_their_order_when_a_later_chunk_was_finished_before_the_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [Study(Modality.REPORT, str(n), "p", "g", text=f"word {n}", describes=Modality.ECG) for n in range(200)]
    breaks = [True]
    monkeypatch.setattr(convert_pool, "_pool", lambda _workers: _PoolThatBreaksOnce(breaks))
    texts = [
        outcome.text for outcome in convert_pool.convert_all(words, SMALL, workers=2) if isinstance(outcome, Converted)
    ]
    assert not breaks
    assert texts == [study.text for study in words]


def test_a_missing_package_stops_the_ingest_instead_of_refusing_every_study(
    studies: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_wfdb(_study: Study, _preprocessing: Preprocessing, _gate: object) -> Converted:
        raise EnvironmentFault("The Python package 'wfdb' is needed.")

    monkeypatch.setitem(convert_module._READERS, Modality.ECG, without_wfdb)
    with pytest.raises(EnvironmentFault, match="wfdb"):
        ingest(studies, tmp_path / "s", "north", SMALL)
    assert [record.study_id for record in SiteStore.open_read(tmp_path / "s").records] == ["a", "ra"]


def outcome_of(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Converted | Refused:
    def fail(_study: Study, _preprocessing: Preprocessing, _gate: object) -> Converted:
        raise error

    monkeypatch.setitem(convert_module._READERS, Modality.XRAY, fail)
    return convert(Study(Modality.XRAY, "x", "p", "g", source=Path("x")), SMALL)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputRefused("constant-image", "All the same."), "constant-image"),
        (FileNotFoundError("/secret"), "file-not-found"),
        (PermissionError("/secret"), "permission-denied"),
        (MemoryError(), "out-of-memory"),
        (ValueError("secret name"), "reader-error"),
    ],
)
def test_every_failure_of_a_reader_has_a_reason_without_identifiers(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, reason: str
) -> None:
    outcome = outcome_of(monkeypatch, error)
    assert isinstance(outcome, Refused)
    assert outcome.reason == reason
    assert "secret" not in outcome.message


def test_a_reader_that_hangs_is_stopped_even_if_it_swallows_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_study: Study, _preprocessing: Preprocessing, _gate: object) -> Converted:
        while True:
            with contextlib.suppress(Exception):
                sum(range(1000))

    monkeypatch.setitem(convert_module._READERS, Modality.XRAY, hang)
    outcome = convert(Study(Modality.XRAY, "x", "p", "g"), SMALL, timeout_s=0.05)
    assert isinstance(outcome, Refused) and outcome.reason == "reader-timeout"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"Herzgr\xf6\xdfe normal", "Herzgröße normal"),
        ("\ufeffHerzgröße normal".encode(), "Herzgröße normal"),
        (b"a\x00b", "not-text"),
        (b"word " * 300_000, "report-too-large"),
        (b"", "empty-report"),
    ],
)
def test_report_files(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "r.txt").write_bytes(data)
    study = Study(Modality.REPORT, "r", "p", "g", source=tmp_path / "r.txt", describes=Modality.XRAY)
    outcome = convert(study, SMALL)
    assert expected == (outcome.reason if isinstance(outcome, Refused) else outcome.text)


def test_a_study_without_file_and_a_blank_ecg_text() -> None:
    for study, reason in (
        (Study(Modality.XRAY, "x", "p", "g"), "no-source"),
        (Study(Modality.REPORT, "r", "p", "g", text=" \n", describes=Modality.ECG), "empty-report"),
    ):
        outcome = convert(study, SMALL)
        assert isinstance(outcome, Refused) and outcome.reason == reason


def test_the_state_of_a_source_follows_every_file_of_a_record(tmp_path: Path) -> None:
    plain = Study(Modality.ECG, "e", "p", "g", source=write_record(tmp_path / "e"))
    before = source_state(plain)
    assert before == source_state(replace(plain, source=tmp_path / "e.hea"))
    with (tmp_path / "e.dat").open("ab") as stream:
        stream.write(b"\0")
    assert source_state(plain) != before
    words = Study(Modality.REPORT, "r", "p", "g", text="a")
    assert source_state(words) != source_state(replace(words, text="b"))
