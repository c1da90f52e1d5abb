"""The training loop that every arm and every site uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from more_model.errors import RoundError
from more_model.model.loss import ContrastiveTerms, contrastive_terms
from more_model.model.more import More
from more_model.training.augment import augment_ecgs, augment_xrays
from more_model.training.examples import Batch, Examples, epoch_batches, make_batch
from more_model.training.seeds import derived_seed
from more_model.training.settings import TrainingSettings
from more_model.training.threads import using_threads
from more_model.training.views import drawn_views
from more_model.training.watch import StepWatch


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a run: segment ``index`` (from 0) of ``count``, ``epochs`` epochs long. A federated round at a site
    is one segment; so is the same stretch of the centralised run."""

    index: int
    count: int
    epochs: int


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """What a segment did. Losses are means over steps; ``watched`` is what `more_model.training.watch` saw."""

    steps: int
    loss: float
    xray_pairs: int
    ecg_pairs: int
    triplets: int
    watched: Mapping[str, float] = field(default_factory=dict)


def learning_rate(progress: float, settings: TrainingSettings) -> float:
    """Linear warm-up, then a cosine down to ``final_rate_fraction``; ``progress`` in [0, 1] over the whole run."""
    if progress < settings.warmup_fraction:
        return settings.learning_rate * progress / settings.warmup_fraction
    fall = (progress - settings.warmup_fraction) / (1 - settings.warmup_fraction)
    share = settings.final_rate_fraction + (1 - settings.final_rate_fraction) * (1 + math.cos(math.pi * fall)) / 2
    return settings.learning_rate * share


def build_optimiser(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW over what trains; weight decay on matrices only, never on biases, norms or the temperature."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def resolve_device(name: str) -> torch.device:
    """``auto`` takes the GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def train_segment(
    model: More,
    optimiser: torch.optim.Optimizer,
    examples: Examples,
    settings: TrainingSettings,
    segment: Segment,
    *,
    tokenizer: Any,
    max_tokens: int,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> SegmentReport:
    """Train ``model`` in place for one segment. Equal inputs give equal bits (on one kind of CPU, one thread count).

    ``proximal_mu`` pulls towards the values the trainable tensors had at the start of the segment (FedProx, Li et al.
    2020). Torch's random state is left as it was.

    Raises:
        RoundError: nothing to train on, or a loss that is not finite (the model is then not usable).
    """
    usable = examples.trainable()
    # A batch of one triplet has nothing to contrast with.
    plan = [
        [
            rows
            for rows in epoch_batches(usable, settings.batch_size, derived_seed(seed, "order", epoch))
            if len(rows) > 1
        ]
        for epoch in range(segment.epochs)
    ]
    steps = sum(len(batches) for batches in plan)
    if steps == 0:
        raise RoundError("there are not two studies with words about them", remedy="check the pairing and the reports")
    anchor = [p.detach().clone() for p in model.parameters() if p.requires_grad] if settings.proximal_mu else []
    losses, done, pairs, watch = [], 0, np.zeros(3, dtype=np.int64), StepWatch(model)
    draws = np.random.default_rng(derived_seed(seed, "texts"))
    with deterministic(derived_seed(seed, "noise"), settings.threads):
        model.train()
        for rows in (rows for batches in plan for rows in batches):
            progress = (segment.index + (done + 1) / steps) / segment.count
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(progress, settings)
            views = [drawn_views(usable.triplets[row], settings, draws) for row in rows]
            batch = make_batch(usable, rows, views, tokenizer=tokenizer, max_tokens=max_tokens)
            terms = _step(model, optimiser, batch, settings, anchor, watch)
            losses.append(float(terms.total.detach()))
            pairs += (terms.xray_pairs, terms.ecg_pairs, len(rows))
            done += 1
            if on_step is not None:
                on_step(done, steps)
    if not np.isfinite(losses).all():
        raise RoundError("the loss is not finite", remedy="lower the learning rate", avoid="send this update")
    return SegmentReport(done, float(np.mean(losses)), int(pairs[0]), int(pairs[1]), int(pairs[2]), watch.means())


def _step(
    model: More,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    settings: TrainingSettings,
    anchor: Sequence[Tensor],
    watch: StepWatch,
) -> ContrastiveTerms:
    device = next(model.parameters()).device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    use_bf16 = settings.precision == "bf16" or (settings.precision == "auto" and device.type == "cuda")
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bf16):
        terms = batch_terms(model, batch, augment=settings.augment)
    optimiser.zero_grad(set_to_none=True)
    terms.total.backward()  # type: ignore[no-untyped-call]
    watch.add(batch, terms)
    # The gradient of mu/2 |p - anchor|^2, but not for towers that saw nothing: those must stay exactly as they are.
    for parameter, start in zip(trained, anchor, strict=bool(anchor)):
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - start, alpha=settings.proximal_mu)
    torch.nn.utils.clip_grad_norm_(trained, settings.max_gradient_norm)
    optimiser.step()
    return terms


def batch_terms(model: More, batch: Batch, *, augment: bool) -> ContrastiveTerms:
    """Embed one batch and compare; a tower with fewer than two inputs in this batch is not run."""
    device = next(model.parameters()).device
    text = model.text(batch.ids.to(device), batch.mask.to(device)).projection
    nothing = text.new_zeros((0, text.shape[1]))
    xray = ecg = nothing
    if batch.xrays is not None and len(batch.xray_rows) > 1:
        pixels = batch.xrays.to(device)
        xray = model.xray(augment_xrays(pixels) if augment else pixels).projection
    if batch.ecgs is not None and len(batch.ecg_rows) > 1:
        signal = batch.ecgs.to(device)
        ecg = model.ecg(augment_ecgs(signal) if augment else signal).projection
    return contrastive_terms(
        text,
        xray,
        ecg,
        xray_rows=batch.xray_rows[: len(xray)].to(device),
        ecg_rows=batch.ecg_rows[: len(ecg)].to(device),
        patients=batch.patients.to(device),
        words=batch.words.to(device),
        temperature=model.temperature,
    )


@contextmanager
def deterministic(seed: int, threads: int) -> Iterator[None]:
    """Torch draws from ``seed`` and sums in ``threads`` threads inside; both are as before afterwards."""
    with using_threads(threads), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
