"""Level 2: patients that nobody has ever been, half of whom take part in a training, and what the model betrays of it.

The auditor draws the coins; a training of the site runs with the canaries whose coin says so among its own patients;
then each canary gets a score that does not look at its coin. See Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from client.audit.pairs import PAIRED, Vector, matched_margins, of_modality
from client.audit.retrain import OnRound, retrained
from client.audit.site import AuditedSite
from more_model.data.study import Modality, Split, Triplet
from more_model.errors import DataError
from more_model.training.examples import Examples
from more_model.training.seeds import derived_seed
from privacy.audit.subject import CanaryScores

#: Words of a canary's report; about as many as a short report has.
_WORDS = 12
#: Shorter entries of a vocabulary are letters and endings, which all reports share.
_SHORTEST_WORD = 3


def canary_scores(
    site: AuditedSite, canaries: int, included: npt.NDArray[np.bool_], on_round: OnRound | None = None
) -> CanaryScores:
    """One training of the site with the canaries that ``included`` [canaries] names, from the base to the end.

    The score of a canary is how well the trained model joins its words to its study (`matched_margins`), beyond what
    the base already made of it.

    Raises:
        ValueError: as many coins as canaries are needed.
        DataError: no study to make a canary of.
    """
    if len(included) != canaries:
        raise ValueError(f"{len(included)} coins for {canaries} canaries")
    made = make_canaries(site, canaries)
    before = matched_margins(site.start, made, site.words, site.threads)
    model = retrained(
        site.start,
        Examples.merged([site.members, _taking_part(made, included, site)]),
        site.recipe,
        site=site.name,
        words=site.words,
        seed=derived_seed(site.seed, "audit", "canaries"),
        expected_extra=canaries / 2,
        on_round=on_round,
    )
    after = matched_margins(model, made, site.words, site.threads)
    return CanaryScores(np.asarray(included, dtype=np.bool_), beyond(after, before))


def beyond(after: Vector, before: Vector) -> Vector:
    """What of ``after`` is not predicted by ``before``: the rest of a regression over all canaries, in or out, [n].

    A long training forgets where a pair began, a short and noisy one hardly moves it; subtracting ``before`` itself
    would add noise in the first case.
    """
    centred = before - before.mean()
    square = float(centred @ centred)
    slope = float(centred @ after) / square if square > 0 else 0.0
    return np.asarray(after - after.mean() - slope * centred, dtype=np.float64)


def make_canaries(site: AuditedSite, count: int) -> Examples:
    """``count`` patients with one study each, X-rays and ECGs in turn, and a report of random words.

    The studies are real ones of the site, so that nothing but the words is odd: first those of patients that no
    training saw, then those of training patients, then all over again with other words. Studies of the public bank are
    not used: private training pushes words away from them.

    Raises:
        DataError: the site has no study at all.
    """
    draws = np.random.default_rng(derived_seed(site.seed, "audit", "canaries", "words"))
    vocabulary = whole_words(site.released.tokenizer)
    pools = [pool for pool in (_studies(site, modality, draws) for modality in PAIRED) if pool]
    if not pools:
        raise DataError("the site has no study to make canaries of")
    triplets: list[Triplet] = []
    sources: list[int] = []
    both = Examples.merged([site.outsiders, site.members])
    for number in range(count):
        pool = pools[number % len(pools)]
        row, modality = pool[(number // len(pools)) % len(pool)]
        report = " ".join(draws.choice(vocabulary, size=_WORDS))
        triplets.append(_canary(both.triplets[row], modality, number, report))
        sources.append(both.source_of[row])
    return Examples(tuple(triplets), tuple(sources), both.sources)


def whole_words(tokenizer: Any) -> list[str]:
    """The vocabulary entries that are words by themselves: letters only, and not too few of them."""
    texts = (str(tokenizer.decode([number])).strip() for number in range(len(tokenizer)))
    words = sorted({text for text in texts if len(text) >= _SHORTEST_WORD and text.isascii() and text.isalpha()})
    return words or ["word"]


def _studies(site: AuditedSite, modality: Modality, draws: np.random.Generator) -> list[tuple[int, Modality]]:
    """Rows of outsiders and members (in that order, as `Examples.merged` numbers them) with a study of ``modality``."""
    found: list[tuple[int, Modality]] = []
    for offset, part in ((0, site.outsiders), (len(site.outsiders), site.members)):
        rows = of_modality(part, modality)[1]
        found += [(offset + rows[place], modality) for place in draws.permutation(len(rows))]
    return found


def _canary(real: Triplet, modality: Modality, number: int, report: str) -> Triplet:
    picture = modality is Modality.XRAY
    return replace(
        real,
        patient_id=f"canary-{number}",
        split=Split.TRAIN,
        xray=real.xray if picture else None,
        ecg=None if picture else real.ecg,
        xray_report=report if picture else None,
        ecg_report=None if picture else report,
        labels={},
        attributes={},
    )


def _taking_part(made: Examples, included: npt.NDArray[np.bool_], site: AuditedSite) -> Examples:
    """The canaries whose coin says so, as often as a patient may have studies: a patient is one unit, however many.
    Private steps average over a patient's studies, so there copies would add nothing."""
    private_steps = site.recipe.plan is not None and site.recipe.plan.schedule is not None
    copies = 1 if private_steps else site.recipe.privacy.max_studies_per_patient
    rows = np.repeat(np.flatnonzero(included), copies)
    return Examples(tuple(made.triplets[row] for row in rows), tuple(made.source_of[row] for row in rows), made.sources)
