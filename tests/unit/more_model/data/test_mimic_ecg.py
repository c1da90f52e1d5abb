"""MIMIC-IV-ECG trees, written here with the columns of the release."""

from __future__ import annotations

import gzip
from datetime import datetime
from pathlib import Path

import pytest

from more_model.data.mimic_ecg import read_mimic_ecg
from more_model.data.study import Modality
from more_model.errors import DataError

REPORTS = ",".join(f"report_{number}" for number in range(18))
MEASURES = "bandwidth,filtering,rr_interval,p_onset,p_end,qrs_onset,qrs_end,t_end,p_axis,qrs_axis,t_axis"


def machine_row(subject: str, study: str, cart: str, lines: dict[int, str]) -> str:
    reports = ",".join(lines.get(number, "") for number in range(18))
    measures = "0.05-150 Hz,60 Hz notch,659,40,128,170,258,518,81,77,65"
    return f"{subject},{study},{cart},2180-05-06 09:00:00,{reports},{measures}"


def write_release(root: Path, *, compressed: bool = False) -> Path:
    records = [
        "subject_id,study_id,file_name,ecg_time,path",
        "10000032,40689238,40689238,2180-07-23 08:44:00,files/p1000/p10000032/s40689238/40689238",
        "10000032,44458630,44458630,2180-07-23 09:54:00,files/p1000/p10000032/s44458630/44458630",
        "10000117,45090959,45090959,,files/p1000/p10000117/s45090959/45090959",
    ]
    lines = {0: "Sinus rhythm", 1: " ", 4: "Possible septal infarct", 17: "Abnormal ECG"}
    machine = [
        f"subject_id,study_id,cart_id,ecg_time,{REPORTS},{MEASURES}",
        machine_row("10000032", "40689238", "6848296.0", lines),
        machine_row("10000032", "44458630", "6848296", {0: "Sinus rhythm."}),
    ]
    root.mkdir(exist_ok=True)
    for stem, rows in (("record_list", records), ("machine_measurements", machine)):
        data = ("\n".join(rows) + "\n").encode()
        (root / f"{stem}.csv{'.gz' if compressed else ''}").write_bytes(gzip.compress(data) if compressed else data)
    return root


@pytest.mark.parametrize("compressed", [False, True])
def test_records_with_path_time_and_cart(tmp_path: Path, compressed: bool) -> None:
    root = write_release(tmp_path, compressed=compressed)
    ecgs = [study for study in read_mimic_ecg(root).studies if study.modality is Modality.ECG]
    assert [study.study_id for study in ecgs] == ["40689238", "44458630", "45090959"]
    assert ecgs[0].source == root / "files/p1000/p10000032/s40689238/40689238"
    assert ecgs[0].time == datetime(2180, 7, 23, 8, 44)
    assert ecgs[0].attributes == ecgs[1].attributes == {"device": "6848296"}
    assert ecgs[2].time is None
    assert ecgs[2].attributes == {}


def test_machine_lines_become_one_report_when_there_are_four_words(tmp_path: Path) -> None:
    reading = read_mimic_ecg(write_release(tmp_path))
    reports = [study for study in reading.studies if study.modality is Modality.REPORT]
    assert [report.study_id for report in reports] == ["ecg-40689238"]
    report = reports[0]
    assert report.text == "Sinus rhythm. Possible septal infarct. Abnormal ECG."
    assert (report.group_id, report.describes, report.patient_id) == ("40689238", Modality.ECG, "10000032")
    assert reading.counts == {
        "ecg": 3,
        "ecg-report": 1,
        "ecg-report-too-short": 1,
        "ecg-report-blank": 1,
        "ecg-without-time": 1,
    }


def test_shorter_reports_on_request(tmp_path: Path) -> None:
    reading = read_mimic_ecg(write_release(tmp_path), min_report_words=2)
    assert reading.counts["ecg-report"] == 2


def test_missing_tables_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks record_list\.csv .*; machine_measurements\.csv"):
        read_mimic_ecg(tmp_path)


def test_a_missing_report_column_is_named(tmp_path: Path) -> None:
    root = write_release(tmp_path)
    path = root / "machine_measurements.csv"
    path.write_text(path.read_text().replace("report_17", "report_x"))
    with pytest.raises(DataError, match=r"machine_measurements\.csv has no column 'report_17'"):
        read_mimic_ecg(root)
