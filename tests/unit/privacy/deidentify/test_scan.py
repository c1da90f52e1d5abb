"""`more-privacy scan` through its command line, on real files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import typer
from click.testing import Result
from PIL import Image, PngImagePlugin
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from privacy.commands.scan import scan

app = typer.Typer()
app.command()(scan)


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def scanned(*arguments: Any) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    content: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (3 if content["withheld"] else 0)
    return content


def write_dicom(path: Path, study: str = "2.25.7", **values: Any) -> None:
    dataset = pydicom.Dataset()
    for keyword, value in {"StudyInstanceUID": study, "SOPInstanceUID": "2.25.1", "Modality": "DX", **values}.items():
        setattr(dataset, keyword, value)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.Rows = dataset.Columns = 16
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = np.full((16, 16), 900, np.uint16).tobytes()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def test_counts_a_study_each_and_prints_nothing_of_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "s1.txt").write_text("Clear lungs.", encoding="utf-8")
    (tmp_path / "s2.txt").write_text("Dictated by: John Smith, MD on 12/03/2021.", encoding="utf-8")
    write_dicom(tmp_path / "a.dcm", PatientName="Doe^Jane")
    write_dicom(tmp_path / "b.dcm")  # same study as a.dcm
    content = scanned(tmp_path)
    assert content == {
        "files": 4, "studies": 3, "released": 1, "withheld": 2,
        "findings": {"date": 1, "name": 2}, "studies_with": {"date": 1, "name": 2},
    }  # fmt: skip
    text = invoke(tmp_path)
    shown = invoke(tmp_path, "--show")
    for result in (text, shown):
        assert result.exit_code == 3
        assert not any(word in result.output for word in ("Smith", "Doe", "12/03"))
    assert "s2.txt" not in text.output and "s2.txt: name: characters 13-" in shown.stdout
    assert "(0010,0010) PatientName" in shown.stdout
    assert "2 of 3 studies are withheld" in text.stderr


def test_places_do_not_go_into_json(tmp_path: Path) -> None:
    assert invoke(tmp_path, "--show", "--json").exit_code == 2


def test_a_clean_folder_ends_with_0_and_an_empty_one_with_4(tmp_path: Path) -> None:
    assert invoke(tmp_path).exit_code == 4
    write_dicom(tmp_path / "a.dcm", PatientID="77")
    assert scanned(tmp_path, "--accept", "PatientID")["released"] == 1


@pytest.mark.parametrize(
    "name", ["cut.dcm", "notes.docx", "film.png", "r.hea", "t.csv", "signal.dat", "nul.txt", "e.gz"]
)
def test_what_cannot_be_read_is_withheld(tmp_path: Path, name: str) -> None:
    write_dicom(tmp_path / "whole.dcm")
    (tmp_path / name).write_bytes((tmp_path / "whole.dcm").read_bytes()[: 700 if name == "cut.dcm" else 40])
    (tmp_path / "whole.dcm").unlink()
    assert scanned(tmp_path)["findings"]["unreadable"] == 1


def test_an_unreadable_file_withholds_its_study_alone(tmp_path: Path) -> None:
    write_dicom(tmp_path / "whole.dcm")
    (tmp_path / "broken.dcm").write_bytes(b"nothing")
    content = scanned(tmp_path)
    assert (content["released"], content["withheld"]) == (1, 1)


def test_tables_need_a_column_and_each_row_is_a_study(tmp_path: Path) -> None:
    rows = "subject_id,text\n10000032,Clear lungs.\n10000033,Seen by Dr. Smith.\n"
    with gzip.open(tmp_path / "notes.csv.gz", "wt", encoding="utf-8") as stream:
        stream.write(rows)
    assert scanned(tmp_path)["studies_with"] == {"unreadable": 1}
    content = scanned(tmp_path, "--column", "text")
    assert (content["studies"], content["released"], content["findings"]) == (2, 1, {"name": 1})


def test_wfdb_headers_are_read_as_text_and_codes_are_no_numbers_of_people(tmp_path: Path) -> None:
    header = (
        "r1 1 500 5000 {time}\nr1.dat 16 200/mV 16 0 0 0 0 I\n"
        "#Age: 63\n#Sex: Male\n#Dx: 426783006,284470004\n#<age>: {age} <sex>: M\n# <subject_id>: 10000032\n{comment}\n"
    )
    path = tmp_path / "r1.hea"
    (tmp_path / "r1.dat").write_bytes(b"\0\1")
    path.write_text(header.format(time="", age=63, comment=""), encoding="utf-8")
    assert scanned(tmp_path)["findings"] == {"record-number": 1}
    assert scanned(tmp_path, "--accept", "subject_id") == {
        "files": 2, "studies": 1, "released": 1, "withheld": 0, "findings": {}, "studies_with": {},
    }  # fmt: skip
    path.write_text(
        header.format(time="10:11:12 04/03/2021", age=93, comment="# Reviewed by: Dr. Smith"), encoding="utf-8"
    )
    found = scanned(tmp_path, "--accept", "subject_id")["findings"]
    assert found == {"age-over-89": 1, "date": 1, "name": 1}


def test_notes_inside_a_picture_are_read(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "film of Mr. Smith")
    Image.new("L", (20, 20)).save(tmp_path / "film.png", pnginfo=notes)
    exif = Image.Exif()
    exif[0x8825] = {1: "N"}
    Image.new("L", (20, 20)).save(tmp_path / "other.jpg", exif=exif)
    assert scanned(tmp_path)["findings"] == {"address": 1, "name": 1}


def test_pixels_are_searched_unless_told_not_to(tmp_path: Path) -> None:
    from PIL import ImageDraw, ImageFont

    film = Image.new("L", (400, 400), 40)
    ImageDraw.Draw(film).text((20, 20), "SCHMIDT MARIA", fill=255, font=ImageFont.load_default(14))
    film.save(tmp_path / "film.png")
    assert scanned(tmp_path)["studies_with"] == {"burned-in-text": 1}
    assert scanned(tmp_path, "--no-pixels")["released"] == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.shared_data
def test_published_odd_files_end_in_a_verdict_each(shared_data: Path) -> None:
    content = scanned(shared_data / "odd" / "dicom")
    assert content["files"] == 49
    assert content["studies_with"]["unreadable"] >= 9 and content["studies_with"]["private-element"] >= 5
    record = scanned(shared_data / "odd" / "wfdb" / "s0010_re.hea")
    assert record["findings"]["date"] >= 2
