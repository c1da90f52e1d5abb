"""The browser that the tests of this folder share, and a fresh tab for each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.devtools import Connection, Page, executable, open_page, running_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """One headless Chromium. Skips with a printed reason where none is installed, and fails instead where
    MORE_FED_REQUIRE_BROWSER is set to anything but an empty word or 0."""
    program = executable()
    if program is None:
        reason = "no Chromium is installed; set MORE_FED_CHROMIUM to its program file"
        if os.environ.get("MORE_FED_REQUIRE_BROWSER", "0") not in {"", "0"}:
            pytest.fail(f"{reason} (MORE_FED_REQUIRE_BROWSER forbids skipping)", pytrace=False)
        pytest.skip(reason)
    with running_browser(program, tmp_path_factory.mktemp("chromium")) as connection:
        yield connection


@pytest.fixture
def page(browser: Connection, tmp_path: Path) -> Iterator[Page]:
    """A tab with storage of its own; its downloads go to ``tmp_path / "downloads"``."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with open_page(browser, downloads) as tab:
        yield tab
