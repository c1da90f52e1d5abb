"""The status page of a federation in a real browser, from its login to its logout."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser.accessibility import faults, tab_stops
from browser.devtools import Page
from trees.watched_federation import write_federation

from server.status.live import LiveState
from server.status.service import status_page, token_file
from server.status.sources import Watched, watched

ENTER = 13
#: The picture that docs/status-page.md shows; written where MORE_FED_WRITE_PICTURES is set.
PICTURE = Path(__file__).parents[2] / "docs" / "status-page.png"


@dataclass(frozen=True)
class Served:
    """A page that is up: its address, and the federation behind it."""

    address: str
    what: Watched

    def token(self, site: str | None = None) -> str:
        return token_file(self.what).make(site)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    what = watched(write_federation(tmp_path / "fed"))
    with status_page(what, 0) as port:
        yield Served(f"http://127.0.0.1:{port}/", what)


def log_in(page: Page, served: Served, site: str | None = None) -> None:
    page.goto(served.address)
    page.evaluate("document.getElementById('token').focus()")
    page.type(served.token(site))
    page.press("Enter", ENTER, "\r")
    page.until("document.getElementById('headline') !== null", "the page after the login")


def text(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({selector!r}).textContent"))


def cells(page: Page, site: str) -> list[str]:
    rows = page.evaluate(
        "[...document.querySelectorAll('#sites tbody tr')].map(r => [...r.cells].map(c => c.textContent.trim()))"
    )
    return next(row for row in rows if row[0] == site)


def picture_file(folder: Path) -> Path:
    wanted = os.environ.get("MORE_FED_WRITE_PICTURES", "0") not in {"", "0"}
    return PICTURE if wanted else folder / PICTURE.name


def test_the_login_is_told_what_is_wrong(page: Page, served: Served) -> None:
    page.goto(served.address)
    assert page.evaluate("location.pathname") == "/login"
    assert faults(page) == []
    page.evaluate("document.getElementById('token').focus()")
    page.type("not a token")
    page.press("Enter", ENTER, "\r")
    page.until("document.getElementById('fault') !== null")
    assert "This is no token of this federation" in text(page, "#fault")
    assert faults(page) == []


def test_the_coordinator_sees_everything_at_a_glance(page: Page, served: Served, tmp_path: Path) -> None:
    log_in(page, served)
    assert text(page, "#headline") == "Round 4 of 8 waits for north, south, west."
    assert [cells(page, "north")[place] for place in (2, 3, 4, 5, 6)] == [
        "yes",
        "yes",
        "yes",
        "–",
        "training (awaited)",
    ]
    assert cells(page, "west")[2] == "no"
    assert "server.pem ends in 20 days. Renew it." in text(page, "#alerts")
    assert "its norm 93 exceeds" in text(page, "#alerts")
    assert "(0.680 to 0.800)" in text(page, "#learning table")
    assert "round 3 0.760 (0.680 to 0.800)" in page.evaluate(
        "document.querySelectorAll('#learning [role=img]')[1].getAttribute('aria-label')"
    )
    assert page.complaints() == []
    assert {address.split("/")[2] for address in page.requests()} == {served.address.split("/")[2]}
    page.call("Emulation.setDeviceMetricsOverride", width=1080, height=900, deviceScaleFactor=1, mobile=False)
    picture = page.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
    picture_file(tmp_path).write_bytes(base64.b64decode(picture))
    assert picture_file(tmp_path).stat().st_size > 20_000


def test_nothing_is_missing_for_keyboard_and_screen_reader(page: Page, served: Served) -> None:
    log_in(page, served)
    assert faults(page) == []
    stops, unseen = tab_stops(page)
    assert unseen == []
    assert {"pause", "logout", "JSON"} <= set(stops)
    assert len(stops) >= 3 + page.evaluate("document.querySelectorAll('.scroll').length")
    assert page.evaluate("document.getElementById('headline').getAttribute('role')") == "status"


def test_nothing_overflows_a_narrow_page(page: Page, served: Served) -> None:
    log_in(page, served)
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=False)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_site_is_shown_its_own_row(page: Page, served: Served) -> None:
    log_in(page, served, "north")
    assert "As the site north may see it." in text(page, "header")
    assert cells(page, "north")[-1] == "3 of 3"
    assert cells(page, "west")[-3:] == ["not shown"] * 3
    assert "norm 93" not in text(page, "body")


def test_the_page_follows_without_a_reload_and_leaves_alone_what_has_the_focus(page: Page, served: Served) -> None:
    page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="window.ticks = []; window.setInterval = (what) => { window.ticks.push(what); return 1; };",
    )
    log_in(page, served)
    page.evaluate("window.before = true; document.querySelector('#sites .scroll').focus()")
    live = LiveState(served.what.run / "live.json")
    live.open_round(4, 8, ["east", "north", "south", "west"], timeout_s=3600)
    for site in ("east", "south", "west"):
        live.site(site, "submitted")
    page.evaluate("window.ticks[0]()")
    assert text(page, "#headline") == "Round 4 of 8 waits for north."
    assert cells(page, "west")[6] == "configured (awaited)", "who reads the table is not thrown out of it"
    page.evaluate("document.activeElement.blur(); window.ticks[0]()")
    page.until("document.querySelector('#sites').textContent.includes('submitted')")
    page.until("[...document.querySelectorAll('#sites tr')].some(r => r.textContent.includes('west') && "
               "r.textContent.includes('submitted'))")  # fmt: skip
    assert page.evaluate("window.before") is True
    page.click("#pause")
    assert text(page, "#pause") == "Refresh every 10 seconds"
    live.site("north", "submitted")
    page.evaluate("window.ticks[0]()")
    assert text(page, "#headline") == "Round 4 of 8 waits for north."
    page.click("#pause")
    page.until("document.getElementById('headline').textContent === 'Round 4 of 8: asking.'")
    assert page.complaints() == []


def test_a_page_that_is_logged_out_says_that_it_is_old(page: Page, served: Served) -> None:
    log_in(page, served, "north")
    token_file(served.what).withdraw("north")
    page.evaluate("document.getElementById('pause').click()")
    page.evaluate("document.getElementById('pause').click()")
    page.until("document.getElementById('stale').textContent.includes('you are logged out')")
    page.click("#logout")
    page.until("location.pathname === '/login'")
