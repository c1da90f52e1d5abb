"""The texts that one triplet contributes to a batch: joint, or one about each study, whole or a few sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from more_model.data.study import Modality, Triplet
from more_model.training.settings import TrainingSettings
from more_model.training.words import about, joint

_SENTENCE_END = re.compile(r"(?<=[.;])\s+")
_MOST_SENTENCES = 3


@dataclass(frozen=True, slots=True)
class TextView:
    """A text and which of the triplet's studies it is the counterpart of."""

    words: str
    xray: bool
    ecg: bool


def whole_views(triplet: Triplet, *, together: bool) -> list[TextView]:
    """Nothing drawn: one joint text for a full triplet if ``together``, otherwise one text about each study."""
    xray_words = triplet.xray_report if triplet.xray is not None else None
    ecg_words = triplet.ecg_report if triplet.ecg is not None else None
    if together and xray_words is not None and ecg_words is not None:
        return [TextView(joint(xray_words, ecg_words), xray=True, ecg=True)]
    views = []
    if xray_words is not None:
        views.append(TextView(about(Modality.XRAY, xray_words), xray=True, ecg=False))
    if ecg_words is not None:
        views.append(TextView(about(Modality.ECG, ecg_words), xray=False, ecg=True))
    return views


def drawn_views(triplet: Triplet, settings: TrainingSettings, generator: np.random.Generator) -> list[TextView]:
    """The views of one training step.

    Joint with probability ``joint_probability``. A text about one study is, with probability ``sentence_probability``,
    cut to one to three of its sentences (as in ConVIRT, Zhang et al. 2022): what a prompt looks like, and no whole
    report to be learnt by heart. Draws the same number of random numbers whatever it finds.
    """
    together, cut_xray, cut_ecg = generator.random(3)
    seeds = generator.integers(0, 2**32, size=2)
    views = whole_views(triplet, together=bool(together < settings.joint_probability))
    if len(views) == 1 and views[0].xray and views[0].ecg:
        return views
    cut = {Modality.XRAY: cut_xray, Modality.ECG: cut_ecg}
    drawn = []
    for view in views:
        modality = Modality.XRAY if view.xray else Modality.ECG
        words = str(triplet.xray_report if view.xray else triplet.ecg_report)
        if cut[modality] < settings.sentence_probability:
            words = some_sentences(words, int(seeds[0 if view.xray else 1]))
        drawn.append(TextView(about(modality, words), view.xray, view.ecg))
    return drawn


def some_sentences(words: str, seed: int) -> str:
    """One to three sentences of ``words``, in their order."""
    sentences = [sentence for sentence in _SENTENCE_END.split(words) if sentence.strip(" .;_")]
    generator = np.random.default_rng(seed)
    count = min(len(sentences), int(generator.integers(1, _MOST_SENTENCES + 1)))
    if count == 0:
        return words
    chosen = sorted(generator.choice(len(sentences), size=count, replace=False).tolist())
    return " ".join(sentences[place] for place in chosen)
