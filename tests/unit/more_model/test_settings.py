"""Configuration files: whole or not at all, and every fault in one error."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import ConfigError
from more_model.settings import load_settings, read_mapping, validated


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = Field(ge=1)


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    rate: float = Field(default=0.5, le=1)
    parts: list[Part] = []


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".toml", 'name = "größe"\n[[parts]]\nsize = 2\n'), (".json", '{"name": "größe", "parts": [{"size": 2}]}')],
)
def test_both_forms_read_the_same(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"run{suffix}"
    path.write_text(text, encoding="utf-8")
    assert load_settings(Whole, path) == Whole(name="größe", parts=[Part(size=2)])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("absent.toml", None, "there is no such file"),
        ("run.yaml", b"name: x", "unknown suffix '.yaml'"),
        ("run.toml", b'name = "x', "not well formed"),
        ("run.toml", b'name = "\xff"', "not well formed"),
        ("run.json", b'{"name": ', "not well formed"),
        ("run.json", b"[1, 2]", "the top level must be a table of keys"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_mapping(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert caught.value.exit_code == 2


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        read_mapping(tmp_path)


def test_every_fault_with_its_place_and_what_was_given() -> None:
    content = {"rate": 7, "parts": [{"size": 1}, {"size": "two", "sise": 3}], "extra": True}
    with pytest.raises(ConfigError, match=r"run\.toml: 5 faults") as caught:
        validated(Whole, content, "run.toml")
    faults = sorted(caught.value.faults)
    assert faults[0] == "extra: there is no such setting"
    assert faults[1] == "name: Field required"
    assert faults[2] == "parts.1.sise: there is no such setting"
    assert faults[3].startswith("parts.1.size: ") and faults[3].endswith("(given: 'two')")
    assert faults[4] == "rate: Input should be less than or equal to 1 (given: 7)"
