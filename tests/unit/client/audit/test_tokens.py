"""Words: the full gradient holds them, LoRA's A hardly, B with A frozen not at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.audit.one_step import Step, plain_gradients, step_on, trainable_copy
from client.audit.site import AuditedSite
from client.audit.tokens import candidate_inputs, first_adapted, token_leaks
from more_model.tokenizer import encode
from more_model.training.examples import make_batch
from more_model.training.loop import batch_terms
from more_model.training.views import TextView
from privacy.audit.leaks import TokenLeakResult, token_leak

SHORT = "two short texts, one step, no privacy"
WHOLE = "a batch of whole reports, one step, no privacy"


@pytest.fixture(scope="module")
def terse(open_run: AuditedSite) -> AuditedSite:
    """The site with reports of one letter: fewer tokens than the layer is wide."""
    triplets = tuple(
        replace(triplet, xray=None, xray_report=None, ecg_report="a" if row % 2 else "b")
        for row, triplet in enumerate(open_run.members.triplets)
        if triplet.ecg is not None
    )
    members = replace(open_run.members, triplets=triplets, source_of=(0,) * len(triplets))
    return replace(open_run, members=members.trainable())


def results(site: AuditedSite, update: str) -> dict[str, TokenLeakResult]:
    return {found.gradient: found for found in token_leak(update, token_leaks(site)[update])}


def test_the_full_gradient_of_short_texts_betrays_every_word(terse: AuditedSite) -> None:
    full = results(terse, SHORT)["full"]
    assert not full.full
    assert full.true >= 5
    assert (full.found, full.mistaken) == (full.true, 0)


def test_lora_a_betrays_none_of_a_text_longer_than_its_rank(terse: AuditedSite) -> None:
    found = results(terse, SHORT)["lora_A"]
    assert found.rank == 2 < found.true
    assert found.found == 0


@pytest.mark.parametrize("update", [SHORT, WHOLE])
def test_lora_b_says_nothing_where_a_is_frozen(open_run: AuditedSite, terse: AuditedSite, update: str) -> None:
    found = results(terse if update == SHORT else open_run, update)["lora_B"]
    assert found.full
    assert found.found == 0


def test_a_batch_of_whole_reports_leaves_nothing_to_tell_apart(open_run: AuditedSite) -> None:
    """More words than the layer is wide: whatever a normalised embedding can be lies in their span."""
    full = results(open_run, WHOLE)["full"]
    assert full.true > full.width
    assert full.full or full.mistaken == full.candidates - full.true


def test_candidates_are_what_really_enters_the_layer(open_run: AuditedSite) -> None:
    model = trainable_copy(open_run.released.model)
    layer = first_adapted(model.text)
    assert layer is not None
    words = "chest x-ray report: mild edema."
    step = Step(open_run.members, [0], [[TextView(words, xray=True, ecg=False)]])
    true, candidates = candidate_inputs(model, layer, step, open_run)
    entered: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _module, inputs: entered.append(inputs[0]))
    ids, mask = encode(open_run.words["tokenizer"], [words], open_run.words["max_tokens"])
    with torch.no_grad():
        model.text(ids, mask)
    handle.remove()
    places = ids.shape[1]
    inner = entered[0][0, 1 : places - 1].numpy()  # without start and end
    assert len(true) == places - 2
    by_place = candidates[sorted(true, key=lambda row: row % places)]
    assert np.allclose(by_place, inner, atol=1e-6)


def test_gradients_are_those_of_the_loss(open_run: AuditedSite, terse: AuditedSite) -> None:
    """A small step against the gradient lowers the loss by what the gradient says."""
    model = trainable_copy(open_run.released.model)
    name = next(name for name, _ in model.named_parameters() if "lora_B" in name and name.startswith("text"))
    step = step_on(terse.members, [0, 1])
    gradient = plain_gradients(model, step, [name], open_run)[name]
    square = float(np.square(gradient).sum())

    def loss() -> float:
        batch = make_batch(step.examples, step.rows, step.views, **open_run.words)
        with torch.no_grad():
            return float(batch_terms(model, batch, augment=False).total)

    before, lower = loss(), 3e-5
    with torch.no_grad():
        model.get_parameter(name).sub_(torch.from_numpy(gradient) * lower / square)
    assert before - loss() == pytest.approx(lower, rel=0.1)


def test_privacy_leaves_no_direction_out(private_site: AuditedSite) -> None:
    leaks = token_leaks(private_site)
    private = {name: leak for name, leak in leaks.items() if name.endswith("private (z = 1)")}
    assert len(private) == 2
    for name, leak in private.items():
        found = {result.gradient: result for result in token_leak(name, leak)}
        assert found["full"].full
        assert found["lora_A"].found == 0


def test_a_model_without_adapters_has_no_adapted_layer(open_run: AuditedSite) -> None:
    from more_model.model.lora import merged

    plain = replace(open_run.released, model=merged(open_run.released.model))
    assert token_leaks(replace(open_run, released=plain)) == {}
