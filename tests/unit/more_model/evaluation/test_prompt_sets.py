from __future__ import annotations

from pathlib import Path

import pytest

from more_model.errors import ConfigError
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.prompt_sets import available_prompts, load_prompts

CHEXPERT = [
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
]  # fmt: skip
SUPERCLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_sets_hold_every_label() -> None:
    assert {"chexpert14", "chexpert_ecg", "edema_severity", "pneumonia", "ptbxl_super"} <= set(available_prompts())
    both = load_prompts("chexpert_ecg", required=[*CHEXPERT, *SUPERCLASSES, "AFIB"])
    modality = {task.label: task.modality for task in both.tasks}
    assert set(modality) == {*CHEXPERT, *SUPERCLASSES, "AFIB"}
    assert {label for label, kind in modality.items() if kind == "xray"} == set(CHEXPERT)
    assert [task.label for task in load_prompts("ptbxl_super").tasks] == SUPERCLASSES
    assert [task.label for task in load_prompts("pneumonia").tasks] == ["Pneumonia"]
    assert [task.label for task in load_prompts("chexpert14").tasks] == CHEXPERT
    grades = [task.label for task in load_prompts("edema_severity").tasks]
    assert grades == ["severity>=1", "severity>=2", "severity>=3"]


@pytest.mark.parametrize("name", ["chexpert14", "chexpert_ecg", "edema_severity", "pneumonia", "ptbxl_super"])
def test_shipped_sets_have_several_wordings_per_side_and_none_on_both_sides(name) -> None:
    for label in load_prompts(name).labels:
        assert len(label.positive) >= 3
        assert len(label.negative) >= 3
        assert not {text.casefold() for text in label.positive} & {text.casefold() for text in label.negative}


def test_languages_can_be_chosen() -> None:
    everything, swedish = load_prompts("ptbxl_super"), load_prompts("ptbxl_super", languages=["sv"])
    assert "sinusrytm normalt ekg" in swedish.labels[0].positive
    assert not any("sinus rhythm" in text for text in swedish.texts())
    for whole, part in zip(everything.labels, swedish.labels, strict=True):
        assert set(part.positive) < set(whole.positive)
    with pytest.raises(ConfigError, match="'NORM': no positive wordings in 'fr'"):
        load_prompts("ptbxl_super", languages=["fr"])


def test_prefix_by_modality_and_by_label(tmp_path) -> None:
    path = write(
        tmp_path,
        """
        [prefix]
        xray = "CXR: "
        [labels.Edema]
        modality = "xray"
        positive = ["edema."]
        negative = ["no edema."]
        [labels.AFIB]
        modality = "ecg"
        prefix = "ECG: "
        positive = ["fibrillation."]
        negative = ["sinus rhythm.", "sinus rhythm."]
        """,
    )
    prompts = load_prompts(path)
    assert prompts.name == "mine"
    assert prompts.texts() == ["CXR: edema.", "CXR: no edema.", "ECG: fibrillation.", "ECG: sinus rhythm."]
    assert prompts.with_prefix({"ecg": ""}).texts()[2:] == ["fibrillation.", "sinus rhythm."]
    assert prompts.only(["AFIB"]).texts() == ["ECG: fibrillation.", "ECG: sinus rhythm."]
    with pytest.raises(ConfigError, match="no prompts for label 'Gout'"):
        prompts.only(["Gout"])


def test_all_faults_are_reported_at_once(tmp_path) -> None:
    path = write(
        tmp_path,
        """
        langage = "en"
        [labels.Edema]
        modality = "xray"
        positive = ["edema."]
        [labels.AFIB]
        modality = "ekg"
        positive = []
        negative = ["sinus rhythm.", " "]
        typo = 1
        """,
    )
    with pytest.raises(ConfigError) as caught:
        load_prompts(path, required=["Edema", "Fracture"])
    assert caught.value.faults == (
        "unknown key 'langage'",
        "label 'Fracture' is required but has no prompts",
        "label 'Edema': no negative wordings",
        "label 'AFIB': unknown key 'typo'",
        "label 'AFIB': modality is 'ekg', must be one of xray, ecg",
        "label 'AFIB': positive is empty",
        "label 'AFIB': negative must be a list of texts, none of them blank",
    )


def test_exclusive_sets(tmp_path) -> None:
    head = 'exclusive = true\n[labels.NORM]\nmodality = "ecg"\npositive = ["normal ecg."]\n'
    with pytest.raises(ConfigError, match="at least two labels"):
        load_prompts(write(tmp_path, head))
    other = '[labels.MI]\nmodality = "ecg"\npositive = ["infarction."]\n'
    prompts = load_prompts(write(tmp_path, head + other))
    assert prompts.exclusive
    assert [label.negative for label in prompts.labels] == [(), ()]
    with pytest.raises(ConfigError, match="takes no negative"):
        load_prompts(write(tmp_path, head + other + 'negative = ["none."]\n'))
    with pytest.raises(ConfigError, match="must have one modality"):
        load_prompts(write(tmp_path, head + other.replace("ecg", "xray")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels = 3", "needs at least one label"),
        ("", "needs at least one label"),
        ("[labels]\nEdema = 3", "'Edema' must be a table"),
        ("prefix = 3\nexclusive = 1\ndescription = 2", "exclusive must be true or false"),
        ("[prefix]\nmri = 'x'", "unknown modality 'mri'"),
        ("[labels", "not valid TOML"),
    ],
)
def test_files_that_are_no_prompt_set(tmp_path, text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_prompts(write(tmp_path, text))


def test_unknown_names_and_unreadable_files(tmp_path) -> None:
    with pytest.raises(ConfigError, match="there are chexpert14, chexpert_ecg, "):
        load_prompts("chexpert")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompts(tmp_path / "absent.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'description = "\xe4"')
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompts(latin)


def test_a_task_says_which_modality_is_asked() -> None:
    film, trace = LabelTask("NORM", "xray"), LabelTask("NORM", "ecg")
    asked = load_prompts("ptbxl_super").about([trace, film])
    assert asked.tasks == [trace, film]
    assert asked.labels[0].positive == asked.labels[1].positive
    with pytest.raises(ConfigError, match="no prompts for label 'Gout'"):
        asked.about([LabelTask("Gout", "xray")])
    with pytest.raises(ConfigError, match="can be asked of one modality only"):
        load_prompts("ptbxl_single").about([film, trace])
