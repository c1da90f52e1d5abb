"""The image file and the compose files of deploy/, read and not built: what would run, as whom, with what rights."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

_FILES = ("coordinator", "site")
_SERVICES = (
    ("coordinator", "network"),
    ("coordinator", "coordinator"),
    ("coordinator", "run"),
    ("coordinator", "status"),
    ("site", "network"),
    ("site", "daemon"),
    ("site", "relay"),
)


def _compose(deploy: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((deploy / "compose" / f"{name}.yaml").read_text())
    return content


def _service(deploy: Path, file: str, name: str) -> dict[str, Any]:
    service: dict[str, Any] = _compose(deploy, file)["services"][name]
    return service


def _image(deploy: Path) -> str:
    """The image file without comments, an instruction a line."""
    text = (deploy / "oci" / "Containerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ")


def test_each_service_is_tested(deploy: Path) -> None:
    there = {(file, name) for file in _FILES for name in _compose(deploy, file)["services"]}
    assert there == set(_SERVICES)


@pytest.mark.parametrize(("file", "name"), _SERVICES)
def test_its_command_is_one_of_ours(
    deploy: Path, file: str, name: str, faults_of_command: Callable[[str], list[str]]
) -> None:
    command = _service(deploy, file, name)["command"]
    if name == "network":
        assert command == ["sleep", "infinity"]
    else:
        assert faults_of_command(shlex.join(command)) == []


@pytest.mark.parametrize(("file", "name"), _SERVICES)
def test_it_has_no_right_that_it_does_not_need(deploy: Path, file: str, name: str) -> None:
    service = _service(deploy, file, name)
    number, group = service["user"].split(":")
    assert f"--uid {number} --gid {group} " in _image(deploy)
    assert int(number) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pull_policy"] == "never"
    assert service["ulimits"] == {"core": 0}
    assert service.get("network_mode", "") in {"", "service:network"}
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & service.keys()
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ()))


def test_one_port_is_published_and_none_at_a_hospital(deploy: Path) -> None:
    ports = {(file, name): _service(deploy, file, name).get("ports") for file, name in _SERVICES}
    assert {place: found for place, found in ports.items() if found} == {("coordinator", "network"): ["8443:8443"]}


def test_the_relay_shares_a_folder_in_memory_with_the_daemon_and_nothing_else(deploy: Path) -> None:
    daemon, relay = (_service(deploy, "site", name) for name in ("daemon", "relay"))
    assert relay["user"] != daemon["user"]
    assert [(volume["source"], volume["target"], volume["read_only"]) for volume in relay["volumes"]] == [
        ("sockets", "/run/more-fed", True)
    ]
    assert daemon["group_add"] == [relay["user"].split(":")[1]]
    options = _compose(deploy, "site")["volumes"]["sockets"]["driver_opts"]
    assert options["type"] == "tmpfs"
    assert options["o"] == f"mode=0750,uid={daemon['user'].split(':')[0]},gid={relay['user'].split(':')[1]}"


def test_the_daemon_writes_records_and_work_only(deploy: Path) -> None:
    volumes = _service(deploy, "site", "daemon")["volumes"]
    written = {volume["target"] for volume in volumes if not volume.get("read_only")}
    assert written == {"/site/records", "/site/witness", "/site/work", "/run/more-fed"}


def test_only_the_gate_sees_the_coordinators_keys(deploy: Path) -> None:
    for name in ("coordinator", "run", "status"):
        volumes = {volume["target"]: volume for volume in _service(deploy, "coordinator", name)["volumes"]}
        assert ("/federation/authority" in volumes) == (name == "coordinator")
        assert [place for place, volume in volumes.items() if not volume.get("read_only")] == ["/federation/state"]


def test_a_gpu_goes_to_the_daemon_alone(deploy: Path) -> None:
    assert list(_compose(deploy, "site-gpu")["services"]) == ["daemon"]


def test_the_image_is_locked_quiet_and_not_run_as_root(deploy: Path) -> None:
    image = _image(deploy)
    built, run = image.split("\nFROM ")[1:]
    # Every download is checked against a hash of the lock, and none happens in the image that runs.
    for line in built.splitlines():
        for install in re.findall(r"pip install [^&]*", line):
            assert "--require-hashes -r requirements-bootstrap.lock" in install or "-c requirements.lock" in install
    assert "pip install" not in run
    assert re.search(r"^USER (?!0\b|root\b)\d+:\d+$", run, re.MULTILINE)
    for setting in ("PYTHONSAFEPATH=1", "FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1", "HF_HUB_OFFLINE=1"):
        assert setting in run
    assert not re.search(r"\b(curl|wget|ADD)\b|--chown", image)


def test_what_the_image_is_made_of_is_there_and_reaches_the_builder(deploy: Path) -> None:
    ignored = (deploy / "oci" / "Containerfile.dockerignore").read_text().split()
    copied = {
        name
        for line in _image(deploy).splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert "*" in ignored
    for name in copied:
        assert (deploy.parent / name).exists(), name
        assert f"!{name}" in ignored
