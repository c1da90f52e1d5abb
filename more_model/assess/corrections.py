"""What the readers changed in an input, in plain words."""

from __future__ import annotations

#: Code of a reader -> sentence; {} stands for what follows the colon of the code.
_SENTENCES = {
    "monochrome1-inverted": "The film was stored with dark and bright exchanged (MONOCHROME1); it was turned round.",
    "padding-blackened": "Padding around the picture was set to black.",
    "percentile-rescaled": "The file states no usable window; the grey levels were spread over the usual range.",
    "modality-lut": "The table of grey values that the file holds was applied.",
    "rescale-slope": "Slope and intercept that the file states were applied to the grey values.",
    "voi-lut": "The display table that the file holds was applied.",
    "voi-window": "The display window that the file states was applied.",
    "voi-window-unusable": "The window that the file states cannot be used.",
    "exif-rotated": "The picture was turned upright as the file says.",
    "transparency-blackened": "Transparent parts of the picture were set to black.",
    "alpha-dropped": "A transparency channel without any effect was left out.",
    "palette-to-grey": "A picture with a colour table was turned to grey.",
    "rgb-to-grey": "A colour picture was turned to grey.",
    "cropped": "The recording is longer than the model takes; only its beginning was used.",
    "zero-padded": "The recording is shorter than the model takes; the end was filled with zeros.",
    "flat-lead": "Lead {} is flat or empty and was set to zero.",
    "nan-interpolated": "{} missing samples were filled from their neighbours.",
    "derived": "The leads {} were not recorded; they were computed from I and II.",
    "unit-converted": "The signal was converted from {} to millivolts.",
    "channels-dropped": "Channels that are no ECG leads were left out: {}.",
    "repeated-lead-dropped": "A second copy of these leads was left out: {}.",
    "amplitude-unusual": "The amplitude ({} peak to peak) is unusual; the gain in the file may be wrong.",
    "amplitude-implausible": "The amplitude ({} peak to peak) is implausible; the gain in the file is probably wrong.",
    "waveform-groups-skipped": "The file holds {} further groups of channels, which were not used.",
    "record-name-repaired": "The first line of the header names the record with an ending; it was read without.",
    "samples-per-frame-averaged": "Channels recorded at a higher rate than others were averaged down to theirs.",
    "read-first": "Only the first {} of the recording were read.",
    "rate-assumed": "The header states no sampling rate; {} was assumed, as its format says.",
    "gain-assumed": "The header states no gain; {} was assumed, as its format says.",
    "addendum-skipped": "An addendum was left out; the report itself was read.",
    "read-as-latin-1": "The report is not written in UTF-8; it was read as Latin-1.",
}


def correction_in_words(code: str) -> str:
    """One sentence for a code such as ``flat-lead:V3``; a code without a sentence is shown as it is."""
    name, _, detail = code.partition(":")
    sentence = _SENTENCES.get(name)
    return f"Corrected by the reader: {code}." if sentence is None else sentence.format(detail.replace(",", ", "))
