"""`more-client policy allow`: a policy for exactly one federation, once a person has said what a card cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.installed_code import installed_code_digest
from client.policy import load_policy
from client.policy_check import SiteFacts, check_instruction, check_question
from more_model.exchange import ExchangeSpec, Fingerprint, Instruction, TensorSpec
from more_model.score_exchange import Question

# The fixtures `hand_out`, `run`, `init_north` and `decoupled` stand in conftest.py.
SPEC = ExchangeSpec((TensorSpec("text.head", (10, 25), "text"),))
NOW = datetime(2026, 7, 5, 3, 30, tzinfo=UTC)


def facts(told: str) -> SiteFacts:
    return SiteFacts("chest", told, installed_code_digest(), "ef" * 32, SPEC, 200, 200, 1, 0.0, 0)


def instruction(privacy: dict[str, Any] | None = None, secure_sum: str = "") -> Instruction:
    asked = json.dumps(privacy or {})
    return Instruction(8, 8, {}, "{}", 1, SPEC.digest(), Fingerprint({}), "trial", asked, secure_sum)


def question() -> Question:
    return Question("trial", 0, "validation", {}, "01" * 32, SPEC.digest(), Fingerprint({}))


@pytest.fixture
def site_of(hand_out: Any, init_north: Any, tmp_path: Path) -> Any:
    """``site_of(privacy=...)``: a site file for a card, and the fingerprint of the authority."""

    def make(**changes: Any) -> tuple[Path, str]:
        handed = hand_out(specification=SPEC.digest(), max_update_bytes=SPEC.nbytes, **changes)
        assert init_north(handed).exit_code == 0
        return tmp_path / "north" / "site.toml", handed.told

    return make


def test_it_allows_what_the_card_asks_for_and_nothing_else(site_of: Any, run: Any) -> None:
    site, told = site_of()
    done = run("policy", "allow", site, "--minimum-patients", 200, "--unprotected")
    assert done.exit_code == 0, done.output
    policy = load_policy(site.with_name("policy.toml"))
    assert check_instruction(policy, instruction(), facts(told), NOW) == ()
    assert check_question(policy, question(), facts(told), NOW) == ()
    asked = instruction()
    others = {
        "federation-not-allowed": (asked, replace(facts(told), federation="other")),
        "code-not-allowed": (asked, replace(facts(told), code="00" * 32)),
        "bundle-not-allowed": (asked, replace(facts(told), bundle="00" * 32)),
        "cohort-below-policy": (asked, replace(facts(told), patients=199)),
        "gpu-share-above-policy": (asked, replace(facts(told), gpu_share=0.1)),
        "rounds-above-policy": (replace(asked, rounds=9), facts(told)),
        "secure-sum-not-allowed": (replace(asked, secure_sum="{}"), facts(told)),
    }
    for code, (one, other) in others.items():
        assert [reason.code for reason in check_instruction(policy, one, other, NOW)] == [code]
    text = site.with_name("policy.toml").read_text()
    assert text.startswith("# What this site allows: exactly") and "allows nothing" not in text


def test_privacy_is_allowed_as_asked_and_as_decided(site_of: Any, run: Any, decoupled: dict[str, Any]) -> None:
    site, told = site_of(privacy=decoupled)
    mode = ("--mode", "patient-decoupled", "--epsilon", 9)
    assert run("policy", "allow", site, "--minimum-patients", 200, *mode).exit_code == 0
    policy = load_policy(site.with_name("policy.toml"))
    assert policy is not None and (policy.privacy.epsilon, policy.privacy.delta) == (9.0, 1e-4)
    assert check_instruction(policy, instruction(decoupled), facts(told), NOW) == ()
    codes = [reason.code for reason in check_instruction(policy, instruction(), facts(told), NOW)]
    assert codes == ["privacy-not-allowed"], "without privacy nothing may leave"


def test_counts_of_protected_sites_need_a_word_of_their_own(site_of: Any, run: Any, decoupled: dict[str, Any]) -> None:
    site, told = site_of(privacy=decoupled)
    options = ("--minimum-patients", 200, "--mode", "patient-decoupled", "--epsilon", 8)
    done = run("policy", "allow", site, *options)
    assert "Still refused: policy: evaluation on chexpert_ecg" in done.stdout
    assert check_question(load_policy(site.with_name("policy.toml")), question(), facts(told), NOW) != ()
    again = run("policy", "allow", site, *options, "--counts-are-public", "--overwrite", "--json")
    assert json.loads(again.stdout)["still_refused"] == []
    assert check_question(load_policy(site.with_name("policy.toml")), question(), facts(told), NOW) == ()


def test_secure_sums_are_demanded_where_they_are_asked_for(site_of: Any, run: Any) -> None:
    site, told = site_of(secure_sum={"word_bits": 64})
    run("policy", "allow", site, "--minimum-patients", 200, "--unprotected")
    policy = load_policy(site.with_name("policy.toml"))
    codes = [reason.code for reason in check_instruction(policy, instruction(), facts(told), NOW)]
    assert codes == ["secure-sum-required"]
    assert check_instruction(policy, instruction(secure_sum="{}"), facts(told), NOW) == ()
    assert policy is not None and policy.exchange.max_bytes_per_round > 2 * SPEC.nbytes


@pytest.mark.parametrize(
    ("private", "options", "said"),
    [
        (False, (), "say --unprotected"),
        (False, ("--unprotected", "--epsilon", 8), "leave --mode and --epsilon out"),
        (True, (), "--epsilon is missing"),
        (True, ("--epsilon", 8), "--mode says none"),
        (True, ("--unprotected", "--mode", "patient-decoupled", "--epsilon", 8), "leave --unprotected out"),
        (True, ("--mode", "hospital", "--epsilon", 8), "--mode says hospital"),
        (True, ("--mode", "patient-decoupled", "--epsilon", 3), "epsilon 8 is asked for, and --epsilon allows 3"),
    ],
)
def test_what_a_person_has_to_say(
    site_of: Any, run: Any, decoupled: dict[str, Any], private: bool, options: tuple[Any, ...], said: str
) -> None:
    site, _ = site_of(privacy=decoupled if private else {"mode": "none"})
    before = site.with_name("policy.toml").read_bytes()
    done = run("policy", "allow", site, "--minimum-patients", 200, *options)
    assert done.exit_code == 2 and said in done.stderr
    assert site.with_name("policy.toml").read_bytes() == before


def test_the_number_of_patients_has_no_default(site_of: Any, run: Any) -> None:
    site, _ = site_of()
    assert run("policy", "allow", site, "--unprotected").exit_code == 2


def test_a_policy_that_allows_something_is_not_overwritten_unasked(site_of: Any, run: Any) -> None:
    site, _ = site_of()
    options = ("--minimum-patients", 200, "--unprotected")
    run("policy", "allow", site, *options)
    again = run("policy", "allow", site, *options, "--max-rounds", 50)
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    assert run("policy", "allow", site, *options, "--max-rounds", 50, "--overwrite").exit_code == 0
    policy = load_policy(site.with_name("policy.toml"))
    assert policy is not None and policy.exchange.max_rounds == 50


def test_a_card_of_another_federation_is_refused(site_of: Any, run: Any) -> None:
    site, _ = site_of()
    site.write_text(site.read_text().replace('name = "chest"', 'name = "other"').replace(":8443", ":8444"))
    done = run("policy", "allow", site, "--minimum-patients", 200, "--unprotected")
    assert done.exit_code == 2
    assert "name: chest, and other in the site file" in done.stderr and ":8443" in done.stderr


def test_without_a_card_there_is_nothing_to_allow(site_of: Any, run: Any) -> None:
    site, _ = site_of()
    site.write_text(site.read_text().replace('card = "federation-card.json"\n', ""))
    done = run("policy", "allow", site, "--minimum-patients", 200, "--unprotected")
    assert done.exit_code == 2 and "the site file names no card" in done.stderr
