"""What a page is made of: sections of tables, figures, facts and paragraphs. One template draws them all."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Cell:
    """One table cell. ``arm`` puts that arm's colour and shape before the text, ``tone`` sets it back or warns."""

    text: str
    arm: str | None = None
    tone: Literal["", "quiet", "warn"] = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its caption; the first cell of each row heads the row. ``words`` are columns that hold words."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    note: str = ""
    words: frozenset[int] = frozenset()
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing: SVG markup made by this package alone, its text alternative and its caption."""

    name: str
    svg: str
    alt: str
    caption: str
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True, slots=True)
class Picture:
    """A raster image, as the bytes of a PNG file, its text alternative and its caption."""

    png: bytes
    alt: str
    caption: str
    kind: Literal["picture"] = "picture"

    @property
    def source(self) -> str:
        """The image as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True, slots=True)
class Facts:
    """Pairs of a term and what it stands for."""

    items: Sequence[tuple[str, str]]
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph; ``tone`` "note" draws it as a remark that must not be overlooked."""

    text: str
    tone: Literal["", "note"] = ""
    kind: Literal["words"] = "words"


Block = Table | Figure | Picture | Facts | Words


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page with its heading; ``anchor`` is its address inside the page."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def section(anchor: str, title: str, blocks: Sequence[Block | None]) -> Section | None:
    """A section of the blocks that are there, or None where only paragraphs or nothing would be left."""
    present = [block for block in blocks if block is not None]
    if all(isinstance(block, Words) for block in present):
        return None
    return Section(anchor, title, present)
