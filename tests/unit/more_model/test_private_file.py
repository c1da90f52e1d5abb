"""Secrets: for their owner alone, whole or not at all, and never overwritten by accident."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from more_model.errors import ConfigError, StoreError
from more_model.private_file import replace, secret, write_new


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_and_its_folder_are_for_the_owner_alone(tmp_path: Path) -> None:
    write_new(tmp_path / "keys" / "node", b"secret")
    assert (tmp_path / "keys" / "node").read_bytes() == b"secret"
    assert (mode(tmp_path / "keys" / "node"), mode(tmp_path / "keys")) == (0o600, 0o700)


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    write_new(tmp_path / "node", b"first")
    with pytest.raises(ConfigError, match="there already"):
        write_new(tmp_path / "node", b"second")
    assert (tmp_path / "node").read_bytes() == b"first"


def test_replacing_leaves_no_draft_and_takes_over_one_that_a_crash_left(tmp_path: Path) -> None:
    (tmp_path / ".node.part").write_bytes(b"half")
    replace(tmp_path / "node", b"first")
    replace(tmp_path / "node", b"second")
    assert (tmp_path / "node").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_a_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "site" / "key"
    assert secret(path) == secret(path) and len(secret(path)) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret(tmp_path / "other" / "key") != secret(path)
    path.chmod(0o644)
    with pytest.raises(StoreError, match="only its owner may read"):
        secret(path)


def test_a_secret_that_several_open_at_once_is_one(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            assert len(set(pool.map(secret, [tmp_path / str(number) / "key"] * 4))) == 1
