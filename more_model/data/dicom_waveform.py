"""Reading an ECG stored as a DICOM waveform (PS3.3 C.10.9)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from more_model.data.dicom_file import guarded_pydicom, numbers_of, open_dicom
from more_model.data.ecg_channels import MAX_READ_SECONDS, Channel
from more_model.data.gate import StudyGate, pass_gate
from more_model.data.leads import canonical_lead
from more_model.data.packages import load_package
from more_model.errors import InputRefused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Lead numbers of SCP-ECG and ISO/IEEE 11073 (MDC): the last part of "5.6.3-9-61" and of "2:61".
_LEAD_NUMBERS: Final = {
    "1": "I", "2": "II", "61": "III", "62": "aVR", "63": "aVL", "64": "aVF",
    "3": "V1", "4": "V2", "5": "V3", "6": "V4", "7": "V5", "8": "V6",
}  # fmt: skip
_SCHEMES: Final = {"SCPECG": "5.6.3-9-", "MDC": "2:"}
_PADDING_DTYPES: Final = {(8, "SB"): "<i1", (8, "UB"): "<u1", (16, "SS"): "<i2", (16, "US"): "<u2", (32, "SL"): "<i4"}


def read_dicom_waveform(
    path: Path, *, gate: StudyGate | None = None
) -> tuple[list[Channel], float, list[str], dict[str, str]]:
    """Channels, rate in Hz, corrections and facts of the multiplex group with the most standard leads, then samples.

    Other groups (a median beat, for instance) are left out. Raises `InputRefused`: no-waveform, bad-header,
    truncated-signal, damaged-signal, unknown-units, besides those of `open_dicom` and of ``gate``.
    """
    with guarded_pydicom():
        dataset = open_dicom(path)
        groups = list(dataset.get("WaveformSequence") or [])
        if not groups:
            raise InputRefused("no-waveform", "The DICOM file holds no waveform.")
        index = max(range(len(groups)), key=lambda number: _worth(groups[number]))
        group = groups[index]
        rate = numbers_of(group, "SamplingFrequency")
        if not rate or not 0.0 < rate[0] < 1e6:
            raise InputRefused("bad-header", "The waveform states no usable sampling frequency.")
        channels = _channels(dataset, index, rate[0])
        facts = {"format": "DICOM waveform", "n_channels": str(len(channels)), "stored_rate_hz": f"{rate[0]:g}"}
        pass_gate(gate, dataset=dataset)
    corrections = [f"waveform-groups-skipped:{len(groups) - 1}"] if len(groups) > 1 else []
    return channels, rate[0], corrections, facts


def _worth(group: Dataset) -> tuple[int, float]:
    definitions = group.get("ChannelDefinitionSequence") or []
    standard = sum(canonical_lead(_channel_name(item)) is not None for item in definitions)
    return standard, (numbers_of(group, "NumberOfWaveformSamples") or (0.0,))[0]


def _channel_name(definition: Dataset) -> str:
    sources = definition.get("ChannelSourceSequence") or []
    if sources:
        code, scheme = str(sources[0].get("CodeValue") or ""), str(sources[0].get("CodingSchemeDesignator") or "")
        prefix = _SCHEMES.get(scheme)
        if prefix and code.startswith(prefix) and code.removeprefix(prefix) in _LEAD_NUMBERS:
            return _LEAD_NUMBERS[code.removeprefix(prefix)]
        return str(sources[0].get("CodeMeaning") or code)
    return str(definition.get("ChannelLabel") or "")


def _channels(dataset: Dataset, index: int, rate_hz: float) -> list[Channel]:
    group = dataset.WaveformSequence[index]
    definitions = list(group.get("ChannelDefinitionSequence") or [])
    counts = [numbers_of(group, f"NumberOfWaveform{what}") for what in ("Samples", "Channels")]
    bits = numbers_of(group, "WaveformBitsAllocated")
    if not all(counts) or not bits or len(definitions) != int(counts[1][0]):
        raise InputRefused("bad-header", "The waveform header does not describe its samples and channels completely.")
    if len(group.get("WaveformData") or b"") < counts[0][0] * counts[1][0] * bits[0] / 8:
        raise InputRefused("truncated-signal", "There are fewer samples than the header announces.")
    reader = load_package("pydicom.waveforms", "read DICOM waveforms")
    try:
        physical = np.asarray(reader.multiplex_array(dataset, index, as_raw=False), dtype=np.float64)
        stored = np.asarray(reader.multiplex_array(dataset, index, as_raw=True))
    except Exception as error:  # a damaged group raises KeyError, ValueError, TypeError and AttributeError
        raise InputRefused("damaged-signal", "The waveform cannot be decoded.") from error
    padding = _padding_value(group, int(bits[0]))
    if padding is not None:
        physical[stored == padding] = np.nan
    kept = slice(0, int(np.ceil(MAX_READ_SECONDS * rate_hz)))
    return [
        Channel(_channel_name(definition), _unit(definition), physical[kept, number])
        for number, definition in enumerate(definitions)
    ]


def _unit(definition: Dataset) -> str:
    """The unit code; without sensitivity and unit the samples are numbers without meaning."""
    units = definition.get("ChannelSensitivityUnitsSequence") or []
    if not units or not numbers_of(definition, "ChannelSensitivity"):
        raise InputRefused("unknown-units", "A channel states no sensitivity, so its volts are unknown.")
    return str(units[0].get("CodeValue") or "")


def _padding_value(group: Dataset, bits: int) -> Any:
    raw = group.get("WaveformPaddingValue")
    dtype = _PADDING_DTYPES.get((bits, str(group.get("WaveformSampleInterpretation"))))
    if not isinstance(raw, bytes) or dtype is None or len(raw) < bits // 8:
        return raw if isinstance(raw, int) else None
    return np.frombuffer(raw[: bits // 8], dtype=dtype)[0]
