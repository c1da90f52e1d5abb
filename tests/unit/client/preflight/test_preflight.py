"""`more-client preflight` at a hospital that is ready, and with one thing after another out of order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from client.commands.preflight import preflight

# The fixtures `ready` and `coordinator` stand in conftest.py.
Change = Callable[[Any], None]


def run(config: Path, *options: str) -> Result:
    app = typer.Typer()
    app.command()(preflight)
    return CliRunner().invoke(app, [str(config), *options], catch_exceptions=False)


def findings(result: Result, level: str) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in json.loads(result.stdout)["findings"] if found["level"] == level}


def ingest(site: Any) -> None:
    from more_model.data.ingest import ingest
    from more_model.data.sources import load_sources, read_cohort
    from privacy.deidentify.gate import RuleGate

    sources = load_sources(site.folder / "SOURCES.toml")
    studies = read_cohort(sources.sources).studies
    gate = RuleGate(frozenset({"burned-in-text"}))
    ingest(studies, site.folder / "store", "north", sources.preprocessing, gate=gate, ceiling=0.2)


def serve(site: Any, coordinator: Any, **options: Any) -> None:
    from trees.certificates import write_certificate

    shown = write_certificate(site.folder, "coordinator", authority=site.authority)
    site.content["federation"]["address"] = coordinator(shown, **options)


def test_a_hospital_that_is_ready(ready: Any, coordinator: Any) -> None:
    ingest(ready)
    serve(ready, coordinator)
    result = run(ready.write(), "--json")
    assert result.exit_code == 0
    assert findings(result, "fail") == {}
    assert set(findings(result, "warn")) <= {"user"}  # tests may run as root
    good = findings(result, "ok")
    assert "xray 4" in good["sources"]["cause"] and "60 days" not in good["root certificate"]["cause"]
    assert good["clock"]["cause"] == "within 30 s of the coordinator's"
    assert good["coordinator's certificate"]["cause"] == "59 days are left"


def test_before_the_first_ingest_and_without_the_coordinator(ready: Any) -> None:
    result = run(ready.write(), "--offline", "--json")
    assert result.exit_code == 0
    assert set(findings(result, "warn")) - {"user"} == {"store", "coordinator", "clock"}
    text = run(ready.write(), "--offline").stdout
    assert "WARN  store" in text and "What to do: fill it: more-client ingest" in text


def _other_base(site: Any) -> None:
    site.content["federation"]["public_seed"] = 1


def _other_fingerprint(site: Any) -> None:
    site.content["federation"]["ca_fingerprint"] = "00" * 32


def _readable_key(site: Any) -> None:
    (site.folder / "keys" / "node").chmod(0o640)


def _no_key(site: Any) -> None:
    (site.folder / "keys" / "identity").unlink()


def _writable_policy(site: Any) -> None:
    (site.folder / "policy.toml").chmod(0o666)


def _no_policy(site: Any) -> None:
    (site.folder / "policy.toml").unlink()


def _faulty_policy(site: Any) -> None:
    (site.folder / "policy.toml").write_text("everything = true\n")


def _witness_beside_the_ledger(site: Any) -> None:
    site.content["controls"] = {"witness": "records/witness"}


def _films_gone(site: Any) -> None:
    for film in site.folder.glob("*.png"):
        film.unlink()


def _no_table(site: Any) -> None:
    (site.folder / "films.csv").unlink()


def _other_preprocessing(site: Any) -> None:
    sources = site.folder / "SOURCES.toml"
    sources.write_text(sources.read_text().replace("image_size = 16", "image_size = 32"))


def _no_such_gpu(site: Any) -> None:
    site.content["device"] = "cuda:99"


def _store_of_another(site: Any) -> None:
    ingest(site)
    site.content["site"] = "south"


def _damaged_store(site: Any) -> None:
    ingest(site)
    (site.folder / "store" / "xray.bin").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "name", "code", "said"),
    [
        (_other_base, "base", 6, "initial A factors"),
        (_other_fingerprint, "root certificate", 2, "has the fingerprint"),
        (_readable_key, "key node", 8, "mode 0640"),
        (_no_key, "key identity", 8, "There is no"),
        (_writable_policy, "write mode", 8, "policy.toml has mode 0666"),
        (_no_policy, "policy", 2, "nothing may run and nothing may leave"),
        (_faulty_policy, "policy", 2, "everything: there is no such setting"),
        (_witness_beside_the_ledger, "ledger", 2, "lies in the ledger's folder"),
        (_films_gone, "source files", 4, "4 of 4 files tried cannot be opened"),
        (_no_table, "sources", 4, "does not exist"),
        (_other_preprocessing, "sources", 2, "image_size is 32, the base takes 16"),
        (_no_such_gpu, "gpu", 8, "cuda:99"),
        (_store_of_another, "store", 5, "is the store of site 'north'"),
        (_damaged_store, "store", 5, "has 0 bytes"),
    ],
)
def test_one_thing_out_of_order(ready: Any, change: Change, name: str, code: int, said: str) -> None:
    change(ready)
    result = run(ready.write(), "--offline", "--json")
    assert result.exit_code == code
    failures = findings(result, "fail")
    assert list(failures) == [name]
    assert said in failures[name]["cause"] and failures[name]["remedy"]
    assert "patient-" not in result.stdout


def test_the_exit_code_is_that_of_the_first_failure_and_all_are_told(ready: Any) -> None:
    for change in (_other_base, _films_gone, _no_key):
        change(ready)
    result = run(ready.write(), "--offline", "--json")
    assert list(findings(result, "fail")) == ["source files", "key identity", "base"]
    assert result.exit_code == 4


def test_a_site_file_that_cannot_be_used(ready: Any) -> None:
    ready.content["colour"] = "red"
    result = run(ready.write(), "--offline")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "colour: there is no such setting" in result.stderr


def test_without_a_root_certificate_nothing_is_asked_of_the_coordinator(ready: Any, coordinator: Any) -> None:
    serve(ready, coordinator)
    (ready.folder / "authority.pem").unlink()
    result = run(ready.write(), "--json")
    assert list(findings(result, "fail")) == ["root certificate"]
    assert findings(result, "warn")["coordinator"]["cause"] == "unchecked: there is no root certificate to trust."


def test_a_base_that_nobody_vouches_for(ready: Any) -> None:
    del ready.content["federation"]["fingerprint"]
    result = run(ready.write(), "--offline", "--json")
    assert "does not say the federation's" in findings(result, "warn")["base"]["cause"]


def test_new_and_refused_studies_are_warnings(ready: Any) -> None:
    (ready.folder / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n, cut off")
    ingest(ready)
    with (ready.folder / "films.csv").open("a") as table:
        table.write("patient-9,9,1.png,The lungs are clear.\n")
    warned = findings(run(ready.write(), "--offline", "--json"), "warn")
    assert warned["quarantine"]["cause"] == "1 studies could not be used."
    assert warned["new studies"]["cause"] == "2 studies of the sources are not in the store."


def test_a_policy_that_allows_nothing_is_a_warning(ready: Any) -> None:
    (ready.folder / "policy.toml").write_text("")
    warned = findings(run(ready.write(), "--offline", "--json"), "warn")["policy"]
    assert "does not name the federation of the site file and it does not name the installed code" in warned["cause"]


def test_some_files_that_cannot_be_opened_are_a_warning(ready: Any) -> None:
    (ready.folder / "3.png").unlink()
    result = run(ready.write(), "--offline", "--json")
    assert "1 of 4 files tried" in findings(result, "warn")["source files"]["cause"]
    assert "take the studies out" in findings(result, "warn")["source files"]["avoid"]


def test_a_folder_that_cannot_be_made(ready: Any) -> None:
    ready.content["work"] = "films.csv/work"
    found = findings(run(ready.write(), "--offline", "--json"), "fail")["folder"]
    assert "films.csv, to make" in found["cause"]
