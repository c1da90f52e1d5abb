"""From what a user has (words, or a file) to a query.

Words are ambiguous: "large" may be about a heart shadow or about a QRS complex. The model was trained on texts that
begin with what they are about (`more_model.training.words.PREFIX`), so words without further notice are asked twice:
as words about an X-ray they look among X-rays and reports about X-rays, as words about an ECG among ECGs and reports
about ECGs. With ``about`` given, they are asked once, as words about that, on every shelf: so does an ECG report find
X-rays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from more_model.checkpoint import TrainedModel
from more_model.data.convert import Converted, Refused, convert
from more_model.data.study import Modality, Split, Study, Triplet
from more_model.errors import ConfigError, InputRefused
from more_model.search.query import Query
from more_model.search.shelf import Shelf
from more_model.search.words import embed_in_batches, require_finite
from more_model.training import words as wording
from more_model.training.embed import embed
from more_model.training.examples import Examples

_NOBODY = "query"
_STUDIED = (Modality.XRAY, Modality.ECG)
_FILES = {Modality.XRAY: "X-ray", Modality.ECG: "ECG", Modality.REPORT: "report"}


def text_query(trained: TrainedModel, text: str, *, about: Modality | None = None, threads: int = 2) -> Query:
    """The query of free words. Raises ConfigError where there are none."""
    words = " ".join(text.split())
    if not words:
        raise ConfigError("search", ["the text to look for has no words"])
    return _worded(trained, dict.fromkeys(_STUDIED if about is None else (about,), words), threads)


def report_query(trained: TrainedModel, path: Path, *, about: Modality | None = None, threads: int = 2) -> Query:
    """The query of a report file, read as at ingest: findings and impression of an X-ray report, all statements of an
    ECG report. Raises InputRefused for a file that cannot be read so."""
    asked = _STUDIED if about is None else (about,)
    words = {part: _converted(trained, path, Modality.REPORT, part).text or "" for part in asked}
    return _worded(trained, words, threads)


def file_query(trained: TrainedModel, path: Path, modality: Modality, *, threads: int = 2) -> Query:
    """The query of an X-ray or ECG file, read as at ingest. Raises InputRefused for a file that cannot be used."""
    array = _converted(trained, path, modality, None).array
    assert array is not None
    is_xray = modality is Modality.XRAY
    triplet = Triplet(_NOBODY, "", Split.TEST, 0 if is_xray else None, None if is_xray else 0, None, None)
    answer = embed(
        trained.model,
        Examples.of([triplet], _OneStudy(array[None], array[None])),
        tokenizer=trained.tokenizer,
        max_tokens=trained.max_tokens,
        threads=threads,
    )
    vector = require_finite(answer.xray if is_xray else answer.ecg, "studies")[0]
    return Query(dict.fromkeys(Shelf, vector))


@dataclass(frozen=True, slots=True, eq=False)
class _OneStudy:
    """One array in the place of a site store; only that of its own modality is ever asked for."""

    xrays: NDArray[Any]
    ecgs: NDArray[Any]


def _worded(trained: TrainedModel, words: Mapping[Modality, str], threads: int) -> Query:
    texts = [wording.about(part, text) for part, text in words.items()]
    vectors = dict(zip(words, embed_in_batches(trained, texts, batch_size=2, threads=threads), strict=True))
    # Asked once, the words look everywhere as what they are about.
    only = next(iter(vectors.values()))
    return Query({shelf: vectors.get(shelf.about, only) for shelf in Shelf})


def _converted(trained: TrainedModel, path: Path, modality: Modality, describes: Modality | None) -> Converted:
    study = Study(modality, _NOBODY, _NOBODY, _NOBODY, source=path, describes=describes)
    result = convert(study, trained.config.preprocessing)
    if isinstance(result, Refused):
        raise InputRefused(
            result.reason,
            f"The {_FILES[modality]} given cannot be used as a query. {result.message}",
            remedy="`more-model inspect` shows what is read from it",
        )
    return result
