"""`more-model index` and `more-model search` from the command line."""

from __future__ import annotations

import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from more_model.commands.index import index as index_command
from more_model.commands.search import search as search_command
from more_model.search.index_file import Index
from more_model.search.shelf import Shelf


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    """Both commands."""
    application = typer.Typer(pretty_exceptions_enable=False)
    application.command()(index_command)
    application.command()(search_command)
    return application


def run(app: typer.Typer, *words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def ids_of(index: Index) -> set[str]:
    items = [index.item(shelf, number) for shelf in Shelf for number in range(len(index.shelves[shelf].items))]
    return {item.patient for item in items} | {item.study_id for item in items}


def test_an_index_is_written_and_its_figures_shown(
    app: typer.Typer, miniature_run: Any, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("index", "--checkpoint", checkpoint, "--data", miniature_run.out, "--out", tmp_path / "i")
    result = run(app, *words, "--split", "test", "--replicates", "5", "--threads", "1")
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.stdout
    assert "What is found for patients of the test split" in result.stdout
    assert "xray->ecg, same patient" in result.stdout
    again = run(app, *words)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    replaced = run(app, *words, "--split", "train", "--overwrite", "--json", "--threads", "1")
    content = json.loads(replaced.stdout)
    assert content["index"]["splits"] == ["train"]
    assert content["figures"]["splits"] == {}


def test_words_find_all_four_kinds(app: typer.Typer, index: Index, checkpoint: Path) -> None:
    asked = ("search", "atrial fibrillation", "--index", index.folder, "--checkpoint", checkpoint, "--threads", "1")
    result = run(app, *asked, "-k", "2")
    assert result.exit_code == 0, result.output
    for shelf in Shelf:
        assert shelf.heading in result.stdout
        assert len(re.findall(rf"\b{shelf.value}:\d+", result.stdout)) == 2
    content = json.loads(run(app, *asked, "-k", "2", "--json").stdout)
    assert content["question"] == "atrial fibrillation"
    assert content["model_digest"] == index.header.model_digest
    assert set(content["results"]) == {shelf.value for shelf in Shelf}
    first = content["results"]["ecg"][0]
    assert first["rank"] == 1
    assert first["item"].startswith("ecg:")
    assert first["words"]


def test_identifiers_are_shown_only_when_asked_for(app: typer.Typer, index: Index, tmp_path: Path) -> None:
    ids = ids_of(index)
    for extra in ((), ("--json",), ("--html", tmp_path / "page.html")):
        hidden = run(app, "search", "--index", index.folder, "--item", "xray:1", *extra)
        assert hidden.exit_code == 0, hidden.output
        assert not any(one in hidden.output for one in ids)
    page = tmp_path / "page.html"
    assert not any(one in page.read_text(encoding="utf-8") for one in ids)
    shown = run(app, "search", "--index", index.folder, "--item", "xray:1", "--json", "--show-ids")
    content = json.loads(shown.stdout)["results"]
    assert all(hit["patient"] in ids and hit["study_id"] in ids for hits in content.values() for hit in hits)
    assert "patient " in run(app, "search", "--index", index.folder, "--item", "xray:1", "--show-ids").stdout


def test_the_page_shows_pictures_and_fetches_nothing(app: typer.Typer, index: Index, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run(app, "search", "--index", index.folder, "--item", "ecg:0", "-k", "3", "--per-site", "--html", page)
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    sites = len(index.header.sites)
    assert text.count('src="data:image/png;base64,') == 3 * sites
    assert text.count('<svg class="ecg"') == 3 * sites
    assert "SYNTHETIC DATA" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    anchors = re.findall(r' id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


def test_pictures_of_another_store_are_not_shown(app: typer.Typer, index: Index, tmp_path: Path) -> None:
    moved = tmp_path / "deep" / "deeper" / "index"
    shutil.copytree(index.folder, moved)
    page = tmp_path / "page.html"
    assert run(app, "search", "--index", moved, "--item", "ecg:0", "--html", page).exit_code == 0
    assert "<img" not in page.read_text(encoding="utf-8")

    content = json.loads((moved / "index.json").read_text())
    first, second, *rest = content["sites"]
    stores = [str(index.store_folder(site["name"]).resolve()) for site in (second, first, *rest)]
    content["sites"] = [{**site, "store": store} for site, store in zip(content["sites"], stores, strict=True)]
    (moved / "index.json").write_text(json.dumps(content))
    swapped = run(app, "search", "--index", moved, "--item", "ecg:0", "--html", page, "--site", first["name"])
    assert swapped.exit_code == 0, swapped.output
    assert "<img" not in page.read_text(encoding="utf-8")
    kept = run(app, "search", "--index", moved, "--item", "ecg:0", "--html", page, "--site", rest[0]["name"])
    assert kept.exit_code == 0, kept.output
    assert "<img" in page.read_text(encoding="utf-8")


def test_filters_and_sites(app: typer.Typer, index: Index) -> None:
    names = [site.name for site in index.header.sites]
    asked = ("search", "--index", index.folder, "--item", "xray:1", "--json", "--split", "test", "--modality", "ecg")
    content = json.loads(run(app, *asked, "--per-site", "-k", "1").stdout)["sites"]
    assert list(content) == names
    for name, shelves in content.items():
        assert list(shelves) == ["ecg"]
        assert [(hit["site"], hit["split"]) for hit in shelves["ecg"]] == [(name, "test")]
    one = json.loads(run(app, *asked, "--per-site", "--site", names[1]).stdout)["sites"]
    assert list(one) == [names[1]]


def test_errors_end_with_their_codes(app: typer.Typer, index: Index, checkpoint: Path, tmp_path: Path) -> None:
    assert run(app, "search", "--index", index.folder).exit_code == 2
    assert run(app, "search", "x", "--index", tmp_path, "--checkpoint", checkpoint).exit_code == 4
    other = run(app, "search", "x", "--index", index.folder, "--checkpoint", checkpoint.with_name("base.safetensors"))
    assert other.exit_code == 6
    assert index.header.model_digest in other.stderr
    (tmp_path / "bad.txt").write_bytes(b"\x00")
    bad = run(app, "search", "--report", tmp_path / "bad.txt", "--index", index.folder, "--checkpoint", checkpoint)
    assert bad.exit_code == 3
    assert "no text has" in bad.stderr
