"""Who becomes a patient of which virtual hospital."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from more_model.data.study import Modality, Study
from more_model.errors import DataError
from simulation.partition import Partition, partitioned


def studies(count: int, **attributes: Sequence[str]) -> list[Study]:
    """An X-ray, an ECG and a report about each, of ``count`` patients; attribute values are dealt out in turn."""
    made = []
    for number in range(count):
        facts = {name: values[number % len(values)] for name, values in attributes.items() if name != "site"}
        common: dict[str, Any] = {
            "patient_id": f"p{number:04d}",
            "site": attributes["site"][number % len(attributes["site"])] if "site" in attributes else "",
            "labels": {"Edema": float(number % 4 == 0)},
            "attributes": facts,
        }
        for modality in (Modality.XRAY, Modality.ECG):
            group = f"{modality.value}{number}"
            made.append(Study(modality, group, group_id=group, **common))
            made.append(Study(Modality.REPORT, f"r-{group}", group_id=group, describes=modality, **common))
    return made


def patients(sites: dict[str, list[Study]]) -> dict[str, set[str]]:
    return {site: {study.patient_id for study in own} for site, own in sites.items()}


DRAWN = [
    {"kind": "iid", "sites": 4},
    {"kind": "quantity", "sites": 4, "ratio": 0.5},
    {"kind": "dirichlet", "sites": 4, "label": "Edema", "alpha": 1.0},
]
BY_ATTRIBUTE = [
    {"kind": "natural", "column": "hospital"},
    {"kind": "natural"},
    {"kind": "scanner"},
    {"kind": "view"},
    {"kind": "device"},
]


@pytest.fixture
def cohort() -> list[Study]:
    return studies(
        120,
        hospital=("north", "south", "west"),
        site=("a", "b", "c"),
        scanner=("Acme", "Bolt"),
        view=("PA", "AP"),
        device=("cart-1", "cart-2", "cart-3"),
    )


@pytest.mark.parametrize("settings", [*DRAWN, *BY_ATTRIBUTE])
def test_every_patient_is_at_one_site_with_all_studies(cohort: list[Study], settings: dict[str, Any]) -> None:
    sites = partitioned(cohort, Partition.model_validate(settings), seed=1)
    assert list(sites) == sorted(sites)
    everybody = [patient for own in patients(sites).values() for patient in own]
    assert sorted(everybody) == sorted({study.patient_id for study in cohort})
    assert sum(len(own) for own in sites.values()) == len(cohort)
    assert all(study.site == site for site, own in sites.items() for study in own)


@pytest.mark.parametrize("settings", DRAWN)
def test_a_draw_depends_on_the_seed_and_on_nothing_else(cohort: list[Study], settings: dict[str, Any]) -> None:
    partition = Partition.model_validate(settings)
    first = patients(partitioned(cohort, partition, seed=1))
    assert patients(partitioned(list(reversed(cohort)), partition, seed=1)) == first
    assert patients(partitioned(cohort, partition, seed=2)) != first


def test_iid_sites_are_of_equal_size(cohort: list[Study]) -> None:
    sites = partitioned(cohort, Partition(kind="iid", sites=4), seed=1)
    assert {site: len(own) for site, own in patients(sites).items()} == {f"site-{n}": 30 for n in (1, 2, 3, 4)}


def test_quantity_sites_fall_geometrically(cohort: list[Study]) -> None:
    sites = partitioned(cohort, Partition(kind="quantity", sites=4, ratio=0.5), seed=1)
    # 120 patients in shares 8 : 4 : 2 : 1.
    assert [len(patients(sites)[f"site-{n}"]) for n in (1, 2, 3, 4)] == [64, 32, 16, 8]


def shares_of_label(sites: dict[str, list[Study]]) -> list[float]:
    found = []
    for own in sites.values():
        positive = {study.patient_id for study in own if study.labels["Edema"] == 1.0}
        found.append(len(positive) / len({study.patient_id for study in own}))
    return found


def test_a_small_alpha_skews_the_label_and_a_large_one_does_not() -> None:
    cohort = studies(400)
    skewed = partitioned(cohort, Partition(kind="dirichlet", sites=3, label="Edema", alpha=0.3), seed=3)
    even = partitioned(cohort, Partition(kind="dirichlet", sites=3, label="Edema", alpha=1000), seed=3)
    assert max(shares_of_label(skewed)) - min(shares_of_label(skewed)) > 0.3
    assert max(shares_of_label(even)) - min(shares_of_label(even)) < 0.05


def test_an_attribute_names_the_sites(cohort: list[Study]) -> None:
    assert set(partitioned(cohort, Partition(kind="natural", column="hospital"), seed=1)) == {"north", "south", "west"}
    assert set(partitioned(cohort, Partition(kind="natural"), seed=1)) == {"a", "b", "c"}
    assert set(partitioned(cohort, Partition(kind="scanner"), seed=1)) == {"Acme", "Bolt"}


def of(patient: str, number: int, scanner: str, site: str = "") -> Study:
    attributes = {"scanner": scanner} if scanner else {}
    return Study(Modality.XRAY, f"{patient}-{number}", patient, f"{patient}-{number}", site=site, attributes=attributes)


def test_a_patient_goes_where_most_studies_are_from_ties_alphabetically_and_without_the_attribute_nowhere() -> None:
    cohort = [
        *(of("most", number, scanner) for number, scanner in enumerate(["Bolt", "Acme", "Bolt"])),
        *(of("tie", number, scanner) for number, scanner in enumerate(["Bolt", "Acme"])),
        of("none", 0, ""),
        *(of(f"filler-{scanner}", 0, scanner) for scanner in ("Acme", "Bolt")),
    ]
    sites = patients(partitioned(cohort, Partition(kind="scanner"), seed=1))
    assert sites == {"Acme": {"tie", "filler-Acme"}, "Bolt": {"most", "filler-Bolt"}}


def test_a_patient_whom_the_source_puts_at_two_sites_is_refused_with_counts_not_ids() -> None:
    cohort = [*studies(8, site=("a", "b")), of("torn-4711", 0, "", site="a"), of("torn-4711", 1, "", site="b")]
    with pytest.raises(DataError, match=r"1 patients appear at more than one site \(sites concerned: a, b\)") as caught:
        partitioned(cohort, Partition(kind="natural"), seed=1)
    assert caught.value.exit_code == 4
    assert "4711" not in str(caught.value)


def test_a_site_goes_without_what_it_is_said_to_miss(cohort: list[Study]) -> None:
    missing = {"site-1": (Modality.XRAY,), "site-2": (Modality.ECG,), "site-3": (Modality.REPORT,)}
    sites = partitioned(cohort, Partition(kind="iid", sites=4, missing=missing), seed=1)
    kinds = {site: {(study.modality.value, study.describes) for study in own} for site, own in sites.items()}
    assert kinds["site-1"] == {("ecg", None), ("report", Modality.ECG)}
    assert kinds["site-2"] == {("xray", None), ("report", Modality.XRAY)}
    assert kinds["site-3"] == {("xray", None), ("ecg", None)}
    assert len(kinds["site-4"]) == 4
    whole = partitioned(cohort, Partition(kind="iid", sites=4), seed=1)
    assert patients(sites) == patients(whole)


def test_an_unknown_site_in_missing_is_refused(cohort: list[Study]) -> None:
    partition = Partition(kind="iid", sites=2, missing={"site-9": (Modality.XRAY,)})
    with pytest.raises(
        DataError, match=r"names sites that do not exist: \['site-9'\]; there are \['site-1', 'site-2'\]"
    ):
        partitioned(cohort, partition, seed=1)


def test_sites_that_are_too_small_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"fewer than 5 patients: \{'site-2': 4, 'site-3': 2, 'site-4': 1\}"):
        partitioned(studies(15), Partition(kind="quantity", sites=4, ratio=0.5, minimum_patients=5), seed=1)


def test_a_drawn_site_without_any_patient_is_refused_and_not_left_out() -> None:
    with pytest.raises(DataError, match=r"fewer than 2 patients: \{.*'site-4': 0"):
        partitioned(studies(9), Partition(kind="quantity", sites=4, ratio=0.1), seed=1)


def test_a_site_that_would_lose_its_patients_with_a_modality_is_too_small() -> None:
    ecg_only = [study for study in studies(4) if Modality.ECG in (study.modality, study.describes)]
    partition = Partition(kind="iid", sites=1, missing={"site-1": (Modality.ECG,)})
    with pytest.raises(DataError, match=r"fewer than 2 patients: \{'site-1': 0\}"):
        partitioned(ecg_only, partition, seed=1)


def test_an_attribute_that_nobody_has_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no study has the attribute 'ward'[\s\S]*known attributes: age, sex"):
        partitioned(studies(4, sex="FM", age="12"), Partition(kind="natural", column="ward"), seed=1)
    with pytest.raises(DataError, match=r"no study has the site column to partition by; known attributes: none"):
        partitioned(studies(4), Partition(kind="natural"), seed=1)


def test_a_label_that_nobody_has_is_refused() -> None:
    with pytest.raises(DataError, match="no patient has the label 'Fracture'"):
        partitioned(studies(8), Partition(kind="dirichlet", sites=2, label="Fracture"), seed=1)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kind": "dirichlet"}, "needs the label"),
        ({"kind": "iid", "column": "hospital"}, "column belongs to kind = 'natural'"),
        ({"kind": "iid", "sites": 0}, "greater than or equal to 1"),
        ({"kind": "by-moon"}, "natural"),
        ({"missing": {"site-1": ["blood"]}}, "xray"),
        ({"surplus": 1}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Partition.model_validate(settings)


def test_names_that_also_name_folders_are_made_safe() -> None:
    studies = [
        Study(Modality.XRAY, f"x{number}", f"p{number}", f"g{number}", attributes={"scanner": scanner})
        for number, scanner in enumerate(["GE/Optima", "GE/Optima", "../up", "../up"])
    ]
    assert sorted(partitioned(studies, Partition(kind="scanner"), seed=1)) == ["GE-Optima", "up"]


def test_two_names_that_become_one_are_refused() -> None:
    studies = [
        Study(Modality.XRAY, f"x{number}", f"p{number}", f"g{number}", attributes={"scanner": scanner})
        for number, scanner in enumerate(["GE/1", "GE/1", "GE:1", "GE:1"])
    ]
    with pytest.raises(DataError, match="both be called the same"):
        partitioned(studies, Partition(kind="scanner"), seed=1)
