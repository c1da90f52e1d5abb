"""Tables of any hospital through a column mapping; and the real tables of the open data packs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from more_model.data.sources import Table, read_source
from more_model.data.split import SplitRule, assign_splits, patient_site_conflicts
from more_model.data.study import Modality, Split
from more_model.data.table import read_table
from more_model.data.table_mapping import TableMapping, anchored, load_mapping
from more_model.errors import ConfigError, DataError

CSV = """pid,acc,taken,ward,film,trace,words,edema,fluid,codes,sex,fold
0012,a1,2020-03-01 08:00,0.0,f/a1.png,t/a1,"Heart, large.",1,no,MI CD,F,1
0012,a2,2020-03-02T09:30:00+02:00,0.0,f/a2.png,,NA,0,possible,,F,1
7.0,a3,,1.0,,t/a3,  ,,yes,NORM,M,10
,a4,2020-03-01,1.0,f/a4.png,,x,1,yes,NORM,M,9
"""


def write_table(folder: Path, text: str = CSV) -> Path:
    path = folder / "export.csv"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str = CSV, **mapping: Any) -> Any:
    path = write_table(folder, text)
    fields = {"path": path, "patient": "pid", "study": "acc", **mapping}
    return read_table(anchored(TableMapping.model_validate(fields), folder))


FULL: dict[str, Any] = {
    "time": "taken",
    "site": "ward",
    "site_names": {"0": "north"},
    "xray": "film",
    "ecg": "trace",
    "report_text": "words",
    "report_describes": "xray",
    "language": "de",
    "labels": {"edema": "Edema", "fluid": "Pleural Effusion"},
    "label_words": {"yes": 1, "no": 0, "possible": -1},
    "attributes": ["sex"],
    "split": {"column": "fold", "words": {"1": "train", "9": "validation", "10": "test"}},
}


def test_one_row_gives_xray_ecg_and_report_of_one_group(tmp_path: Path) -> None:
    reading = read(tmp_path, **FULL)
    xray, ecg, report = reading.studies[:3]
    assert [xray.modality, ecg.modality, report.modality] == [Modality.XRAY, Modality.ECG, Modality.REPORT]
    assert xray.group_id == ecg.group_id == report.group_id == "a1"
    assert xray.patient_id == "0012"
    assert xray.source == tmp_path / "f/a1.png"
    assert ecg.source == tmp_path / "t/a1"
    assert xray.time == datetime(2020, 3, 1, 8, 0)
    assert xray.site == "north"
    assert xray.labels == ecg.labels == {"Edema": 1.0, "Pleural Effusion": 0.0}
    assert xray.attributes == {"sex": "F", "split": "train"}
    assert (report.text, report.describes, report.study_id) == ("Heart, large.", Modality.XRAY, "xray-a1")
    assert report.attributes["language"] == "de"


def test_blank_cells_and_ids_that_went_through_floating_point(tmp_path: Path) -> None:
    reading = read(tmp_path, **FULL)
    by_id = {(study.modality, study.study_id): study for study in reading.studies}
    third = by_id[Modality.ECG, "a3"]
    assert third.patient_id == "7"
    assert third.site == "1"
    assert third.time is None
    assert third.labels == {"Pleural Effusion": 1.0}
    assert third.attributes["split"] == "test"
    assert (Modality.XRAY, "a3") not in by_id
    assert (Modality.ECG, "a2") not in by_id
    assert (Modality.REPORT, "xray-a3") not in by_id
    # A cell that says NA is a text like any other.
    assert by_id[Modality.REPORT, "xray-a2"].text == "NA"
    assert by_id[Modality.XRAY, "a2"].time == datetime(2020, 3, 2, 7, 30)
    assert by_id[Modality.XRAY, "a2"].labels == {"Edema": 0.0, "Pleural Effusion": -1.0}
    assert reading.counts["row-without-patient"] == 1


def test_empty_label_cells_mean_what_the_mapping_says(tmp_path: Path) -> None:
    stated = read(tmp_path, xray="film", ecg="trace", labels=["edema"])
    absent = read(tmp_path, xray="film", ecg="trace", labels=["edema"], labels_blank="absent")
    assert stated.studies[-1].labels == {}
    assert absent.studies[-1].labels == {"edema": 0.0}


@pytest.mark.parametrize(("when_empty", "second"), [("not-stated", {}), ("absent", {"infarct": 0.0, "NORM": 0.0})])
def test_one_column_with_several_labels(tmp_path: Path, when_empty: str, second: dict[str, float]) -> None:
    rule = {"column": "codes", "values": {"MI": "infarct", "NORM": "NORM"}, "when_empty": when_empty}
    reading = read(tmp_path, xray="film", multi_label=rule)
    assert [study.labels for study in reading.studies] == [{"infarct": 1.0, "NORM": 0.0}, second]


def test_codes_in_a_dictionary_through_a_code_book(tmp_path: Path) -> None:
    cells = ("{'IMI': 15.0, 'SR': 0.0}", "{'SR': 0.0}", "{'IMI': 0.0, 'NDT': 100.0}")
    text = "pid,acc,trace,scp\n" + "".join(f'{place},{place},t,"{cell}"\n' for place, cell in enumerate(cells))
    (tmp_path / "book.csv").write_text(",diagnostic,diagnostic_class\nIMI,1.0,MI\nNDT,1.0,STTC\nSR,,\nVCLVH,0,HYP\n")
    codes = {"path": "book.csv", "value": "diagnostic_class", "where": [{"column": "diagnostic", "in": ["1"]}]}
    rule = {"column": "scp", "cell": "dict", "values": ["MI", "STTC"], "codes": codes}
    labels = [study.labels for study in read(tmp_path, text, ecg="trace", multi_label=[rule]).studies]
    assert labels == [{"MI": 1.0, "STTC": 0.0}, {}, {"MI": 1.0, "STTC": 1.0}]


def test_filters_keep_and_leave_out_rows(tmp_path: Path) -> None:
    kept = read(tmp_path, xray="film", where=[{"column": "ward", "in": ["0"]}, {"column": "acc", "not_in": ["a2"]}])
    assert [study.study_id for study in kept.studies] == ["a1"]
    assert kept.counts["rows-filtered-out"] == 3


def test_a_report_repeated_in_its_group_appears_once_and_must_not_differ(tmp_path: Path) -> None:
    text = "pid,acc,exam,film,words\n1,a,e,x.png,same\n1,b,e,y.png,same\n"
    reading = read(tmp_path, text, xray="film", group="exam", report_text="words")
    reports = [study for study in reading.studies if study.modality is Modality.REPORT]
    assert [(report.study_id, report.group_id) for report in reports] == [("xray-e", "e")]
    with pytest.raises(DataError, match="gives 1 groups more than one report"):
        read(tmp_path, text.replace("y.png,same", "y.png,other"), xray="film", group="exam", report_text="words")


def test_report_files_and_prefixes(tmp_path: Path) -> None:
    fields = {"report_file": "film", "report_describes": "ecg", "patient_prefix": "p-", "study_prefix": "s-"}
    report = read(tmp_path, **fields).studies[0]
    assert (report.patient_id, report.study_id, report.group_id) == ("p-0012", "ecg-s-a1", "s-a1")
    assert (report.source, report.text) == (tmp_path / "f/a1.png", None)


def test_times_need_their_format(tmp_path: Path) -> None:
    text = "pid,acc,taken,film\n1,a,24.12.2020 18:30,x.png\n1,b,unknown,y.png\n"
    reading = read(tmp_path, text, xray="film", time="taken", time_format="%d.%m.%Y %H:%M")
    assert [study.time for study in reading.studies] == [datetime(2020, 12, 24, 18, 30), None]
    assert reading.counts["time-unreadable"] == 1
    with pytest.raises(DataError, match="no readable time in column 'taken' \\(2 cells\\)"):
        read(tmp_path, text, xray="film", time="taken")


def test_all_missing_columns_are_named_with_those_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no columns 'when', 'film2', 'gender'.*It has: 'pid', 'acc'"):
        read(tmp_path, xray="film2", time="when", attributes=["gender"])


def test_a_missing_csv_is_named(tmp_path: Path) -> None:
    mapping = TableMapping(path=tmp_path / "absent.csv", patient="pid", xray="film")
    with pytest.raises(DataError, match=r"absent\.csv does not exist"):
        read_table(mapping)


def test_rows_with_more_cells_than_the_header_are_refused(tmp_path: Path) -> None:
    rows = ['1,a,"Heart,\nlarge."', "2,b,Clear, no effusion.", "3,c,Clear.", "4,d,One, two, three, four, five, six"]
    text = "\n".join(["pid,acc,words", *rows]) + "\n"
    with pytest.raises(DataError, match=r"2 rows with more cells than its header names \(3\).*line 4") as caught:
        read(tmp_path, text, report_text="words", report_describes="xray")
    assert "Quote cells that hold commas" in caught.value.remedy
    assert "effusion" not in str(caught.value)


def test_blank_cells_at_the_end_of_a_row_do_no_harm(tmp_path: Path) -> None:
    reading = read(tmp_path, "pid,acc,words\n1,a,Clear.,\n2,b,Large.,,\n", report_text="words", report_describes="xray")
    assert [study.text for study in reading.studies] == ["Clear.", "Large."]


@pytest.mark.parametrize(("separator", "name", "spelled"), [(";", "semicolons", ";"), ("\t", "tabs", "\\t")])
def test_another_separator_is_named_and_can_be_given(tmp_path: Path, separator: str, name: str, spelled: str) -> None:
    text = separator.join(["pid", "acc", "words"]) + "\n" + separator.join(["1", "a", "Heart, large."]) + "\n"
    columns = {"report_text": "words", "report_describes": "xray"}
    with pytest.raises(DataError, match=f"separated by {name}") as caught:
        read(tmp_path, text, **columns)
    assert f'separator = "{spelled}"' in caught.value.remedy
    assert read(tmp_path, text, separator=separator, **columns).studies[0].text == "Heart, large."
    with pytest.raises(DataError, match="1 rows with more cells"):
        read(tmp_path, text.replace(",", separator), separator=separator, **columns)


@pytest.mark.parametrize("header", ["pid,acc,words", "pid,acc,words,größe"])
def test_another_encoding_is_refused_and_can_be_given(tmp_path: Path, header: str) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(f"{header}\n1,a,Erguß.\n".encode("latin-1"))
    fields = {"path": path, "patient": "pid", "study": "acc", "report_text": "words", "report_describes": "xray"}
    with pytest.raises(DataError, match="is not utf-8 text") as caught:
        read_table(TableMapping.model_validate(fields))
    assert 'encoding = "latin-1"' in caught.value.remedy
    assert read_table(TableMapping.model_validate({**fields, "encoding": "latin-1"})).studies[0].text == "Erguß."
    with pytest.raises(ValidationError, match="no such encoding"):
        TableMapping.model_validate({**fields, "encoding": "latin-l"})


def test_unknown_label_and_split_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'fluid' has 4 such cells in 3 spellings"):
        read(tmp_path, xray="film", labels=["fluid"])
    with pytest.raises(DataError, match="split words without a meaning: 10, 9"):
        read(tmp_path, xray="film", split={"column": "fold", "words": {"1": "train"}})


def test_every_fault_of_a_mapping_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text('patient = 3\nxray = "film"\nlabls = ["a"]\nlabels_blank = "zero"\nwhere = [{ column = "a" }]\n')
    with pytest.raises(ConfigError) as caught:
        load_mapping(path)
    faults = "\n".join(caught.value.faults)
    for part in (
        "path: Field required",
        "patient:",
        "labls: there is no such setting",
        "labels_blank:",
        "where.0: a where filter takes",
    ):
        assert part in faults
    assert len(caught.value.faults) == 5


def test_contradictions_are_reported_together() -> None:
    with pytest.raises(ValidationError, match=r"give site or site_name, not both; time_format needs time"):
        TableMapping(path=Path("x"), patient="p", xray="f", site="s", site_name="n", time_format="%Y")


def test_a_broken_toml_file_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text("patient = ")
    with pytest.raises(ConfigError, match="not well formed"):
        load_mapping(path)


def test_relative_paths_count_from_the_mapping_file(tmp_path: Path) -> None:
    write_table(tmp_path)
    (tmp_path / "map.toml").write_text('path = "export.csv"\nroot = "images"\npatient = "pid"\nxray = "film"\n')
    study = read_source(Table(mapping=tmp_path / "map.toml")).studies[0]
    assert study.source == tmp_path / "images/f/a1.png"
    assert study.study_id == "f/a1.png"


PACK_ECG = """
path = "{data}/ecg/ecg_records.csv"
root = "{data}"
patient = "patient_id"
study = "record_id"
site = "site"
time = "recording_date"
ecg = "path"
report_text = "report_text"
language_column = "report_language"
where = [{{ column = "site", in = ["ptbxl-site0", "ptbxl-site1", "ptbxl-site2", "ptbxl-site3", "ludb-nizhny"] }}]
split = {{ column = "split_hint", words = {{ train = "train", val = "validation", test = "test" }} }}
[[multi_label]]
column = "superclasses"
values = ["NORM", "MI", "STTC", "CD", "HYP"]
"""
PACK_XRAY = """
path = "{data}/xray/xray_images.csv"
root = "{data}"
patient = "patient_id"
study = "image_id"
site = "site"
xray = "path"
labels = {{ label_pneumonia = "Pneumonia", label_no_finding = "No Finding" }}
attributes = ["view", "sex", "age"]
where = [{{ column = "site", in = ["nih_cc", "gwcmc"] }}]
"""
PTBXL = """
path = "{data}/ecg/ptbxl/ptbxl_database.csv"
patient = "patient_id"
patient_prefix = "ptbxl-"
study = "ecg_id"
site = "site"
site_names = {{ 0 = "ptbxl-site0", 1 = "ptbxl-site1", 2 = "ptbxl-site2", 3 = "ptbxl-site3" }}
ecg = "filename_lr"
[multi_label]
column = "scp_codes"
cell = "dict"
values = ["NORM", "MI", "STTC", "CD", "HYP"]
[multi_label.codes]
path = "{data}/ecg/ptbxl/scp_statements.csv"
value = "diagnostic_class"
where = [{{ column = "diagnostic", in = ["1"] }}]
"""


def read_pack(tmp_path: Path, text: str, data: Path) -> list[Any]:
    (tmp_path / "map.toml").write_text(text.format(data=data))
    return read_source(Table(mapping=tmp_path / "map.toml")).studies


@pytest.mark.shared_data
def test_the_ecg_pack_by_natural_site(tmp_path: Path, shared_data: Path) -> None:
    studies = read_pack(tmp_path, PACK_ECG, shared_data)
    ecgs = [study for study in studies if study.modality is Modality.ECG]
    # The figures of the pack's own README.
    assert Counter(study.site for study in ecgs) == {
        "ptbxl-site0": 166,
        "ptbxl-site1": 104,
        "ptbxl-site2": 11,
        "ptbxl-site3": 43,
        "ludb-nizhny": 130,
    }
    assert sum(study.modality is Modality.REPORT for study in studies) == 453
    assert all(Path(f"{study.source}.hea").is_file() for study in ecgs)
    patient_site_conflicts(studies)
    splits = assign_splits(studies, SplitRule(kind="column"))
    assert set(splits.values()) == set(Split)
    assert len(splits) == 155 + 99 + 10 + 39 + 130


@pytest.mark.shared_data
def test_the_xray_pack(tmp_path: Path, shared_data: Path) -> None:
    studies = read_pack(tmp_path, PACK_XRAY, shared_data)
    assert Counter(study.site for study in studies) == {"nih_cc": 649, "gwcmc": 1350}
    positives = Counter(study.site for study in studies if study.labels["Pneumonia"] == 1.0)
    assert positives == {"nih_cc": 323, "gwcmc": 900}
    assert all(study.source is not None and study.source.is_file() for study in studies)


@pytest.mark.shared_data
def test_the_ptbxl_table_agrees_with_the_pack(tmp_path: Path, shared_data: Path) -> None:
    """The superclasses computed from SCP codes here are those that the pack's makers computed."""
    own = {study.study_id: study for study in read_pack(tmp_path, PTBXL, shared_data)}
    pack = {
        study.study_id.removeprefix("ptbxl-"): study
        for study in read_pack(tmp_path, PACK_ECG, shared_data)
        if study.modality is Modality.ECG and study.site.startswith("ptbxl")
    }
    assert len(own) == len(pack) == 324
    assert own["1"].source == shared_data / "ecg/ptbxl/records100/00000/00001_lr"
    for name, study in pack.items():
        mine = own[str(int(name))]
        assert (mine.labels, mine.patient_id.lstrip("ptbxl-0"), mine.site) == (
            study.labels,
            study.patient_id.lstrip("ptbxl-0"),
            study.site,
        )
