"""Which words of a report are trained on."""

from __future__ import annotations

import pytest

from more_model.data.report_text import ecg_text, training_text
from more_model.errors import InputRefused

FULL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with cough  // ?pneumonia

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  Chest radiograph ___

 FINDINGS:

 The lungs are clear.  There is no
 pleural effusion.

 IMPRESSION:

 No acute cardiopulmonary process.
"""


def test_findings_and_impression_in_one_line() -> None:
    report = training_text(FULL)
    assert report.text == "The lungs are clear. There is no pleural effusion. No acute cardiopulmonary process."
    assert report.origin == "findings+impression"
    assert report.corrections == ()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_do_not_matter(ending: str) -> None:
    assert training_text(FULL.replace("\n", ending)) == training_text(FULL)


def test_the_last_impression_wins_and_the_addendum_is_skipped() -> None:
    raw = f" ADDENDUM\n\n IMPRESSION: Later words.\n{'_' * 78}\n{FULL}\n IMPRESSION: Corrected: small effusion.\n"
    report = training_text(raw)
    assert report.text.endswith("no pleural effusion. Corrected: small effusion.")
    assert "Later words" not in report.text and "No acute" not in report.text
    assert report.corrections == ("addendum-skipped",)


def test_a_redacted_line_is_not_an_addendum_line() -> None:
    report = training_text(" FINDINGS: Seen by\n ___\n at noon.\n")
    assert report.text == "Seen by ___ at noon."
    assert report.corrections == ()


def test_runs_of_underscores_become_one_token() -> None:
    assert training_text("IMPRESSION: As of _____ no change since __.").text == "As of ___ no change since ___."


@pytest.mark.parametrize(
    ("raw", "origin", "text"),
    [
        (" FINDINGS: Clear lungs.\n\n IMPRESSION:\n\n", "findings", "Clear lungs."),
        (" INDICATION: cough\n\n CONCLUSION: Clear.\n", "impression", "Clear."),
        (" FINDINGS AND IMPRESSION: Clear lungs.\n", "findings+impression", "Clear lungs."),
        (" FINDINGS/IMPRESSION: Clear.\n\n RECOMMENDATION: None.\n", "findings+impression", "Clear."),
        ("Findings: A.\nImpression: B.", "findings+impression", "A. B."),
        ("EXAM: CHEST. FINDINGS: A. IMPRESSION: B.", "findings+impression", "A. B."),
        ("INDICATION: x\n\n COMPARISON: None.\n\n First.\n\n Lungs are clear.\n", "last-paragraph", "Lungs are clear."),
        (" FINAL REPORT\n\n Clear lungs.\n\n NOTIFICATION: told at ___.\n", "last-paragraph", "Clear lungs."),
        (" INDICATION: x\n\n PA AND LATERAL VIEWS:  Clear lungs.\n", "last-paragraph", "Clear lungs."),
    ],
)
def test_fallbacks(raw: str, origin: str, text: str) -> None:
    report = training_text(raw)
    assert (report.origin, report.text) == (origin, text)


@pytest.mark.parametrize(
    "raw",
    [
        "sinusrhythmus. linkstyp.  qrs(t) abnorm",
        "BEFUND: Kein Infiltrat.\nBEURTEILUNG: Normal.",
        "Chest 2 views normal",
    ],
)
def test_text_without_known_headers_passes_whole(raw: str) -> None:
    report = training_text(raw)
    assert (report.origin, report.text) == ("whole", " ".join(raw.split()))


@pytest.mark.parametrize("raw", ["", " \n\t\n", "___", "_" * 78, "INDICATION: cough\nTECHNIQUE: PA", " FINAL REPORT\n"])
def test_nothing_to_train_on_is_refused(raw: str) -> None:
    with pytest.raises(InputRefused, match="no text that describes a finding") as refused:
        training_text(raw)
    assert refused.value.reason == "empty-report"


def test_ecg_statements_are_joined_without_the_blank_ones() -> None:
    assert ecg_text(["Sinus rhythm", "", " Left axis\n deviation. ", "   "]) == "Sinus rhythm. Left axis deviation."
    assert ecg_text(["", " "]) == ""
