"""A checkpoint of the released MoRE code -> a base folder that computes the same embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from more_model.base import Base, require_empty, save_base
from more_model.data.leads import STANDARD_LEADS
from more_model.errors import ConfigError, EnvironmentFault
from more_model.importing.mapping import MIMIC_LEADS, has_adapter, our_tensors, released_slots, under_peft
from more_model.importing.released_config import PAD_ID
from more_model.importing.report import ImportReport, require_fit
from more_model.model.config import ModelConfig
from more_model.model.more import build_more
from more_model.state_file import read_tensors
from more_model.tokenizer import load_tokenizer

#: Order of the 12 leads that the checkpoint was trained on.
EcgLeads = Literal["mimic", "standard"]
_LEADS = {"mimic": MIMIC_LEADS, "standard": STANDARD_LEADS}


def import_released(
    checkpoint: Path,
    out: Path,
    *,
    config: ModelConfig,
    tokenizer_folder: Path | None,
    ecg_leads: EcgLeads = "mimic",
) -> ImportReport:
    """Write the base folder ``out`` with the weights of ``checkpoint`` (`more_model.state_file.read_tensors`), all of
    them or none. ``config`` is `more_model.importing.released_config.released_config`, or the same in other sizes.

    The same X-ray, ECG and tokens give the same class tokens, text means and projections as in the released code, up to
    float error. An ECG is the same if its leads are: stores hold them in the standard order, the released code read
    MIMIC's order, so ``ecg_leads`` says how the first convolution's channels are to be reordered.

    Raises:
        EnvironmentFault: no tokenizer, or the checkpoint cannot be read.
        ConfigError: ``out`` is not empty, or the tokenizer is not RoBERTa's.
        ExchangeError: tensors are missing, unknown, of another shape, or not finite.
    """
    require_empty(out)
    tokenizer = _roberta_tokenizer(tokenizer_folder, config)
    state = under_peft(read_tensors(checkpoint, "checkpoint"))
    adapter = has_adapter(state)
    slots = released_slots(config, adapter=adapter)
    require_fit(state, slots, checkpoint.name)
    report = ImportReport(
        checkpoint=checkpoint.name,
        base=str(out),
        tensors=len(state),
        # BatchNorm's statistics are no parameters.
        parameters=sum(t.numel() for name, t in state.items() if ".running_" not in name and t.is_floating_point()),
        adapter_merged=adapter,
        unused=tuple(name for name in slots if ".pooler." in name),
        halved=sum(t.is_floating_point() and t.dtype.itemsize < 4 for t in state.values()),
        ecg_leads=ecg_leads,
        tokenizer_words=len(tokenizer),
        text_rows=config.text.vocabulary,
    )
    with torch.device("meta"):
        model = build_more(config, seed=0, pad_id=PAD_ID)
    ours = our_tensors(state, slots, config, _LEADS[ecg_leads])
    ours["log_temperature"] = torch.tensor([config.temperature.initial]).log()
    model.load_state_dict(ours, assign=True)
    save_base(Base(config, model, tokenizer, f"The base is the released MoRE checkpoint {checkpoint.name}."), out)
    return report


def _roberta_tokenizer(folder: Path | None, config: ModelConfig) -> Any:
    if folder is None:
        raise EnvironmentFault(
            "a checkpoint of the released code comes without its tokenizer",
            remedy="give --tokenizer a folder with the tokenizer of roberta-base (https://huggingface.co/FacebookAI/"
            "roberta-base): tokenizer.json and tokenizer_config.json, or vocab.json and merges.txt",
        )
    tokenizer = load_tokenizer(folder)
    faults = []
    if tokenizer.pad_token_id != PAD_ID:
        faults.append(f"its padding word has number {tokenizer.pad_token_id}, in roberta-base it is {PAD_ID}")
    if len(tokenizer) > config.text.vocabulary:
        faults.append(f"it has {len(tokenizer)} words, the text tower only {config.text.vocabulary}")
    if faults:
        raise ConfigError(f"tokenizer {folder}", faults, remedy="give the tokenizer of roberta-base")
    return tokenizer
