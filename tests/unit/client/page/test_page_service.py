"""The page over a real port: nothing without the token, which one file holds."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import typer
from trees.watched_site import write_site
from typer.testing import CliRunner

from client.commands.page import page
from client.page.app import COOKIE
from client.page.doors import PageToken
from client.page.service import site_page, token_of
from client.site_file import SiteFile, load_site_file
from more_model.errors import EnvironmentFault, StoreError
from more_model.local_page.sessions import LASTS_S, Sessions

APP = typer.Typer()
APP.command()(page)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> SiteFile:
    return load_site_file(write_site(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def address(file: SiteFile) -> Iterator[str]:
    with site_page(file, 0) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def web(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, trust_env=False, timeout=20) as client:
        yield client


def token(file: SiteFile) -> str:
    return token_of(file).path.read_text(encoding="utf-8").strip()


def test_nothing_is_told_without_the_token(web: httpx.Client) -> None:
    assert (web.get("/").status_code, web.get("/").headers["location"]) == (303, "login")
    for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer x"}, {"cookie": f"{COOKIE}=x"}):
        answer = web.get("/site.json", headers=headers)
        assert (answer.status_code, answer.text) == (401, "a token is needed")
    for path in ("/docs", "/openapi.json", "/redoc", "/site.toml"):
        assert web.get(path).status_code == 404


def test_the_token_lies_in_a_file_of_its_owner(file: SiteFile, web: httpx.Client) -> None:
    assert stat.S_IMODE(token_of(file).path.stat().st_mode) == 0o600
    found = web.get("/site.json", headers={"authorization": f"Bearer {token(file)}"}).json()
    assert (found["schema"], found["site"], found["federation"]) == (1, "north", "chest-consortium")
    assert found["left"]["messages"][0]["said"] == "paused"


def test_people_log_in_and_out_and_nothing_else_may_be_asked(file: SiteFile, web: httpx.Client) -> None:
    wrong = web.post("/login", data={"token": "no"})
    assert wrong.status_code == 401 and "This is not the token of this page." in wrong.text
    assert web.post("/login", content=b"token=" + b"x" * 5000).status_code == 413
    answer = web.post("/login", data={"token": token(file)})
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    assert all(part in answer.headers["set-cookie"] for part in ("HttpOnly", "SameSite=strict"))
    shown = web.get("/")
    assert shown.status_code == 200 and "What left the building" in shown.text
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert shown.headers["cache-control"] == "no-store"
    for method in ("POST", "PUT", "DELETE"):
        assert web.request(method, "/").status_code == 405
    session = web.cookies[COOKIE]
    assert web.post("/logout").status_code == 303
    assert web.get("/site.json", headers={"cookie": f"{COOKIE}={session}"}).status_code == 401


def test_another_token_ends_the_sessions_of_the_old_one(tmp_path: Path) -> None:
    tokens, now = PageToken(tmp_path / "token"), [0.0]
    sessions = Sessions(tokens, most=32, clock=lambda: now[0])
    assert sessions.open("") is None, "no file is no token, and not an empty one"
    tokens.make()
    given = tokens.path.read_text(encoding="utf-8").strip()
    first, second = sessions.open(given), sessions.open(given)
    assert first is not None and second is not None and sessions.of(first) is not None
    now[0] = LASTS_S
    assert sessions.of(first) is None
    now[0] = 0.0
    sessions.end(first)
    assert sessions.of(first) is None and sessions.of(second) is not None
    tokens.path.unlink()
    assert sessions.of(second) is None
    tokens.make()
    assert sessions.of(second) is None
    assert tokens.path.read_text(encoding="utf-8").strip() != given
    names = [sessions.open(tokens.path.read_text(encoding="utf-8").strip()) for _ in range(33)]
    assert [sessions.of(name or "") is not None for name in (names[0], names[1])] == [False, True]


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = load_site_file(write_site(tmp_path))
    token_of(file).make()
    token_of(file).path.chmod(0o644)
    with pytest.raises(StoreError, match="others than its owner"), site_page(file, 0):
        pass


def test_a_port_that_is_taken_is_named(file: SiteFile) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(EnvironmentFault, match="cannot listen on"), site_page(file, other.getsockname()[1]):
            pass


def test_the_page_becomes_one_file(tmp_path: Path) -> None:
    config, out = write_site(tmp_path), tmp_path / "page.html"
    result = CliRunner().invoke(APP, [str(config), "--once", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["site"] == "north"
    text = out.read_text(encoding="utf-8")
    assert "What left the building" in text and "Log out" not in text
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert not (tmp_path / "work").exists(), "no token is needed for it"


def test_once_and_out_belong_together(tmp_path: Path) -> None:
    config = str(write_site(tmp_path))
    for options in (["--once"], ["--out", str(tmp_path / "p.html")]):
        result = CliRunner().invoke(APP, [config, *options])
        assert result.exit_code == 2
        assert "--once and --out belong together" in result.stderr
