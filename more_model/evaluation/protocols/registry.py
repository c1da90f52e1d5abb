"""Every named protocol of `more-model evaluate`."""

from __future__ import annotations

from more_model.errors import ConfigError
from more_model.evaluation.protocols.chexpert import CHEXPERT_PROTOCOLS
from more_model.evaluation.protocols.edema import EDEMA_PROTOCOL
from more_model.evaluation.protocols.mimic import MIMIC_PROTOCOLS
from more_model.evaluation.protocols.protocol import Protocol
from more_model.evaluation.protocols.ptbxl import PTBXL_PROTOCOLS
from more_model.evaluation.protocols.table import TABLE_PROTOCOL

_PROTOCOLS: dict[str, Protocol] = {
    known.name: known
    for known in (*MIMIC_PROTOCOLS, *CHEXPERT_PROTOCOLS, EDEMA_PROTOCOL, *PTBXL_PROTOCOLS, TABLE_PROTOCOL)
}


def protocol_names() -> list[str]:
    """The names, in the order in which they are to be listed."""
    return list(_PROTOCOLS)


def protocol(name: str) -> Protocol:
    """The protocol of this name. Raises `ConfigError` naming those there are."""
    if name not in _PROTOCOLS:
        raise ConfigError(f"protocol {name!r}", [f"there is no such protocol; there are {', '.join(_PROTOCOLS)}"])
    return _PROTOCOLS[name]
