"""The page of a hospital in a real browser, from its login to its logout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser.accessibility import faults, tab_stops
from browser.devtools import Page
from trees.watched_site import SECRET, write_site

from client.page.app import Pages
from client.page.model import site_picture
from client.page.service import site_page, token_of
from client.site_file import SiteFile, load_site_file

ENTER, TAB = 13, 9


@dataclass(frozen=True)
class Served:
    """A page that is up: its address, and the site behind it."""

    address: str
    file: SiteFile


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> SiteFile:
    return load_site_file(write_site(tmp_path_factory.mktemp("site"), ecg_only=3))


@pytest.fixture
def served(file: SiteFile) -> Iterator[Served]:
    with site_page(file, 0) as port:
        yield Served(f"http://127.0.0.1:{port}/", file)


def log_in(page: Page, served: Served, token: str = "") -> None:
    page.goto(served.address)
    page.evaluate("document.getElementById('token').focus()")
    page.type(token or token_of(served.file).path.read_text(encoding="utf-8").strip())
    page.press("Enter", ENTER, "\r")
    page.until(f"document.getElementById('{'fault' if token else 'headline'}') !== null", "the page after the login")


def text(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({selector!r}).textContent"))


def test_a_wrong_token_is_told(page: Page, served: Served) -> None:
    log_in(page, served, "not the token")
    assert text(page, "#fault") == "This is not the token of this page."
    assert faults(page) == []


def test_the_site_is_seen_at_a_glance_and_nobody_is_named(page: Page, served: Served) -> None:
    log_in(page, served)
    assert text(page, "h1") == "north"
    assert text(page, "#headline") == "No daemon of this site is running."
    rows = page.evaluate(
        "[...document.querySelectorAll('#cohort tbody tr')].map(r => [...r.cells].map(c => c.textContent.trim()))"
    )
    assert rows == [[split, "20", "10", "<5"] for split in ("train", "validation", "test")]
    assert "ecg: too-short" in text(page, "#quarantine")
    newest = page.evaluate("[...document.querySelector('#left tbody tr').cells].map(c => c.textContent.trim())")
    assert newest[1:5] == ["spring", "3", "refusal", "–"]
    assert "whole, " in text(page, "#left .facts")
    assert "8.00" in text(page, "#budget table")
    assert "root certificate" in text(page, "#certificates")
    assert SECRET not in page.evaluate("document.documentElement.outerHTML")
    assert page.complaints() == []
    assert {address.split("/")[2] for address in page.requests()} == {served.address.split("/")[2]}


def test_nothing_is_missing_for_keyboard_and_screen_reader(page: Page, served: Served) -> None:
    log_in(page, served)
    assert faults(page) == []
    stops, unseen = tab_stops(page)
    assert unseen == []
    assert stops[0] == "To the content"
    assert {"again", "logout", "JSON"} <= set(stops)
    assert len(stops) >= 4 + page.evaluate("document.querySelectorAll('.scroll').length")


def test_the_keyboard_alone_logs_in_and_out(page: Page, served: Served) -> None:
    log_in(page, served)
    page.evaluate("document.activeElement.blur()")
    while page.evaluate("document.activeElement.id") != "logout":
        page.press("Tab", TAB)
    page.press("Enter", ENTER, "\r")
    page.until("location.pathname === '/login'")
    page.goto(served.address)
    assert page.evaluate("location.pathname") == "/login"


def test_nothing_overflows_a_narrow_page(page: Page, served: Served) -> None:
    log_in(page, served)
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=False)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_as_one_file_fetches_nothing(page: Page, file: SiteFile, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(Pages.made().site(site_picture(file), alone=True), encoding="utf-8")
    page.goto(path)
    assert faults(page) == []
    assert page.complaints() == []
    assert page.requests() == [path.resolve().as_uri()]
    assert page.evaluate("getComputedStyle(document.querySelector('.note')).borderLeftStyle") == "solid"
    assert page.evaluate("document.querySelectorAll('form, #again').length") == 0
