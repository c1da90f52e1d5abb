"""Training of one classifier until its validation loss stops falling, and its logits over a set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from more_model.errors import RoundError
from more_model.evaluation.classifier import Classifier, masked_bce
from more_model.evaluation.embedded import Float64
from more_model.evaluation.labelled import LabelledStudies
from more_model.evaluation.recipes import FineTuneRecipe
from more_model.training.augment import augment_ecgs, augment_xrays
from more_model.training.loop import build_optimiser, deterministic, learning_rate
from more_model.training.seeds import derived_seed
from more_model.training.threads import using_threads

_SCORED_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean losses of one epoch (masked BCE); no validation loss where no validation study states a label."""

    training_loss: float
    validation_loss: float | None


@dataclass(frozen=True, slots=True)
class Fit:
    """The course of a training; ``kept`` is the number of the epoch (from 1) whose weights the classifier has: the one
    with the lowest validation loss, or the last where there is nothing to choose by."""

    epochs: tuple[Epoch, ...]
    kept: int


def steps_per_epoch(studies: int, batch_size: int) -> int:
    """Batches of nearly equal size and of at least two, because a batch normalisation cannot train on one."""
    return max(1, min(-(-studies // batch_size), studies // 2))


def fit(
    classifier: Classifier,
    train: LabelledStudies,
    validation: LabelledStudies,
    recipe: FineTuneRecipe,
    *,
    seed: int,
    threads: int,
    on_step: Callable[[int], None] | None = None,
) -> Fit:
    """Train ``classifier`` in place; equal inputs give equal bits (on one kind of CPU, one thread count).

    ``on_step`` gets the number of steps done. Torch's random state is left as it was.

    Raises:
        RoundError: a loss that is not finite (the classifier is then not usable).
    """
    optimiser = build_optimiser(classifier, recipe.schedule())
    epochs: list[Epoch] = []
    best, kept = np.inf, 0
    state: dict[str, Tensor] = {}
    for number in range(recipe.epochs):
        with deterministic(derived_seed(seed, "noise", number), threads):
            loss = _train_epoch(classifier, optimiser, train, recipe, number, seed, on_step)
        current = validation_loss(classifier, validation, threads=threads)
        _require_finite(loss, current)
        epochs.append(Epoch(loss, current))
        if current is None:
            kept = number + 1
        elif current < best:
            best, kept, state = current, number + 1, _what_trained(classifier)
        elif number + 1 - kept >= recipe.patience:
            break
    classifier.load_state_dict(state, strict=False)
    classifier.eval()
    return Fit(tuple(epochs), kept)


def validation_loss(classifier: Classifier, studies: LabelledStudies, *, threads: int) -> float | None:
    """Mean masked BCE over the studies, unweighted and without augmentation; None where there are none."""
    if len(studies) == 0:
        return None
    scores = torch.from_numpy(logits(classifier, studies, threads=threads))
    return float(masked_bce(scores, torch.from_numpy(studies.target)).mean())


@torch.inference_mode()
def logits(classifier: Classifier, studies: LabelledStudies, *, threads: int) -> Float64:
    """Float64 [n, tasks], in evaluation mode, read from the store batch by batch."""
    classifier.eval()
    device = classifier.linear.weight.device
    answers = [np.empty((0, classifier.linear.out_features))]
    for start in range(0, len(studies), _SCORED_AT_ONCE):
        places = range(start, min(start + _SCORED_AT_ONCE, len(studies)))
        with using_threads(threads):
            answers.append(classifier(studies.studies(places).to(device)).double().cpu().numpy())
    return np.concatenate(answers)


def _train_epoch(
    classifier: Classifier,
    optimiser: torch.optim.Optimizer,
    train: LabelledStudies,
    recipe: FineTuneRecipe,
    number: int,
    seed: int,
    on_step: Callable[[int], None] | None,
) -> float:
    """Every study once, in an order of this epoch; the mean loss."""
    schedule = recipe.schedule()
    weight = _positive_weight(train.target) if recipe.class_weights else None
    steps = steps_per_epoch(len(train), recipe.batch_size)
    order = np.random.default_rng(derived_seed(seed, "order", number)).permutation(len(train))
    losses = []
    classifier.train()
    for place, batch in enumerate(np.array_split(order, steps), start=number * steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(place / (recipe.epochs * steps), schedule)
        losses.append(_step(classifier, optimiser, train, batch.tolist(), recipe, weight))
        if on_step is not None:
            on_step(place)
    return float(np.mean(losses))


def _step(
    classifier: Classifier,
    optimiser: torch.optim.Optimizer,
    train: LabelledStudies,
    places: list[int],
    recipe: FineTuneRecipe,
    weight: Tensor | None,
) -> float:
    device = classifier.linear.weight.device
    studies, target = train.studies(places).to(device), torch.from_numpy(train.target[places]).float().to(device)
    if recipe.augment:
        studies = augment_xrays(studies) if train.modality == "xray" else augment_ecgs(studies)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        scores = classifier(studies)
    loss = masked_bce(scores, target, None if weight is None else weight.to(device)).mean()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    torch.nn.utils.clip_grad_norm_(trained, recipe.max_gradient_norm)
    optimiser.step()
    return float(loss.detach())


def _positive_weight(target: Float64) -> Tensor:
    """[tasks]: negatives / positives of each label."""
    return torch.from_numpy((target == 0.0).sum(axis=0) / (target == 1.0).sum(axis=0)).float()


def _what_trained(classifier: Classifier) -> dict[str, Tensor]:
    """Copies of what differs between two epochs: trained parameters, and all buffers."""
    chosen = [(name, p) for name, p in classifier.named_parameters() if p.requires_grad]
    return {name: tensor.detach().clone() for name, tensor in [*chosen, *classifier.named_buffers()]}


def _require_finite(*losses: float | None) -> None:
    if not np.isfinite([loss for loss in losses if loss is not None]).all():
        raise RoundError("fine-tuning: the loss is not finite", remedy="lower the learning rate of the recipe")
