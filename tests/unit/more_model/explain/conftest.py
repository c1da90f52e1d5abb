"""A site whose X-rays carry a bright spot and whose ECGs carry a tall beat where there is a finding, and a model that
learnt to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from more_model.checkpoint import TrainedModel
    from more_model.evaluation.prompt_sets import PromptSet
    from more_model.model.config import ModelConfig

PATIENTS, SIZE, SAMPLES = 240, 32, 200


@dataclass(frozen=True)
class Planted:
    """``store``: a site store. ``lesions``: its lesion table. ``trained``: the model. ``prompts``: its findings."""

    store: Path
    lesions: Path
    trained: TrainedModel
    prompts: PromptSet


@pytest.fixture(scope="session")
def planted(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., ModelConfig], tokenizer: Any
) -> Planted:
    from more_model.evaluation.embedded import LabelTask
    from more_model.evaluation.prompt_sets import LabelPrompts, PromptSet

    folder = tmp_path_factory.mktemp("planted")
    prompts = PromptSet(
        "planted",
        (
            LabelPrompts(
                LabelTask("Lung Lesion", "xray"), ("left effusion",), ("clear lungs",), "chest x-ray report: "
            ),
            LabelPrompts(LabelTask("CD", "ecg"), ("left bundle branch block",), ("sinus rhythm",), "ecg report: "),
        ),
    )
    config = tiny_config(
        preprocessing={"image_size": SIZE, "ecg_rate_hz": 50, "ecg_seconds": 4}, ecg={"second_stride": 1}
    )
    _write_site(folder)
    trained = _trained(config, tokenizer, prompts, folder / "site")
    return Planted(folder / "site", folder / "synthetic_lesions.csv", trained, prompts)


def _write_site(folder: Path) -> None:
    from more_model.data.preprocessing import Preprocessing
    from more_model.data.store import SiteStore, StoredStudy
    from more_model.data.study import Modality

    generator = np.random.default_rng(5)
    lesions, sizes = ["dicom_id,finding,x,y,radius"], ["dicom_id,Rows,Columns"]
    with SiteStore.create(
        folder / "site", "site", Preprocessing(image_size=SIZE, ecg_rate_hz=50, ecg_seconds=4)
    ) as store:
        for number in range(PATIENTS):
            present, patient = number % 2 == 1, f"p{number}"
            pixels = generator.integers(60, 120, (SIZE, SIZE)).astype(np.uint8)
            signal = generator.normal(0, 0.1, (12, SAMPLES))
            (x, y), beat = 4 + 8 * generator.integers(0, 4, 2), generator.integers(0, 180)
            if present:
                pixels[y - 4 : y + 4, x - 4 : x + 4] += 120
                signal[7, beat : beat + 15] += 2.0
                lesions.append(f"x{number},Lung Lesion,{x / SIZE},{y / SIZE},{4 / SIZE}")
            sizes.append(f"x{number},{SIZE},{SIZE}")
            for modality, array, label in (
                (Modality.XRAY, pixels, "Lung Lesion"),
                (Modality.ECG, signal.astype(np.float16), "CD"),
            ):
                key = f"{modality.value[0]}{number}"
                store.append(StoredStudy(modality, key, patient, key, labels={label: float(present)}), array)
    (folder / "synthetic_lesions.csv").write_text("\n".join(lesions) + "\n", encoding="utf-8")
    table = folder / "mimic-cxr-jpg" / "mimic-cxr-2.0.0-metadata.csv.gz"
    table.parent.mkdir()
    import gzip

    with gzip.open(table, "wt", encoding="utf-8") as file:
        file.write("\n".join(sizes) + "\n")


def _trained(config: ModelConfig, tokenizer: Any, prompts: PromptSet, store: Path) -> TrainedModel:
    """A few hundred steps on the score itself, on the training patients; the text tower stays as it began."""
    import torch

    from more_model.checkpoint import TrainedModel
    from more_model.cohort_file import load_cohort
    from more_model.data.study import Split
    from more_model.explain.measure import label_directions
    from more_model.model.more import build_more
    from more_model.training.threads import using_threads

    model = build_more(config, seed=1, pad_id=int(tokenizer.pad_token_id))
    trained = TrainedModel(config, model, tokenizer, "Trained on planted signals.", "0" * 64, adapted=False)
    examples = load_cohort(store).examples.of_split(Split.TRAIN)
    towers = {"xray": (model.xray, "Lung Lesion"), "ecg": (model.ecg, "CD")}
    with using_threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for modality, (tower, label) in towers.items():
            kept = examples.where(lambda triplet, modality=modality: getattr(triplet, modality) is not None)
            inputs = (kept.xrays if modality == "xray" else kept.ecgs)(range(len(kept))).float()
            truth = torch.tensor([triplet.labels[label] for triplet in kept.triplets])
            along = label_directions(trained, prompts, modality)[label]
            optimiser = torch.optim.AdamW(tower.parameters(), lr=3e-3)
            tower.train()
            for _ in range(250):
                rows = torch.randperm(len(kept))[:48]
                logits = 10 * tower(inputs[rows]).projection @ along / along.norm()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    model.eval()
    return trained
