"""Twelve leads by name, one rate, millivolts: what standardising keeps, repairs and refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from more_model.data.ecg import EcgRecord, StandardEcg, standardise_ecg
from more_model.data.leads import INDEPENDENT_LEADS, STANDARD_LEADS
from more_model.errors import InputRefused

Beating = Callable[..., npt.NDArray[np.float64]]


def record_of(signal_mv: npt.NDArray[Any], leads: tuple[str, ...] = STANDARD_LEADS, fs_hz: float = 500.0) -> EcgRecord:
    return EcgRecord(signal_mv.astype(np.float32), fs_hz, leads, (), {})


def standard(record: EcgRecord, **changes: Any) -> StandardEcg:
    chosen: dict[str, Any] = {"rate_hz": 100, "seconds": 10, "scaling": "millivolt"}
    return standardise_ecg(record, **(chosen | changes))


def refusal_of(record: EcgRecord) -> InputRefused:
    with pytest.raises(InputRefused) as refused:
        standard(record)
    return refused.value


def test_leads_are_ordered_by_name(beating_mv: Beating) -> None:
    """MIMIC-IV-ECG writes aVR, aVF, aVL."""
    signal = beating_mv()
    order = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
    mimic = record_of(signal[:, order], tuple(STANDARD_LEADS[index] for index in order))
    np.testing.assert_array_equal(standard(mimic).signal, standard(record_of(signal)).signal)


@pytest.mark.parametrize("fs_hz", [100.0, 128.0, 249.89, 250.0, 257.0, 360.0, 500.0, 1000.0])
def test_any_rate_gives_the_same_waves_at_the_same_time(fs_hz: float) -> None:
    """Slow sines are reproduced in amplitude and phase; the edges are less exact, as the filter has no past there."""

    def waves(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.stack([np.sin(2 * np.pi * (2 + lead) * at + lead) for lead in range(12)], axis=1)

    recorded = waves(np.arange(round(10 * fs_hz)) / fs_hz)
    result = standard(record_of(recorded, fs_hz=fs_hz)).signal
    assert result.shape == (12, 1000) and result.dtype == np.float32
    expected = waves(np.arange(1000) / 100.0).T
    error = np.abs(result - np.median(result, axis=1, keepdims=True) - expected + np.median(expected, 1, keepdims=True))
    assert error[:, 30:-30].max() < 0.03


def test_frequencies_above_the_new_band_do_not_fold_back(beating_mv: Beating) -> None:
    t = np.arange(5000) / 500.0
    hum = beating_mv() + 0.5 * np.sin(2 * np.pi * 130.0 * t)[:, None]
    difference = standard(record_of(hum)).signal - standard(record_of(beating_mv())).signal
    assert np.abs(difference[:, 20:-20]).max() < 0.02


def test_amplitude_is_kept_and_only_the_offset_is_removed(beating_mv: Beating) -> None:
    shifted = beating_mv(fs_hz=100) + np.linspace(-3, 3, 12)
    result = standard(record_of(shifted, fs_hz=100.0)).signal
    np.testing.assert_allclose(np.median(result, axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.ptp(result, axis=1), np.ptp(shifted, axis=0), rtol=1e-5)


def test_minmax_destroys_the_amplitude(beating_mv: Beating) -> None:
    small, large = (standard(record_of(factor * beating_mv()), scaling="minmax").signal for factor in (0.5, 2.0))
    assert small.min() == -1.0 and small.max() == 1.0
    np.testing.assert_allclose(small, large, atol=1e-5)


def test_absent_limb_leads_are_computed(beating_mv: Beating) -> None:
    signal = beating_mv()
    chosen = [STANDARD_LEADS.index(name) for name in INDEPENDENT_LEADS]
    eight = standard(record_of(signal[:, chosen], INDEPENDENT_LEADS))
    assert eight.corrections == ("derived:III,aVR,aVL,aVF",)
    np.testing.assert_allclose(eight.signal, standard(record_of(signal)).signal, atol=1e-5)


@pytest.mark.parametrize("absent", ["I", "II", "V1", "V6"])
def test_a_lead_that_cannot_be_computed_is_refused_by_name(beating_mv: Beating, absent: str) -> None:
    kept = tuple(name for name in STANDARD_LEADS if name != absent)
    refused = refusal_of(record_of(beating_mv()[:, [STANDARD_LEADS.index(name) for name in kept]], kept))
    assert refused.reason == "missing-leads" and f"no lead {absent};" in refused.cause


def test_eight_leads_without_the_right_ones_are_refused(beating_mv: Beating) -> None:
    eight = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2")
    refused = refusal_of(record_of(beating_mv()[:, :8], eight))
    assert refused.reason == "missing-leads" and "V3, V4, V5, V6;" in refused.cause


def test_computing_from_a_flat_lead_is_refused(beating_mv: Beating) -> None:
    signal = beating_mv()
    signal[:, 0] = 0.0
    chosen = [STANDARD_LEADS.index(name) for name in INDEPENDENT_LEADS]
    assert refusal_of(record_of(signal[:, chosen], INDEPENDENT_LEADS)).reason == "missing-leads"


def test_long_records_are_cropped_to_their_start(beating_mv: Beating) -> None:
    result = standard(record_of(beating_mv(seconds=30)))
    assert result.corrections == ("cropped",)
    np.testing.assert_allclose(result.signal[:, 10:-10], standard(record_of(beating_mv())).signal[:, 10:-10], atol=0.02)


def test_short_records_are_padded_or_refused(beating_mv: Beating) -> None:
    result = standard(record_of(beating_mv(seconds=6)))
    assert result.corrections == ("zero-padded",)
    assert not result.signal[:, 600:].any() and result.signal[:, :600].any(axis=1).all()
    refused = refusal_of(record_of(beating_mv(seconds=4.9)))
    assert refused.reason == "too-short" and "4.9 s" in refused.cause


def test_gaps_are_interpolated_and_counted(beating_mv: Beating) -> None:
    signal = beating_mv(fs_hz=100)
    ramp = np.linspace(0.0, 1.0, 1000)
    signal[:, 7] = ramp
    signal[200:300, 7] = np.nan
    result = standard(record_of(signal, fs_hz=100.0))
    assert result.nan_samples == 100 and result.corrections == ("nan-interpolated:100",)
    assert np.isfinite(result.signal).all()
    np.testing.assert_allclose(result.signal[7], ramp - np.median(ramp), atol=1e-5)


def test_too_many_gaps_are_refused(beating_mv: Beating) -> None:
    signal = beating_mv()
    signal[:1000, 4] = np.nan
    refused = refusal_of(record_of(signal))
    assert refused.reason == "too-many-gaps" and "aVL" in refused.cause


def test_up_to_two_flat_leads_become_zero(beating_mv: Beating) -> None:
    signal = beating_mv()
    signal[:, 8], signal[:, 11] = 1.5, np.nan
    result = standard(record_of(signal))
    assert result.corrections == ("flat-lead:V3", "flat-lead:V6")
    assert not result.signal[[8, 11]].any() and result.signal[0].any()
    signal[:, 9] = -0.5
    refused = refusal_of(record_of(signal))
    assert refused.reason == "too-many-flat-leads" and "V3, V4, V6" in refused.cause


@pytest.mark.parametrize("value", [0.0, 2.5, np.nan])
def test_a_record_without_any_signal_is_refused(value: float) -> None:
    assert refusal_of(record_of(np.full((5000, 12), value))).reason == "no-signal"


@pytest.mark.parametrize("factor", [0.005, 30.0])
def test_an_implausible_amplitude_is_refused_not_rescaled(beating_mv: Beating, factor: float) -> None:
    refused = refusal_of(record_of(factor * beating_mv()))
    assert refused.reason == "implausible-amplitude" and "gain" in refused.cause


def test_a_rate_too_low_for_an_ecg_is_refused(beating_mv: Beating) -> None:
    assert refusal_of(record_of(beating_mv(fs_hz=40), fs_hz=40.0)).reason == "bad-sampling-rate"
    assert refusal_of(record_of(beating_mv(), fs_hz=float("nan"))).reason == "bad-sampling-rate"


@pytest.mark.shared_data
def test_two_published_rates_of_one_ecg_agree(shared_data: Path) -> None:
    """PTB-XL publishes every record at 100 and at 500 Hz, resampled by its authors with another filter."""
    from more_model.data.ecg import read_ecg

    slow = standard(read_ecg(shared_data / "ecg/ptbxl/records100/00000/00007_lr")).signal
    fast = standard(read_ecg(shared_data / "ecg/ptbxl/records500/00000/00007_hr")).signal
    for lead in range(12):
        assert np.corrcoef(slow[lead, 20:-20], fast[lead, 20:-20])[0, 1] > 0.97
    np.testing.assert_allclose(np.ptp(slow, axis=1), np.ptp(fast, axis=1), rtol=0.15)
