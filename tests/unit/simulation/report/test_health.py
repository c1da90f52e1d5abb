"""The section on health says verdicts in words, keeps the random encoder apart, and warns where readers look first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from more_model.evaluation.finding import SIGNATURES
from more_model.report.blocks import Cell, Facts, Figure, Table, Words
from simulation.report import ReportDetails, write_report
from simulation.report.health import alarm_line, examined, worst
from simulation.report.sections_health import health_section
from simulation.report.verdict import cautions

Summary = dict[str, Any]


def blocks(summary: Summary, folder: Path, kind: type) -> list[Any]:
    section = health_section(summary, folder)
    return [] if section is None else [block for block in section.blocks if isinstance(block, kind)]


def text(cell: Cell | str) -> str:
    return cell.text if isinstance(cell, Cell) else cell


def rows(table: Table) -> dict[str, list[str]]:
    return {text(row[0]): [text(cell) for cell in row[1:]] for row in table.rows}


def finding(summary: Summary, arm: str, code: str, tower: str = "xray") -> dict[str, Any]:
    values = summary["arms"]
    for part in arm.split("/"):
        values = values[part]
    return next(f for f in values["health"]["findings"] if (f["code"], f["tower"]) == (code, tower))


def test_every_signature_has_a_row_with_a_word_for_every_arm(summary: Summary, tmp_path: Path) -> None:
    table = blocks(summary, tmp_path, Table)[0]
    assert list(table.head) == ["Signature", "Centralised", "Federated", "Local only", "Random encoder"]
    verdicts = rows(table)
    assert list(verdicts) == [signature.title for signature in SIGNATURES.values()]
    assert verdicts["Training loss against chance"] == ["ok", "ok", "ok", "unknown"]
    assert verdicts["Directions in use"] == [
        "watch: X-ray",
        "watch: X-ray",
        "watch: X-ray (4 of 4 sites)",
        "watch: X-ray",
    ]
    assert verdicts["Spread of patients"] == ["ok", "ok", "ok", "alarm: X-ray, ECG, text"]


def test_the_gravest_verdict_of_an_arm_is_shown(summary: Summary, tmp_path: Path) -> None:
    finding(summary, "local/river", "rank", "ecg")["verdict"] = "alarm"
    verdicts = rows(blocks(summary, tmp_path, Table)[0])
    assert verdicts["Directions in use"][2] == "alarm: ECG (1 of 4 sites)"


def test_each_matter_is_explained_and_names_where_else_it_is(summary: Summary, tmp_path: Path) -> None:
    (matters,) = blocks(summary, tmp_path, Facts)
    ((term, words),) = matters.items
    assert term == "Watch: Directions in use"
    assert words.startswith(SIGNATURES["rank"].means) and words.endswith(SIGNATURES["rank"].do)
    assert "Federated: The X-ray embeddings use about 2.5 of 64 directions; 40% of their variance" in words
    # What random weights do wrong is no matter of this training.
    assert "Also in: Centralised and each of 4 sites alone." in words


def test_alarms_come_first_and_sites_are_named_where_not_all_are_concerned(summary: Summary, tmp_path: Path) -> None:
    for arm in ("local/river", "local/coast"):
        finding(summary, arm, "gap", "ecg")["verdict"] = "alarm"
    (matters,) = blocks(summary, tmp_path, Facts)
    assert [term for term, _ in matters.items] == ["Alarm: Gap between words and studies", "Watch: Directions in use"]
    assert "river alone: The centres of the ECG" in matters.items[0][1]
    assert "Also in: coast alone." in matters.items[0][1]


def test_a_sound_run_has_no_matters(summary: Summary, tmp_path: Path) -> None:
    for values in (*summary["arms"].values(), *summary["arms"]["local"].values()):
        for entry in values.get("health", {}).get("findings", []):
            entry["verdict"] = "ok"
    assert blocks(summary, tmp_path, Facts) == []


def test_the_random_encoder_is_expected_to_alarm(summary: Summary, tmp_path: Path) -> None:
    said = [block.text for block in blocks(summary, tmp_path, Words)]
    assert any("That is expected: nothing was trained." in words for words in said)
    for entry in summary["arms"]["random_encoder"]["health"]["findings"]:
        entry["verdict"] = "ok"
    said = [block.text for block in blocks(summary, tmp_path, Words)]
    assert any("Do not trust the verdicts" in words for words in said)


def test_losses_are_drawn_against_chance(summary: Summary, tmp_path: Path) -> None:
    (figure,) = blocks(summary, tmp_path, Figure)
    assert (tmp_path / "health_loss.png").stat().st_size > 5000
    assert "Federated from 0.98 to 0.80" in figure.alt and "north alone" in figure.alt
    assert "Random" not in figure.alt
    for model in (summary["arms"]["centralized"], summary["arms"]["federated"], *summary["arms"]["local"].values()):
        if "health" in model:
            model["health"]["measures"]["segments"] = []
    assert blocks(summary, tmp_path, Figure) == []


def test_an_alarm_of_the_federated_model_is_among_the_cautions(summary: Summary) -> None:
    assert not any("Health of training" in caution for caution in cautions(summary))
    finding(summary, "federated", "loss", "ecg")["verdict"] = "alarm"
    assert any("Training loss against chance: ECG" in caution for caution in cautions(summary))


def test_the_line_is_about_trained_models_alone(summary: Summary) -> None:
    assert alarm_line(summary) == ""
    finding(summary, "federated", "loss")["verdict"] = "alarm"
    finding(summary, "federated", "wording", "")["verdict"] = "alarm"
    assert alarm_line(summary) == (
        "Health of training: ALARM in Federated (Training loss against chance: X-ray, Zero-shot over wordings). "
        "The report says what that means."
    )


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize("health", [None, {}, {"findings": None}, {"findings": [7]}, {"findings": [{"code": "new"}]}])
def test_odd_or_absent_health_is_tolerated(
    summary: Summary, details: ReportDetails, tmp_path: Path, health: object, read_page: Callable[[Path], Any]
) -> None:
    for arm in ("centralized", "federated", "random_encoder"):
        summary["arms"][arm]["health"] = health
    page = read_page(write_report(tmp_path, summary, details))
    assert page.unbalanced == []
    assert alarm_line(summary) == ""


def test_without_findings_there_is_no_section(summary: Summary, tmp_path: Path) -> None:
    for values in (*summary["arms"].values(), *summary["arms"]["local"].values()):
        values.pop("health", None)
    assert examined(summary) == []
    assert health_section(summary, tmp_path) is None


def test_unknown_is_no_verdict_against_a_model() -> None:
    assert worst([{"verdict": "unknown"}, {"verdict": "ok"}]) == "ok"
    assert worst([{"verdict": "unknown"}]) == worst([]) == worst([{"verdict": "grave"}]) == "unknown"
