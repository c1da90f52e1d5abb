"""A model of a few thousand parameters, its tokenizer, and toy patients with as many studies as asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from client.private_bank import PublicBank
    from more_model.model.more import More
    from more_model.training.examples import Examples

SMALL: dict[str, Any] = {
    "name": "test",
    "normalisation": "layer",
    "preprocessing": {"image_size": 16, "ecg_rate_hz": 50, "ecg_seconds": 1},
    "xray": {"width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "patch_size": 8, "channels": 1},
    "ecg": {
        "width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0,
        "channels": 8, "kernel": 5, "stride": 5, "second_stride": 2, "train_tokeniser": True,
    },
    "text": {
        "width": 16, "depth": 2, "heads": 2,
        "vocabulary": 320, "max_tokens": 64, "dropout": 0.1, "pooling": "auto",
    },
    "heads": {"hidden": 16, "embedding": 8},
    "lora": {
        "rank": 2, "alpha": 4.0, "dropout": 0.1, "text_bias": "none",
        "xray_targets": ["qkv"], "ecg_targets": ["qkv"], "text_targets": ["query", "value"],
    },
    "dropkey": {"rate": 0.2, "schedule": "linear"},
    "temperature": {"initial": 0.2, "learned": False},
}  # fmt: skip

FINDINGS = ("clear lungs", "large heart", "left effusion", "right pneumothorax")
RHYTHMS = ("sinus rhythm", "atrial fibrillation", "left bundle branch block", "old infarction")


@pytest.fixture(scope="session")
def small_tokenizer() -> Any:
    """As many words as the text tower has rows for."""
    from more_model.tokenizer import train_tokenizer

    return train_tokenizer([*FINDINGS, *RHYTHMS, "chest x-ray report:", "ecg report:"], 320)


@pytest.fixture
def small_model(small_tokenizer: Any) -> Callable[..., More]:
    """A builder: an adapted model; keywords are laid over the sizes above."""
    from more_model.model.config import preset
    from more_model.model.lora import adapt
    from more_model.model.more import build_more

    def build(**overrides: Any) -> More:
        parts = {part: {**SMALL[part], **more} if isinstance(more, dict) else more for part, more in overrides.items()}
        config = preset("tiny", {**SMALL, **parts})
        model = build_more(config, seed=5, pad_id=int(small_tokenizer.pad_token_id))
        adapt(model, config, "ffa", public_seed=0)
        return model

    return build


@dataclass(frozen=True)
class ToyArrays:
    xrays: np.ndarray[Any, Any]
    ecgs: np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def toy_site() -> Callable[..., Examples]:
    """A builder of a site from the number of studies of each patient: a sequence (patients ``0``, ``1``, ...) or a
    mapping from patient numbers.

    Patient ``i`` has finding ``i % 4`` in picture, tracing and words, and the same arrays whoever else is there.
    """
    from more_model.data.study import Split, Triplet
    from more_model.training.examples import Examples

    def build(studies: Sequence[int] | Mapping[int, int], *, site: str = "north") -> Examples:
        of_patient = studies if isinstance(studies, Mapping) else dict(enumerate(studies))
        xrays, ecgs, triplets = [], [], []
        for patient, count in of_patient.items():
            generator = np.random.default_rng([patient, *site.encode()])
            kind = patient % 4
            for _ in range(count):
                xray = generator.integers(0, 60, (16, 16), dtype=np.uint8)
                xray[:: 2 - kind % 2, :: 2 - kind // 2] += 180
                ecg = generator.normal(0, 0.05, (12, 50))
                ecg[3 * kind : 3 * kind + 3] += np.sin(np.linspace(0, 10 * np.pi, 50))
                row = len(triplets)
                words = FINDINGS[kind], RHYTHMS[kind]
                triplets.append(Triplet(f"{site}-{patient}", site, Split.TRAIN, row, row, *words))
                xrays.append(xray)
                ecgs.append(ecg)
        return Examples.of(triplets, ToyArrays(np.array(xrays), np.array(ecgs, dtype=np.float16)))

    return build


@pytest.fixture
def bank(toy_site: Callable[..., Examples]) -> PublicBank:
    """Eight public patients."""
    from client.private_bank import PublicBank

    return PublicBank(toy_site([1] * 8, site="public"))


@pytest.fixture
def train(small_model: Callable[..., More], small_tokenizer: Any, bank: PublicBank) -> Callable[..., Any]:
    """Train a fresh model; plain gradient descent with rate 1 and hardly any noise unless told otherwise, so that one
    step shows its gradient; nothing is drawn of the texts. Returns the model and the report."""
    import torch

    from client.private_training import PrivateReport, train_privately
    from more_model.training.settings import TrainingSettings
    from privacy.settings import PrivacySettings, schedule

    usual = PrivacySettings(
        mode="patient-decoupled", noise_multiplier=1.0, delta=1e-3, sampling_rate=1.0, clip_norm=0.5
    )
    keywords = {
        "steps": 1, "noise_multiplier": 1e-7, "site_key": b"a key of one site, for tests only", "max_tokens": 64,
        "training": TrainingSettings(joint_probability=1.0, sentence_probability=0.0, threads=1),
        "tokenizer": small_tokenizer, "charge": lambda _: None,
    }  # fmt: skip

    def run(examples: Any, settings: PrivacySettings | None = None, **more: Any) -> tuple[More, PrivateReport]:
        settings = settings or usual
        model = more.pop("model", None) or small_model()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = more.pop("optimiser", lambda parameters: torch.optim.SGD(parameters, lr=1.0))(trained)
        patients = len({triplet.patient_id for triplet in examples.triplets})
        planned = more.pop("planned", None) or schedule(settings, patients)
        used = more.pop("bank", bank)
        return model, train_privately(model, optimiser, examples, used, settings, planned, **{**keywords, **more})

    return run
