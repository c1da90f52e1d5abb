"""Every kind of data is recognised, alone and among others, and what can be evaluated on it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from trees.chexpert import write_chexpert
from trees.mimic_cxr_jpg import write_mimic_cxr_jpg

from more_model.doctor.examine import examine
from more_model.doctor.finding import Diagnosis, Severity, Verdict
from more_model.errors import DataError

Trees = Callable[[str], Path]
Diagnose = Callable[[Path, str], Diagnosis]

RUNS = {
    "mimic-cxr-jpg": ["mimic-4", "mimic-14"],
    "chexpert": ["chexpert-5", "chexpert-14", "chexpert-5x200"],
    "edema-severity": ["edema-severity"],
    "ptb-xl": ["ptbxl-super", "ptbxl-sub", "ptbxl-diag", "ptbxl-form", "ptbxl-rhythm", "ptbxl-single"],
    "mimic-iv-ecg": [],
    "mimic-iv-note": [],
}
RELEASES = {
    "mimic-cxr-jpg": "MIMIC-CXR-JPG 2.1.0",
    "chexpert": "CheXpert v1.0, small, with test labels",
    "edema-severity": "Pulmonary edema severity grades",
    "ptb-xl": "PTB-XL, an excerpt",
    "mimic-iv-ecg": "MIMIC-IV-ECG 1.0",
    "mimic-iv-note": "MIMIC-IV-Note 2.2",
}


@pytest.mark.parametrize("kind", list(RUNS))
def test_every_tree_is_recognised_and_usable(kind: str, trees: Trees, diagnose: Diagnose) -> None:
    diagnosis = diagnose(trees(kind), kind)
    assert diagnosis.release == RELEASES[kind]
    assert diagnosis.verdict is not Verdict.UNUSABLE
    assert [answer.name for answer in diagnosis.protocols if answer.can_run] == RUNS[kind]
    warnings = [found.sentence for found in diagnosis.findings if found.severity is Severity.WARNING]
    assert all("release" in sentence for sentence in warnings), "only the size of an excerpt is warned about"


def test_what_is_said_to_run_does_run(trees: Trees, diagnose: Diagnose) -> None:
    from more_model.evaluation.protocols.protocol import ProtocolChoice, check_cohort
    from more_model.evaluation.protocols.registry import protocol

    for kind, names in RUNS.items():
        for name in names:
            check_cohort(protocol(name).read(trees(kind), ProtocolChoice()), name)


def test_several_are_found_under_one_parent_also_where_wget_puts_them(trees: Trees, tmp_path: Path) -> None:
    deep = tmp_path / "physionet.org" / "files"
    deep.mkdir(parents=True)
    (deep / "ptb-xl").mkdir()
    (deep / "ptb-xl" / "1.0.3").symlink_to(trees("ptb-xl"))
    (tmp_path / "ecg").symlink_to(trees("mimic-iv-ecg"))
    (tmp_path / "notes").symlink_to(trees("mimic-iv-note"))
    (tmp_path / "images").symlink_to(trees("mimic-cxr-jpg"))
    kinds = {diagnosis.kind for diagnosis in examine(tmp_path).diagnoses}
    assert kinds == {"ptb-xl", "mimic-iv-ecg", "mimic-iv-note", "mimic-cxr-jpg"}


def test_releases_are_told_apart(tmp_path: Path, diagnose: Diagnose) -> None:
    old = write_mimic_cxr_jpg(tmp_path / "old", release="2.0.0", suffix=".csv")
    assert diagnose(old, "mimic-cxr-jpg").release == "MIMIC-CXR-JPG 2.0.0"
    write_chexpert(tmp_path / "full", release="CheXpert-v1.0", test=None)
    full = diagnose(tmp_path / "full", "chexpert")
    assert full.release == "CheXpert v1.0, full size, without test labels"
    assert {answer.reason for answer in full.protocols[:2]} == {"--subset valid"}


def test_a_test_set_in_a_folder_of_its_own_counts_for_its_neighbour(tmp_path: Path) -> None:
    write_chexpert(tmp_path, test="path")
    by_name = {diagnosis.folder.name: diagnosis for diagnosis in examine(tmp_path).diagnoses}
    assert by_name["CheXpert"].release == "CheXpert v1.0, test set alone"
    assert "with test labels" in by_name["CheXpert-v1.0-small"].release
    assert by_name["CheXpert-v1.0-small"].protocols[0].reason == "--subset valid or test"


def test_a_table_with_a_mapping(tmp_path: Path, diagnose: Diagnose) -> None:
    (tmp_path / "rows.csv").write_text(
        "id,film,edema\n" + "".join(f"{n},{n}.png,{int(n % 3 > 0)}\n" for n in range(40))
    )
    (tmp_path / "mapping.toml").write_text(
        'path = "rows.csv"\npatient = "id"\nxray = "film"\n[labels]\nedema = "Edema"\n'
    )
    absent = diagnose(tmp_path, "table")
    assert absent.verdict is Verdict.UNUSABLE and not absent.protocols[0].can_run
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    there = diagnose(tmp_path, "table")
    assert there.verdict is Verdict.READY and there.protocols[0].can_run
    (tmp_path / "mapping.toml").write_text('path = "rows.csv"\npatient = "nobody"\nxray = "film"\nlabels = ["edema"]\n')
    assert "no column 'nobody'" in diagnose(tmp_path, "table").findings[0].sentence


def test_nothing_recognised_is_an_error_that_says_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"holds: holiday\.jpg, train\.csv"):
        examine(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        examine(tmp_path / "absent")
    with pytest.raises(DataError, match="is no checkpoint"):
        examine(tmp_path / "train.csv")


def test_the_json_form_holds_everything_and_no_patient(trees: Trees) -> None:
    answer = json.loads(json.dumps(examine(trees("ptb-xl")).as_dict()))
    assert answer["schema"] == 1 and answer["verdict"] == "usable"
    (data,) = answer["data"]
    assert data["counts"]["records"] == 120
    assert {"severity", "sentence", "remedy"} == set(data["findings"][0])
    assert "12000" not in json.dumps(data)


@pytest.mark.shared_data
def test_the_real_excerpt_is_recognised(shared_data: Path, diagnose: Diagnose) -> None:
    diagnosis = diagnose(shared_data / "ecg", "ptb-xl")
    assert diagnosis.verdict is Verdict.USABLE
    assert diagnosis.counts["records"] == 324
    answers = {answer.name: answer for answer in diagnosis.protocols}
    assert answers["ptbxl-super"].can_run
    assert not answers["ptbxl-rhythm"].can_run and "STACH" in answers["ptbxl-rhythm"].reason
    sentences = " ".join(found.sentence for found in diagnosis.findings)
    assert "an excerpt" in sentences and "A partial download" in sentences and "aVR, aVL, aVF" in sentences
