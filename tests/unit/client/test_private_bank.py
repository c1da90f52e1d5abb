"""The public bank: embedded as asked, and never with a gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from client.private_bank import PublicBank, embed_bank
from client.private_loss import UnitModel, decoupled
from more_model.data.study import Modality
from more_model.training.settings import TrainingSettings

PLAIN = TrainingSettings(joint_probability=1.0, sentence_probability=0.0, threads=1)


@pytest.fixture
def bank(toy_site: Any) -> PublicBank:
    return PublicBank(toy_site([1] * 8, site="public"))


def test_bank_rows_described_alike_are_left_out(small_model: Any, bank: PublicBank, small_tokenizer: Any) -> None:
    embedded = embed_bank(small_model().eval(), bank, PLAIN, tokenizer=small_tokenizer, max_tokens=64)
    pairs = embedded[Modality.XRAY]
    assert pairs.text.shape == pairs.study.shape == (8, 8)
    assert not pairs.text.requires_grad

    def loss_of_first(bank: Any) -> float:
        unit = {
            "words": pairs.words[:1],
            "alike": torch.zeros(1, dtype=torch.int64),
            "xray_rows": torch.zeros(1, dtype=torch.int64),
            "ecg_rows": torch.full((1,), -1),
        }
        own = {"text": pairs.text[:1], "xray": pairs.study[:1], "ecg": torch.zeros(1, 8)}
        loss = decoupled(UnitModel(small_model()), {Modality.XRAY: bank, Modality.ECG: embedded[Modality.ECG]})
        return float(loss.of_embedded({**own, **loss.public, "temperature": torch.tensor([0.2])}, unit))

    other = pairs.words != pairs.words[0]
    assert int(other.sum()) == 6
    left = replace(pairs, text=pairs.text[other], study=pairs.study[other], words=pairs.words[other])
    assert loss_of_first(pairs) == pytest.approx(loss_of_first(left), rel=1e-6)
    assert loss_of_first(replace(pairs, words=torch.arange(8) + 10)) > loss_of_first(pairs) + 1e-3


def test_only_pairs_of_the_modalities_asked_for_are_embedded(
    small_model: Any, bank: PublicBank, small_tokenizer: Any
) -> None:
    model = small_model().eval()
    model.xray.register_forward_hook(lambda *_: pytest.fail("nobody has a picture"))
    embedded = embed_bank(model, bank, PLAIN, tokenizer=small_tokenizer, max_tokens=64, modalities=[Modality.ECG])
    assert len(embedded[Modality.ECG].words) == len(embedded[Modality.ECG].study) == 8
    assert len(embedded[Modality.XRAY].words) == len(embedded[Modality.XRAY].study) == 0
