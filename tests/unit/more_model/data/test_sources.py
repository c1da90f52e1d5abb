"""Several data sets at once, and label tables joined to them."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from more_model.data.sources import (
    LabelTable,
    MimicCxrJpg,
    MimicEcg,
    Source,
    Table,
    load_sources,
    read_cohort,
    read_sources,
    resolve,
)
from more_model.data.study import Modality
from more_model.data.table_mapping import TableMapping
from more_model.errors import ConfigError, DataError

FILMS = "pid,acc,exam,film,words\n1,a,e1,a.png,clear\n1,b,e1,b.png,clear\n2,c,e2,c.png,\n"
TRACES = "pid,rec,trace\n1,a,t/a\n3,d,t/d\n"


@pytest.fixture
def films(tmp_path: Path) -> Table:
    (tmp_path / "films.csv").write_text(FILMS)
    columns: dict[str, Any] = {
        "patient": "pid",
        "study": "acc",
        "group": "exam",
        "xray": "film",
        "report_text": "words",
    }
    return Table(mapping=TableMapping(path=tmp_path / "films.csv", **columns))


@pytest.fixture
def traces(tmp_path: Path) -> Table:
    (tmp_path / "traces.csv").write_text(TRACES)
    return Table(mapping=TableMapping(path=tmp_path / "traces.csv", patient="pid", study="rec", ecg="trace"))


def label_table(tmp_path: Path, text: str, **fields: Any) -> LabelTable:
    (tmp_path / "labels.csv").write_text(text)
    return LabelTable.model_validate({"path": tmp_path / "labels.csv", **fields})


def test_sources_are_told_apart_by_kind() -> None:
    adapter: TypeAdapter[Source] = TypeAdapter(Source)
    assert isinstance(adapter.validate_python({"kind": "mimic-iv-ecg", "root": "/data"}), MimicEcg)
    assert adapter.validate_python({"kind": "mimic-cxr-jpg", "root": "/data"}) == MimicCxrJpg(root=Path("/data"))
    with pytest.raises(ValidationError, match="reprots_root"):
        adapter.validate_python({"kind": "mimic-cxr-jpg", "root": "/data", "reprots_root": "/x"})


def test_ids_are_unique_within_a_modality_only(films: Table, traces: Table) -> None:
    reading = read_cohort([films, traces])
    assert [(study.modality.value, study.study_id) for study in reading.studies] == [
        ("xray", "a"),
        ("report", "xray-e1"),
        ("xray", "b"),
        ("xray", "c"),
        ("ecg", "a"),
        ("ecg", "d"),
    ]
    assert reading.counts["1:table:xray"] == 3
    assert reading.counts["2:table:ecg"] == 2
    with pytest.raises(DataError, match="1 report ids and 3 xray ids occur more than once"):
        read_sources([films, films])


def test_a_source_without_any_study_is_refused_with_its_counts(films: Table, tmp_path: Path) -> None:
    (tmp_path / "traces.csv").write_text("pid,rec,trace\n1,a,\n,b,t/b\n")
    empty = Table(mapping=TableMapping(path=tmp_path / "traces.csv", patient="pid", study="rec", ecg="trace"))
    with pytest.raises(DataError, match=r"Source 2 \(table\) yields no study.*row-without-patient 1, ecg-blank 1"):
        read_cohort([films, empty])


def test_reading_leaves_the_garbage_collector_as_it_was(films: Table, tmp_path: Path) -> None:
    assert gc.isenabled()
    read_sources([films])
    with pytest.raises(DataError, match="does not exist"):
        read_sources([MimicEcg(root=tmp_path / "absent")])
    assert gc.isenabled()


def test_patient_table_brings_attributes_and_site_to_every_study(films: Table, traces: Table, tmp_path: Path) -> None:
    text = "subject,hospital,sex\n1.0,north,F\n2,south,\n9,south,M\n"
    table = label_table(
        tmp_path, text, key="patient_id", key_column="subject", attributes={"sex": "gender"}, site="hospital"
    )
    reading = read_cohort([films, traces], [table])
    by_id = {(study.modality.value, study.study_id): study for study in reading.studies}
    assert by_id["xray", "a"].attributes == {"gender": "F"}
    assert by_id["report", "xray-e1"].attributes == {"gender": "F"}
    assert by_id["ecg", "a"].site == "north"
    assert by_id["xray", "c"].attributes == {}
    assert by_id["xray", "c"].site == "south"
    assert by_id["ecg", "d"].site == ""
    assert reading.counts["label-table 1:matched"] == 5
    assert reading.counts["label-table 1:unmatched"] == 1


def test_labels_by_study_of_one_modality(films: Table, traces: Table, tmp_path: Path) -> None:
    table = label_table(
        tmp_path,
        "id,MI,AF\na,1,\n",
        key="study_id",
        key_column="id",
        modality="ecg",
        labels={"MI": "Infarct", "AF": "AF"},
    )
    labels = {(s.modality.value, s.study_id): s.labels for s in read_sources([films, traces], [table])}
    assert labels["ecg", "a"] == {"Infarct": 1.0}
    assert labels["xray", "a"] == {}


def test_labels_by_group_reach_every_image_and_later_tables_win(films: Table, tmp_path: Path) -> None:
    first = label_table(
        tmp_path, "exam,Edema,Mass\ne1,1,0\n", key="group_id", key_column="exam", labels=["Edema", "Mass"]
    )
    first = first.model_copy(update={"path": (tmp_path / "labels.csv").rename(tmp_path / "first.csv")})
    second = label_table(
        tmp_path,
        "exam,Oedema,Mass\ne1,-1,\n",
        key="group_id",
        key_column="exam",
        labels={"Oedema": "Edema", "Mass": "Mass"},
    )
    studies = read_sources([films], [first, second])
    images = [study for study in studies if study.modality is Modality.XRAY]
    assert [image.labels for image in images] == [{"Edema": -1.0, "Mass": 0.0}] * 2 + [{}]
    assert all(study.labels == {} for study in studies if study.modality is Modality.REPORT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,MI\nzzz,1\n", "matches none of the 6 studies by study_id"),
        ("id,MI\na,1\na,0\n", "contradicting rows for 1 values of 'id'"),
        ("key,MI\na,1\n", "no column 'id'.*It has: 'key', 'MI'"),
        ("id,MI\na,high\n", "column 'MI' has 1 such cells"),
    ],
)
def test_label_tables_that_cannot_be_used(films: Table, traces: Table, tmp_path: Path, text: str, message: str) -> None:
    table = label_table(tmp_path, text, key="study_id", key_column="id", labels=["MI"])
    with pytest.raises(DataError, match=message):
        read_sources([traces, films], [table])


def test_a_label_table_must_say_something(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="at least one of labels, attributes, site"):
        label_table(tmp_path, "", key="study_id", key_column="id")


def test_sources_file_with_paths_from_its_own_folder(tmp_path: Path) -> None:
    path = tmp_path / "SOURCES.toml"
    path.write_text(
        '[preprocessing]\nimage_size = 64\n[[sources]]\nkind = "mimic-iv-ecg"\nroot = "ecg"\n'
        '[[sources]]\nkind = "table"\nmapping = { path = "x.csv", patient = "p", xray = "f" }\n'
        '[[label_tables]]\npath = "l.csv"\nkey = "patient_id"\nkey_column = "p"\nlabels = ["a"]\n'
    )
    file = load_sources(path)
    assert file.preprocessing.image_size == 64
    assert file.sources[0] == MimicEcg(root=tmp_path / "ecg")
    table = file.sources[1]
    assert isinstance(table, Table) and isinstance(table.mapping, TableMapping)
    assert (table.mapping.path, table.mapping.root) == (tmp_path / "x.csv", tmp_path)
    assert file.label_tables[0].path == tmp_path / "l.csv"
    assert resolve(MimicEcg(root=Path("/data")), tmp_path).root == Path("/data")


def test_every_fault_of_a_sources_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "SOURCES.toml"
    path.write_text(
        '[preprocessing]\nimage_size = 4\n[[sources]]\nkind = "mimic-ecg"\nroot = "ecg"\n'
        '[[sources]]\nkind = "mimic-iv-ecg"\n[[sources]]\nkind = "table"\nmapping = { path = "x.csv", xray = "f" }\n'
        '[[label_tables]]\npath = "l.csv"\nkey = "patient"\nkey_column = "p"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_sources(path)
    assert len(caught.value.faults) == 5
    faults = str(caught.value)
    places = (
        "image_size",
        "sources.0",
        "sources.1.mimic-iv-ecg.root",
        "sources.2.table.mapping.patient:",
        "label_tables.0.key",
    )
    assert [place for place in places if place not in faults] == []
