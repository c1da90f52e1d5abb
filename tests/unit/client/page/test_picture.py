"""What the site's page tells, and what it keeps to itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trees.watched_site import SECRET, write_site

from client.data_report import visible
from client.page.app import Pages
from client.page.cohort import cohort
from client.page.left import left_building
from client.page.model import SitePicture, site_picture
from client.page.view import headline, sections, warnings
from client.records.audit_log import open_log
from client.records.lines import AuditDamaged
from client.site_file import SiteFile, load_site_file
from more_model.data.store import QuarantinedStudy, SiteStore
from more_model.data.study import Modality


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> SiteFile:
    """Read it, never change it."""
    return load_site_file(write_site(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def picture(file: SiteFile) -> SitePicture:
    return site_picture(file)


def test_every_part_is_there(picture: SitePicture) -> None:
    assert picture.faults == {}
    assert picture.cohort is not None and picture.left is not None
    row = {"X-ray and ECG": 20, "X-ray only": 10, "ECG only": 6}
    assert picture.cohort.patients == {"train": row, "validation": row, "test": row}
    assert picture.cohort.totals == {"train": 36, "validation": 36, "test": 36}
    assert picture.cohort.studies == {"xray": 90, "ecg": 78, "report": 168}
    assert picture.cohort.quarantine == {"ecg: too-short": 7}
    assert picture.daemon == {"state": "not running"}
    assert headline(picture) == "No daemon of this site is running."
    assert warnings(picture) == [
        "The root certificate: 19 days are left. To do: have it renewed; whoever uses it gets the new one before the "
        "old one ends."
    ]


def test_what_left_is_told_newest_first(picture: SitePicture) -> None:
    left = picture.left
    assert left is not None
    assert [(each.kind, each.round, each.left) for each in left.messages] == [
        ("refusal", 3, True), ("update", 3, False), ("update", 2, True), ("update", 1, True),
    ]  # fmt: skip
    assert left.messages[0].said == "paused"
    assert left.messages[1].rules == ("rounds-above-policy",)
    assert left.messages[2].groups == ("text", "xray")
    assert left.messages[2].sha256 == "2" * 64
    assert (left.whole, left.anchored, left.size_bytes, left.held_back) == (True, True, 4_500_011, 1)
    assert left.kinds == {"refusal": 1, "update": 2}
    assert left.withdrawn == "<5"


def test_the_budget_is_told_by_data_set_and_by_run(picture: SitePicture) -> None:
    (budget,) = picture.budgets
    assert budget.spent is not None and budget.left == pytest.approx(8.0 - budget.spent)
    assert 0 < budget.spent < 8
    (run,) = budget.runs
    assert (run.run, run.charges, run.steps) == ("spring", 2, 20)
    assert run.epsilon == pytest.approx(budget.spent)


def test_no_patient_and_no_file_is_named(picture: SitePicture, file: SiteFile) -> None:
    page, content = Pages.made().site(picture, alone=True), json.dumps(picture.as_json())
    for text in (page, content):
        assert SECRET not in text
        assert "/archive" not in text
        assert str(file.store) not in text
    assert "Look again" not in page
    assert "north, training patients" in page


def test_one_small_count_hides_every_sum(tmp_path: Path) -> None:
    shown = cohort(load_site_file(write_site(tmp_path, ecg_only=2)))
    assert [row["ECG only"] for row in shown.patients.values()] == ["<5"] * 3
    assert (shown.totals, shown.studies) == (None, None)
    picture = site_picture(load_site_file(tmp_path / "site.toml"))
    assert all("All" not in getattr(block, "head", ()) for part in sections(picture) for block in part.blocks)


def test_a_changed_store_is_counted_anew(tmp_path: Path) -> None:
    file = load_site_file(write_site(tmp_path))
    assert cohort(file).quarantine == {"ecg: too-short": 7}
    with SiteStore.open_append(file.store) as store:
        for number in range(6):
            store.refuse(QuarantinedStudy(Modality.XRAY, f"n{number}", "constant-image", "m", "p", "1:1"))
    assert cohort(file).quarantine == {"ecg: too-short": 7, "xray: constant-image": 6}


def test_a_changed_log_is_said_to_be_changed(tmp_path: Path) -> None:
    file = load_site_file(write_site(tmp_path))
    log = file.controls.audit_log
    log.write_bytes(log.read_bytes().replace(b'"bytes":1500000', b'"bytes":1500001'))
    picture = site_picture(file)
    assert picture.left is not None and not picture.left.whole
    assert any("The audit log was changed" in words for words in warnings(picture))


def test_a_log_that_lost_its_end_is_found_out_by_its_anchor(tmp_path: Path) -> None:
    file = load_site_file(write_site(tmp_path))
    log, anchor = file.controls.audit_log, file.controls.audit_anchor
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    cut = left_building(log, anchor, 5)
    assert cut is not None and not cut.whole
    anchor.unlink()
    unknown = left_building(log, anchor, 5)
    assert unknown is not None and (unknown.whole, unknown.anchored) == (True, False)
    anchor.write_text("9:" + "0" * 64 + "\n")
    log.unlink()
    with pytest.raises(AuditDamaged, match="no audit log"):
        left_building(log, anchor, 5)


def test_only_the_newest_messages_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    with open_log(tmp_path / "a" / "log", site="north", anchor_file=tmp_path / "b" / "anchor") as log:
        for number in range(60):
            log.append("released", {"message": "update", "run": "r", "round": number, "bytes": 1, "sha256": ""})
    found = left_building(tmp_path / "a" / "log", tmp_path / "b" / "anchor", 5)
    assert found is not None
    assert [each.round for each in found.messages] == list(range(59, 9, -1))
    assert found.kinds == {"update": 60}


def test_parts_that_cannot_be_read_leave_the_others_alone(tmp_path: Path) -> None:
    file = load_site_file(write_site(tmp_path))
    file.controls.witness.unlink()
    (file.store / "store.json").write_text("{", encoding="utf-8")
    file.federation.root_certificate.write_text("no certificate", encoding="utf-8")
    picture = site_picture(file)
    assert set(picture.faults) == {"budget", "cohort", "certificates"}
    assert (picture.cohort, picture.budgets) == (None, ())
    assert picture.left is not None
    page = Pages.made().site(picture)
    assert page.count("This cannot be shown now") == 4, "the quarantine is the store's as well"
    assert str(tmp_path) not in page


def test_a_site_that_has_just_been_made_has_a_page(tmp_path: Path) -> None:
    write_site(tmp_path)
    fresh = tmp_path / "fresh"
    content = (tmp_path / "site.toml").read_text(encoding="utf-8")
    fresh.mkdir()
    (fresh / "site.toml").write_text(content, encoding="utf-8")
    picture = site_picture(load_site_file(fresh / "site.toml"))
    assert set(picture.faults) == {"cohort"}
    page = Pages.made().site(picture)
    assert "there is no audit log yet" in page
    assert "no run with differential privacy so far" in page


def test_what_the_coordinator_named_is_escaped(tmp_path: Path) -> None:
    file = load_site_file(write_site(tmp_path))
    with open_log(file.controls.audit_log, site="north", anchor_file=file.controls.audit_anchor) as log:
        log.append("withheld", {"message": "update", "run": "<script>x</script>", "round": 1, "rules": ["a"]})
    page = Pages.made().site(site_picture(file))
    assert "<script>" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, "<5"), (4, "<5"), (5, 5)])
def test_a_count_by_itself(count: int, shown: int | str) -> None:
    assert visible(count, 5) == shown
