"""The package: complete, blind, and closed to changes; the key: sealed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from trees.reader_cases import SECRETS

from more_model.errors import ConfigError, DataError
from more_model.reader_study.cases import read_cases
from more_model.reader_study.manifest import read_key, read_package
from more_model.reader_study.package import StudyChoice, build_study


@pytest.fixture
def html(built: Any) -> str:
    return (built.out / "package" / "index.html").read_text(encoding="utf-8")


def block(html: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_what_is_read_back_is_what_was_built(built: Any) -> None:
    assert read_package(built.out) == read_package(built.out / "package") == built.manifest
    assert built.key.cases[built.code(3)].truth == {"Edema": 1, "Pleural Effusion": 0}
    assert built.key.cases[built.code(0)].unit == built.key.cases[built.code(1)].unit
    assert list(built.manifest.orders) == ["reader-1", "reader-2", "reader-3"]


def test_the_package_is_one_file_without_truth_and_without_names(built: Any, html: str) -> None:
    assert [path.name for path in (built.out / "package").iterdir()] == ["index.html"]
    assert not [word for word in SECRETS if word in html]
    decoded = b"".join(
        base64.b64decode(png) for of_case in block(html, "pictures").values() for png in of_case.values()
    )
    assert not [word for word in SECRETS if word.encode() in decoded]
    assert "truth" not in json.dumps(block(html, "study"))
    assert built.key.salt not in html


def test_the_key_is_for_its_owner_alone(built: Any) -> None:
    assert stat.S_IMODE((built.out / "key.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(built.out.stat().st_mode) == 0o700


def test_the_key_cannot_be_guessed_from_its_digest(built: Any, tmp_path: Path) -> None:
    """Equal cases and seed: equal orders, but another salt, so another digest of the same truth."""
    again = build_study(read_cases([built.cases]), StudyChoice(readers=3, seed=2), tmp_path)
    assert again.orders == built.manifest.orders
    assert again.cases == built.manifest.cases
    assert again.key_digest != built.manifest.key_digest


def test_nothing_on_the_page_asks_for_anything_outside(html: str) -> None:
    shown = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.DOTALL)
    assert "http:" not in shown and "https:" not in shown and "//" not in re.sub(r"^\s*// .*$", "", shown, flags=re.M)
    assert not re.search(r"<(link|iframe|object|embed)|@import|url\(|\bon\w+=|style=", shown)


def test_the_policy_allows_this_script_and_this_style_alone(html: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.group(1).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    script, style = (
        re.search(r"<script>(.*?)</script>", html, re.DOTALL),
        re.search(r"<style>(.*?)</style>", html, re.S),
    )
    assert script is not None and style is not None
    for text, rule in ((script.group(1), "script-src"), (style.group(1), "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert "unsafe" not in policy.group(1)


def test_a_report_cannot_end_the_data_block(built: Any, html: str) -> None:
    shown = block(html, "study")["manifest"]["cases"][built.code(3)]
    assert shown["report"].startswith("lungs clear </script><script>")
    assert html.count("<script>") == 1


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"threshold": 4', '"threshold": 3', "the list of cases"),
        ('"aided": true', '"aided": false', "the list of cases"),
        ("iVBORw0KGgo", "iVBORw0KGgp", "of case-"),
    ],
)
def test_a_changed_package_is_refused(built: Any, tmp_path: Path, old: str, new: str, named: str) -> None:
    shutil.copytree(built.out, tmp_path / "copy")
    page = tmp_path / "copy" / "package" / "index.html"
    text = page.read_text(encoding="utf-8")
    assert old in text
    page.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=f"was changed after it was built: .*{named}"):
        read_package(tmp_path / "copy")


def test_a_changed_key_is_refused(built: Any, tmp_path: Path) -> None:
    content = json.loads((built.out / "key.json").read_text(encoding="utf-8"))
    content["cases"][built.code(0)]["truth"]["Edema"] = 1
    (tmp_path / "key.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="not the key that study"):
        read_key(tmp_path / "key.json", built.manifest)


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no reader study"):
        read_package(tmp_path)
    (tmp_path / "index.html").write_text("<p>something else</p>", encoding="utf-8")
    with pytest.raises(DataError, match="is no page of a reader study"):
        read_package(tmp_path)


def test_faults_of_the_choice_are_told_before_anything_is_written(built: Any, tmp_path: Path) -> None:
    one = read_cases([built.cases])[:1]
    with pytest.raises(ConfigError, match="2 faults") as raised:
        build_study(one, StudyChoice(scale="probability", threshold=0), tmp_path / "out")
    assert "1 case" in str(raised.value) and "threshold 0" in str(raised.value)
    assert not (tmp_path / "out").exists()
