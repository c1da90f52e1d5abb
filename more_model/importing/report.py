"""What an import took, what it left, and what the imported weights still expect of their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from more_model.errors import ExchangeError
from more_model.importing.mapping import Slot

_NAMED = 5

#: Facts of the released code's data reading that no weight carries.
INPUT_DIFFERENCES = (
    "X-rays: published pixels are resized without keeping the aspect and equalised with CLAHE; a site store keeps the "
    "aspect by padding and does not equalise.",
    "ECGs: the published baseline is removed by median filters of 0.2 s and 0.6 s before each lead is scaled to "
    "[-1, 1]; here the median of each lead is taken off, then the same scaling.",
    "Texts: the published prefixes are 'The report from Xray is:' and 'The report from ECG is:', and two reports are "
    "tokenised as a pair; here the prefixes are 'chest x-ray report:' and 'ecg report:' in one text.",
    "Texts: published X-ray prompts are padded to 512 tokens and ECG prompts to 128, which shifts a mean over all "
    "positions; here every text counts as text.padded_tokens long.",
)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """One finished import. ``unused`` are known tensors that no embedding depends on; ``halved`` counts tensors that
    were stored in less than float32."""

    checkpoint: str
    base: str
    tensors: int
    parameters: int
    adapter_merged: bool
    unused: tuple[str, ...]
    halved: int
    ecg_leads: str
    tokenizer_words: int
    text_rows: int
    input_differences: tuple[str, ...] = INPUT_DIFFERENCES

    def as_text(self) -> str:
        """Lines for a terminal."""
        adapter = "its LoRA adapter merged" if self.adapter_merged else "without adapters (merged before it was saved)"
        lines = [
            f"{self.checkpoint}: all {self.tensors} tensors known, {self.parameters:,} parameters, {adapter}",
            f"  not used: {', '.join(self.unused)}",
            f"  ECG leads: {self.ecg_leads} order in the checkpoint, standard order in the base",
        ]
        if self.halved:
            lines.append(f"  {self.halved} tensors were stored in less than float32")
        if self.tokenizer_words != self.text_rows:
            lines.append(
                f"  the tokenizer has {self.tokenizer_words} words, the text tower {self.text_rows} rows: "
                "if it is not the one of training, every text embedding is wrong"
            )
        lines.append("  inputs differ from the published ones:")
        lines += [f"    {difference}" for difference in self.input_differences]
        return "\n".join([*lines, f"base folder: {self.base}"])


def require_fit(state: Mapping[str, Tensor], slots: Mapping[str, Slot], checkpoint: str) -> None:
    """Refuse a state dict that does not hold exactly the tensors of ``slots``, or holds numbers that are not finite.

    Raises:
        ExchangeError: counts and first names of what is missing, extra, of another shape, or not finite.
    """
    missing = [name for name in slots if name not in state]
    extra = [name for name in state if name not in slots]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {slot.shape}"
        for name, slot in slots.items()
        if name in state and tuple(state[name].shape) != slot.shape
    ]
    spoilt = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    found = [("missing", missing), ("extra", extra), ("of another shape", reshaped), ("not finite", spoilt)]
    if not any(names for _, names in found):
        return
    counts = ", ".join(f"{len(names)} {fault}" for fault, names in found if names)
    listing = "\n".join(f"  {fault}: {_first(names)}" for fault, names in found if names)
    raise ExchangeError(
        f"{checkpoint} is not the released model ({len(state)} tensors, {len(slots)} expected): {counts}\n{listing}",
        remedy="give the state dict as the released training script saves it, with or without its LoRA adapter merged",
        avoid="load a part of it: the rest would be random without anyone noticing",
    )


def _first(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
