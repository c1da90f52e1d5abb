from __future__ import annotations

import pytest

from more_model.errors import ConfigError
from more_model.evaluation.prompt_sets import load_prompts
from more_model.evaluation.protocols.registry import protocol, protocol_names

XRAY = ["mimic-4", "mimic-14", "chexpert-5", "chexpert-14", "chexpert-5x200", "edema-severity"]


def test_every_name_is_the_name_of_its_protocol() -> None:
    names = protocol_names()
    assert set(XRAY) | {"ptbxl-super", "ptbxl-sub", "ptbxl-diag", "ptbxl-form", "ptbxl-rhythm", "table"} <= set(names)
    assert len(set(names)) == len(names)
    assert [protocol(name).name for name in names] == names


def test_an_unknown_protocol_is_refused_with_those_known() -> None:
    with pytest.raises(ConfigError, match="there are mimic-4, mimic-14, chexpert-5,"):
        protocol("chexpert")


@pytest.mark.parametrize("name", XRAY)
def test_the_prompt_set_words_every_label_for_x_rays(name: str) -> None:
    chosen = protocol(name)
    prompts = load_prompts(chosen.prompts, required=[task.label for task in chosen.tasks])
    assert set(chosen.tasks) <= set(prompts.tasks)
