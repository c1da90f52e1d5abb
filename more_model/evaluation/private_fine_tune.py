"""Fine-tuning under differential privacy: the classifiers of `fine_tune`, trained by a `PrivateTraining`.

What decides on data in ordinary fine-tuning is left out: every task asked about is trained for, whatever the training
patients state; nothing stops early; every planned step runs.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from more_model.checkpoint import TrainedModel
from more_model.data.preprocessing import Preprocessing
from more_model.data.study import Split
from more_model.evaluation.bed import Bed
from more_model.evaluation.classifier import build_classifier
from more_model.evaluation.classifier_fit import Fit
from more_model.evaluation.embedded import ImageOrTrace
from more_model.evaluation.fine_tune import FineTuned, TunedTower
from more_model.evaluation.label_share import require_disjoint
from more_model.evaluation.labelled import labelled_studies, units_of
from more_model.evaluation.private_training import PrivateStudies, PrivateTraining
from more_model.evaluation.recipes import FineTuneRecipe
from more_model.progress import OnProgress
from more_model.training.loop import resolve_device
from more_model.training.seeds import derived_seed

_MADE_UP = 4


def fine_tune_privately(
    trained: TrainedModel,
    bed: Bed,
    recipe: FineTuneRecipe,
    budget: PrivateTraining,
    *,
    steps: int,
    seed: int,
    device: str,
    threads: int,
    on_progress: OnProgress,
) -> FineTuned:
    """Train a classifier for each modality that the tasks of ``bed`` ask about; ``trained`` is not changed.

    Of ``recipe``, what trains, the learning rate with its course, and the weight decay have a say. ``steps`` is for
    each modality. ``seed`` draws the first weights, nothing else.

    Raises:
        ConfigError: a model whose epsilon would be false.
        DataError: a patient in training and validation.
    """
    train = bed[Split.TRAIN]
    seen = units_of(train), units_of(bed[Split.VALIDATION])
    require_disjoint({"training": seen[0], "validation": seen[1]})
    towers: dict[ImageOrTrace, TunedTower] = {}
    for modality in dict.fromkeys(task.modality for task in bed.tasks):
        asked = [task for task in bed.tasks if task.modality == modality]
        studies = labelled_studies(train, modality, asked, "ignore")
        own = derived_seed(seed, "fine-tuning", modality)
        classifier = build_classifier(
            trained, modality, len(asked), recipe.name, blocks=recipe.blocks, seed=own
        ).to(resolve_device(device))  # fmt: skip
        private = PrivateStudies(
            studies.units(), studies.target, studies.studies, made_up_studies(modality, trained.config.preprocessing)
        )
        progress = partial(on_progress, f"private fine-tuning ({recipe.name}), {modality}")
        budget.fit(classifier, private, recipe.schedule(), steps=steps, threads=threads, on_step=progress)
        fit = Fit((), recipe.epochs)
        towers[modality] = TunedTower(classifier, tuple(asked), fit, len(studies), len(set(private.units)))
    return FineTuned(recipe, bed.tasks, "ignore", towers, {}, frozenset(seen[0]), frozenset(seen[1]), threads)


def made_up_studies(modality: ImageOrTrace, preprocessing: Preprocessing) -> Tensor:
    """A few studies that are nobody's, as the encoder takes them: uint8 [4, size, size] or float32 [4, 12, samples]."""
    generator = torch.Generator().manual_seed(0)
    if modality == "xray":
        size = preprocessing.image_size
        return torch.randint(0, 256, (_MADE_UP, size, size), dtype=torch.uint8, generator=generator)
    return torch.randn(_MADE_UP, 12, preprocessing.ecg_samples, generator=generator)
