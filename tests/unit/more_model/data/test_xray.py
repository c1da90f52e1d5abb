"""Pixel semantics of X-ray images: 0 is air, 1 is dense, whatever the file says about its numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from more_model.data.xray import read_xray, to_square
from more_model.errors import InputRefused

Write = Callable[..., Path]

RLE = "1.2.840.10008.1.2.5"
RAMP = np.tile(np.arange(64, dtype=np.uint16) * 64, (48, 1))


def refusal_of(path: Path, **options: Any) -> str:
    with pytest.raises(InputRefused) as refused:
        read_xray(path, **options)
    assert "Secret" not in str(refused.value) and "SECRET" not in str(refused.value)
    return refused.value.reason


def test_window_follows_the_standard(write_dicom: Write) -> None:
    """PS3.3 C.11.2.1.2.1: y = (x - (c - 0.5)) / (w - 1) + 0.5, clipped."""
    image = read_xray(write_dicom(RAMP, WindowCenter=2048, WindowWidth=1024))
    expected = np.clip((RAMP.astype(float) - 2047.5) / 1023 + 0.5, 0, 1)
    assert image.pixels.dtype == np.float32 and image.pixels.shape == (48, 64)
    np.testing.assert_allclose(image.pixels, expected, atol=1e-6)
    assert image.corrections == ("voi-window",)


@pytest.mark.parametrize(
    ("function", "expected"),
    [("LINEAR_EXACT", (2048 - 1792) / 1024), ("SIGMOID", 1 / (1 + np.exp(-4 * (1792 - 2048) / 1024)))],
)
def test_other_window_functions(write_dicom: Write, function: str, expected: float) -> None:
    image = read_xray(write_dicom(RAMP, WindowCenter=2048, WindowWidth=1024, VOILUTFunction=function))
    value = expected if function == "SIGMOID" else 0.5 - expected
    assert image.pixels[0, 28] == pytest.approx(value, abs=1e-6)


def test_monochrome1_is_the_mirror_of_monochrome2(write_dicom: Write) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = read_xray(write_dicom(RAMP, "plain.dcm", **window))
    inverted = read_xray(write_dicom(RAMP, "inverted.dcm", PhotometricInterpretation="MONOCHROME1", **window))
    np.testing.assert_allclose(inverted.pixels, 1.0 - plain.pixels, atol=1e-6)
    assert inverted.corrections == ("voi-window", "monochrome1-inverted")


def test_rescale_slope_applies_before_the_window(write_dicom: Write) -> None:
    direct = read_xray(write_dicom(RAMP, "a.dcm", WindowCenter=2000, WindowWidth=1000))
    scaled = read_xray(
        write_dicom(RAMP, "b.dcm", RescaleSlope="2", RescaleIntercept="-1000", WindowCenter=2999.5, WindowWidth=1999)
    )
    np.testing.assert_allclose(scaled.pixels, direct.pixels, atol=1e-3)
    assert scaled.corrections == ("rescale-slope", "voi-window")


def test_without_a_window_outliers_do_not_set_the_range(write_dicom: Write) -> None:
    pixels = np.random.default_rng(3).integers(1000, 2000, (100, 100), dtype=np.uint16)
    pixels[0, 0], pixels[0, 1] = 0, 65535
    image = read_xray(write_dicom(pixels))
    assert image.corrections == ("percentile-rescaled",)
    assert 0.45 < float(image.pixels.mean()) < 0.55
    assert (image.pixels[0, 0], image.pixels[0, 1]) == (0.0, 1.0)


def test_a_window_that_shows_nothing_is_not_used(write_dicom: Write) -> None:
    image = read_xray(write_dicom(RAMP, WindowCenter=50000, WindowWidth=10))
    assert image.corrections == ("voi-window-unusable", "percentile-rescaled")
    assert float(image.pixels[0, 63] - image.pixels[0, 0]) > 0.9


def test_padding_becomes_air(write_dicom: Write) -> None:
    pixels = RAMP.copy()
    pixels[:, :8] = 4095
    padding = {"PhotometricInterpretation": "MONOCHROME2", "PixelPaddingValue": 4095}
    image = read_xray(write_dicom(pixels, **padding))
    assert not image.pixels[:, :8].any() and image.pixels[:, 63].min() == 1.0
    assert "padding-blackened" in image.corrections


def test_voi_lookup_table(write_dicom: Write) -> None:
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor = [4096, 0, 12]
    table.LUTData = (np.arange(4096, dtype=np.uint16) // 2).tolist()
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    image = read_xray(write_dicom(RAMP, BitsStored=12, HighBit=11, VOILUTSequence=[table]))
    np.testing.assert_allclose(image.pixels, RAMP // 2 / 2047, atol=1e-6)
    assert image.corrections == ("voi-lut",)


@pytest.mark.parametrize("syntax", [RLE, "1.2.840.10008.1.2.4.90"])
def test_lossless_compression_changes_nothing(write_dicom: Write, syntax: str) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = read_xray(write_dicom(RAMP, "plain.dcm", **window))
    compressed = read_xray(write_dicom(RAMP, "compressed.dcm", compress=syntax, **window))
    np.testing.assert_array_equal(compressed.pixels, plain.pixels)


def test_colour_becomes_luma(write_dicom: Write) -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:, :20, 0], pixels[:, 20:, 1] = 255, 255
    image = read_xray(write_dicom(pixels, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0))
    assert image.pixels[0, 0] == pytest.approx(0.299) and image.pixels[0, 39] == pytest.approx(0.587)
    assert image.corrections == ("rgb-to-grey",)


def test_facts_identify_nobody(write_dicom: Write) -> None:
    image = read_xray(
        write_dicom(RAMP, Manufacturer="ACME", BodyPartExamined="CHEST OF SECRET-ID", ViewPosition="SECRET-ID")
    )
    assert image.facts["body_part"] == "CHEST" and image.facts["view"] == "other"
    assert image.facts["source_size"] == "64x48" and image.facts["manufacturer"] == "ACME"
    assert "SECRET" not in str(image.facts) and "Secret" not in str(image.facts)


def test_header_values_reach_neither_warnings_nor_logs(
    write_dicom: Write, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_dicom(RAMP, BodyPartExamined="SECRET invalid value ?", PatientBirthDate="SECRET", WindowWidth="0")
    recwarn.clear()
    caplog.clear()
    assert read_xray(path).facts["body_part"] == "other"
    assert not recwarn.list and not caplog.records


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Modality": "CT"}, "not-a-radiograph"),
        ({"Modality": "RF"}, "not-a-radiograph"),
        ({"Modality": None}, "unknown-modality"),
        ({"BodyPartExamined": "WHOLE BODY"}, "not-a-chest"),
        ({"BodyPartExamined": "C-SPINE"}, "not-a-chest"),
        ({"NumberOfFrames": "4"}, "multi-frame"),
        ({"PixelData": None}, "no-pixel-data"),
        ({"Rows": None}, "bad-header"),
        ({"Rows": 30000, "Columns": 30000}, "too-large"),
        ({"Rows": 31}, "too-small"),
        ({"PixelData": b"\0" * 100}, "truncated-pixels"),
        ({"PixelData": b"\0" * RAMP.nbytes}, "constant-image"),
        ({"PhotometricInterpretation": "NONSENSE"}, "bad-header"),
    ],
)
def test_refusals(write_dicom: Write, elements: dict[str, Any], reason: str) -> None:
    assert refusal_of(write_dicom(RAMP, **elements)) == reason


@pytest.mark.parametrize("body_part", ["", "CHEST", "THORAX", "Tórax PA", "PORT CHEST", "ABDOMEN CHEST", "UNBEKANNT"])
def test_empty_foreign_and_unknown_body_parts_are_accepted(write_dicom: Write, body_part: str) -> None:
    elements = {"SpecificCharacterSet": "ISO_IR 192", "BodyPartExamined": body_part}
    assert read_xray(write_dicom(RAMP, **elements)).pixels.shape == (48, 64)


def test_what_the_caller_may_allow(write_dicom: Write) -> None:
    assert read_xray(write_dicom(RAMP, Modality=None), allow_unknown_modality=True).pixels.max() == 1.0
    knee = write_dicom(RAMP, BodyPartExamined="KNEE")
    assert refusal_of(knee, allow_unknown_modality=True) == "not-a-chest"
    assert read_xray(knee, allow_non_chest=True).facts["body_part"] == "KNEE"


def test_an_image_cut_short_is_refused(write_dicom: Write) -> None:
    path = write_dicom(RAMP)
    path.write_bytes(path.read_bytes()[:-500])
    assert refusal_of(path) == "truncated-pixels"


def test_a_compressed_image_cut_short_is_refused(write_dicom: Write) -> None:
    path = write_dicom(RAMP, compress=RLE)
    path.write_bytes(path.read_bytes()[:-500])
    assert refusal_of(path) == "truncated-pixels"


def test_a_panic_of_a_decoder_is_a_refusal(write_dicom: Write) -> None:
    """The Rust decoder of RLE panics (no subclass of Exception) where a stream holds more than its header allows."""
    import pydicom

    path = write_dicom(np.random.default_rng(1).integers(0, 4096, (48, 64), dtype=np.uint16), compress=RLE)
    dataset = pydicom.dcmread(path)
    dataset.Columns = 61
    dataset.save_as(path)
    assert refusal_of(path) == "damaged-pixels"


def test_every_cut_through_the_file_is_a_named_refusal(write_dicom: Write, tmp_path: Path) -> None:
    whole = write_dicom(RAMP[:32, :32]).read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in range(0, len(whole) - 2, 37):
        cut.write_bytes(whole[:length])
        assert refusal_of(cut) not in {"", "constant-image"}


def test_a_deflated_data_set_that_grows_without_end_is_refused(
    write_dicom: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    import more_model.data.dicom_file as module

    path = write_dicom(np.zeros((2048, 1024), dtype=np.uint16))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    assert path.stat().st_size < 2**16
    monkeypatch.setattr(module, "MAX_DICOM_BYTES", 2**20)
    assert refusal_of(path) == "too-large"


def test_rgba_png_equals_its_grey_levels(tmp_path: Path) -> None:
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (40, 1))
    opaque = np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    image = read_xray(tmp_path / "opaque.png")
    np.testing.assert_allclose(image.pixels, grey / 255, atol=1e-6)
    assert image.corrections == ("alpha-dropped", "rgb-to-grey")
    opaque[:, :10, 3] = 0
    Image.fromarray(opaque).save(tmp_path / "holes.png")
    holes = read_xray(tmp_path / "holes.png")
    assert not holes.pixels[:, :10].any()
    assert holes.corrections == ("transparency-blackened", "rgb-to-grey")


def test_sixteen_bit_png_uses_its_own_range(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "deep.png")
    image = read_xray(tmp_path / "deep.png")
    assert image.corrections == ("percentile-rescaled",)
    assert image.pixels[0, 32] == pytest.approx(0.508, abs=0.01)


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (40, 1))).save(tmp_path / "image.jpg", quality=95)
    renamed = (tmp_path / "image.jpg").rename(tmp_path / "image.dcm")
    assert read_xray(renamed).facts["format"] == "JPEG"


def test_a_photograph_lying_on_its_side_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (40, 1))).save(tmp_path / "side.jpg", exif=exif)
    image = read_xray(tmp_path / "side.jpg")
    assert image.pixels.shape == (64, 40) and "exif-rotated" in image.corrections


def test_damaged_and_foreign_rasters(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    for name in ("image.jpg", "image.png"):
        path = tmp_path / name
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:1500])
        assert refusal_of(path) == "truncated-pixels"
    (tmp_path / "text.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 10)
    assert refusal_of(tmp_path / "text.png") == "damaged-pixels"
    Image.fromarray(noise).save(tmp_path / "image.tif")
    assert refusal_of(tmp_path / "image.tif") == "unknown-format"
    assert refusal_of(tmp_path / "absent.png") == "file-not-found"


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 2**17
    assert refusal_of(tmp_path / "bomb.png") == "too-large"


def test_to_square_keeps_the_aspect_and_pads_with_air() -> None:
    square = to_square(np.ones((100, 200), dtype=np.float32), 64)
    assert square.dtype == np.uint8 and square.shape == (64, 64)
    assert (square[16:48] == 255).all() and not square[:16].any() and not square[48:].any()


def test_to_square_averages_over_areas() -> None:
    """A checkerboard of single pixels must become even grey; picking pixels would leave it black and white."""
    board = np.indices((256, 256)).sum(axis=0) % 2
    square = to_square(board.astype(np.float32), 32)
    assert square.min() == square.max() == 128


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (33, 32), (16, 16)])
def test_to_square_of_odd_shapes(shape: tuple[int, int]) -> None:
    pixels: npt.NDArray[np.float32] = np.ones(shape, dtype=np.float32)
    square = to_square(pixels, 32)
    assert square.shape == (32, 32) and square.max() == 255
