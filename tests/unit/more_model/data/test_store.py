"""The site store: what is written is read back, and every kind of interruption or damage has the promised outcome."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.data import store as store_module
from more_model.data.preprocessing import Preprocessing
from more_model.data.store import QuarantinedStudy, SiteStore, StoredStudy
from more_model.data.study import Modality
from more_model.errors import EnvironmentFault, StoreError

SMALL = Preprocessing(image_size=16, ecg_rate_hz=50, ecg_seconds=1)
FILES = ("index.jsonl", "quarantine.jsonl", "xray.bin", "ecg.bin")


def image(number: int) -> np.ndarray[Any, Any]:
    return np.full((16, 16), number, np.uint8)


def trace(number: int) -> np.ndarray[Any, Any]:
    return (np.arange(600, dtype=np.float16).reshape(12, 50) / 100 + number).astype(np.float16)


def add(store: SiteStore, number: int) -> None:
    """An X-ray, its report and an ECG, then a refusal."""
    patient = f"p{number}"
    store.append(
        StoredStudy(
            Modality.XRAY,
            f"x{number}",
            patient,
            f"g{number}",
            time=datetime(2180, 5, 6, 7, 8, 9, 500),
            labels={"Edema": -1.0},
            attributes={"view": "PA"},
            corrections=("rgb-to-grey",),
        ),
        image(number),
    )
    words = "Größe, “quoted”\u2028{}"
    store.append(StoredStudy(Modality.REPORT, f"r{number}", patient, f"g{number}", describes=Modality.XRAY, text=words))
    store.append(StoredStudy(Modality.ECG, f"e{number}", patient, f"e{number}"), trace(number))
    store.refuse(refusal(number))


def refusal(number: int) -> QuarantinedStudy:
    return QuarantinedStudy(Modality.ECG, f"bad{number}", "too-short", "It is too short.", "/d/bad", "1:2")


def filled(folder: Path, count: int) -> Path:
    with SiteStore.create(folder, "north", SMALL) as store:
        for number in range(count):
            add(store, number)
            store.commit()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    store = SiteStore.open_read(filled(tmp_path / "s", 3), preprocessing=SMALL)
    assert store.site == "north"
    assert (store.xrays.shape, store.xrays.dtype) == ((3, 16, 16), np.dtype(np.uint8))
    assert (store.ecgs.shape, store.ecgs.dtype) == ((3, 12, 50), np.dtype(np.float16))
    xray, report, ecg = store.records[3:6]
    assert (xray.study_id, xray.row, xray.time) == ("x1", 1, datetime(2180, 5, 6, 7, 8, 9, 500))
    assert (xray.labels, xray.attributes, xray.corrections) == ({"Edema": -1.0}, {"view": "PA"}, ("rgb-to-grey",))
    assert (report.text, report.row, report.describes) == ("Größe, “quoted”\u2028{}", None, Modality.XRAY)
    assert np.array_equal(store.xrays[1], image(1))
    assert ecg.row == 1
    assert np.array_equal(store.ecgs[ecg.row], trace(1))
    assert store.keys() >= {(Modality.XRAY, "x0"), (Modality.ECG, "e2")}
    assert store.quarantine[Modality.ECG, "bad2"].reason == "too-short"
    assert store.verify() == 9
    assert isinstance(store.xrays, np.memmap)


def test_an_empty_store_has_empty_arrays(tmp_path: Path) -> None:
    SiteStore.create(tmp_path, "north", SMALL).close()
    store = SiteStore.open_read(tmp_path)
    assert store.xrays.shape == (0, 16, 16)
    assert store.ecgs.shape == (0, 12, 50)
    assert store.verify() == 0


def test_nothing_is_visible_before_its_commit(tmp_path: Path) -> None:
    store = SiteStore.create(tmp_path, "north", SMALL)
    add(store, 0)
    assert not SiteStore.open_read(tmp_path).records
    assert store.keys() == {(Modality.XRAY, "x0"), (Modality.REPORT, "r0"), (Modality.ECG, "e0")}
    store.close()
    assert len(SiteStore.open_read(tmp_path).records) == 3


def test_a_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        folder = filled(tmp_path / "new" / "s", 3)
        with SiteStore.open_append(folder) as store:
            store.refuse(refusal(1))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) == 6 and set(modes.values()) == {0o600}
    (folder / "index.jsonl").chmod(0o644)
    SiteStore.open_append(folder).close()
    assert stat.S_IMODE((folder / "index.jsonl").stat().st_mode) == 0o600


def test_a_folder_with_other_things_keeps_its_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "notes.txt").touch(0o644)
    filled(tmp_path, 3)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "notes.txt").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "xray.bin").stat().st_mode) == 0o600


def test_it_commits_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_COMMIT_STUDIES", 4)
    store = SiteStore.create(tmp_path, "north", SMALL)
    add(store, 0)
    assert len(SiteStore.open_read(tmp_path).records) == 3
    monkeypatch.setattr(store_module, "_COMMIT_BYTES", 100)
    store.append(StoredStudy(Modality.XRAY, "x9", "p", "g"), image(9))
    assert len(SiteStore.open_read(tmp_path).records) == 4
    store.close()


def test_other_preprocessing_site_or_reader_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 1)
    with pytest.raises(StoreError, match="image_size is 16, not 32"):
        SiteStore.open_read(tmp_path, preprocessing=SMALL.model_copy(update={"image_size": 32}))
    with pytest.raises(StoreError, match="site 'north', not of 'south'"):
        SiteStore.open_append(tmp_path, site="south")
    with pytest.raises(StoreError, match="already holds a site store"):
        SiteStore.create(tmp_path, "north", SMALL)
    monkeypatch.setattr("more_model.data.preprocessing.READER_VERSION", 999)
    with pytest.raises(StoreError, match="another version of the reading code"):
        SiteStore.open_read(tmp_path)


def test_absent_and_damaged_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no site store"):
        SiteStore.open_read(tmp_path)
    manifest = filled(tmp_path / "s", 1) / "store.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(StoreError, match="has schema 2, this version reads 1"):
        SiteStore.open_read(tmp_path / "s")
    manifest.write_text(text[:40])
    with pytest.raises(StoreError, match="is damaged"):
        SiteStore.open_read(tmp_path / "s")


def test_only_one_writer_at_a_time(tmp_path: Path) -> None:
    first = SiteStore.create(tmp_path, "north", SMALL)
    with pytest.raises(StoreError, match="Another ingest is writing"):
        SiteStore.open_append(tmp_path)
    SiteStore.open_read(tmp_path)
    first.close()
    SiteStore.open_append(tmp_path).close()


def test_a_failed_open_gives_the_lock_back(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    index = (tmp_path / "index.jsonl").read_bytes()
    (tmp_path / "index.jsonl").write_bytes(index.replace(b"p0", b"p9", 1))
    with pytest.raises(StoreError, match="line 1 does not match its checksum"):
        SiteStore.open_append(tmp_path)
    (tmp_path / "index.jsonl").write_bytes(index)
    SiteStore.open_append(tmp_path).close()


def test_a_read_only_store_takes_nothing(tmp_path: Path) -> None:
    store = SiteStore.open_read(filled(tmp_path, 1))
    add(store, 5)
    with pytest.raises(StoreError, match="open for reading only"):
        store.commit()


@pytest.mark.parametrize(
    ("study", "array", "message"),
    [
        (StoredStudy(Modality.XRAY, "x0", "p", "g"), image(0), "already in the store"),
        (StoredStudy(Modality.XRAY, "x", "p", "g"), trace(0), r"takes xray arrays uint8 \[16, 16\], not float16"),
        (StoredStudy(Modality.ECG, "e", "p", "g"), trace(0).astype(np.float32), r"float16 \[12, 50\], not float32"),
        (StoredStudy(Modality.ECG, "e", "p", "g"), None, "not nothing"),
        (StoredStudy(Modality.REPORT, "r", "p", "g"), None, "with a text and without an array"),
    ],
)
def test_wrong_entries_are_refused(tmp_path: Path, study: StoredStudy, array: Any, message: str) -> None:
    with SiteStore.open_append(filled(tmp_path, 1)) as store, pytest.raises(StoreError, match=message):
        store.append(study, array)


@pytest.mark.parametrize("name", ["index.jsonl", "quarantine.jsonl"])
def test_a_tail_torn_at_any_byte_costs_only_the_torn_line(tmp_path: Path, name: str) -> None:
    whole = content(filled(tmp_path, 2))
    line_ends = [place + 1 for place, byte in enumerate(whole[name]) if byte == ord("\n")]
    for cut in range(0, len(whole[name]) + 1, 7):
        (tmp_path / name).write_bytes(whole[name][:cut])
        store = SiteStore.open_read(tmp_path)
        kept = len(store.records) if name == "index.jsonl" else len(store.quarantine)
        assert kept == sum(end <= cut for end in line_ends)


@pytest.mark.parametrize("cut", [0, 1, 250, 700])
def test_a_store_resumed_after_a_crash_has_the_bytes_of_an_undisturbed_one(tmp_path: Path, cut: int) -> None:
    undisturbed = content(filled(tmp_path / "whole", 3))
    folder = filled(tmp_path / "torn", 2)
    index = folder / "index.jsonl"
    # The crash came after the arrays were written and in the middle of the index lines.
    second = sum(len(line) for line in index.read_bytes().splitlines(keepends=True)[:3])
    os.truncate(index, second + cut)
    with (folder / "xray.bin").open("ab") as stream:
        stream.write(b"\xff" * 99)
    (folder / "quarantine.jsonl").write_bytes((folder / "quarantine.jsonl").read_bytes()[:-3])
    with SiteStore.open_append(folder) as store:
        present = store.keys()
        for number in (1, 2):
            fresh = SiteStore.create(tmp_path / f"source{number}", "north", SMALL)
            add(fresh, number)
            fresh.close()
            for record in SiteStore.open_read(tmp_path / f"source{number}").records:
                if (record.modality, record.study_id) not in present:
                    array = {Modality.XRAY: image(number), Modality.ECG: trace(number)}.get(record.modality)
                    store.append(record, array)
            store.refuse(refusal(number))
            store.commit()
    assert content(folder) == undisturbed


def test_a_full_disk_loses_nothing_and_the_same_commit_succeeds_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = content(filled(tmp_path / "whole", 2))
    for failing in range(1, 5):
        folder = filled(tmp_path / f"full{failing}", 1)
        store = SiteStore.open_append(folder)
        add(store, 1)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing_after(failing, errno.ENOSPC))
            with pytest.raises(EnvironmentFault, match="is full"):
                store.commit()
        assert [record.study_id for record in SiteStore.open_read(folder).records][:3] == ["x0", "r0", "e0"]
        store.close()
        assert content(folder) == undisturbed


def failing_after(calls: int, number: int) -> Callable[[int], None]:
    """An fsync whose ``calls``-th call fails."""
    left = [calls]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    return fsync


def test_other_disk_errors_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SiteStore.create(tmp_path, "north", SMALL)
    add(store, 0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing_after(1, errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            store.commit()
    store.close()
    assert SiteStore.open_read(tmp_path).verify() == 3


@pytest.mark.parametrize("name", ["xray.bin", "ecg.bin"])
def test_a_flipped_bit_is_found_by_verify(tmp_path: Path, name: str) -> None:
    path = filled(tmp_path, 2) / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"1 of 6 studies do not match their checksum \(index lines [46]\)"):
        SiteStore.open_read(tmp_path).verify()


def test_arrays_shorter_than_the_index_says_are_refused(tmp_path: Path) -> None:
    os.truncate(filled(tmp_path, 2) / "ecg.bin", 100)
    with pytest.raises(StoreError, match=r"ecg\.bin has 100 bytes, but the index names 2400"):
        SiteStore.open_read(tmp_path)


def test_a_study_that_was_refused_and_later_stored_leaves_the_quarantine(tmp_path: Path) -> None:
    with SiteStore.open_append(filled(tmp_path, 1)) as store:
        store.append(StoredStudy(Modality.ECG, "bad0", "p", "g"), trace(7))
    assert not SiteStore.open_read(tmp_path).quarantine
