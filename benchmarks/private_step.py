"""How long one private step works: `python benchmarks/private_step.py --preset tiny --patients 24 128 256`.

Patients of random pictures, tracings and words, one to three studies each, go through the towers of a preset. A step is
what `client.private_training` does between two charges, on one thread: preparing the units that were drawn, embedding
the public bank (shown apart, as one drawing of it serves several steps), the clipped gradient of every unit, the noise.
The clipped sums of units taken together and one after the other are compared.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from client.private_bank import PublicBank, embed_bank
from client.private_loss import TowersLoss, UnitModel, decoupled, gradients_in_passes, in_group
from client.private_training import units_in_chunks
from client.private_units import rows_of_units
from more_model.data.study import Split, Triplet
from more_model.model.config import ModelConfig, preset
from more_model.model.lora import adapt
from more_model.model.more import build_more
from more_model.tokenizer import train_tokenizer
from more_model.training.examples import Examples
from more_model.training.settings import TrainingSettings
from privacy.private_step import private_parameters, private_step
from privacy.settings import PrivacySettings, schedule
from privacy.unit_gradients import ClippedSum, GradientsOfUnits, clipped_sum, gradients_one_by_one

CLIP_NORM, SITE_KEY, BANK = 0.1, bytes(32), 256
VOCABULARY = (
    "lungs are clear without effusion or pneumothorax heart size is normal mild enlarged cardiac silhouette left right "
    "basal opacity suggests pneumonia atelectasis no acute process unchanged compared with prior study sinus rhythm "
    "atrial fibrillation ventricular rate premature complexes bundle branch block st depression old infarction"
)


@dataclass(frozen=True)
class Arrays:
    """See `more_model.training.examples.Arrays`."""

    xrays: np.ndarray[Any, Any]
    ecgs: np.ndarray[Any, Any]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--patients", type=int, nargs="+", default=[24, 128, 256], help="in one step")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config = preset(asked.preset)
    tokenizer = train_tokenizer([VOCABULARY] * 4, config.text.vocabulary)
    model = build_more(config, seed=0, pad_id=int(tokenizer.pad_token_id)).eval()
    adapt(model, config, "ffa", 0)
    bank = PublicBank(site(config, BANK, "public"), negatives=BANK)
    words = {"tokenizer": tokenizer, "max_tokens": config.text.max_tokens}
    training = TrainingSettings(threads=1)
    seconds, embedded = measured(lambda: embed_bank(model, bank, training, **words), asked.repeats)
    print(f"preset {asked.preset}, one thread of {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print(f"the bank, {BANK} records: {seconds:.3f} s")
    unit_model = UnitModel(model)
    losses = {"patient-decoupled": decoupled(unit_model, embedded), "patient-groups": in_group(unit_model)}
    print("| mode | patients | units | together: s | one by one: s | times faster | largest difference / C |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for mode, loss in losses.items():
        for patients in asked.patients:
            print(row(mode, loss, site(config, patients, "site"), patients, training, words, asked.repeats), flush=True)


def row(
    mode: Any, loss: TowersLoss, examples: Examples, patients: int, training: TrainingSettings, words: Any, repeats: int
) -> str:
    """One line of the table; everybody takes part."""
    settings = PrivacySettings(mode=mode, noise_multiplier=1.0, delta=1e-6, sampling_rate=1.0)
    drawn = [rows for rows in rows_of_units(examples, settings, schedule(settings, patients), SITE_KEY) if rows]
    parameters = private_parameters(loss.model)

    def step(gradients: GradientsOfUnits) -> ClippedSum:
        return private_step(
            loss,
            parameters,
            units_in_chunks(loss.model.model, examples, drawn, training, words),
            clip_norm=CLIP_NORM,
            noise_multiplier=1.0,
            expected_units=len(drawn),
            gradients=gradients,
        ).drawn

    together, summed = measured(lambda: step(gradients_in_passes), repeats)
    one_by_one, _ = measured(lambda: step(gradients_one_by_one), 1)
    chunks = list(units_in_chunks(loss.model.model, examples, drawn, training, words))
    sums = [
        clipped_sum(loss, parameters, chunks, CLIP_NORM, gradients=way).sums
        for way in (gradients_in_passes, gradients_one_by_one)
    ]
    difference = max(float((sums[0][name] - sums[1][name]).abs().max()) for name in parameters) / CLIP_NORM
    return (
        f"| {mode} | {patients} | {summed.units} | {together:.3f} | {one_by_one:.3f} | {one_by_one / together:.1f} | "
        f"{difference:.1e} |"
    )


def measured(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Seconds of the processor, the fewest of some repeats after one that does not count, and the last result."""
    result, seconds = call(), []
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def site(config: ModelConfig, patients: int, name: str) -> Examples:
    """Random examples, the same for the same arguments."""
    generator = np.random.default_rng([patients, *name.encode()])
    studies = [patient for patient in range(patients) for _ in range(int(generator.choice(3, p=[0.7, 0.2, 0.1])) + 1)]
    size, samples = config.preprocessing.image_size, config.preprocessing.ecg_samples
    arrays = Arrays(
        generator.integers(0, 255, (len(studies), size, size), dtype=np.uint8),
        generator.normal(0, 0.3, (len(studies), 12, samples)).astype(np.float16),
    )

    def report(words: int) -> str:
        chosen = generator.choice(VOCABULARY.split(), size=max(4, int(generator.normal(words, words / 4))))
        return ". ".join(" ".join(chosen[start : start + 8]) for start in range(0, len(chosen), 8)) + "."

    triplets = [
        Triplet(f"{name}-{patient}", name, Split.TRAIN, number, number, report(50), report(12))
        for number, patient in enumerate(studies)
    ]
    return Examples.of(triplets, arrays)


if __name__ == "__main__":
    main()
