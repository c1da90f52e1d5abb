"""The sample of files, its interval, and the look into single files."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees.wfdb_files import twelve_leads_mv, write_wfdb

from more_model.doctor.finding import Severity
from more_model.doctor.records import is_whole, lead_order_findings, record_files
from more_model.doctor.samples import FileSample, is_jpeg, sample_files, sample_findings


def sample(looked: int, present: int, total: int) -> FileSample:
    return FileSample("files", total, looked, present, empty=0, odd=0, closed=0)


def test_the_interval_is_wilsons() -> None:
    # n = 10, 8 successes: 0.490 to 0.943 (Wilson 1927, as in Newcombe, Statistics in Medicine 1998, method 3).
    low, high = sample(10, 8, 1000).interval
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    low, high = sample(300, 300, 377_110).interval
    assert high == pytest.approx(1.0) and 0.98 < low < 0.99


def test_all_looked_up_leaves_nothing_open() -> None:
    assert sample(10, 8, 10).interval == (0.8, 0.8)
    assert "interval" not in sample_findings(sample(10, 8, 10), "")[0].sentence
    assert sample(0, 0, 0).share == 0.0 and sample_findings(sample(0, 0, 0), "") == []


def test_the_share_of_a_sample_is_near_the_truth_and_always_the_same(tmp_path: Path) -> None:
    names = [f"files/p{number // 200}/{number}.jpg" for number in range(2000)]
    for name in names[:1200]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xd8")
    first = sample_files("images", tmp_path, names, looks_right=is_jpeg)
    assert first == sample_files("images", tmp_path, names, looks_right=is_jpeg)
    assert first.looked == 300 and first.odd == 0
    low, high = first.interval
    assert low < 0.6 < high
    assert first.absent_folders == tuple(f"files/p{number}" for number in range(6, 10))


def test_without_any_file_it_depends_on_how_much_they_matter() -> None:
    assert sample_findings(sample(5, 0, 5), "")[0].severity is Severity.ERROR
    assert sample_findings(sample(5, 0, 5), "", fatal=False)[0].severity is Severity.WARNING


def test_records_are_whole_or_not(tmp_path: Path) -> None:
    write_wfdb(tmp_path / "one", twelve_leads_mv(0, rate_hz=100), rate_hz=100, units_per_mv=1000)
    header, data = tmp_path / "one.hea", tmp_path / "one.dat"
    assert record_files(["one"]) == ["one.hea", "one.dat"]
    assert is_whole(header) and is_whole(data)
    data.write_bytes(data.read_bytes()[:-1])
    assert is_whole(header) and not is_whole(data)
    header.write_text("<html>")
    assert not is_whole(header)
    header.unlink()
    assert is_whole(data), "without a header nothing is known about its length"


def test_lead_order_is_read_from_the_headers(tmp_path: Path) -> None:
    tracing = twelve_leads_mv(0, rate_hz=100)
    write_wfdb(tmp_path / "a", tracing, rate_hz=100, units_per_mv=1000)
    assert lead_order_findings(tmp_path, ["a"])[0].remedy == ""
    order = [*list(tracing)[:4], "AVF", "AVL", *list(tracing)[6:]]
    write_wfdb(tmp_path / "b", {lead: tracing[lead] for lead in order}, rate_hz=100, units_per_mv=200)
    (found,) = lead_order_findings(tmp_path, ["a", "b"])
    assert "aVR, aVF, aVL and aVR, aVL, aVF" in found.sentence and "by name" in found.remedy
    assert lead_order_findings(tmp_path, ["absent"]) == []
