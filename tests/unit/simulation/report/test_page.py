"""The page holds what the summary says, in words a clinician can trust, and needs nothing but itself."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulation.report import Example, ReportDetails, write_report

Summary = dict[str, Any]
Read = Callable[[Path], Any]

SECTIONS = [
    "The answer",
    "What was trained",
    "Who took part",
    "How well each model does",
    "ROC curves",
    "Learning curves",
    "What each site gains by joining",
    "Finding the report that belongs to a study",
    "Health of training",
    "What was sent",
    "Privacy",
    "How to reproduce it",
    "Examples",
    "Limits",
]


@pytest.fixture(scope="module")
def full_run(
    tmp_path_factory: pytest.TempPathFactory, untouched_summary: Summary, details: ReportDetails
) -> tuple[Path, Path]:
    """The run directory and the page of a run in which nothing is missing."""
    folder = tmp_path_factory.mktemp("run")
    return folder, write_report(folder, untouched_summary, details)


def test_full_page_has_every_section_and_figure(full_run: tuple[Path, Path], read_page: Read) -> None:
    folder, path = full_run
    page = read_page(path)
    assert path == folder / "report.html"
    assert [heading for heading in page.headings if heading in SECTIONS] == SECTIONS
    assert page.unbalanced == []
    pictures = {picture.name for picture in (folder / "figures").iterdir()}
    assert pictures == {
        "auroc_arms.png",
        "auroc_labels.png",
        "roc.png",
        "learning.png",
        "joining.png",
        "health_loss.png",
    }
    assert not list(folder.glob("*.part"))


def test_page_needs_nothing_but_itself(full_run: tuple[Path, Path], read_page: Read) -> None:
    page = read_page(full_run[1])
    assert not re.search(r"https?://|<script|<link|@import|\bon\w+=", page.html)
    assert len(page.identifiers) == len(set(page.identifiers))
    inside = [ref.removeprefix("#") for ref in page.references if not ref.startswith("data:image/png;base64,")]
    assert set(inside) <= set(page.identifiers)
    assert set(re.findall(r"url\(#([^)]+)\)", page.html)) <= set(page.identifiers)


def test_page_is_accessible(full_run: tuple[Path, Path], read_page: Read) -> None:
    page = read_page(full_run[1])
    assert page.counts["h1"] == page.counts["main"] == 1
    assert page.counts["table"] == page.counts["caption"] > 8
    assert page.counts["th."] == 0
    assert page.counts["th.col"] > 40
    assert page.counts["th.row"] > 60
    assert len(page.alternatives) == 6 + 3
    assert all(len(alternative) > 30 for alternative in page.alternatives)
    assert "Federated 0.848 (0.827 to 0.869)" in page.alternatives[0]
    assert '<html lang="en">' in page.html


def test_same_input_gives_the_same_page(tmp_path: Path, summary: Summary, details: ReportDetails) -> None:
    details = ReportDetails(learning=details.learning, examples=details.examples)
    first = write_report(tmp_path / "first", summary, details).read_bytes()
    assert write_report(tmp_path / "second", summary, details).read_bytes() == first


@pytest.mark.usefixtures("without_drawing")
def test_numbers_appear_as_formatted(tmp_path: Path, summary: Summary, details: ReportDetails, read_page: Read) -> None:
    text = read_page(write_report(tmp_path, summary, details)).text
    assert "4 sites · 4,700 patients · X-ray and ECG with reports · 8 rounds · complete" in text
    assert "Centralised 0.862 (0.841 to 0.883)" in text
    assert "Federated minus centralised −0.014 (−0.031 to +0.004) yes" in text
    assert "412.3 kB (412,345 bytes)" in text
    assert "13.7 MB (13,651,972 bytes)" in text
    assert "3,412,993 in all, 103,424 of them trained (3.0 %)" in text
    assert "north 0.760 0.848 +0.088 (+0.030 to +0.140)" in text
    assert "AFIB ECG 103 157" in text
    assert "All sites 4,180 240 280 5,536 2,700 3,240 1,920" in text
    assert "river truncated-pixels 3" in text


@pytest.mark.usefixtures("without_drawing")
def test_refused_auroc_is_shown_with_its_reason(
    tmp_path: Path, summary: Summary, details: ReportDetails, read_page: Read
) -> None:
    text = read_page(write_report(tmp_path, summary, details)).text
    assert "Fracture † X-ray 1 259 none: fewer than two positives" in text
    assert "No AUROC for Fracture" in text
    assert "Pneumothorax † X-ray 6 254 0." in text


@pytest.mark.usefixtures("without_drawing")
def test_words_of_others_are_escaped(
    tmp_path: Path, summary: Summary, make_example: Callable[..., Example], read_page: Read
) -> None:
    hostile = "<script>alert('x')</script> & <img src=x onerror=y>"
    summary["name"] = hostile
    summary["cohort"]["sites"][hostile] = summary["cohort"]["sites"].pop("north")
    summary["rounds"][0]["sites"]["river"] = {"state": "quarantined", "why": hostile}
    summary["arms"]["federated"]["per_label"]["Fracture"]["reason"] = hostile
    example = make_example(report=hostile, retrieved=[(hostile, 0.5)], site=hostile, what=hostile)
    page = read_page(write_report(tmp_path, summary, ReportDetails(examples=[example])))
    assert page.counts["script"] == 0
    assert page.counts["img"] == 1
    assert page.text.count("<script>alert('x')</script>") >= 7


def test_hostile_names_inside_drawings_are_escaped(tmp_path: Path, summary: Summary, read_page: Read) -> None:
    hostile = "</svg><script>x"
    summary["joining"] = {hostile: {"local": 0.7, "federated": 0.8, "gain": 0.1, "ci95": [0.0, 0.2]}}
    summary["arms"] = {}
    page = read_page(write_report(tmp_path, summary, ReportDetails()))
    assert page.counts["script"] == 0
    assert page.unbalanced == []


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_is_said_loudly_and_only_then(
    tmp_path: Path, summary: Summary, details: ReportDetails, read_page: Read, synthetic: bool
) -> None:
    summary["synthetic"] = synthetic
    page = read_page(write_report(tmp_path, summary, details))
    assert page.text.lower().count("synthetic") == (4 if synthetic else 0)
    assert ("SYNTHETIC DATA. Every patient here was generated." in page.text) is synthetic
    assert ("treat this file as you treat patient data" in page.text) is not synthetic


@pytest.mark.usefixtures("without_drawing")
def test_partial_run_says_who_missed_what(
    tmp_path: Path, summary: Summary, details: ReportDetails, read_page: Read
) -> None:
    summary["status"] = "partial"
    text = read_page(write_report(tmp_path, summary, details)).text
    assert "This run is PARTIAL" in text
    assert "8 rounds · partial" in text
    assert "Round 3 coast late no update within 120 s" in text
    assert "coast 7 of 8 1 0 0 910 840" in text


@pytest.mark.usefixtures("without_drawing")
def test_site_that_no_round_mentions_is_named(
    tmp_path: Path, summary: Summary, details: ReportDetails, read_page: Read
) -> None:
    for entry in summary["rounds"]:
        del entry["sites"]["valley"]
    text = read_page(write_report(tmp_path, summary, details)).text
    assert "In the cohort, but asked in no round: valley." in text


@pytest.mark.usefixtures("without_drawing")
def test_prompts_are_not_called_reports(tmp_path: Path, summary: Summary, read_page: Read) -> None:
    summary["text_kind"] = "label prompts"
    text = read_page(write_report(tmp_path, summary, ReportDetails())).text
    assert "label prompts, not reports that a physician wrote" in text
    assert "X-ray and ECG with label prompts" in text


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize(
    ("missing", "absent_heading"),
    [
        ("text_kind", None),
        ("joining", "What each site gains by joining"),
        ("rounds", None),
        ("cohort", None),
        ("model", None),
        ("base", None),
        ("exchange", "What was sent"),
        ("environment", "How to reproduce it"),
        ("gap", None),
        ("arms", "Finding the report that belongs to a study"),
        ("privacy", None),
    ],
)
def test_any_part_may_be_absent(
    tmp_path: Path, summary: Summary, details: ReportDetails, read_page: Read, missing: str, absent_heading: str | None
) -> None:
    del summary[missing]
    page = read_page(write_report(tmp_path, summary, details))
    assert page.unbalanced == []
    assert absent_heading not in page.headings
    assert "Limits" in page.headings
    assert "None" not in page.text
    assert "nan" not in page.text.split()


def test_an_empty_summary_still_gives_a_page(tmp_path: Path, read_page: Read) -> None:
    page = read_page(write_report(tmp_path, {}, ReportDetails()))
    assert page.headings[:2] == ["run", "The answer"]
    assert page.text.count("This run cannot answer that.") == 2


@pytest.mark.parametrize("arm", ["centralized", "federated", "local", "random_encoder"])
def test_missing_arm_is_tolerated(
    tmp_path: Path, summary: Summary, details: ReportDetails, read_page: Read, arm: str
) -> None:
    from simulation.report.wording import arm_name

    del summary["arms"][arm]
    gaps = {"centralized": "federated_minus_centralized", "local": "federated_minus_local_mean"}
    summary["gap"].pop(gaps.get(arm, ""), None)
    text = read_page(write_report(tmp_path, summary, ReportDetails(examples=details.examples))).text
    assert f"{arm_name(arm)} 0." not in text
    assert ("This run cannot answer that." in text) == (arm in gaps)


def test_ecg_only_run_without_probe_or_intervals(tmp_path: Path, summary: Summary, read_page: Read) -> None:
    for site in summary["cohort"]["sites"].values():
        site["modalities"]["xray"] = 0
    for arm in ("centralized", "federated", "random_encoder"):
        values = summary["arms"][arm]
        del values["linear_probe"]
        values["ci95"] = None
        values["retrieval"] = {"ecg->text": values["retrieval"]["ecg->text"]}
        values["per_label"] = {"NORM": values["per_label"]["NORM"], "MI": values["per_label"]["MI"]}
    del summary["arms"]["local"]
    page = read_page(write_report(tmp_path, summary, ReportDetails()))
    assert "ECG with reports" in page.text
    assert "X-ray and ECG with" not in page.text
    assert "X-ray to report" not in page.text.lower()
    assert "Linear probe: a simple classifier" in page.text
    assert "(linear probe)" not in page.text
    assert page.unbalanced == []


@pytest.mark.usefixtures("without_drawing")
def test_seeds_and_one_seed_caution(tmp_path: Path, summary: Summary, read_page: Read) -> None:
    alone = read_page(write_report(tmp_path / "one", copy.deepcopy(summary), ReportDetails())).text
    summary["seeds"] = [7, 8, 9]
    several = read_page(write_report(tmp_path / "three", summary, ReportDetails())).text
    assert "One training run (one seed)" in alone
    assert "One training run (one seed)" not in several
    assert "Seeds 7, 8, 9" in several


@pytest.mark.usefixtures("without_drawing")
def test_many_rounds_stay_readable_and_keep_the_last(tmp_path: Path, summary: Summary, read_page: Read) -> None:
    pattern = summary["rounds"][0]
    summary["rounds"] = [{**copy.deepcopy(pattern), "round": n} for n in range(1, 101)]
    for entry in summary["rounds"]:
        entry["sites"]["coast"] = {"state": "absent", "why": None}
    page = read_page(write_report(tmp_path, summary, ReportDetails()))
    assert "Every 4th round and the last one are shown." in page.text
    assert "100 3 of 4" in page.text
    assert "The first 20 of 100; events.jsonl has them all." in page.text
    assert "coast 0 of 100 0 100 0 0 0" in page.text
    assert page.counts["tr"] < 165


def test_unwritable_folder_is_an_os_error(tmp_path: Path, summary: Summary) -> None:
    (tmp_path / "taken").write_text("a file where the run directory should be")
    with pytest.raises(OSError, match="taken"):
        write_report(tmp_path / "taken", summary, ReportDetails())


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(text: str, ground: str) -> float:
    bright, dark = sorted((_luminance(text), _luminance(ground)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_contrast_of_text_and_of_marks() -> None:
    from more_model.report import page as page_module
    from more_model.report.canvas import ARM_COLOURS, INK, QUIET

    css = (Path(page_module.__file__).parent / "report.css").read_text(encoding="utf-8")
    coloured = re.findall(r"(?<![-\w])color: (#[0-9a-f]{6})", css)
    named = [re.search(rf"--{name}: (#[0-9a-f]{{6}})", css) for name in ("ink", "quiet", "link", "warn")]
    texts = [INK, QUIET, *(found[1] for found in named if found), *(colour for colour in coloured)]
    assert len(texts) >= 8
    for text in texts:
        for ground in ("#ffffff", "#fdf3e7"):
            assert _contrast(text, ground) >= 4.5, (text, ground)
    for arm, colour in ARM_COLOURS.items():
        assert _contrast(colour, "#ffffff") >= 3.0, arm
        assert f"{colour};" in css, "page and figures must use the same colour for an arm"
    assert _contrast("#ffffff", "#4a2300") >= 4.5
