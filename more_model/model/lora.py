"""LoRA on all three towers, through PEFT. The bases are frozen; what trains is listed by `trainable_names`."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from torch.nn import functional

from more_model.errors import ConfigError
from more_model.lora_method import RESIDUAL, LoraMethod, factor_of, factor_rounds
from more_model.model.config import Lora, ModelConfig
from more_model.model.more import More
from more_model.model.vit import EcgEncoder, XrayEncoder

Part = TypeVar("Part", bound=nn.Module)

#: A is rounded to this grid, so that the last digit of another machine's linear algebra cannot change its bits.
_GRID = 2.0**-16


def adapt(model: More, config: ModelConfig, method: LoraMethod, public_seed: int) -> None:
    """Freeze ``model``, add LoRA to its encoders (none with rank 0), and let only the adapters, the heads,
    the ECG tokeniser (if configured) and a learned temperature train.

    B starts at zero, so the adapted model computes what the base computes. A is orthonormal, from ``public_seed`` and
    the tensor's name, for every method. What trains afterwards is what trains without rounds; within a round, some
    methods keep a factor still (`only_training`).

    Raises:
        ConfigError: a target that names no module, or an unknown method.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    text_targets = _text_targets(model.text.encoder.encoder, config.lora)
    # PEFT draws first values for the factors; they are replaced below, and the draw must not show outside.
    with torch.random.fork_rng(devices=[]):
        _inject_all(model, config, text_targets)
    _start_factors(model, method, public_seed)
    if factor_rounds(method).residual:
        _add_residuals(model)
    _release_dense_parts(model, config)


def adapt_encoder(encoder: XrayEncoder | EcgEncoder, lora: Lora, targets: tuple[str, ...], seed: int) -> None:
    """Freeze one encoder without adapters and add LoRA to it, of which both factors train; it starts as it was.

    Raises:
        ConfigError: a target that names no module.
    """
    encoder.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        _inject(encoder, lora, _in_blocks(targets))
    _start_factors(encoder, "fedit", seed)


def merged(part: Part) -> Part:
    """A copy of a model, or of a part of one, with its adapters added into the weights that they adapt: the same
    outputs up to rounding, and no LoRA in it. What trains is left as it was."""
    plain = copy.deepcopy(part)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            _fold_residual(layer)
            plain.set_submodule(name, layer.get_base_layer())
        elif hasattr(layer, "peft_config"):
            # PEFT would take a later adapter for a second one beside those that are gone.
            del layer.peft_config
    return plain


def _start_factors(module: nn.Module, method: LoraMethod, public_seed: int) -> None:
    for name, parameter in lora_factors(module, "A"):
        parameter.data.copy_(torch.from_numpy(orthonormal_factor(name, tuple(parameter.shape), public_seed)))
        parameter.requires_grad_(factor_rounds(method).a is not None)
    for _, parameter in lora_factors(module, "B"):
        parameter.data.zero_()
        parameter.requires_grad_(True)


@contextmanager
def only_training(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """While the block runs, nothing trains but the parameters called ``names``; optimisers are built inside it.

    For a round at a site: the names of `ExchangeSpec.upward`, as what trains and does not travel would be lost, and
    under differential privacy paid for in vain.
    """
    still = [parameter for name, parameter in model.named_parameters() if parameter.requires_grad and name not in names]
    try:
        for parameter in still:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def _add_residuals(model: nn.Module) -> None:
    """Give every adapted map a buffer ``lora_residual`` [out, in], zero at first, which counts as B A does."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.register_buffer(RESIDUAL.removeprefix("."), torch.zeros_like(layer.get_base_layer().weight))
            layer.register_forward_hook(_with_residual)


def _with_residual(layer: LoraLayer, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    residual: Tensor = functional.linear(inputs[0], layer.lora_residual).to(output.dtype)
    return output + float(layer.scaling["default"]) * residual


def _fold_residual(layer: LoraLayer) -> None:
    if hasattr(layer, "lora_residual"):
        weight = layer.get_base_layer().weight
        weight.data.add_(layer.lora_residual, alpha=layer.scaling["default"])


def _inject_all(model: More, config: ModelConfig, text_targets: tuple[str, ...]) -> None:
    _inject(model.xray.encoder, config.lora, _in_blocks(config.lora.xray_targets))
    _inject(model.ecg.encoder, config.lora, _in_blocks(config.lora.ecg_targets))
    _inject(model.text.encoder, config.lora, rf".*\.\d+\..*\b({_alternatives(text_targets)})")


def _in_blocks(targets: tuple[str, ...]) -> str:
    return rf".*blocks\.\d+\..*\b({_alternatives(targets)})"


def _release_dense_parts(model: More, config: ModelConfig) -> None:
    for tower in (model.xray, model.ecg, model.text):
        tower.head.requires_grad_(True)
    if config.ecg.train_tokeniser:
        model.ecg.encoder.tokeniser.requires_grad_(True)
    if config.lora.text_bias == "all":
        for name, parameter in model.text.encoder.named_parameters():
            if name.endswith(".bias"):
                parameter.requires_grad_(True)
    model.log_temperature.requires_grad_(config.temperature.learned)


def lora_factors(model: nn.Module, factor: Literal["A", "B"]) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of all A (``[rank, in]``) or B (``[out, rank]``) factors, in model order."""
    for name, parameter in model.named_parameters():
        if factor_of(name) == factor:
            yield name, parameter


def orthonormal_factor(name: str, shape: tuple[int, ...], public_seed: int) -> np.ndarray[Any, Any]:
    """A float32 ``[rank, in]`` matrix with orthonormal rows (columns where rank > in), the same bits for everyone who
    knows ``public_seed`` and ``name``."""
    digest = hashlib.sha256(f"{public_seed}:{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    rows, columns = shape
    gaussian = generator.standard_normal((max(rows, columns), min(rows, columns)))
    basis, triangle = np.linalg.qr(gaussian)
    basis = basis * np.sign(np.diag(triangle))  # QR is unique once the diagonal is positive
    oriented = basis.T if rows <= columns else basis
    return np.asarray(np.round(oriented / _GRID) * _GRID, dtype=np.float32)


def trainable_names(model: nn.Module) -> list[str]:
    """Names of all parameters that train, in model order."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _inject(encoder: nn.Module, lora: Lora, pattern: str) -> None:
    if lora.rank == 0:
        return
    try:
        inject_adapter_in_model(
            LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=pattern), encoder
        )
    except ValueError as error:
        linear = (name for name, part in encoder.named_modules() if isinstance(part, nn.Linear))
        names = sorted({name.rsplit(".", 1)[-1] for name in linear})
        raise ConfigError("lora", [f"no module matches {pattern!r}; linear maps there: {', '.join(names)}"]) from error


def _alternatives(targets: tuple[str, ...]) -> str:
    return "|".join(re.escape(target) for target in targets)


def _text_targets(encoder: Any, lora: Lora) -> tuple[str, ...]:
    if lora.text_targets != "auto":
        return lora.text_targets
    kind = encoder.config.model_type
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind)
    if known is None or isinstance(known, str):  # for some architectures PEFT holds an expression, not names
        raise ConfigError("lora.text_targets", [f"no default is known for {kind!r}: name the modules to adapt"])
    return tuple(known)
