"""Packages that only the readers need, loaded at first use so that training imports without them."""

from __future__ import annotations

import importlib
from types import ModuleType

from more_model.errors import EnvironmentFault


def load_package(module: str, purpose: str) -> ModuleType:
    """The imported ``module``; ``purpose`` completes the sentence "... is needed to ...".

    Raises `EnvironmentFault` naming the package where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise EnvironmentFault(
            f"The Python package '{package}' is needed to {purpose}, and it is not installed.",
            remedy=f"install '{package}' into this environment (it is among the locked requirements)",
        ) from error
