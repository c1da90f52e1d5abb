"""Learning curves as small SVG drawings: attributes only, because the page's policy lets no inline style through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from more_model.report.blocks import Figure as Drawing
from more_model.report.canvas import ARM_COLOURS, INK, QUIET, RULE

_WIDTH, _HEIGHT = 640.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 12.0, 40.0
_MOST_TICKS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """The value after ``round``, with its interval where there is one."""

    round: int
    value: float
    interval: tuple[float, float] | None = None


def curve(name: str, title: str, points: Sequence[Point], *, digits: int, caption: str) -> Drawing | None:
    """A curve over rounds; None where no round has a value. Rounds without one leave a gap in it."""
    if not points:
        return None
    low, high = _range(points)
    axes = _Axes(points[0].round, points[-1].round, low, high)
    parts = [*_grid(axes, digits), *(_bar(axes, point) for point in points if point.interval), *_lines(axes, points)]
    parts += [_dot(axes, point) for point in points]
    svg = (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" aria-hidden="true" focusable="false">{"".join(parts)}'
        f"{_text(_WIDTH / 2, _HEIGHT - 4, 'round', 'middle')}</svg>"
    )
    return Drawing(name, svg, _spoken(title, points, digits), caption)


@dataclass(frozen=True, slots=True)
class _Axes:
    first: int
    last: int
    low: float
    high: float

    def x(self, number: int) -> float:
        span = max(self.last - self.first, 1)
        return _LEFT + (number - self.first) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _TOP + (self.high - value) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)


def _range(points: Sequence[Point]) -> tuple[float, float]:
    every = [value for point in points for value in (point.value, *(point.interval or ()))]
    low, high = min(every), max(every)
    room = 0.08 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers (1, 2 or 5 of a power of ten apart) within a range."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _grid(axes: _Axes, digits: int) -> list[str]:
    parts = []
    for value in _ticks(axes.low, axes.high):
        y = axes.y(value)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, RULE, 1))
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.{digits}f}", "end"))
    every = max(1, -(-(axes.last - axes.first + 1) // _MOST_TICKS))
    ticks = range(axes.first, axes.last + 1, every)
    return [*parts, *(_text(axes.x(number), _HEIGHT - _BOTTOM + 18, str(number), "middle") for number in ticks)]


def _lines(axes: _Axes, points: Sequence[Point]) -> list[str]:
    runs: list[list[Point]] = []
    for point in points:
        if runs and point.round == runs[-1][-1].round + 1:
            runs[-1].append(point)
        else:
            runs.append([point])
    colour = ARM_COLOURS["federated"]
    return [
        f'<polyline points="{" ".join(f"{axes.x(p.round):.1f},{axes.y(p.value):.1f}" for p in run)}" fill="none" '
        f'stroke="{colour}" stroke-width="2"/>'
        for run in runs
        if len(run) > 1
    ]


def _bar(axes: _Axes, point: Point) -> str:
    assert point.interval is not None
    low, high = point.interval
    return _line(axes.x(point.round), axes.y(low), axes.x(point.round), axes.y(high), QUIET, 1.5)


def _dot(axes: _Axes, point: Point) -> str:
    x, y = axes.x(point.round), axes.y(point.value)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{ARM_COLOURS["federated"]}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12" fill="{INK}">{words}</text>'


def _spoken(title: str, points: Sequence[Point], digits: int) -> str:
    first, last = points[0], points[-1]
    words = f"{title} over {len(points)} rounds: round {first.round} {first.value:.{digits}f}"
    if len(points) > 1:
        words += f", round {last.round} {last.value:.{digits}f}"
    if last.interval is not None:
        words += f" ({last.interval[0]:.{digits}f} to {last.interval[1]:.{digits}f})"
    return f"{words}. The table below has every value."
