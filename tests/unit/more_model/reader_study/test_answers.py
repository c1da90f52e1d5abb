"""Answer files are checked against the package before a single figure is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trees.reader_cases import write_answers

from more_model.errors import ConfigError
from more_model.reader_study.answers import read_answers


@pytest.fixture
def content(built: Any, tmp_path: Path) -> dict[str, Any]:
    """A good answer file of reader-1, as an object that tests damage."""
    return write_answers(tmp_path / "good.json", built.manifest, "reader-1", lambda reading, label: 3)


def test_files_come_back_in_the_order_of_the_readers(built: Any, tmp_path: Path) -> None:
    paths = [tmp_path / f"{reader}.json" for reader in ("reader-3", "reader-1")]
    for path in paths:
        write_answers(path, built.manifest, path.stem, lambda reading, label: 3)
    assert [answers.reader for answers in read_answers(paths, built.manifest)] == ["reader-1", "reader-3"]


def refused(built: Any, tmp_path: Path, content: dict[str, Any]) -> str:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        read_answers([path], built.manifest)
    return "\n".join(raised.value.faults)


def test_another_study_is_refused(built: Any, tmp_path: Path, content: dict[str, Any]) -> None:
    assert "it belongs to study" in refused(built, tmp_path, {**content, "package_digest": "0" * 64})


def test_an_unknown_reader_is_refused(built: Any, tmp_path: Path, content: dict[str, Any]) -> None:
    assert "there is no reader reader-9" in refused(built, tmp_path, {**content, "reader": "reader-9"})


def test_a_reader_given_twice_is_refused(built: Any, tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "again.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match="reader-1: answers are given 2 times"):
        read_answers([tmp_path / "good.json", tmp_path / "again.json"], built.manifest)


@pytest.mark.parametrize("damage", ["swapped", "other-case", "aid", "removed", "added"])
def test_a_tampered_case_list_is_refused(built: Any, tmp_path: Path, content: dict[str, Any], damage: str) -> None:
    readings = content["readings"]
    if damage == "swapped":
        readings[0], readings[1] = readings[1], readings[0]
    elif damage == "other-case":
        readings[2]["case"] = readings[3]["case"]
    elif damage == "aid":
        readings[2]["aided"] = not readings[2]["aided"]
    elif damage == "removed":
        del readings[4]
    else:
        readings.append(dict(readings[-1], position=99))
    assert "its readings are not those of this reader's list" in refused(built, tmp_path, content)


def test_answers_off_the_scale_and_to_other_questions_are_all_told(
    built: Any, tmp_path: Path, content: dict[str, Any]
) -> None:
    content["readings"][0]["ratings"]["Edema"] = 6
    content["readings"][1]["ratings"] = {"Edema": 1}
    content["readings"][2]["saved"] = "2020-01-01T00:00:00Z"
    faults = refused(built, tmp_path, content)
    assert "session 1, reading 1: answers [6] are not on the scale from 1 to 5" in faults
    assert "session 1, reading 2: the answered questions are not those of the case" in faults
    assert "session 1, reading 3: it was saved before it was opened" in faults


def test_faults_of_several_files_come_together(built: Any, tmp_path: Path, content: dict[str, Any]) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(json.dumps({**content, "readings": [{"case": 1}]}), encoding="utf-8")
    second.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        read_answers([first, second], built.manifest)
    faults = "\n".join(raised.value.faults)
    assert "first.json: readings.0.session: Field required" in faults
    assert "second.json: not well formed" in faults


def test_missing_readings_are_refused_unless_partial(built: Any, tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    write_answers(path, built.manifest, "reader-2", lambda reading, label: 3, readings=5)
    with pytest.raises(ConfigError, match="11 of 16 readings are missing"):
        read_answers([path], built.manifest)
    (answers,) = read_answers([path], built.manifest, partial=True)
    assert len(answers.readings) == 5
