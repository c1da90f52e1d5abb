"""From tokens back to words: which words of a report the relevance of the text tower's tokens belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from more_model.errors import EnvironmentFault

_WORD = re.compile(r"\S+")
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class WordWeights:
    """Shares of a text's relevance, together one: of each word in order, of the ``prefix`` that says what the text is
    about, and of ``marks`` (tokens that stand for no word). The last ``cut`` words were not read by the model and have
    weight zero."""

    words: tuple[tuple[str, float], ...]
    prefix: float
    marks: float
    cut: int


def token_spans(tokenizer: Any, text: str, max_tokens: int) -> list[Span]:
    """Where each token of ``text`` begins and ends, in characters; (0, 0) for tokens that stand for no word.

    Raises:
        EnvironmentFault: the tokenizer does not know.
    """
    if not tokenizer.is_fast:
        raise EnvironmentFault(
            "the tokenizer does not say where its tokens come from",
            remedy="save it as tokenizer.json (a fast tokenizer) in the base folder",
        )
    given = tokenizer(text, truncation=True, max_length=max_tokens, return_offsets_mapping=True)
    return [(int(start), int(stop)) for start, stop in given["offset_mapping"]]


def merge_words(text: str, prefix_length: int, spans: Sequence[Span], weights: Sequence[float]) -> WordWeights:
    """Adds up token ``weights`` (non-negative, one a span) over words between white space.

    A token goes to the word that it shares most characters with. Words that begin before ``prefix_length`` are the
    prefix. Weights that are all zero give shares of zero.
    """
    places = [match.span() for match in _WORD.finditer(text)]
    sums = [0.0] * len(places)
    marks, read_until = 0.0, 0
    for span, weight in zip(spans, weights, strict=True):
        shared = [max(0, min(stop, span[1]) - max(start, span[0])) for start, stop in places]
        read_until = max(read_until, span[1])
        if max(shared, default=0) == 0:
            marks += weight
        else:
            sums[shared.index(max(shared))] += weight
    total = sum(sums) + marks
    shares = [value / total if total > 0 else 0.0 for value in sums]
    own = [place for place, (start, _) in enumerate(places) if start >= prefix_length]
    return WordWeights(
        words=tuple((text[slice(*places[place])], shares[place]) for place in own),
        prefix=sum(share for place, share in enumerate(shares) if place not in own),
        marks=marks / total if total > 0 else 0.0,
        cut=sum(places[place][0] >= read_until for place in own),
    )
