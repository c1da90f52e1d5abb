"""Every named protocol has a prompt set that words exactly its labels, or a superset where protocols share one."""

from __future__ import annotations

import pytest

from more_model.evaluation.prompt_sets import load_prompts
from more_model.evaluation.protocols.ptbxl import PTBXL_PROTOCOLS
from more_model.evaluation.protocols.registry import protocol, protocol_names

WORDED = [name for name in protocol_names() if name != "table"]


@pytest.mark.parametrize("name", WORDED)
def test_prompts_word_every_label_of_the_protocol(name: str) -> None:
    known = protocol(name)
    prompts = load_prompts(known.prompts, required=[task.label for task in known.tasks])
    cut = prompts.only([task.label for task in known.tasks])
    assert set(cut.tasks) == set(known.tasks)
    for label in cut.labels:
        assert not set(label.positive) & set(label.negative), label.task.label
        assert len(label.positive) >= 2, label.task.label


def test_no_prompt_set_words_labels_that_none_of_its_protocols_asks() -> None:
    asked: dict[str, set[str]] = {}
    for name in WORDED:
        known = protocol(name)
        asked.setdefault(known.prompts, set()).update(task.label for task in known.tasks)
    for prompts, labels in asked.items():
        assert {task.label for task in load_prompts(prompts).tasks} == labels, prompts


@pytest.mark.parametrize("name", [known.name for known in PTBXL_PROTOCOLS])
@pytest.mark.parametrize("language", ["en", "de"])
def test_ptbxl_prompts_are_whole_in_each_language(name: str, language: str) -> None:
    known = protocol(name)
    prompts = load_prompts(known.prompts, languages=[language])
    assert prompts.exclusive is (name == "ptbxl-single")
    assert set(prompts.tasks) == set(known.tasks)


def test_only_the_table_protocol_has_no_prompts_of_its_own() -> None:
    assert [name for name in protocol_names() if not protocol(name).prompts] == ["table"]
