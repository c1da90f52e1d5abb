"""The handbooks say what is so: commands and options exist, files can be read, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from trees.handbook import PROGRAMS, our_commands, sections, walk

from client.policy_check import POLICY_CODES
from client.site_file import ReceiverPart
from more_model.data.sources import SourcesFile
from more_model.data.table_mapping import TableMapping
from server.federation_file import FederationFile

_PAGES = ("site-handbook.md", "coordinator-handbook.md")
_INLINE = re.compile(rf"`((?:{'|'.join(PROGRAMS)})\b[^`]*)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _page(deploy: Path, name: str) -> Path:
    return deploy.parent / "docs" / name


@pytest.mark.parametrize("name", _PAGES)
def test_every_command_of_ours_can_be_run_as_it_stands(
    deploy: Path,
    name: str,
    faults_of_command: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # What commands ask to be there: the checkout's configurations, and files of the hospital.
    (tmp_path / "simulation").symlink_to(deploy.parent / "simulation")
    (tmp_path / "some" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = [
        line for part in sections(_page(deploy, name)) for block in part.blocks("bash") for line in our_commands(block)
    ]
    assert len(found) > 20
    for words in found:
        if words[1:] != ["--version"]:
            assert faults_of_command(shlex.join(words)) == [], words


@pytest.mark.parametrize("name", _PAGES)
def test_every_command_in_the_text_exists_with_its_options(deploy: Path, name: str) -> None:
    """In the text a command may stand without its arguments."""
    manual = (deploy.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^#+ (more-[\w -]+)\n(.*?)(?=^#|\Z)", manual, re.M | re.S))
    found = [line for part in sections(_page(deploy, name)) for line in _INLINE.findall(part.prose)]
    assert len(found) > 5
    for line in found:
        words = line.split()
        title = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in parts), None)
        assert title is not None, line
        for option in (word for word in words if word.startswith("--")):
            assert option in parts[title], line


@pytest.mark.parametrize("name", _PAGES)
def test_no_block_has_an_unknown_language(deploy: Path, name: str) -> None:
    kinds = set(re.findall(r"^```(\w+)$", _page(deploy, name).read_text(encoding="utf-8"), re.M))
    assert kinds <= {"bash", "toml"}


@pytest.mark.parametrize("name", _PAGES)
def test_links_lead_somewhere(deploy: Path, name: str) -> None:
    page = _page(deploy, name)
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    for link in _LINK.findall(text):
        path, _, anchor = link.partition("#")
        assert (page.parent / path).exists() if path else anchor in anchors, link
    for path in re.findall(r"`?(deploy/[\w./-]+\.\w+)", text):
        assert (deploy.parent / path).exists(), path


def test_the_coordinator_installs_what_the_hospital_installs(deploy: Path) -> None:
    """The walk-through test installs once, for both."""
    [hospital], [coordinator] = (walk(_page(deploy, name))[2] for name in _PAGES)
    assert coordinator == hospital.replace("more-client", "more-server")


def test_refusals_in_the_table_are_those_of_the_daemon(deploy: Path) -> None:
    [table] = (part for part in sections(_page(deploy, _PAGES[0])) if part.title == "What to do when")
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table.text))
    assert named & POLICY_CODES
    # A reason of the ingest, and a command.
    assert named - POLICY_CODES == {"not-deidentified", "data-report"}


def test_the_annotated_federation_file_shows_the_defaults(deploy: Path, tmp_path: Path) -> None:
    [part] = (part for part in sections(_page(deploy, _PAGES[1])) if part.title.startswith("federation.toml"))
    [shown] = part.blocks("toml")
    content = tomllib.loads(shown)
    evaluation = content.pop("evaluation")
    needed = {key: content[key] for key in ("name", "public_address", "base", "sites")}
    context = {"folder": tmp_path}
    assert FederationFile.model_validate(content, context=context) == FederationFile.model_validate(
        needed, context=context
    )
    assert FederationFile.model_validate({**content, "evaluation": evaluation}, context=context).evaluation is not None


def test_what_stands_behind_a_number_sign_there_is_valid_too(deploy: Path, tmp_path: Path) -> None:
    [part] = (part for part in sections(_page(deploy, _PAGES[1])) if part.title.startswith("federation.toml"))
    [shown] = part.blocks("toml")
    content = tomllib.loads(re.sub(r"^# (?=\[|\w+ = )", "", shown, flags=re.M))
    file = FederationFile.model_validate(content, context={"folder": tmp_path})
    assert file.secure_sum is not None and file.privacy.on and file.notifications.smtp_server


def test_the_files_of_a_hospital_can_be_read(deploy: Path, tmp_path: Path) -> None:
    [part] = (part for part in sections(_page(deploy, _PAGES[0])) if part.title == "Your own patients")
    kinds = []
    for block in part.blocks("toml"):
        content = tomllib.loads(block)
        if "sources" in content:
            kinds += [source.kind for source in SourcesFile.model_validate(content).sources]
        elif "receiver" in content:
            assert ReceiverPart.model_validate(content["receiver"], context={"folder": tmp_path}).callers
        else:
            assert TableMapping.model_validate(content).xray == "picture"
    assert kinds == ["table", "fhir", "table"]
