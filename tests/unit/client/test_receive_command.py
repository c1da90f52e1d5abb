"""`more-client receive` as a service runs it: a process that is told to stop by a signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
import typer
from trees.dicom_instances import film_instance
from typer.testing import CliRunner

from client.commands.receive import receive

FEDERATION = {
    "name": "test",
    "address": "127.0.0.1:9",
    "root_certificate": "authority.pem",
    "ca_fingerprint": "00" * 32,
}
RUN = "import typer; from client.commands.receive import receive; typer.run(receive)"


def site_file(folder: Path, receiver: dict[str, object] | None) -> Path:
    content: dict[str, object] = {"site": "north", "federation": FEDERATION}
    path = folder / "site.toml"
    path.write_text(tomli_w.dumps(content | ({"receiver": receiver} if receiver else {})))
    return path


def test_it_receives_until_told_to_stop(tmp_path: Path) -> None:
    from pynetdicom import AE

    callers = [{"ae_title": "PACS", "addresses": ["127.0.0.1"]}]
    config = site_file(tmp_path, {"port": 0, "keep_free_gib": 0.0, "callers": callers})
    command = [sys.executable, "-c", RUN, str(config), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            listens = running.stderr.readline()
            assert listens.startswith("MORE_FED listens at 127.0.0.1:")
            port = int(listens.split(":")[1].split(";")[0])
            entity = AE("PACS")
            entity.add_requested_context(film_instance(1).SOPClassUID)
            association = entity.associate("127.0.0.1", port, ae_title="MORE_FED")
            assert association.send_c_store(film_instance(1)).Status == 0
            association.release()
            running.send_signal(signal.SIGTERM)
            said, complaints = running.communicate(timeout=60)
        finally:
            running.kill()
    assert (running.returncode, complaints) == (0, "")
    facts = json.loads(said)
    assert (facts["received"], facts["instances"]) == ({"stored": 1}, 1)
    assert "pseudonym-1" in (tmp_path / "spool" / "received.csv").read_text()


@pytest.mark.parametrize(
    ("receiver", "code", "said"),
    [
        (None, 2, "receiver: there is no such table"),
        ({"host": "192.0.2.1", "callers": [{"ae_title": "PACS", "addresses": ["10.0.0.1"]}]}, 8, "assign requested"),
    ],
)
def test_what_keeps_it_from_starting(tmp_path: Path, receiver: dict[str, object] | None, code: int, said: str) -> None:
    app = typer.Typer()
    app.command()(receive)
    result = CliRunner().invoke(app, [str(site_file(tmp_path, receiver))])
    assert (result.exit_code, said in result.stderr) == (code, True)
