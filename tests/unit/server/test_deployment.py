"""What a deployed run is made of, before any site is asked. The run itself: tests/e2e/test_deployment.py."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli_w

from client.site_keys import make_keys
from more_model.errors import ConfigError, EnvironmentFault
from server.deployment import Prepared, new_run, prepare, run_name
from server.federation_file import EvaluationPart, FederationFile, load_federation
from server.journal import Journal, hold_journal
from server.superlink_service import register_of

if TYPE_CHECKING:
    from simulation.workbench import Workbench


@pytest.fixture
def federation(miniature_bench: Workbench, tmp_path: Path) -> FederationFile:
    content = {
        "name": "trial",
        "public_address": "localhost:8443",
        "base": str(miniature_bench.base_folder),
        "evaluation": {"metric": "macro_auroc"},
        "rounds": {"rounds": 3},
        "sites": {
            name: {"patients": 100, "modalities": ["xray", "ecg", "report"]} for name in ("south", "north", "east")
        },
    }
    (tmp_path / "federation.toml").write_text(tomli_w.dumps(content))
    return load_federation(tmp_path)


def enroll(federation: FederationFile, *sites: str) -> None:
    for name in sites:
        made = make_keys(federation.state / name, name, patients=100, modalities=("xray", "ecg", "report"))
        register_of(federation).enroll(made.enrolment, by="tester")


def prepared(federation: FederationFile) -> Prepared:
    enroll(federation, "north", "south", "east")
    return prepare(federation)


def test_every_site_that_is_named_and_not_enrolled_is_named_at_once(federation: FederationFile) -> None:
    enroll(federation, "south")
    with pytest.raises(ConfigError, match="not enrolled") as refused:
        prepare(federation)
    assert [fault.split(":")[0] for fault in refused.value.faults] == ["east", "north"]


def test_a_run_asks_the_enrolled_sites_in_a_fixed_order_and_keeps_its_name(federation: FederationFile) -> None:
    first = prepared(federation)
    assert first.federation.sites == ("east", "north", "south")
    assert first.name.startswith("trial-") and prepare(federation).name == first.name
    assert first.terms is not None
    assert prepare(federation).facts == first.facts


def test_a_run_that_has_begun_goes_on_without_a_site_that_was_revoked(federation: FederationFile) -> None:
    rounds = federation.rounds.model_copy(update={"minimum_sites": 2})
    federation = federation.model_copy(update={"rounds": rounds})
    first, register = prepared(federation), register_of(federation)
    register.revoke("east", reason="hostile", by="tester")
    with pytest.raises(ConfigError, match="not enrolled"):
        prepare(federation)
    Journal(federation.run_folder, run=first.facts).close()
    assert prepare(federation).facts == first.facts
    register.revoke("north", reason="hostile too", by="tester")
    with pytest.raises(ConfigError, match="not enrolled"):
        prepare(federation)


def test_a_new_run_puts_the_old_one_aside_under_its_name(federation: FederationFile) -> None:
    assert new_run(federation) is None
    name = run_name(federation)
    aside = new_run(federation)
    assert aside is not None and aside.name == name and (aside / "name").is_file()
    assert run_name(federation) != name


def test_a_run_that_goes_on_is_not_put_aside(federation: FederationFile) -> None:
    name = run_name(federation)
    with closing(hold_journal(federation.run_folder)), pytest.raises(EnvironmentFault, match="another process writes"):
        new_run(federation)
    assert run_name(federation) == name


def test_what_may_not_change_between_start_and_resume_is_in_the_facts(federation: FederationFile) -> None:
    before = prepared(federation).facts
    changed = {"seed": federation.seed + 1, "local_epochs": 2, "evaluation": EvaluationPart(split="test")}
    after = prepare(federation.model_copy(update=changed)).facts
    assert {key for key in before if before[key] != after[key]} == changed.keys()
