"""A handbook as its sections and fenced blocks, and the commands of ours that stand in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("more-model", "more-client", "more-server", "more-sim", "more-privacy")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## ", re.MULTILINE)
_HEREDOC = re.compile(r"<<'(\w+)'.*?\n.*?^\1$", re.MULTILINE | re.DOTALL)
#: What ends one command of a line and begins the next.
_ENDS = frozenset({";", "&", "&&", "|", "||", "(", ")"})
_REDIRECTIONS = frozenset({">", ">>", "<", ">&"})


@dataclass(frozen=True)
class Section:
    """A part of the page below a heading of the second level: its title, text, and fenced blocks by language."""

    title: str
    text: str

    @property
    def number(self) -> int | None:
        """Of a section that belongs to the walk-through, which are numbered."""
        found = re.match(r"(\d+) ", self.title)
        return int(found[1]) if found else None

    def blocks(self, language: str) -> list[str]:
        return [content for kind, content in _FENCE.findall(self.text) if kind == language]

    @property
    def prose(self) -> str:
        """The text without its blocks."""
        return _FENCE.sub("", self.text)


def sections(page: Path) -> list[Section]:
    """All sections of a page; what stands before the first heading is one without a title."""
    first, *rest = _HEADING.split(page.read_text(encoding="utf-8"))
    return [Section("", first), *(Section(*part.split("\n", 1)) for part in rest)]


def walk(page: Path) -> dict[int, list[str]]:
    """Number of a section of the walk-through -> its ``bash`` blocks, as they stand there."""
    return {section.number: section.blocks("bash") for section in sections(page) if section.number is not None}


def our_commands(block: str) -> Iterator[list[str]]:
    """The command lines of our programs in a block of shell, as words from the program on, without redirections."""
    for line in _HEREDOC.sub("", block).replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in _ENDS:
                yield from _from_program(words)
                words = []
            else:
                words.append(word)


def _from_program(words: list[str]) -> Iterator[list[str]]:
    places = [place for place, word in enumerate(words) if Path(word).name in PROGRAMS]
    if not places:
        return
    kept: list[str] = []
    rest = iter(words[places[0] :])
    for word in rest:
        if word not in _REDIRECTIONS:
            kept.append(word)
            continue
        if word == ">&" and kept[-1].isdigit():
            # 2>&1 comes as three words.
            kept.pop()
        next(rest)
    yield kept
