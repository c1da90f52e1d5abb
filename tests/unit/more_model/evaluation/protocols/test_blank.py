"""Findings that a report does not mention: left open, or absent on request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from trees.chexpert import write_chexpert

from more_model.data.study import Modality, Split, Study
from more_model.errors import ConfigError
from more_model.evaluation.protocols.protocol import Blank, ProtocolChoice
from more_model.evaluation.protocols.registry import protocol, protocol_names
from more_model.evaluation.protocols.xray_cohort import xray_cohort, xray_tasks


def settled(labels: Mapping[str, float], blank: Blank, *names: str) -> Mapping[str, float]:
    film = Study(
        modality=Modality.XRAY, study_id="f", patient_id="p", group_id="g", source=Path("f.jpg"), labels=labels
    )  # fmt: skip
    return xray_cohort("x", [film], {"f": Split.TEST}, xray_tasks(names), blank=blank).studies[0].labels


def test_a_label_that_is_not_mentioned() -> None:
    stated = {"Edema": -1.0, "Fracture": 1.0}
    assert settled(stated, "unstated", "Edema", "Mass") == {"Edema": -1.0}
    assert settled(stated, "absent", "Edema", "Mass") == {"Edema": -1.0, "Mass": 0.0}
    assert settled(stated, "absent", "Mass", "No Finding") == {"Mass": 0.0, "No Finding": 0.0}


def test_a_study_without_any_label_stays_without() -> None:
    assert settled({}, "absent", "Edema") == {}


def test_only_protocols_with_labels_from_a_labeller_take_it(tmp_path: Path) -> None:
    takes = {name for name in protocol_names() if protocol(name).leaves_blanks}
    assert takes == {"mimic-4", "mimic-14", "chexpert-5", "chexpert-14", "chexpert-5x200"}
    for name in set(protocol_names()) - takes:
        with pytest.raises(ConfigError, match="blank: "):
            protocol(name).read(tmp_path, ProtocolChoice(blank="absent"))


@pytest.mark.parametrize("name", ["chexpert-14", "chexpert-5x200"])
def test_training_labels_of_chexpert_follow(tmp_path: Path, name: str) -> None:
    root = write_chexpert(tmp_path, image_px=16, test=None)
    labels = len(protocol(name).tasks)
    for blank, whole in (("unstated", False), ("absent", True)):
        cohort = protocol(name).read(root, ProtocolChoice.model_validate({"blank": blank}))
        train = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TRAIN]
        assert all(len(study.labels) == labels for study in train) is whole
        assert any("counts as absent, as in most" in note for note in cohort.notes) is whole
