"""Which words the reports that were trained on are made of, and what that says about another report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from more_model.data.study import Modality
from more_model.errors import InputRefused

#: Of its words, at least this share must occur in the reports of the training patients. Fixed, not measured: within one
#: hospital nearly all words are known, and a limit set by that would refuse every report with a new word.
LEAST_KNOWN = 0.5

_WORD = re.compile(r"[^\W\d_]{2,}")

#: The words of the reports about X-rays, and of those about ECGs.
Vocabularies = Mapping[Modality, frozenset[str]]


def words_in(text: str) -> list[str]:
    """The words of two letters or more, in lower case; numbers and signs are none."""
    return _WORD.findall(text.lower())


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """Every word of ``texts``."""
    return frozenset(word for text in texts for word in words_in(text))


def known_share(text: str, known: frozenset[str]) -> float:
    """The share of the words of ``text`` that are known; 0 where it has no words."""
    words = words_in(text)
    return sum(word in known for word in words) / len(words) if words else 0.0


def kind_of_report(texts: Mapping[Modality, str], known: Vocabularies) -> Modality:
    """What a report is about: an X-ray or an ECG, whichever vocabulary holds the larger share of its words. ``texts``
    is the report as it would be read for either.

    Raises:
        InputRefused: both hold the same share.
    """
    shares = {kind: known_share(text, known[kind]) for kind, text in texts.items()}
    best = max(shares, key=lambda kind: shares[kind])
    if sum(share == shares[best] for share in shares.values()) > 1:
        if shares[best] == 0.0:
            return best
        raise InputRefused(
            "report-about-unclear",
            "The report could be about an X-ray or about an ECG.",
            remedy="say which with --about",
        )
    return best


def require_known(text: str, known: frozenset[str]) -> float:
    """The share of known words. Raises InputRefused ("unknown-words") where it is below `LEAST_KNOWN`."""
    share = known_share(text, known)
    if share < LEAST_KNOWN:
        raise InputRefused(
            "unknown-words",
            f"Only {share:.0%} of the report's words occur in the reports that the model learnt from; at least "
            f"{LEAST_KNOWN:.0%} are needed. It may be in another language, or no report of this kind.",
        )
    return share
