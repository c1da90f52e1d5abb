"""Whatever is done to an audit log afterwards is found, by the chain alone or against an anchor kept elsewhere."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from client.records.audit_log import open_log
from client.records.lines import AuditDamaged, entries
from client.records.verify import verify
from privacy.ledger.chain import START, Anchor

COUNT = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    with open_log(path, site="north") as log:
        for number in range(COUNT - 1):
            log.append("released", {"bytes": 10 + number, "round": number})
    return path


@pytest.fixture
def anchor(path: Path) -> Anchor:
    return verify(path).anchor


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_whole_log(path: Path, anchor: Anchor) -> None:
    report = verify(path, anchor)
    assert report.whole and report.faults == () and report.unfinished_bytes == 0
    assert (report.site, report.entries, report.anchor) == ("north", COUNT, anchor)
    assert report.kinds == {"created": 1, "released": COUNT - 1}
    assert report.released_bytes == sum(10 + number for number in range(COUNT - 1))
    assert report.first_at <= report.last_at


def test_the_heads_are_the_documented_hashes(path: Path) -> None:
    head = START
    for line in path.read_text().splitlines():
        text = line[len('{"entry":') : -len(',"head":""}') - 64]
        head = hashlib.sha256((head + text).encode()).hexdigest()
        assert json.loads(line)["head"] == head
        assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text


def test_every_changed_byte_is_found(path: Path) -> None:
    whole, draw = path.read_bytes(), random.Random(5)
    for place in [*range(0, 420, 2), *draw.sample(range(len(whole) - 1), 150), len(whole) - 2]:
        edited = bytearray(whole)
        edited[place] ^= 1 << draw.randrange(7)
        path.write_bytes(bytes(edited))
        assert not verify(path).whole, (place, whole[max(0, place - 20) : place + 20])
        with pytest.raises(AuditDamaged):
            list(entries(path))


def test_an_edit_is_one_fault_and_named(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"bytes":12', b'"bytes":13'))
    report = verify(path)
    assert report.faults == ("entry 4 is not what was written",) and not report.whole


@pytest.mark.parametrize("removed", range(COUNT - 1))
def test_a_deleted_entry_is_found(path: Path, removed: int) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:removed] + lines[removed + 1 :]))
    assert verify(path).faults == (f"entry {removed + 2} stands where entry {removed + 1} belongs",)


def test_deleted_from_the_front(path: Path) -> None:
    path.write_bytes(b"".join(lines_of(path)[3:]))
    assert verify(path).faults == ("entry 4 stands where entry 1 belongs",)


def test_entries_in_another_order_are_found(path: Path) -> None:
    lines = lines_of(path)
    lines[3], lines[4] = lines[4], lines[3]
    path.write_bytes(b"".join(lines))
    report = verify(path)
    assert report.fault_count == 3 and report.faults[0] == "entry 5 stands where entry 4 belongs"


def test_an_entry_put_in_between_is_found(path: Path) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:4], lines[3], *lines[4:]]))
    assert "entry 4 stands where entry 5 belongs" in verify(path).faults
    path.write_bytes(b"".join([*lines[:4], b"by hand\n", *lines[4:]]))
    assert verify(path).faults == ("line 5 is not an entry",)
    path.write_bytes(b"".join([*lines[:4], b"by hand#\n", *lines[4:]]))
    assert verify(path).faults == ("what stands before entry 5 was never written",)


@pytest.mark.parametrize("left", range(COUNT))
def test_truncation_is_found_against_an_anchor(path: Path, anchor: Anchor, left: int) -> None:
    path.write_bytes(b"".join(lines_of(path)[:left]))
    assert verify(path).whole, "a shorter log alone looks like a younger one"
    report = verify(path, anchor)
    assert report.faults == (f"the log has {left} entries, and the given anchor knows {COUNT}",)


def test_truncation_in_the_middle_of_a_line_is_found_against_an_anchor(path: Path, anchor: Anchor) -> None:
    path.write_bytes(path.read_bytes()[:-30])
    assert not verify(path, anchor).whole


def test_a_chain_computed_anew_is_found_against_an_older_anchor(path: Path, tmp_path: Path) -> None:
    older = list(entries(path))[4].anchor
    assert verify(path, older).whole
    with open_log(tmp_path / "forged.jsonl", site="north") as log:
        for entry in list(entries(path))[1:]:
            log.append(entry.kind, {**entry.content, "bytes": 0})
    forged = verify(tmp_path / "forged.jsonl")
    assert forged.whole and forged.entries == COUNT
    assert verify(tmp_path / "forged.jsonl", older).faults == ("entry 5 is not the one that the given anchor knows",)


def test_only_the_first_faults_are_listed_and_all_are_counted(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"x\n" * 50)
    report = verify(path)
    assert report.fault_count == 50 and len(report.faults) == 20


def test_a_line_without_end_does_not_fill_the_memory(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"x" * (4 * 2**20 + 10))
    assert verify(path).faults == (f"line {COUNT + 1} is longer than any entry; what follows was not read",)
