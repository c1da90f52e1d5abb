"""How a site trains. The coordinator sends these settings with every round, so all sites train alike."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingSettings(BaseModel):
    """One epoch sees every training patient's triplets once, at most one a batch; a patient with more triplets than the
    site has batches contributes as many as there are batches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    #: Share of all steps in which the learning rate rises from zero; then it falls along a cosine.
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    final_rate_fraction: float = Field(default=0.05, ge=0, le=1)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    #: FedProx: strength of the pull towards the round's global tensors; 0 is FedAvg.
    proximal_mu: float = Field(default=0.0, ge=0)
    #: Share of full triplets whose X-ray and ECG both face the joint text (1 is the published form); the others face
    #: the words about themselves alone, which is what a zero-shot prompt looks like.
    joint_probability: float = Field(default=0.5, ge=0, le=1)
    #: Share of those texts that are cut to one to three sentences.
    sentence_probability: float = Field(default=0.5, ge=0, le=1)
    augment: bool = True
    #: bf16 helps on GPUs; on a CPU without native bf16 it is slower than float32.
    precision: Literal["auto", "float32", "bf16"] = "auto"
    #: Sums in another number of threads differ in their last bits; equal numbers everywhere give equal results.
    threads: int = Field(default=2, ge=1)
    device: str = "auto"
