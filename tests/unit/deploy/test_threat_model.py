"""docs/threat-model.md names tests as proof: each of them is there."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_test_that_is_named_exists(deploy: Path) -> None:
    page = (deploy.parent / "docs" / "threat-model.md").read_text()
    files = list((deploy.parent / "tests").rglob("test_*.py"))
    tests = set(re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in files), re.MULTILINE))
    named_files = set(re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)", page))
    named_tests = {name for name in re.findall(r"\b(test_\w+)\b(?!\.py)", page) if f"{name}.py" not in page}
    assert len(named_tests) > 20
    assert named_tests - tests == set()
    assert [name for name in named_files if not any(str(path).endswith(f"/{name}") for path in files)] == []


def test_every_unit_and_drop_in_that_is_named_exists(deploy: Path) -> None:
    pages = (deploy / "README.md").read_text() + (deploy.parent / "docs" / "threat-model.md").read_text()
    for name in set(re.findall(r"\b(more-fed-\w+\.(?:service|timer))", pages)):
        assert (deploy / "systemd" / name).is_file(), name
    for name in set(re.findall(r"drop-ins/([\w-]+\.conf)", pages)):
        assert (deploy / "systemd" / "drop-ins" / name).is_file(), name
