"""`more-client` as a hospital's data person uses it: exit codes, messages, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A sources file with ten films and reports, one of the films missing; labels say edema for half."""
    from PIL import Image

    rows = ["pid,acc,film,words,edema"]
    for number in range(10):
        grey = np.add.outer(np.arange(40), np.arange(40) + number).astype(np.uint8)
        if number:
            Image.fromarray(grey).save(tmp_path / f"{number}.png")
        rows.append(f"patient-{number},{number},{number}.png,The lungs are clear.,{number % 2}")
    (tmp_path / "films.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "films.toml").write_text(
        'path = "films.csv"\npatient = "pid"\nstudy = "acc"\nxray = "film"\nreport_text = "words"\n'
        'labels = { edema = "Edema" }\n'
    )
    (tmp_path / "SOURCES.toml").write_text(
        '[preprocessing]\nimage_size = 16\n[[sources]]\nkind = "table"\nmapping = "films.toml"\n'
    )
    return tmp_path


def test_ingest_report_verify(site: Path) -> None:
    arguments = ("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north", "--ceiling", "0.1")
    first = run(*arguments)
    assert first.exit_code == 0
    assert "Site north: 20 studies, 5.0% refused" in first.stdout
    assert "file-not-found" in first.stdout
    again = json.loads(run(*arguments, "--json").stdout)
    assert again["already_stored"] == {"xray": 9, "report": 10}
    assert again["stored"] == {}
    assert again["read"]["1:table:xray"] == 10
    report = run("data-report", "--store", site / "store", "--json")
    assert report.exit_code == 0
    facts = json.loads(report.stdout)
    assert facts["triplets"] == {"xray-and-ecg": 0, "xray-only": 9, "ecg-only": 0}
    assert facts["labels"]["Edema"]["absent"] == "<5"
    assert "quarantine" in facts and "patient-" not in report.stdout
    verified = run("verify", "--store", site / "store")
    assert (verified.exit_code, "all 19 stored studies match" in verified.stdout) == (0, True)
    assert json.loads(run("verify", "--store", site / "store", "--json").stdout)["verified"] == 19


def test_changed_and_gone_studies_are_told_by_ingest_and_data_report(site: Path) -> None:
    arguments = ("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north", "--ceiling", "0.1")
    assert "Changed since" not in run(*arguments).stdout
    (site / "1.png").write_bytes((site / "9.png").read_bytes() + b" ")
    (site / "2.png").unlink()
    told = run(*arguments)
    assert told.exit_code == 0
    assert "Changed since they were stored: 1 xray. The newer versions are quarantined" in told.stdout
    assert "Stored, and no longer among the sources: 1 xray" in told.stdout
    assert json.loads(run(*arguments, "--json").stdout)["source_gone"] == {"xray": 1}
    facts = json.loads(run("data-report", "--store", site / "store", "--minimum-count", "1", "--json").stdout)
    assert facts["quarantine"] == {"xray: changed-since-stored": 1, "xray: file-not-found": 1}
    assert facts["gone"] == {"xray": 1}


def test_minimum_count_is_the_sites_choice(site: Path) -> None:
    run("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north")
    report = run("data-report", "--store", site / "store", "--minimum-count", "1", "--json")
    labels = json.loads(report.stdout)["labels"]["Edema"]
    assert (labels["present"], labels["absent"]) == (5, 4)


def test_past_the_ceiling_the_exit_code_is_4(site: Path) -> None:
    result = run("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north", "--ceiling", "0.01")
    assert result.exit_code == 4
    assert "1 of 20 studies (5.0%) were refused" in result.stderr
    assert "file-not-found (1)" in result.stderr
    assert "Site north: 20 studies, 5.0% refused" in result.stdout


def test_past_the_ceiling_json_still_holds_the_counts(site: Path) -> None:
    arguments = ("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north", "--ceiling", "0.01")
    result = run(*arguments, "--json")
    assert result.exit_code == 4
    facts = json.loads(result.stdout)
    assert facts["refused"] == {"file-not-found": 1}
    assert facts["stored"] == {"xray": 9, "report": 10}


def test_an_interrupt_says_what_to_do(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("more_model.data.ingest.ingest", interrupted)
    result = run("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north")
    assert result.exit_code == 130
    assert result.stderr.endswith("Interrupted; what was stored stays. Run the same command again.\n")


def test_three_mistakes_are_reported_at_once(site: Path) -> None:
    (site / "SOURCES.toml").write_text(
        '[preprocessing]\nimage_size = 3\n[[sources]]\nkind = "tabel"\nmapping = "films.toml"\n'
        '[[label_tables]]\npath = "x.csv"\nkey = "patient_id"\nkey_column = "pid"\n'
    )
    result = run("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north")
    assert result.exit_code == 2
    assert "3 faults" in result.stderr
    assert not (site / "store").exists()


def test_a_patient_on_two_sites_ends_before_anything_is_stored(site: Path) -> None:
    table = (site / "films.csv").read_text().replace("patient-2,", "patient-1,").splitlines()
    (site / "films.csv").write_text(
        "\n".join(f"{row},{'ward' if not n else n % 2}" for n, row in enumerate(table)) + "\n"
    )
    with (site / "films.toml").open("a") as stream:
        stream.write('site = "ward"\n')
    result = run("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north")
    assert result.exit_code == 4
    assert "1 patients appear at more than one site" in result.stderr
    assert "patient-1" not in result.stderr
    assert not (site / "store").exists()


def test_damage_is_exit_code_5(site: Path) -> None:
    run("ingest", site / "SOURCES.toml", "--store", site / "store", "--site", "north")
    path = site / "store/xray.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    result = run("verify", "--store", site / "store")
    assert result.exit_code == 5
    assert "1 of 19 studies do not match their checksum" in result.stderr
    assert run("data-report", "--store", site / "nowhere").exit_code == 5


def test_pairing_options_are_checked(site: Path) -> None:
    result = run("data-report", "--store", site, "--pairing", "admission-window")
    assert result.exit_code == 2
    assert "admissions is needed for" in result.stderr


@pytest.mark.parametrize("command", ["ingest", "data-report", "verify"])
def test_help_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: more-client {command}" in " ".join(result.stdout.split())
