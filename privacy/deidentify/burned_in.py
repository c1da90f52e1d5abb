"""Writing in the pixels of a film: a heuristic without character recognition.

Burned-in text is drawn, not exposed: thin strokes of one brightness, much brighter or darker than what lies beside
them, in rows of letters of about the same height, nearly always near an edge. So: strokes by a top-hat filter (Serra
1982), connected components that can be letters, components of one row joined to lines. A line of `MIN_LETTERS` letters
or more in the outer part of the picture is a finding.

What it tolerates: side markers and projections (L, R, AP, PA), single letters and digits. What it misses: text in
the middle, in low contrast, in letters under 6 or over a twentieth of the picture high, slanted or handwritten text,
and names of three letters. What it takes for text: grids, rulers, rows of clips, stitches or parallel cables near an
edge; and it cannot tell PORTABLE from a name. It decides which films a person looks at; it is no proof that a film
bears no text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from privacy.deidentify.finding import Finding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_LETTERS: Final = 4
BORDER: Final = 0.2

_CONTRAST: Final = 0.3 * 255
_LEAST_HEIGHT_PX: Final = 6
_MOST_HEIGHT: Final = 1 / 20
_EVENNESS: Final = 0.12 * 255
_DEFECT_PIXELS: Final = 20
_MAX_COMPONENTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Box:
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left


def check_pixels(pixels: NDArray[Any]) -> list[Finding]:
    """Lines of writing near the edges of a picture [height, width], or of every one of [frames, height, width]; colour
    [height, width, 3 or 4] is averaged first. Any numeric type; which end of the scale is black does not matter.

    An array of another shape, or without a finite value, counts as unreadable.
    """
    import numpy as np

    if pixels.ndim == 3 and pixels.shape[-1] in {3, 4}:
        pixels = pixels[..., :3].mean(axis=-1)
    frames = pixels[None] if pixels.ndim == 2 else pixels
    if frames.ndim != 3 or 0 in frames.shape or not np.isfinite(frames).any():
        return [Finding("unreadable", f"an array of shape {pixels.shape}")]
    findings = []
    for number, frame in enumerate(frames):
        prefix = f"frame {number}, " if len(frames) > 1 else ""
        findings += [
            Finding("burned-in-text", f"{prefix}rows {line.top}-{line.bottom}, columns {line.left}-{line.right}")
            for line in _lines_of_text(_scaled(frame))
        ]
    return findings


def _scaled(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Brightness in 0..255; the scale ignores a handful of the brightest and darkest pixels, such as defects."""
    import numpy as np

    values = np.nan_to_num(frame.astype(np.float32), posinf=0.0, neginf=0.0)
    outliers = min(_DEFECT_PIXELS, (values.size - 1) // 2)
    low, high = np.partition(values, (outliers, values.size - 1 - outliers), axis=None)[[outliers, -1 - outliers]]
    values -= low
    values *= np.float32(255.0 / max(float(high - low), 1e-6))
    # Bytes: a film has millions of pixels, and no letter is told by less than a grey level.
    return np.clip(np.rint(values, out=values), 0.0, 255.0, out=values).astype(np.uint8)


def _lines_of_text(frame: NDArray[np.uint8]) -> list[_Box]:
    found: list[_Box] = []
    for heights in _stroke_heights(frame):
        letters = _letters(heights, frame)
        upright = _lines(letters)
        turned = [_turned(line) for line in _lines([_turned(letter) for letter in letters])]
        found += [line for line in (*upright, *turned) if _near_edge(line, frame.shape)]
    return _merged(found)


def _merged(lines: list[_Box]) -> list[_Box]:
    """One box a line: strokes and the gaps between them, or both reading directions, can give the same one twice."""
    merged: list[_Box] = []
    for line in sorted(lines, key=lambda box: (box.top, box.left)):
        joined = line
        for other in [box for box in merged if _overlap(box, joined)]:
            merged.remove(other)
            joined = _Box(
                min(joined.top, other.top), max(joined.bottom, other.bottom),
                min(joined.left, other.left), max(joined.right, other.right),
            )  # fmt: skip
        merged.append(joined)
    return merged


def _overlap(one: _Box, other: _Box) -> bool:
    return one.top < other.bottom and other.top < one.bottom and one.left < other.right and other.left < one.right


def _stroke_heights(frame: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """How much brighter, and how much darker, each pixel is than the surroundings of the widest stroke."""
    size = 2 * (max(3, min(frame.shape) // 160)) + 1
    opened = _highest(_lowest(frame, size), size)
    closed = _lowest(_highest(frame, size), size)
    return [frame - opened, closed - frame]


def _lowest(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The lowest value in the square of ``size`` pixels (odd) round each pixel, as far as it lies in the picture.

    Along one axis after the other, in windows that double: a few whole-array steps, where `scipy.ndimage` visits every
    pixel on its own and takes ten times as long.
    """
    import numpy as np

    for _ in range(2):
        # The transposed copy keeps the steps along whole rows.
        padded = np.pad(np.ascontiguousarray(frame.T), ((size // 2, size // 2), (0, 0)), constant_values=255)
        length, height = 1, frame.shape[1]
        while 2 * length <= size:
            padded = np.minimum(padded[:-length], padded[length:])
            length *= 2
        frame = np.minimum(padded[:height], padded[size - length : size - length + height])
    return frame


def _highest(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    highest: NDArray[np.uint8] = 255 - _lowest(255 - frame, size)
    return highest


def _letters(heights: NDArray[np.uint8], frame: NDArray[np.uint8]) -> list[_Box]:
    """Components of the size of a letter, drawn in one brightness."""
    import numpy as np
    from scipy import ndimage

    labels, count = ndimage.label(heights > _CONTRAST, structure=np.ones((3, 3)))
    if count > _MAX_COMPONENTS:
        return []
    tallest = max(2 * _LEAST_HEIGHT_PX, int(max(frame.shape) * _MOST_HEIGHT))
    letters = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        box = _Box(rows.start, rows.stop, columns.start, columns.stop)
        longer, shorter = max(box.height, box.width), min(box.height, box.width)
        if not (_LEAST_HEIGHT_PX <= longer <= tallest and shorter >= 1):
            continue
        inside = labels[place] == number
        if 0.1 <= inside.mean() <= 0.95 and _is_even(frame[place][inside], heights[place][inside]):
            letters.append(box)
    return letters


def _is_even(brightness: NDArray[np.uint8], height: NDArray[np.uint8]) -> bool:
    """Whether the half of a component that stands out most, without its softened edge, has one brightness."""
    import numpy as np

    core = brightness[height >= np.median(height)]
    return float(core.std()) < _EVENNESS


def _lines(letters: list[_Box]) -> list[_Box]:
    """Rows of at least `MIN_LETTERS` letters of about one height, with gaps no wider than two letters."""
    rest = sorted(letters, key=lambda box: box.left)
    lines: list[list[_Box]] = []
    for letter in rest:
        for line in lines:
            if _continues(line[-1], letter):
                line.append(letter)
                break
        else:
            lines.append([letter])
    return [
        _Box(min(b.top for b in line), max(b.bottom for b in line), line[0].left, max(b.right for b in line))
        for line in lines
        if len(line) >= MIN_LETTERS
    ]


def _continues(last: _Box, letter: _Box) -> bool:
    taller, smaller = max(last.height, letter.height), min(last.height, letter.height)
    offset = abs((last.top + last.bottom) - (letter.top + letter.bottom)) / 2
    gap = letter.left - last.right
    return smaller >= 0.6 * taller and offset <= 0.35 * taller and -0.2 * taller <= gap <= 2.0 * taller


def _turned(box: _Box) -> _Box:
    return _Box(box.left, box.right, box.top, box.bottom)


def _near_edge(line: _Box, shape: tuple[int, ...]) -> bool:
    rows, columns = shape[0] * BORDER, shape[1] * BORDER
    middle_row, middle_column = (line.top + line.bottom) / 2, (line.left + line.right) / 2
    return not (rows < middle_row < shape[0] - rows and columns < middle_column < shape[1] - columns)
