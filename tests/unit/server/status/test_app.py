"""The page, the JSON and the metrics over a real port of this machine."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from trees.watched_federation import write_federation

from more_model.errors import ConfigError, EnvironmentFault
from more_model.local_page.sessions import LASTS_S, Sessions
from server.status.app import COOKIE
from server.status.service import status_page, token_file
from server.status.sources import Watched, watched
from server.status.tokens import TokenFile


@pytest.fixture(scope="module")
def what(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watched(write_federation(tmp_path_factory.mktemp("watched") / "fed"))


@pytest.fixture(scope="module")
def tokens(what: Watched) -> TokenFile:
    return token_file(what)


@pytest.fixture(scope="module")
def address(what: Watched) -> Iterator[str]:
    with status_page(what, 0) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def web(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, trust_env=False, timeout=20) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_nothing_is_told_without_a_token(web: httpx.Client) -> None:
    assert (web.get("/").status_code, web.get("/").headers["location"]) == (303, "login")
    for path in ("/status.json", "/metrics"):
        for headers in (
            {},
            {"authorization": "Bearer"},
            bearer("a" * 43),
            {"authorization": "Basic eDp5"},
            {"cookie": f"{COOKIE}=x"},
        ):
            answer = web.get(path, headers=headers)
            assert (answer.status_code, answer.text) == (401, "a token is needed")
    for path in ("/docs", "/openapi.json", "/redoc", "/../state/journal.sqlite"):
        assert web.get(path, headers=bearer("x")).status_code == 404


def test_the_coordinator_and_a_site_get_what_each_may_see(web: httpx.Client, tokens: TokenFile) -> None:
    whole = web.get("/status.json", headers=bearer(tokens.make(None))).json()
    cut = web.get("/status.json", headers=bearer(tokens.make("north"))).json()
    assert (whole["viewer"], cut["viewer"]) == (None, "north")
    (west,) = (site for site in cut["sites"] if site["site"] == "west")
    assert (west["round_state"], west["patients"], west["privacy"]) == ("configured", None, None)
    metrics = web.get("/metrics", headers=bearer(tokens.make("north")))
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'more_site_privacy_epsilon{site="north"}' in metrics.text
    assert 'more_site_privacy_epsilon{site="west"}' not in metrics.text


def test_people_log_in_with_their_token_and_out_again(web: httpx.Client, tokens: TokenFile) -> None:
    wrong = web.post("/login", data={"token": "no"})
    assert wrong.status_code == 401
    assert "This is no token of this federation" in wrong.text
    answer = web.post("/login", data={"token": tokens.make(None)})
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
    page = web.get("/")
    assert page.status_code == 200
    assert "Round 4 of 8 waits for north, south, west." in page.text
    session = web.cookies[COOKIE]
    assert web.post("/logout").status_code == 303
    assert web.get("/status.json", headers={"cookie": f"{COOKIE}={session}"}).status_code == 401


def test_a_withdrawn_token_ends_its_sessions_too(web: httpx.Client, tokens: TokenFile) -> None:
    token = tokens.make("south")
    web.post("/login", data={"token": token})
    assert web.get("/").status_code == 200
    assert tokens.withdraw("south") == 1
    assert web.get("/").status_code == 303
    assert web.get("/metrics", headers=bearer(token)).status_code == 401


def test_a_session_ends_by_itself_and_old_ones_make_room(tmp_path: Path) -> None:
    tokens, now = TokenFile(tmp_path / "tokens.json"), [0.0]
    sessions = Sessions(tokens, most=256, clock=lambda: now[0])
    token = tokens.make(None)
    first = sessions.open(token)
    assert first is not None
    now[0] = LASTS_S - 1
    assert sessions.of(first) is not None
    now[0] = LASTS_S
    assert sessions.of(first) is None
    names = [sessions.open(token) for _ in range(257)]
    assert [name is not None and sessions.of(name) is not None for name in (names[0], names[1], names[-1])] == [
        False,
        True,
        True,
    ]


def test_only_digests_of_tokens_are_kept(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    made = [tokens.make(site) for site in (None, "north", "north")]
    content = (tmp_path / "tokens.json").read_text()
    assert not any(token in content for token in made)
    assert hashlib.sha256(made[1].encode()).hexdigest() in content
    assert stat.S_IMODE((tmp_path / "tokens.json").stat().st_mode) == 0o600
    found = [tokens.find(token) for token in (*made, made[0][:-1], "", "\ud800")]
    assert [entry.site if entry else "nobody" for entry in found] == [None, "north", "north", *["nobody"] * 3]
    assert tokens.withdraw("north") == 2
    assert tokens.find(made[1]) is None
    with pytest.raises(ConfigError, match="a site's name has"):
        tokens.make("no/site")
    (tmp_path / "tokens.json").write_text("[]")
    with pytest.raises(ConfigError, match="no list of tokens"):
        tokens.entries()


def test_every_answer_forbids_what_the_page_does_not_need(web: httpx.Client, tokens: TokenFile) -> None:
    web.post("/login", data={"token": tokens.make(None)})
    for path in ("/", "/login", "/status.json", "/metrics", "/nowhere"):
        headers = web.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    page, policy = web.get("/"), web.get("/").headers["content-security-policy"]
    for kind in ("style", "script"):
        (inline,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"(src|href)=\"(https?:)?//", page.text)


def test_a_login_that_is_too_long_is_cut_off(web: httpx.Client) -> None:
    assert web.post("/login", data={"token": "a" * 5000}).status_code == 413


def test_what_cannot_be_read_is_told_in_full_to_the_coordinator_only(tmp_path: Path) -> None:
    what = watched(write_federation(tmp_path / "fed"))
    tokens = token_file(what)
    (what.run / "journal.sqlite").write_bytes(b"no database" * 100)
    with status_page(what, 0) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as web:
        whole = web.get("/status.json", headers=bearer(tokens.make(None)))
        cut = web.get("/status.json", headers=bearer(tokens.make("north")))
    assert (whole.status_code, cut.status_code) == (503, 503)
    assert "the journal cannot be read" in whole.text
    assert "Do not: delete it" in whole.text
    assert cut.text == "The status cannot be read now."


def test_tokens_that_cannot_be_read_let_nobody_in(tmp_path: Path) -> None:
    what = watched(write_federation(tmp_path / "fed"))
    token = token_file(what).make(None)
    (tmp_path / "fed" / "state" / "status_tokens.json").write_text("{}")
    with status_page(what, 0) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as web:
        answer = web.get("/status.json", headers=bearer(token))
    assert (answer.status_code, answer.text) == (503, "The status cannot be read now.")


def test_a_port_that_is_taken_is_named(what: Watched) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=f"cannot listen on 127.0.0.1:{port}"), status_page(what, port):
            pass
