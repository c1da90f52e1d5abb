"""What a site is told of its last answer goes beside its question, and is no part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from more_model.exchange import FACTS_RECORD, TENSORS_RECORD, Fingerprint, Instruction
from server.flower_grid import GridTransport, Outgoing
from server.journal import Participation, RoundRecord, verdicts

ASKED = Instruction(2, 4, {"w": np.ones(3, np.float32)}, "{}", 7, "s", Fingerprint({"base": "b"}), "trial")


def test_only_the_site_that_is_meant_is_told() -> None:
    sent: dict[str, Outgoing] = {}

    def send(asked: Mapping[str, Outgoing], timeout_s: float) -> dict[str, Any]:
        sent.update(asked)
        return {}

    told = {"south": "round 1: quarantined (its norm is 9)", "stranger": "round 1: absent (asleep)"}
    GridTransport(send, lambda: told).exchange(dict.fromkeys(("north", "south"), ASKED), timeout_s=1)
    facts = {site: dict(each.content.config_records[FACTS_RECORD]) for site, each in sent.items()}
    assert facts.keys() == {"north", "south"}
    assert facts["south"] == {**facts["north"], "verdict": told["south"]} and facts["north"] == ASKED.facts()
    assert sent["north"].content[TENSORS_RECORD] == sent["south"].content[TENSORS_RECORD]


def test_sites_that_are_in_a_round_are_told_nothing_of_it() -> None:
    sites = (
        Participation("east", "accepted"),
        Participation("north", "quarantined", "x" * 999),
        Participation("south", "absent", "no answer"),
    )
    told = verdicts(RoundRecord(3, sites, None, None, 0, 1.0))
    assert told.keys() == {"north", "south"}
    assert told["south"] == "round 3: absent (no answer)" and len(told["north"]) == 300
