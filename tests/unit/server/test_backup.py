"""Backups: what is in one, that it is whole, and that the same run goes on from it."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import typer
from trees.watched_federation import write_federation
from typer.testing import CliRunner, Result

from more_model.errors import ConfigError, EnvironmentFault, StoreError
from server.authority import fingerprint
from server.backup import MANIFEST, write_backup
from server.commands.backup import backup
from server.commands.restore import restore
from server.federation_file import read_federation
from server.journal import Journal, Participation, RoundRecord
from server.restore import restore as put_back
from server.sites import SiteRegister

RUN = {"run": "1"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_federation(tmp_path_factory.mktemp("written") / "federation")


@pytest.fixture
def federation(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "federation"))


@pytest.fixture
def invoke() -> Callable[..., Result]:
    app = typer.Typer()
    app.command()(backup)
    app.command()(restore)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def names(file: Path) -> list[str]:
    with tarfile.open(file) as archive:
        return archive.getnames()


def close(journal: Journal, number: int, floats: int = 2) -> None:
    record = RoundRecord(number, (Participation("north", "accepted"),), 1.0, 0.5, 8, 0.1)
    journal.close_round(record, {"a": np.full(floats, number, dtype=np.float32)})


def changed(file: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The same archive with other content."""
    with tarfile.open(file) as archive:
        content = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    change(content)
    with tarfile.open(file, "w") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def test_what_is_in_it_and_what_is_not(federation: Path, tmp_path: Path) -> None:
    (federation / "state" / "superlink").mkdir()
    (federation / "state" / "superlink" / "superlink.sqlite").write_bytes(b"single updates")
    (federation / "state" / "status_tokens.json").write_text("[]")
    (federation / "base" / "weights.safetensors").write_bytes(bytes(100))
    (federation / "state" / "mail_password").write_text("a password")
    with (federation / "federation.toml").open("a") as file:
        file.write('[notifications]\nsmtp_password_file = "state/mail_password"\n')
    made = write_backup(federation, tmp_path / "b.tar")
    rounds = [f"state/run/checkpoints/round-000{number}.safetensors" for number in (1, 2, 3)]
    certificates = ["authority/root.pem", "authority/server.key", "authority/server.pem"]
    state = [
        "state/run/evaluations.jsonl",
        "state/run/journal.sqlite",
        "state/sites.sqlite",
        "state/status_tokens.json",
    ]
    assert sorted(names(tmp_path / "b.tar")) == sorted(["federation.toml", *certificates, *rounds, *state, MANIFEST])
    assert names(tmp_path / "b.tar")[-1] == MANIFEST and not made.faults
    assert (tmp_path / "b.tar").stat().st_mode & 0o077 == 0
    # Nothing stays beside it.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "federation"]


