"""The newest head, kept a second time in another folder, so that an old copy of the ledger is found out.

The witness is written after the ledger's commit and before the charge is handed out. A crash in between leaves a ledger
that is one entry ahead, which is harmless; a ledger that is behind its witness was rolled back.
"""

from __future__ import annotations

import json
from pathlib import Path

from more_model.errors import ConfigError
from privacy.ledger.chain import Anchor, parse_anchor
from privacy.ledger.errors import LedgerDamaged
from privacy.ledger.files import write_whole

SCHEMA = 1


def write_witness(path: Path, ledger_id: str, anchor: Anchor) -> None:
    """Writes the anchor durably."""
    content = {"schema": SCHEMA, "ledger": ledger_id, "anchor": str(anchor)}
    write_whole(path, (json.dumps(content, sort_keys=True) + "\n").encode())


def read_witness(path: Path) -> tuple[str, Anchor]:
    """The ledger's id and the anchor.

    Raises:
        LedgerDamaged: the witness is gone or cannot be read.
    """
    if not path.is_file():
        raise LedgerDamaged(
            "The ledger's witness file is gone.",
            remedy="put it back; or, with the last COUNT:HEAD from the site's audit log, write a new one: "
            "more-privacy ledger verify --anchor COUNT:HEAD --write-witness",
            avoid="write a new one without such a head: nobody could tell whether the ledger was rolled back",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(content["schema"])
        return str(content["ledger"]), parse_anchor(str(content["anchor"]))
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise LedgerDamaged(
            "The ledger's witness file cannot be read.",
            remedy="put its newest copy back, or remove it and write a new one",
        ) from error
