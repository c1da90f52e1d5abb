"""The lock files: everything pinned and hashed, no registry named, nothing of pyproject.toml forgotten."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("requirements.lock", "requirements-bootstrap.lock")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One locked package: its requirement as written and the hashes of its files."""

    requirement: Requirement
    hashes: tuple[str, ...]


def read_lock(path: Path) -> list[Entry]:
    joined = path.read_text(encoding="utf-8").replace("\\\n", " ")
    entries = []
    for line in joined.splitlines():
        words = line.split(" #")[0].strip()
        if words and not words.startswith("#"):
            entries.append(Entry(Requirement(words.split("--hash")[0].strip()), tuple(HASH.findall(words))))
    return entries


def declared(checkout: Path) -> list[Requirement]:
    content = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    lines = [*content["project"]["dependencies"], *content["dependency-groups"]["dev"]]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", LOCKS)
def test_everything_is_pinned_to_one_version_with_hashes(checkout: Path, name: str) -> None:
    entries = read_lock(checkout / name)
    assert entries
    loose = [
        str(entry.requirement)
        for entry in entries
        if not entry.hashes or [s.operator for s in entry.requirement.specifier] != ["=="]
    ]
    assert not loose


@pytest.mark.parametrize("name", LOCKS)
def test_no_registry_host_and_no_direct_address_is_named(checkout: Path, name: str) -> None:
    text = (checkout / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://|git\+|file:|--(extra-)?index-url|--find-links|--trusted-host|^-i ", text, re.M)
    assert all(entry.requirement.url is None for entry in read_lock(checkout / name))


def test_every_declared_dependency_is_locked_within_its_bounds(checkout: Path) -> None:
    locked: dict[str, list[Entry]] = {}
    for entry in read_lock(checkout / "requirements.lock"):
        locked.setdefault(canonicalize_name(entry.requirement.name), []).append(entry)
    for wanted in declared(checkout):
        found = locked.get(canonicalize_name(wanted.name), [])
        assert found, f"{wanted} is in pyproject.toml but not in requirements.lock; run `make lock`"
        for entry in found:
            pinned = next(iter(entry.requirement.specifier)).version
            assert wanted.specifier.contains(pinned, prereleases=True), f"{wanted} against {pinned}; run `make lock`"


def test_installed_versions_are_the_locked_ones(checkout: Path) -> None:
    """A test result says something about the lock only if the lock is what was tested."""
    for entry in read_lock(checkout / "requirements.lock"):
        marker = entry.requirement.marker
        if marker is None or marker.evaluate():
            assert version(entry.requirement.name) in entry.requirement.specifier, (
                f"{entry.requirement}: run `make install`"
            )


def test_direct_dependencies_are_explained(checkout: Path) -> None:
    page = (checkout / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    missing = [wanted.name for wanted in declared(checkout) if f"| `{wanted.name.lower()}" not in page]
    assert not missing, f"docs/dependencies.md does not say why these are needed: {missing}"