def test_the_authoritys_key_is_in_it_only_where_asked_for(
    federation: Path, tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    done = invoke("backup", federation, "--to", tmp_path / "b.tar")
    assert (
        done.exit_code == 0 and "without the authority's key" in done.output and "single updates lie in" in done.output
    )
    done = invoke("backup", federation, "--to", tmp_path / "with.tar", "--with-authority-key", "--json")
    assert json.loads(done.stdout)["authority_key"] is True
    key = (federation / "authority" / "authority.key").read_bytes()
    assert key not in (tmp_path / "b.tar").read_bytes() and key in (tmp_path / "with.tar").read_bytes()
    (federation / "authority" / "authority.key").unlink()
    assert not write_backup(federation, tmp_path / "gone.tar", authority_key=True).manifest.authority_key


def test_an_authority_within_the_state_is_told_from_it(federation: Path, tmp_path: Path) -> None:
    shutil.move(federation / "authority", federation / "state" / "authority")
    file = federation / "federation.toml"
    file.write_text('authority = "state/authority"\n' + file.read_text())
    write_backup(federation, tmp_path / "b.tar")
    kept = [name for name in names(tmp_path / "b.tar") if name.startswith("state/authority/")]
    assert kept == [f"state/authority/{name}" for name in ("root.pem", "server.pem", "server.key")]


def test_a_run_goes_on_from_it(federation: Path, tmp_path: Path, invoke: Callable[..., Result]) -> None:
    assert invoke("backup", federation, "--to", tmp_path / "b.tar").exit_code == 0
    root = fingerprint(federation / "authority" / "root.pem")
    shutil.rmtree(federation)
    there = tmp_path / "elsewhere" / "federation"
    done = invoke("restore", tmp_path / "b.tar", "--to", there)
    assert done.exit_code == 0, done.output
    settings = read_federation(there)
    assert fingerprint(settings.certificates.root) == root
    assert set(SiteRegister(settings.state / "sites.sqlite").enrolled()) == {"east", "north", "south", "west"}
    assert (settings.authority / "server.key").stat().st_mode & 0o077 == 0
    assert there.stat().st_mode & 0o077 == 0
    with closing(Journal(settings.run_folder, run=RUN)) as journal:
        last = journal.last_checkpoint()
        assert last is not None and last[0] == 3
        close(journal, 4)
        assert [record.round for record in journal.rounds()] == [1, 2, 3, 4]
    assert f"put its folder to {there / 'base'}" in done.output
    assert "revoke them once more" in done.output and "authority's key is not in the backup" in done.output


def test_while_a_run_closes_rounds_every_backup_is_whole(federation: Path, tmp_path: Path) -> None:
    ended = threading.Event()
    counts = []
    with closing(Journal(federation / "state" / "run", run=RUN)) as journal:

        def back_up() -> None:
            while not ended.is_set():
                out = tmp_path / f"{len(counts)}.tar"
                assert write_backup(federation, out).faults == ()
                put_back(out, tmp_path / "back")
                with closing(Journal(tmp_path / "back" / "state" / "run", run=RUN)) as copy:
                    last = copy.last_checkpoint()
                    assert last is not None
                    counts.append(last[0])
                shutil.rmtree(tmp_path / "back")
                out.unlink()

        thread = threading.Thread(target=lambda: failed.extend(_caught(back_up)))
        failed: list[BaseException] = []
        # A connection belongs to its thread: the journal stays in this one.
        thread.start()
        number = 3
        while len(counts) < 3 and thread.is_alive():
            number += 1
            close(journal, number, floats=2000)
        ended.set()
        thread.join()
    assert failed == []
    assert counts == sorted(counts) and counts[-1] > 3


def _caught(function: Callable[[], None]) -> list[BaseException]:
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - told by the test's own thread
        return [error]
    return []


def test_what_a_killed_run_left_in_the_write_ahead_log_is_in_it(federation: Path, tmp_path: Path) -> None:
    journal = Journal(federation / "state" / "run", run=RUN)
    close(journal, 4)
    # As it lies on the disk at this moment: the round is in the log, not in the database.
    shutil.copytree(federation, tmp_path / "killed")
    journal.close()
    assert (tmp_path / "killed" / "state" / "run" / "journal.sqlite-wal").stat().st_size > 0
    write_backup(tmp_path / "killed", tmp_path / "b.tar")
    put_back(tmp_path / "b.tar", tmp_path / "back")
    with closing(Journal(tmp_path / "back" / "state" / "run", run=RUN)) as journal:
        assert [record.round for record in journal.rounds()] == [1, 2, 3, 4]


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    place = content.index(b"[sites.north]")
    content[place + 1] ^= 1
    file.write_bytes(content)


def _without(name: str) -> Callable[[Path], object]:
    return lambda file: changed(file, lambda content: content.pop(name))


def _with(name: str) -> Callable[[Path], object]:
    return lambda file: changed(file, lambda content: content.update({name: b"", MANIFEST: content.pop(MANIFEST)}))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (_flip, "not as they were written: federation.toml"),
    "its end": (lambda file: os.truncate(file, file.stat().st_size // 2), "is no whole backup"),
    "its list": (_without(MANIFEST), "its end is missing"),
    "a list of another version": (lambda file: changed(file, lambda c: c.update({MANIFEST: b"{}"})), "list of files"),
    "a file missing": (_without("state/sites.sqlite"), "not as they were written: state/sites.sqlite"),
    "a file more": (_with("more"), "not as they were written: more"),
    "a file outside": (_with("../outside"), "'../outside' does not belong there"),
    "no archive": (lambda file: file.write_bytes(b"no archive" * 1000), "is no whole backup"),
    "empty": (lambda file: file.write_bytes(b""), "is no whole backup"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_and_puts_nothing_in_place(federation: Path, tmp_path: Path, damage: str) -> None:
    write_backup(federation, tmp_path / "b.tar")
    spoil, words = DAMAGES[damage]
    spoil(tmp_path / "b.tar")
    with pytest.raises(StoreError, match=words):
        put_back(tmp_path / "b.tar", tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "federation"]


def test_a_link_or_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("state/sites.sqlite"))
    with pytest.raises(StoreError, match=r"'state/sites\.sqlite' does not belong there"):
        put_back(tmp_path / "twice.tar", tmp_path / "back")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        info = tarfile.TarInfo("state")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    with pytest.raises(StoreError, match="'state' does not belong there"):
        put_back(tmp_path / "b.tar", tmp_path / "back")


def test_nothing_that_is_there_is_overwritten(federation: Path, tmp_path: Path) -> None:
    write_backup(federation, tmp_path / "b.tar")
    before = (tmp_path / "b.tar").read_bytes()
    with pytest.raises(ConfigError, match="this file is there already"):
        write_backup(federation, tmp_path / "b.tar")
    with pytest.raises(ConfigError, match="there already, and not empty"):
        put_back(tmp_path / "b.tar", federation)
    assert (tmp_path / "b.tar").read_bytes() == before
    (tmp_path / "empty").mkdir()
    assert put_back(tmp_path / "b.tar", tmp_path / "empty").manifest.federation == "chest-consortium"


def test_a_changed_checkpoint_is_told_and_the_backup_is_there_all_the_same(
    federation: Path, tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    (federation / "state" / "run" / "checkpoints" / "round-0002.safetensors").write_bytes(b"other")
    done = invoke("backup", federation, "--to", tmp_path / "b.tar")
    assert done.exit_code == 7
    assert "round-0002.safetensors: the checkpoint of round 2 is missing or was changed" in done.stderr
    put_back(tmp_path / "b.tar", tmp_path / "back")


def test_a_damaged_register_is_not_backed_up(federation: Path, tmp_path: Path) -> None:
    (federation / "state" / "sites.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(EnvironmentFault, match=r"sites.sqlite: this database cannot be copied[\s\S]*an earlier backup"):
        write_backup(federation, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def test_folders_elsewhere_come_back_below_and_it_is_said(federation: Path, tmp_path: Path) -> None:
    shutil.move(federation / "state", tmp_path / "var")
    file = federation / "federation.toml"
    file.write_text(f'state = "{tmp_path / "var"}"\n' + file.read_text())
    write_backup(federation, tmp_path / "b.tar")
    assert "state/run/journal.sqlite" in names(tmp_path / "b.tar")
    shutil.rmtree(tmp_path / "var")
    notes = put_back(tmp_path / "b.tar", tmp_path / "back").notes
    (words,) = [note for note in notes if "federation.toml names" in note]
    assert str(tmp_path / "var") in words and str(tmp_path / "back" / "state") in words
