"""Level 4, reports: does the gradient of the report tower's first adapted layer betray the words that entered it?

The attacker knows the model and its vocabulary. What enters that layer for a word at a place (its embedding, its place,
normalised) does not depend on the rest of the text, so the attacker can compute it for every word and place, and then
ask of each whether it lies in the span of the gradient's rows. How many words that answers depends on the gradient: the
full matrix (which LoRA never sends) holds as many directions as it has columns, LoRA's A as many as its rank; B, with
A frozen, knows of each input only as many numbers as the rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from client.audit.one_step import (
    Gradients,
    Step,
    name_of,
    plain_gradients,
    private_gradients,
    private_words,
    step_on,
    trainable_copy,
)
from client.audit.pairs import PAIRED, of_modality
from client.audit.site import AuditedSite
from more_model.model.more import More
from more_model.tokenizer import encode
from more_model.training.examples import epoch_batches
from more_model.training.seeds import derived_seed
from privacy.audit.subject import A_MATRIX, TokenLeak

#: Words at places that are tried, which bounds memory; all true ones are among them, the other words are drawn.
_MOST_CANDIDATES = 40_000
#: Texts embedded at once.
_AT_ONCE = 64


def token_leaks(site: AuditedSite) -> dict[str, TokenLeak]:
    """Of a step on the two shortest texts of the site (where most is to be seen), and of one on a whole batch of whole
    reports; without privacy, and with it where the run's sites could take such a step. None without adapters.

    Starts from the released model: at the base, B is zero, and with it the gradient of A.
    """
    model = trainable_copy(site.released.model)
    layer = first_adapted(model.text)
    if layer is None:
        return {}
    names = _names(model, layer)
    for name in names.values():
        model.get_parameter(name).requires_grad_(True)
    found: dict[str, TokenLeak] = {}
    steps = {"two short texts": _shortest(site), "a batch of whole reports": _whole_batch(site)}
    for words, step in ((words, step) for words, step in steps.items() if step is not None):
        true, candidates = candidate_inputs(model, layer, step, site)
        gradients = plain_gradients(model, step, list(names.values()), site)
        found[f"{words}, one step, no privacy"] = _leak(layer, names, gradients, true, candidates)
        if (private := private_words(site.recipe)) is not None:
            gradients = private_gradients(model, step, list(names.values()), site)
            found[f"{words}, {private}"] = _leak(layer, names, gradients, true, candidates)
    return found


def first_adapted(module: nn.Module) -> LoraLayer | None:
    """The first layer of ``module`` with adapters, in model order."""
    return next((part for part in module.modules() if isinstance(part, LoraLayer)), None)


def candidate_inputs(
    model: More, layer: LoraLayer, step: Step, site: AuditedSite
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows of the true ones among the candidates [t], and the candidates [v, width]: what enters ``layer`` for each of
    some words at each place that the texts have.

    Special entries (start, end, padding) are left out: every text has them.
    """
    ids, mask = encode(
        site.words["tokenizer"], [view.words for of_row in step.views for view in of_row], site.words["max_tokens"]
    )
    special = set(site.words["tokenizer"].all_special_ids)
    true = {
        (token, place)
        for row, lengths in zip(ids.tolist(), mask.sum(dim=1).tolist(), strict=True)
        for place, token in enumerate(row[:lengths])
        if token not in special
    }
    places = ids.shape[1]
    vocabulary = _vocabulary(site, {token for token, _ in true}, special, places)
    row_of = {token: row for row, token in enumerate(vocabulary)}
    inputs = _inputs(model, layer, vocabulary, places)
    rows = sorted(row_of[token] * places + place for token, place in true)
    return np.array(rows, dtype=np.int64), inputs.reshape(len(vocabulary) * places, -1)


def _vocabulary(site: AuditedSite, true: set[int], special: set[int], places: int) -> list[int]:
    others = [token for token in range(len(site.words["tokenizer"])) if token not in special and token not in true]
    room = max(0, _MOST_CANDIDATES // places - len(true))
    draws = np.random.default_rng(derived_seed(site.seed, "audit", "vocabulary"))
    return sorted(true | {others[place] for place in draws.permutation(len(others))[:room]})


@torch.no_grad()
def _inputs(model: More, layer: LoraLayer, vocabulary: Sequence[int], places: int) -> npt.NDArray[np.float32]:
    """[words, places, width]: the input of ``layer`` where a text is one word all over."""
    encoder, device = model.text.encoder.encoder, next(model.parameters()).device
    parts: list[npt.NDArray[np.float32]] = []
    with _entering(layer) as entered:
        for start in range(0, len(vocabulary), _AT_ONCE):
            part = torch.tensor(vocabulary[start : start + _AT_ONCE], device=device)
            encoder(input_ids=part[:, None].expand(-1, places).contiguous())
            parts.append(entered.pop().float().cpu().numpy())
    return np.concatenate(parts)


@contextmanager
def _entering(layer: LoraLayer) -> Iterator[list[Tensor]]:
    """A list to which every input of ``layer`` is added."""
    entered: list[Tensor] = []

    def note(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        entered.append(inputs[0])

    handle = layer.register_forward_pre_hook(note)
    try:
        yield entered
    finally:
        handle.remove()


def _names(model: More, layer: LoraLayer) -> dict[str, str]:
    weights = {
        "full": layer.get_base_layer().weight,
        "lora_A": layer.lora_A["default"].weight,
        "lora_B": layer.lora_B["default"].weight,
    }
    return {kind: name_of(model, parameter) for kind, parameter in weights.items()}


def _leak(
    layer: LoraLayer,
    names: dict[str, str],
    gradients: Gradients,
    true: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.float32],
) -> TokenLeak:
    given = {kind: gradients[name] for kind, name in names.items()}
    given[A_MATRIX] = layer.lora_A["default"].weight.detach().cpu().double().numpy()
    return TokenLeak(given, true, candidates)


def _shortest(site: AuditedSite) -> Step | None:
    """The two shortest texts of one modality, of two patients and in other words; None where there are no two."""
    for modality in reversed(PAIRED):
        alone = of_modality(site.members, modality)[0]
        step = step_on(alone, range(len(alone)))
        by_length = sorted(range(len(alone)), key=lambda row: len(step.views[row][0].words))
        for row in by_length[1:]:
            first = by_length[0]
            others = alone.triplets[row].patient_id != alone.triplets[first].patient_id
            if others and step.views[row][0].words != step.views[first][0].words:
                return step_on(alone, [first, row])
    return None


def _whole_batch(site: AuditedSite) -> Step:
    seed = derived_seed(site.seed, "audit", "batch")
    rows = epoch_batches(site.members, site.recipe.training.batch_size, seed)[0]
    return step_on(site.members, rows, together=True)
