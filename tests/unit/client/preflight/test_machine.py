"""Memory, disk, GPU and versions, on a machine that is made to say what it has."""

from __future__ import annotations

import importlib.metadata
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.preflight import memory
from client.preflight.disk import check_disks, store_bytes
from client.preflight.installation import check_versions
from client.preflight.memory import available_bytes, check_gpu, check_memory, step_bytes
from client.site_file import SiteFile, load_site_file
from more_model.data.preprocessing import Preprocessing
from more_model.data.study import Modality, Study


@pytest.fixture
def site(ready: Any) -> SiteFile:
    return load_site_file(ready.write())


def test_available_memory_is_the_lesser_of_machine_and_control_group(tmp_path: Path) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal:  8000 kB\nMemAvailable:  4000 kB\nHugePages_Total: 0\n")
    assert available_bytes(meminfo, group) == 4000 * 1024
    group.mkdir()
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000000\n")
    assert available_bytes(meminfo, group) == 4000 * 1024
    (group / "memory.max").write_text("3000000\n")
    assert available_bytes(meminfo, group) == 2_000_000
    assert available_bytes(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize(("free_gib", "level"), [(0.5, "fail"), (1.0005, "warn"), (4.0, "ok")])
def test_memory(site: SiteFile, monkeypatch: pytest.MonkeyPatch, free_gib: float, level: str) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: int(free_gib * 2**30))
    assert check_memory(site).level == level


def test_a_step_takes_more_than_was_measured_and_not_many_times_more() -> None:
    """more-base on a CPU: 0.70 GiB a triplet, X-ray, ECG and twice 123 words (resident memory of 2 and 6 triplets)."""
    from more_model.model.config import preset

    a_triplet = step_bytes(preset("more-base"), 8) / 8 / 2**30
    assert 0.70 < a_triplet < 1.0


def test_store_bytes_are_those_of_a_store(tmp_path: Path) -> None:
    import numpy as np

    from more_model.data.store import SiteStore
    from more_model.data.stored_study import StoredStudy

    preprocessing = Preprocessing(image_size=32, ecg_rate_hz=50, ecg_seconds=2)
    with SiteStore.create(tmp_path / "store", "north", preprocessing) as store:
        for number in range(20):
            xray = StoredStudy(Modality.XRAY, f"x{number}", "p", "g", None, {}, {}, None, None, ())
            store.append(xray, np.zeros((32, 32), np.uint8))
            ecg = StoredStudy(Modality.ECG, f"e{number}", "p", "g", None, {}, {}, None, None, ())
            store.append(ecg, np.zeros((12, 100), np.float16))
    taken = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    estimate = store_bytes(Counter({Modality.XRAY: 20, Modality.ECG: 20}), preprocessing)
    assert taken < estimate < 2 * taken


@pytest.mark.parametrize(
    ("free_bytes", "inodes", "level"),
    [(2**29, 10**6, "fail"), (3 * 2**29, 10**6, "warn"), (2**40, 10**6, "ok"), (2**40, 10, "fail")],
)
def test_disk(site: SiteFile, monkeypatch: pytest.MonkeyPatch, free_bytes: int, inodes: int, level: str) -> None:
    facts = SimpleNamespace(f_bavail=free_bytes // 4096, f_frsize=4096, f_files=10**7, f_favail=inodes)
    monkeypatch.setattr(os, "statvfs", lambda _path: facts)
    assert [found.level for found in check_disks(site, [], Preprocessing())] == [level]


def test_the_disk_has_to_hold_what_is_not_stored_yet(site: SiteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = SimpleNamespace(f_bavail=3 * 2**18, f_frsize=4096, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _path: facts)
    studies = [Study(Modality.XRAY, str(number), "p", "g") for number in range(50_000)]
    [found] = check_disks(site, studies, Preprocessing())
    assert found.level == "fail" and "3.0 GiB free, 3.4 GiB needed" in found.cause


class _Cuda:
    """What `torch.cuda` says on a machine with one GPU."""

    def __init__(self, free_gib: float) -> None:
        self._free_gib = free_gib

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def get_device_name(self, _device: object) -> str:
        return "Test GPU"

    def mem_get_info(self, _device: object) -> tuple[int, int]:
        return int(self._free_gib * 2**30), 16 * 2**30


@pytest.mark.parametrize(
    ("device", "free_gib", "level", "said"),
    [
        ("auto", 8.0, "ok", "Test GPU, driver 570.1: 8.0 GiB of 16.0 GiB free"),
        ("cuda:0", 0.0001, "warn", "training 32 triplets may take"),
        ("cuda:1", 8.0, "fail", "There is no cuda:1"),
    ],
)
def test_gpus(
    site: SiteFile, monkeypatch: pytest.MonkeyPatch, device: str, free_gib: float, level: str, said: str
) -> None:
    import torch

    monkeypatch.setattr(torch, "cuda", _Cuda(free_gib))
    monkeypatch.setattr(memory, "_driver", lambda: "570.1")
    [found] = check_gpu(site.model_copy(update={"device": device}))
    assert (found.level, said in found.cause) == (level, True)


@pytest.mark.parametrize(
    ("device", "driver", "level", "said"),
    [
        ("auto", "", "ok", "none; the site trains on 2 threads"),
        ("auto", "570.1", "warn", "An NVIDIA driver is loaded (570.1)"),
        ("cuda", "", "fail", "asks for cuda, and torch sees no GPU"),
    ],
)
def test_without_a_gpu(
    site: SiteFile, monkeypatch: pytest.MonkeyPatch, device: str, driver: str, level: str, said: str
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(memory, "_driver", lambda: driver)
    [found] = check_gpu(site.model_copy(update={"device": device}))
    assert (found.level, said in found.cause) == (level, True)


def test_versions_of_this_environment() -> None:
    [found] = check_versions()
    assert found.level == "ok", found
    assert f"flwr {importlib.metadata.version('flwr')}" in found.cause


def test_every_version_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ['torch>=99; python_version >= "3"', "no-such-package", "numpy", 'flwr==0.1; python_version < "3"']
    monkeypatch.setattr("client.preflight.installation.requires", lambda _name: asked)
    [found] = check_versions()
    assert found.level == "fail"
    assert found.cause.count(";") == 1 and "no-such-package is missing" in found.cause and "not >=99" in found.cause
