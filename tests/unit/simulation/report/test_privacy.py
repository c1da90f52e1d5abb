"""No epsilon without its unit, delta and meaning; no silence about privacy on page, terminal or first screen."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from more_model.report.blocks import Cell, Facts, Table, Words
from more_model.report.canvas import look
from privacy.claims import Claim, mode_claim
from simulation.report import ReportDetails, print_table, write_report
from simulation.report.privacy_figure import curve_figure
from simulation.report.privacy_words import delta_words, meaning, most_right, most_times, short_claim
from simulation.report.sections_privacy import privacy_section
from simulation.report.verdict import against_alone, against_everyone, promised

Summary = dict[str, Any]
Read = Callable[[Path], Any]


@pytest.fixture(scope="module")
def claim() -> Claim:
    """What a site may really say after 1000 steps at noise 1, with words and warnings as the accountant gives them."""
    return mode_claim("patient-decoupled", 1.0, 1.0, 0.0256, 1000, 1e-5)


def _point(epsilon: float | None, value: float, share: float | None = None, noise: float | None = None) -> Summary:
    gain = {"macro_auroc": value - 0.75, "ci95": [value - 0.78, value - 0.72]}
    return {
        "epsilon": epsilon,
        "arm": {5.129: "federated", None: "not_private", 0: "public_only"}.get(epsilon, f"epsilon-{epsilon}"),
        "macro_auroc": value,
        "ci95": [value - 0.02, value + 0.02],
        "gain": None if epsilon == 0 else gain,
        "share_of_gain": None if share is None else {"value": share, "ci95": [share - 0.1, share + 0.1]},
        "noise_multiplier": None if noise is None else {"north": noise, "river": noise + 0.25},
    }


@pytest.fixture
def private(summary: Summary, claim: Claim) -> Summary:
    """The run of four hospitals, its federated arm private, with a curve and secure sums."""
    site = {
        "epsilon": claim.result.epsilon, "noise_multiplier": 1.0, "sampling_rate": 0.0256, "steps": 1000,
        "expected_units": 30.2, "public_patients": 1180,
    }  # fmt: skip
    summary["privacy"] = {
        "mechanism": "patient-decoupled",
        "statement": "Each hospital added noise for its patients.",
        "unit": claim.unit,
        "neighbours": claim.neighbours,
        "delta": claim.result.delta,
        "epsilon": claim.result.epsilon,
        "sentence": claim.sentence,
        "warnings": list(claim.warnings),
        "assumptions": list(claim.result.assumptions),
        "sites": {"north": site, "river": {**site, "epsilon": 3.001, "noise_multiplier": 1.25}},
        "not_covered": ["The AUROC of this report, computed on held-out patients.", "The number of patients."],
        "secure_sum": {
            "statement": "The coordinator saw sums only.",
            "sites": 4,
            "threshold": 3,
            "colluders": 1,
            "word_bits": 32,
            "rounds": [
                {"round": 1, "lost": {}, "withheld": []},
                {"round": 2, "lost": {"coast": "after masking"}, "withheld": ["xray"]},
            ],
        },
        "curve": [
            _point(None, 0.85),
            _point(1.0, 0.80, 0.5, 3.0),
            _point(0, 0.75),
            _point(5.129, 0.84, 0.9, 1.0),
        ],
    }
    return summary


def _blocks(summary: Summary, folder: Path, kind: type) -> list[Any]:
    section = privacy_section(summary, folder)
    assert section is not None
    return [block for block in section.blocks if isinstance(block, kind)]


def _rows(table: Table) -> list[list[str]]:
    return [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]


def _printed(summary: Summary) -> str:
    screen = io.StringIO()
    print_table(summary, Console(file=screen, width=80, color_system=None))
    return screen.getvalue()


def test_claim_has_unit_delta_change_and_meaning(private: Summary, tmp_path: Path) -> None:
    facts = dict(_blocks(private, tmp_path, Facts)[0].items)
    assert facts["Mechanism"].startswith("patient-decoupled: ")
    assert facts["Protected"] == "each patient of a hospital, with all studies there"
    assert facts["Claim"] == private["privacy"]["sentence"]
    assert "epsilon 5.13 at delta 1e-05" in facts["Claim"]
    assert facts["What is hidden"].endswith("one patient, with all studies, more or less")
    assert "at most 169 times as likely" in facts["In words"]
    assert "right in at most 99.42" in facts["In words"]
    assert "the coordinator" in facts["Against"]
    assert facts["Not covered"] == " ".join(private["privacy"]["not_covered"])


def test_warnings_and_assumptions_all_stand_beside_the_claim(private: Summary, claim: Claim, tmp_path: Path) -> None:
    notes = [words.text for words in _blocks(private, tmp_path, Words) if words.tone == "note"]
    assert claim.warnings
    assert notes == list(claim.warnings)
    assumed = [f"{head}: {rest}" for head, rest in _blocks(private, tmp_path, Facts)[1].items]
    assert assumed == list(claim.result.assumptions)


def test_every_site_has_what_its_epsilon_was_computed_from(private: Summary, tmp_path: Path) -> None:
    table = _blocks(private, tmp_path, Table)[0]
    assert "per patient" in table.caption
    assert _rows(table) == [
        ["north", "5.13", "1", "0.0256", "1,000", "30.2", "1,180"],
        ["river", "3.01", "1.25", "0.0256", "1,000", "30.2", "1,180"],  # never rounded down
    ]


def test_curve_runs_from_public_data_to_no_privacy(private: Summary, tmp_path: Path) -> None:
    table = _blocks(private, tmp_path, Table)[1]
    assert [row[0] for row in _rows(table)] == ["Public data only", "Epsilon 1.00", "Epsilon 5.13", "Without privacy"]
    assert _rows(table)[0][1:] == ["0.750 (0.730 to 0.770)", "–", "–", "–"]
    expected = ["0.840 (0.820 to 0.860)", "+0.090 (+0.060 to +0.120)", "90.0 % (80.0 % to 100.0 %)", "1.000 to 1.250"]
    assert [cell.replace("\u00a0", " ") for cell in _rows(table)[2][1:]] == expected
    assert [isinstance(row[0], Cell) for row in table.rows] == [False, False, True, False]  # the run's own arm
    assert "spent them together" in table.note
    with look():  # text stays text
        figure = curve_figure(private, tmp_path)
    assert figure is not None
    assert (tmp_path / "privacy_curve.png").stat().st_size > 5000
    assert "public data only 0.750 (0.730 to 0.770); epsilon 1.00 0.800" in figure.alt
    assert figure.alt.endswith("without privacy 0.850 (0.830 to 0.870).")
    for tick in ("public data only", ">1<", ">5.13<", "without privacy", "Epsilon per patient"):
        assert tick in figure.svg, tick


def test_a_point_without_auroc_is_in_the_table_only(private: Summary, tmp_path: Path) -> None:
    curve = private["privacy"]["curve"]
    curve[1] |= {"macro_auroc": None, "ci95": None, "gain": None}
    assert _rows(_blocks(private, tmp_path, Table)[1])[1][:3] == ["Epsilon 1.00", "–", "–"]
    figure = curve_figure(private, tmp_path)
    assert figure is not None
    assert "epsilon 1.00" not in figure.alt
    private["privacy"]["curve"] = curve[:1]
    assert curve_figure(private, tmp_path) is None


def test_secure_sums_name_what_was_lost(private: Summary, tmp_path: Path) -> None:
    facts = dict(_blocks(private, tmp_path, Facts)[-1].items)
    assert facts["Secure sums"] == "The coordinator saw sums only."
    assert facts["Sites"] == "4, of which 3 are needed to unmask a sum"
    assert facts["Tolerated"] == "1 site working with the coordinator"
    assert facts["Rounds"] == "2, of which 1 lost a site or a sum"
    private["privacy"]["secure_sum"]["rounds"].append({"round": 3, "lost": {}, "void": True})
    lost = [["2", "coast (after masking)", "xray"], ["3", "–", "all: the round is void"]]
    assert _rows(_blocks(private, tmp_path, Table)[-1]) == lost


def test_a_statement_that_repeats_the_claim_is_not_said_twice(private: Summary, tmp_path: Path) -> None:
    stated = [words.text for words in _blocks(private, tmp_path, Words)]
    assert private["privacy"]["statement"] in stated
    private["privacy"]["statement"] = private["privacy"]["sentence"]
    assert private["privacy"]["sentence"] not in [words.text for words in _blocks(private, tmp_path, Words)]


def test_secure_sums_alone_are_not_called_private(private: Summary, tmp_path: Path) -> None:
    sums = private["privacy"]["secure_sum"]
    private["privacy"] = {"mechanism": "none", "statement": "No noise.", "secure_sum": sums}
    notes = [words.text for words in _blocks(private, tmp_path, Words) if words.tone == "note"]
    assert notes[0].startswith("No differential privacy was used.")
    assert promised(private).answer == "Nothing: it was trained without differential privacy."
    assert "that alone is no differential privacy" in promised(private).evidence
    assert "Secure sums: 4 sites, 3 needed to unmask" in _printed(private)


def test_hospital_level_says_who_is_not_kept_out(private: Summary, tmp_path: Path) -> None:
    private["privacy"] |= {"mechanism": "hospital", "unit": "hospital", "secure_sum": None}
    facts = dict(_blocks(private, tmp_path, Facts)[0].items)
    assert "not the coordinator" in facts["Against"]
    assert "no figure is stated for a single patient" in facts["Protected"]
    assert "whether the updates of one given hospital were used" in facts["In words"]


def test_secure_sums_keep_the_coordinator_out_of_hospital_level_privacy(private: Summary, tmp_path: Path) -> None:
    private["privacy"] |= {"mechanism": "hospital", "unit": "hospital"}
    facts = dict(_blocks(private, tmp_path, Facts)[0].items)
    assert "the coordinator, too, also with the help of 1 hospital" in facts["Against"]


@pytest.mark.parametrize("missing", ["epsilon", "delta", "unit"])
def test_an_incomplete_claim_is_no_claim(private: Summary, tmp_path: Path, missing: str) -> None:
    private["privacy"][missing] = None
    private["privacy"]["curve"] = None
    assert short_claim(private) == "privacy not stated"
    assert promised(private).answer == "The run does not say, so nothing is claimed."
    assert _blocks(private, tmp_path, Words)[0].text == "No epsilon is stated, so none is claimed."
    assert "Claim" not in dict(_blocks(private, tmp_path, Facts)[0].items)
    assert "epsilon" not in _printed(private)


def test_first_screen_says_private_or_not(private: Summary) -> None:
    verdict = promised(private)
    assert verdict.outcome == "stated"
    expected = "Differential privacy for each patient: epsilon 5.13 at delta 0.00001, at the site where it is largest."
    assert verdict.answer == expected
    for compared in (against_everyone(private), against_alone(private)):
        assert "The federated model is private" in compared.evidence
    private["privacy"] = {"mechanism": "none"}
    assert promised(private).answer == "Nothing: it was trained without differential privacy."
    assert "is private" not in against_everyone(private).evidence


@pytest.mark.usefixtures("without_drawing")
def test_page_carries_the_claim_where_readers_look_first(private: Summary, tmp_path: Path, read_page: Read) -> None:
    page = read_page(write_report(tmp_path, private, ReportDetails()))
    first_screen = page.text.partition("Contents")[0]
    assert first_screen.count("epsilon 5.13") == 2  # the answer and the figure of the federated arm
    assert "What does the federated model promise about privacy?" in first_screen
    assert "no study left its site; epsilon 5.13 per patient, delta 0.00001" in page.text
    assert page.unbalanced == []
    assert len(page.identifiers) == len(set(page.identifiers))
    assert page.counts["th."] == 0
    assert all(len(alternative) > 30 for alternative in page.alternatives)
    assert not {"safe", "secure", "anonymous", "guaranteed"} & set(first_screen.lower().split())


@pytest.mark.usefixtures("without_drawing")
def test_hostile_words_in_the_privacy_part_are_escaped(private: Summary, tmp_path: Path, read_page: Read) -> None:
    hostile = "</svg><script>x"
    private["privacy"]["sites"] = {hostile: private["privacy"]["sites"]["north"]}
    private["privacy"]["statement"] = private["privacy"]["neighbours"] = private["privacy"]["unit"] = hostile
    private["privacy"]["secure_sum"]["rounds"] = [{"round": 1, "lost": {hostile: hostile}, "withheld": [hostile]}]
    page = read_page(write_report(tmp_path, private, ReportDetails()))
    assert page.counts["script"] == 0
    assert page.unbalanced == []


def test_terminal_lines(private: Summary) -> None:
    words = " ".join(_printed(private).replace("\u00a0", " ").split())
    assert (
        "Privacy (patient-decoupled): epsilon 5.13 per patient, delta 0.00001; hidden: one patient, with all studies, "
        "more or less" in words
    )
    assert "epsilon 5.13: 0.840 (0.82–0.86), keeps 90.0 % (80.0 % to 100.0 %) of the gain" in words
    assert "public data only: 0.750 (0.73–0.77) epsilon 1.00" in words
    assert max(len(line.rstrip()) for line in _printed(private).splitlines()) <= 80
    private["privacy"] = {"mechanism": "none"}
    assert "Privacy: no differential privacy; what updates reveal about patients is not bounded" in " ".join(
        _printed(private).split()
    )


@pytest.mark.parametrize(
    ("epsilon", "words"), [(0.0, "1"), (1.0, "2.72"), (3.0, "20.1"), (8.0, "2,990"), (5.13, "170")]
)
def test_ratio_is_never_rounded_down(epsilon: float, words: str) -> None:
    assert most_times(epsilon) == words
    assert float(words.replace(",", "")) >= math.exp(epsilon)


@pytest.mark.parametrize(
    ("delta", "words"), [(1e-5, "0.00001"), (0.000233, "0.000233"), (0.00023301, "0.000234"), (1e-10, "0.0000000001")]
)
def test_delta_is_never_rounded_down(delta: float, words: str) -> None:
    assert delta_words(delta) == words


def test_share_of_right_guesses_is_the_bound_of_the_best_test() -> None:
    """The best test between neighbours of an (epsilon, delta) mechanism has both errors (1 - delta) / (1 + e^eps); the
    mechanism that reveals everything with probability delta and else answers by a biased coin reaches it."""
    epsilon, delta = 1.0, 0.1
    coin = (1 - delta) * math.exp(epsilon) / (1 + math.exp(epsilon))
    reached = 100 * (delta + coin)
    shown = float(most_right(epsilon, delta).removesuffix("\u00a0%"))
    assert reached <= shown <= reached + 0.011
    assert most_right(0.0, 0.0) == "50.00\u00a0%"


def test_huge_epsilon_promises_nothing_about_taking_part() -> None:
    words = meaning("patient", 54.38, 1e-5)
    assert "more than 485 million times" in words
    assert "about taking part nothing is promised" in words
    assert "right in at most" not in words
