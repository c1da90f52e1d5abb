"""Files are read as at ingest, in a process that may fail alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more_model.assess.corrections import correction_in_words
from more_model.assess.read_part import Bounds, bounded_reader
from more_model.data.convert import Converted, convert
from more_model.data.preprocessing import Preprocessing
from more_model.data.study import Modality, Study
from more_model.errors import InputRefused

READERS = (
    "xray", "dicom_pixels", "ecg", "ecg_channels", "dicom_waveform", "wfdb_record", "report_text", "convert",
)  # fmt: skip


def test_it_reads_what_ingest_reads_and_goes_on_after_a_refusal(patient: Any, tmp_path: Path) -> None:
    chosen = Preprocessing(image_size=32, ecg_rate_hz=50)
    (tmp_path / "long.txt").write_text("The lungs are clear. " * 40_000, encoding="utf-8")
    with bounded_reader(chosen, Bounds()) as read:
        with pytest.raises(InputRefused, match="neither DICOM"):
            read(patient.report, Modality.XRAY, None)
        with pytest.raises(InputRefused) as refused:
            read(tmp_path / "none", Modality.ECG, None)
        assert str(tmp_path) not in str(refused.value)
        for path, modality in ((patient.xray, Modality.XRAY), (patient.ecg, Modality.ECG)):
            expected = convert(Study(modality, "", "", "", source=path), chosen)
            found = read(path, modality, None)
            assert isinstance(expected, Converted) and expected.array is not None and found.array is not None
            np.testing.assert_array_equal(found.array, expected.array)
            assert (found.array.dtype, found.corrections) == (expected.array.dtype, expected.corrections)
        # Longer than what the reader's process may answer at once.
        assert len(read(tmp_path / "long.txt", Modality.REPORT, Modality.XRAY).text or "") > 500_000


def test_memory_is_bounded(patient: Any) -> None:
    with (
        bounded_reader(Preprocessing(), Bounds(max_memory_bytes=2**26)) as read,
        pytest.raises(InputRefused) as refused,
    ):
        read(patient.xray, Modality.XRAY, None)
    assert refused.value.reason in {"reader-crashed", "out-of-memory"}


def test_every_correction_of_the_readers_has_words(checkout: Path) -> None:
    """The codes are found in the readers' own source, so that a new one is not forgotten here."""
    code = re.compile(
        r'(?:append|extend)\(\s*f?"([a-z0-9-]+)[:"]|\[f?"([a-z0-9]+(?:-[a-z0-9]+)+)[:"]|, \("([a-z0-9-]+)",?\)'
    )
    found = {
        name
        for path in (checkout / "more_model" / "data" / f"{reader}.py" for reader in READERS)
        for match in code.finditer(path.read_text(encoding="utf-8"))
        for name in match.groups()
        if name and "-" in name
    }
    assert {"monochrome1-inverted", "flat-lead", "nan-interpolated", "unit-converted", "voi-window"} <= found
    assert [name for name in sorted(found) if correction_in_words(name).startswith("Corrected by")] == []
    assert correction_in_words("flat-lead:V3") == "Lead V3 is flat or empty and was set to zero."
    assert correction_in_words("derived:III,aVR") == (
        "The leads III, aVR were not recorded; they were computed from I and II."
    )
    assert correction_in_words("new-code:x") == "Corrected by the reader: new-code:x."
