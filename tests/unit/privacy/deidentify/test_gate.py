"""The gate is closed unless everything could be checked and nothing was found."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from privacy.deidentify.finding import Finding
from privacy.deidentify.gate import Gate, RuleGate, Verdict, study_verdict


def test_a_clean_study_is_released_and_one_finding_withholds_it() -> None:
    gate: Gate = RuleGate()
    header = Dataset()
    header.Modality = "DX"
    assert study_verdict(gate, text="Clear lungs.", dataset=header, pixels=np.ones((9, 9))) == Verdict(True, {})
    header.PatientName = "Doe^Jane"
    found = study_verdict(gate, text="Mr. Smith told Mr. Jones", dataset=header)
    assert found == Verdict(False, {"name": 3})


def test_accepted_keywords_reach_the_header_check() -> None:
    header = Dataset()
    header.PatientID = "77"
    assert study_verdict(RuleGate(frozenset({"PatientID"})), dataset=header).released
    assert not study_verdict(RuleGate(), dataset=header).released


def test_a_check_that_fails_withholds_the_study() -> None:
    class Broken(RuleGate):
        def check_pixels(self, pixels: Any) -> list[Finding]:
            raise RuntimeError("a bug")

    assert study_verdict(Broken(), text="Clear.", pixels=np.ones((9, 9))) == Verdict(False, {"unreadable": 1})


def test_a_study_without_parts_is_withheld() -> None:
    assert study_verdict(RuleGate()) == Verdict(False, {"unreadable": 1})
