"""The published architecture, without memory for its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from more_model.lora_method import LoraMethod
    from more_model.model.more import More


@pytest.fixture(scope="module", params=["ffa", "fedit"])
def method(request: pytest.FixtureRequest) -> LoraMethod:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def more_base(method: LoraMethod) -> More:
    """more-base with adapters, on torch's meta device."""
    import torch

    from more_model.model.config import preset
    from more_model.model.lora import adapt
    from more_model.model.more import build_more

    config = preset("more-base")
    with torch.device("meta"):
        model = build_more(config, seed=0)
        adapt(model, config, method, 0)
    return model
