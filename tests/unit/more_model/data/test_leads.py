"""Lead names: what is certain, and what must not be guessed."""

from __future__ import annotations

import pytest

from more_model.data.leads import DERIVED_LEADS, INDEPENDENT_LEADS, STANDARD_LEADS, canonical_lead


@pytest.mark.parametrize("lead", STANDARD_LEADS)
@pytest.mark.parametrize("spelling", ["{}", " {} ", "Lead {}", "ECG {}", "ecg lead {}", "MDC_ECG_LEAD_{}", "{}-REF"])
def test_case_and_decoration_do_not_matter(lead: str, spelling: str) -> None:
    for cased in (lead, lead.upper(), lead.lower()):
        assert canonical_lead(spelling.format(cased)) == lead


@pytest.mark.parametrize(("name", "lead"), [("Lead I (Einthoven)", "I"), ("DII", "II"), ("EKG V3", "V3")])
def test_spellings_of_devices(name: str, lead: str) -> None:
    assert canonical_lead(name) == lead


@pytest.mark.parametrize(
    "name", ["MLII", "-aVR", "V", "ECG 1", "ECG", "1", "vx", "V7", "V1-V2", "IV", "", "Lead", "PLETH", "I II", "aV"]
)
def test_uncertain_names_are_not_guessed(name: str) -> None:
    assert canonical_lead(name) is None


def test_the_twelve_are_eight_recorded_and_four_computed() -> None:
    assert set(INDEPENDENT_LEADS) | set(DERIVED_LEADS) == set(STANDARD_LEADS)
    assert not set(INDEPENDENT_LEADS) & set(DERIVED_LEADS)


def test_einthoven_and_goldberger_sums_are_zero() -> None:
    """III + I = II and aVR + aVL + aVF = 0, whatever I and II are."""
    lead_i, lead_ii = 0.7, -0.2
    value = {name: a * lead_i + b * lead_ii for name, (a, b) in DERIVED_LEADS.items()}
    assert value["III"] + lead_i == pytest.approx(lead_ii)
    assert value["aVR"] + value["aVL"] + value["aVF"] == pytest.approx(0.0)
    assert value["aVR"] == pytest.approx(-(lead_i + lead_ii) / 2)
