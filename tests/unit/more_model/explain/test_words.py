"""Word pieces become words again, with the prefix apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from more_model.errors import EnvironmentFault
from more_model.explain.words import merge_words, token_spans


def test_pieces_of_a_word_are_added_up() -> None:
    text = "report: large effusion."
    #         <s>     report:  large    effu      sion      .        </s>
    spans = [(0, 0), (0, 7), (7, 13), (13, 18), (18, 22), (22, 23), (0, 0)]
    found = merge_words(text, 8, spans, [1.0, 2.0, 1.0, 3.0, 1.0, 1.0, 1.0])
    assert found.words == (("large", 0.1), ("effusion.", 0.5))
    assert found.prefix == pytest.approx(0.2)
    assert found.marks == pytest.approx(0.2)
    assert found.cut == 0


def test_words_that_were_not_read_are_counted() -> None:
    found = merge_words("one two three", 0, [(0, 3), (3, 7)], [1.0, 3.0])
    assert found.words == (("one", 0.25), ("two", 0.75), ("three", 0.0))
    assert found.cut == 1


def test_no_relevance_gives_no_shares() -> None:
    found = merge_words("one two", 0, [(0, 3), (4, 7)], [0.0, 0.0])
    assert found.words == (("one", 0.0), ("two", 0.0))
    assert (found.prefix, found.marks) == (0.0, 0.0)


def test_spans_cover_the_text(tokenizer: Any) -> None:
    text = "chest x-ray report: Large heart"
    spans = token_spans(tokenizer, text, 64)
    covered = {place for start, stop in spans for place in range(start, stop)}
    assert {place for place, letter in enumerate(text) if letter != " "} <= covered
    assert len(token_spans(tokenizer, text, 4)) == 4


def test_a_tokenizer_without_spans_is_refused() -> None:
    with pytest.raises(EnvironmentFault, match="does not say where its tokens come from"):
        token_spans(SimpleNamespace(is_fast=False), "words", 8)
