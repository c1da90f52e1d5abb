"""How widely each tower's layers look: the entropy of their attention on a few studies."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from more_model.errors import EnvironmentFault
from more_model.explain.attention_maps import recording
from more_model.model.more import More
from more_model.model.text import is_decoder_only
from more_model.tokenizer import encode
from more_model.training.embed import words_of
from more_model.training.examples import Examples
from more_model.training.threads import using_threads
from more_model.training.watch import mean_entropy

_LOG = logging.getLogger(__name__)


@torch.no_grad()
def attention_entropy(
    model: More, examples: Examples, *, tokenizer: Any, max_tokens: int, most: int = 16, threads: int = 2
) -> dict[str, list[float]]:
    """For each tower the mean entropy of each block, first to last, as a share of the greatest possible (see
    `mean_entropy`), over at most ``most`` studies of ``examples``, evenly spaced.

    A tower without a study is no key, nor is a text encoder that does not give its attention. The model is left as it
    was.
    """
    triplets = examples.triplets
    xrays = _spaced([row for row, triplet in enumerate(triplets) if triplet.xray is not None], most)
    ecgs = _spaced([row for row, triplet in enumerate(triplets) if triplet.ecg is not None], most)
    texts = _spaced([words for words in map(words_of, triplets) if words is not None], most)
    found: dict[str, list[float]] = {}
    device = next(model.parameters()).device
    with using_threads(threads), recording(model) as recorded, torch.no_grad():
        if xrays:
            model.xray(examples.xrays(xrays).to(device))
            found["xray"] = [mean_entropy(weights) for weights in recorded.xray]
        if ecgs:
            model.ecg(examples.ecgs(ecgs).to(device))
            found["ecg"] = [mean_entropy(weights) for weights in recorded.ecg]
        causal = is_decoder_only(model.text.encoder.encoder.config)
        per_text = []
        try:
            # One at a time: padding has no attention to measure.
            for words in texts:
                recorded.clear()
                ids, mask = encode(tokenizer, [words], max_tokens)
                model.text(ids.to(device), mask.to(device))
                per_text.append([mean_entropy(weights, causal=causal) for weights in recorded.text])
        except EnvironmentFault as error:
            _LOG.warning("%s", error)
        else:
            rows = [row for row in per_text if not any(map(math.isnan, row))]
            if rows:
                found["text"] = np.mean(rows, axis=0).tolist()
    return found


def _spaced(values: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of them, evenly spaced."""
    if len(values) <= most:
        return list(values)
    return [values[int(place)] for place in np.linspace(0, len(values) - 1, most).round()]
