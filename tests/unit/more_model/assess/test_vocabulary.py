"""What a report is about, and whether it is written in words that training knew."""

from __future__ import annotations

import pytest

from more_model.assess.vocabulary import kind_of_report, known_share, require_known, vocabulary, words_in
from more_model.data.study import Modality
from more_model.errors import InputRefused

KNOWN = {
    Modality.XRAY: vocabulary(["The lungs are clear. No effusion.", "Normal heart."]),
    Modality.ECG: vocabulary(["Sinus rhythm. Normal ECG."]),
}


def test_words_are_letters_whatever_their_case() -> None:
    assert words_in("Größe 12 mm, ST-T; a T3 x") == ["größe", "mm", "st"]
    assert known_share("LUNGS clear and 5", KNOWN[Modality.XRAY]) == pytest.approx(2 / 3)
    assert known_share("5 %", KNOWN[Modality.XRAY]) == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lungs clear", Modality.XRAY),
        ("normal sinus", Modality.ECG),
        # Nothing is known of it: it is refused later, and not for being unclear.
        ("sinusrhythmus", Modality.XRAY),
    ],
)
def test_the_kind_of_a_report_is_where_its_words_are_known(text: str, expected: Modality) -> None:
    assert kind_of_report({Modality.XRAY: text, Modality.ECG: text}, KNOWN) is expected


def test_words_that_both_kinds_know() -> None:
    with pytest.raises(InputRefused, match="could be about an X-ray or about an ECG") as refused:
        kind_of_report({Modality.XRAY: "normal", Modality.ECG: "normal"}, KNOWN)
    assert refused.value.reason == "report-about-unclear"
    assert kind_of_report({Modality.ECG: "normal"}, KNOWN) is Modality.ECG


def test_half_of_the_words_have_to_be_known() -> None:
    assert require_known("lungs unklar", KNOWN[Modality.XRAY]) == 0.5
    with pytest.raises(InputRefused, match="Only 33% of the report's words") as refused:
        require_known("lungs sind frei", KNOWN[Modality.XRAY])
    assert refused.value.reason == "unknown-words"
