"""A site's policy: nothing is allowed that it does not name, and everything that it names is looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from client.policy import SitePolicy, load_policy
from client.policy_check import POLICY_CODES, Reason, SiteFacts, check_instruction, check_question
from client.policy_hours import parsed_window
from client.policy_words import closed, described
from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, Fingerprint, Instruction, TensorSpec
from more_model.score_exchange import Question
from more_model.settings import validated

SPEC = ExchangeSpec(
    (
        TensorSpec("text.head", (2, 3), "text"),
        TensorSpec("xray.head", (4,), "xray"),
        TensorSpec("xray.odd", (1000,), "xray", up="odd"),
    )
)
CA, CODE, BUNDLE = "ab" * 32, "cd" * 32, "ef" * 32
# A Wednesday, 21:30 in Berlin.
NOW = datetime(2026, 7, 1, 19, 30, tzinfo=UTC)
OPEN: dict[str, dict[str, Any]] = {
    "federation": {"name": "chest", "ca_fingerprint": CA},
    "code": {"installed": [CODE], "bundles": [BUNDLE]},
    "exchange": {"groups": ["text", "xray"], "max_bytes_per_round": 30_000, "max_rounds": 10},
    "privacy": {
        "modes": ["patient-decoupled"], "epsilon": 8.0, "delta": 1e-3, "unprotected": True, "secure_sums": "allowed",
    },
    "schedule": {"time_zone": "Europe/Berlin", "windows": ["mon-fri 19:00-06:00"]},
    "resources": {"gpu_share": 0.5, "minimum_patients": 100},
}  # fmt: skip
FACTS = SiteFacts("chest", CA, CODE, BUNDLE, SPEC, 200, 200, 1, 0.5, 0)


def opened(**changes: dict[str, Any]) -> SitePolicy:
    parts = {part: {**OPEN.get(part, {}), **changes.get(part, {})} for part in OPEN.keys() | changes.keys()}
    return validated(SitePolicy, parts, "test")


def instruction(**changes: Any) -> Instruction:
    parts: dict[str, Any] = {
        "round": 1,
        "rounds": 10,
        "tensors": {},
        "training": "{}",
        "seed": 1,
        "spec_digest": SPEC.digest(),
        "fingerprint": Fingerprint({}),
        "run": "trial",
    }
    return Instruction(**{**parts, **changes})


def private(**changes: Any) -> str:
    settings = {"mode": "patient-decoupled", "target_epsilon": 8.0, "delta": 1e-3, "sampling_rate": 0.1, **changes}
    return json.dumps({name: value for name, value in settings.items() if value is not None})


def codes(
    policy: SitePolicy | None, asked: Instruction | None = None, facts: SiteFacts = FACTS, now: datetime = NOW
) -> list[str]:
    return [reason.code for reason in check_instruction(policy, asked or instruction(), facts, now)]


def test_what_the_policy_names_is_allowed() -> None:
    assert check_instruction(opened(), instruction(), FACTS, NOW) == ()
    assert check_instruction(opened(), instruction(privacy=private()), FACTS, NOW) == ()
    assert check_instruction(opened(), instruction(secure_sum="{}"), FACTS, NOW) == ()


def test_without_a_policy_everything_is_refused_and_the_remedy_said() -> None:
    (reason,) = check_instruction(None, instruction(), FACTS, NOW)
    assert reason.code == "no-policy" and "more-client policy init" in reason.words


def test_an_empty_policy_refuses_for_every_reason() -> None:
    refused = codes(SitePolicy(), facts=replace(FACTS, gpu_share=0.1))
    assert set(refused) == POLICY_CODES - {
        "no-policy", "epsilon-above-policy", "delta-above-policy", "secure-sum-not-allowed", "evaluation-not-allowed",
    }  # fmt: skip


@pytest.mark.parametrize("part", OPEN)
def test_no_part_may_be_left_out(part: str) -> None:
    policy = validated(SitePolicy, {name: content for name, content in OPEN.items() if name != part}, "test")
    assert codes(policy)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"federation": "lung"}, "federation-not-allowed"),
        ({"ca_fingerprint": "00" * 32}, "federation-not-allowed"),
        ({"code": "00" * 32}, "code-not-allowed"),
        ({"bundle": "00" * 32}, "bundle-not-allowed"),
        ({"patients": 99}, "cohort-below-policy"),
        ({"gpu_share": 0.51}, "gpu-share-above-policy"),
        ({"rounds_answered": 10}, "rounds-above-policy"),
    ],
)
def test_facts_of_the_site_that_the_policy_does_not_allow(changes: dict[str, Any], code: str) -> None:
    assert codes(opened(), facts=replace(FACTS, **changes)) == [code]


@pytest.mark.parametrize("named", [[], [BUNDLE]])
def test_an_instruction_of_which_no_relay_said_how_it_came(named: list[str]) -> None:
    code = {"installed": [CODE], "bundles": named}
    assert codes(opened(code=code), facts=replace(FACTS, bundle="")) == ["bundle-not-allowed"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rounds": 11}, "rounds-above-policy"),
        ({"round": 11}, "rounds-above-policy"),
        ({"spec_digest": "0"}, "tensors-not-allowed"),
        ({"privacy": "nonsense"}, "privacy-not-allowed"),
        ({"privacy": private(mode="patient-groups")}, "privacy-not-allowed"),
        ({"privacy": private(target_epsilon=8.1)}, "epsilon-above-policy"),
        ({"privacy": private(delta=2e-3)}, "delta-above-policy"),
        ({"privacy": private(target_epsilon=None, noise_multiplier=0.6)}, "epsilon-above-policy"),
    ],
)
def test_instructions_that_the_policy_does_not_allow(changes: dict[str, Any], code: str) -> None:
    assert codes(opened(), instruction(**changes)) == [code]


def test_noise_that_keeps_the_run_within_its_cost_is_allowed() -> None:
    assert codes(opened(), instruction(privacy=private(target_epsilon=None, noise_multiplier=3.0))) == []


def test_updates_as_they_are_need_the_word() -> None:
    policy = opened(privacy={"unprotected": False})
    assert codes(policy) == ["privacy-not-allowed"]
    assert codes(policy, instruction(privacy=private())) == []


def test_secure_sums_required_allowed_refused() -> None:
    in_a_sum, clear = instruction(secure_sum="{}"), instruction()
    assert codes(opened(privacy={"secure_sums": "required"}), clear) == ["secure-sum-required"]
    assert codes(opened(privacy={"secure_sums": "required"}), in_a_sum) == []
    assert codes(opened(privacy={"secure_sums": "refused"}), in_a_sum) == ["secure-sum-not-allowed"]
    assert codes(opened(privacy={"secure_sums": "refused"}), clear) == []


def question(terms: str) -> Question:
    return Question("trial", 1, "test", {}, terms, SPEC.digest(), Fingerprint({}))


def test_questions_about_held_out_patients() -> None:
    terms, other = "12" * 32, "34" * 32
    rule = {"terms": [terms], "minimum_count": 5}
    strict = {"unprotected": False}

    def asked(policy: SitePolicy | None, terms: str, facts: SiteFacts = FACTS) -> list[str]:
        return [reason.code for reason in check_question(policy, question(terms), facts, NOW)]

    assert asked(opened(evaluation=rule), terms) == []
    assert asked(opened(evaluation=rule), other) == ["evaluation-not-allowed"]
    assert asked(opened(), terms) == ["evaluation-not-allowed"]
    assert asked(opened(evaluation={"terms": [terms]}), terms) == ["evaluation-not-allowed"]
    assert asked(opened(evaluation=rule, privacy=strict), terms) == ["evaluation-not-allowed"]
    sums = {"secure_sums": "required"}
    assert asked(opened(evaluation=rule, privacy=sums), terms) == ["evaluation-not-allowed"]
    assert asked(opened(evaluation={**rule, "counts_are_public": True}, privacy=strict), terms) == []
    assert asked(opened(evaluation=rule), terms, replace(FACTS, patients=1)) == ["cohort-below-policy"]
    assert asked(opened(evaluation=rule), terms, replace(FACTS, code="00" * 32)) == ["code-not-allowed"]
    assert asked(None, terms) == ["no-policy"]
    assert set(asked(SitePolicy(), terms, replace(FACTS, gpu_share=0.1))) == {
        "federation-not-allowed", "code-not-allowed", "bundle-not-allowed", "evaluation-not-allowed", "outside-hours",
        "gpu-share-above-policy", "cohort-below-policy",
    }  # fmt: skip


def test_tensors_by_group_and_by_specification() -> None:
    assert codes(opened(exchange={"groups": ["text"]})) == ["tensors-not-allowed"]
    assert codes(opened(exchange={"groups": [], "specifications": [SPEC.digest()]})) == []
    both = {"groups": ["text", "xray"], "specifications": ["0" * 64]}
    assert codes(opened(exchange=both)) == ["tensors-not-allowed"]
    assert codes(opened(exchange={"groups": [], "specifications": []})) == ["tensors-not-allowed"]


def test_bytes_are_those_that_go_up_in_the_round() -> None:
    policy = opened(exchange={"max_bytes_per_round": 17_000})
    assert codes(policy, instruction(round=1)) == ["bytes-above-policy"]
    assert codes(policy, instruction(round=2)) == []


def test_words_say_what_was_found_and_codes_do_not() -> None:
    reasons = check_instruction(opened(), instruction(), replace(FACTS, patients=17, federation="lung"), NOW)
    assert reasons[1] == Reason("cohort-below-policy", "17 patients; the policy demands 100")
    assert "lung" in reasons[0].words
    assert not any(character.isdigit() for code in POLICY_CODES for character in code)


@pytest.mark.parametrize(
    ("hours", "allowed"),
    [(0, True), (-2.6, False), (8.4, True), (8.6, False), (24, True), (24 * 2, True), (24 * 3, False), (24 * 5, True)],
)
def test_hours_are_those_of_the_named_time_zone(hours: float, allowed: bool) -> None:
    assert codes(opened(), now=NOW + timedelta(hours=hours)) == ([] if allowed else ["outside-hours"])


def test_the_same_wall_clock_in_winter_and_summer() -> None:
    winter, summer = datetime(2026, 1, 7, 18, 30, tzinfo=UTC), datetime(2026, 7, 8, 17, 30, tzinfo=UTC)
    assert codes(opened(), now=winter) == [] == codes(opened(), now=summer)
    assert codes(opened(), now=winter - timedelta(hours=1)) == ["outside-hours"]


@pytest.mark.parametrize(
    ("text", "within", "outside"),
    [
        ("sat-sun 00:00-24:00", ["2026-07-04 00:00", "2026-07-05 23:59"], ["2026-07-03 23:59", "2026-07-06 00:00"]),
        ("fri-mon 08:00-09:00", ["2026-07-03 08:00", "2026-07-06 08:59"], ["2026-07-07 08:30", "2026-07-03 09:00"]),
        ("wed 22:00-02:00", ["2026-07-01 22:00", "2026-07-02 01:59"], ["2026-07-01 01:00", "2026-07-02 02:00"]),
    ],
)
def test_windows(text: str, within: list[str], outside: list[str]) -> None:
    window = parsed_window(text)
    assert all(window.holds(datetime.fromisoformat(moment)) for moment in within)
    assert not any(window.holds(datetime.fromisoformat(moment)) for moment in outside)


@pytest.mark.parametrize(
    "text", ["", "mon", "mon 8-9", "mon 08:00-25:00", "mon 08:60-09:00", "mon 08:00-08:00", "xyz 08:00-09:00"]
)
def test_windows_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"form|no"):
        parsed_window(text)


def test_all_faults_of_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        tomli_w.dumps(
            {
                "federation": {"ca_fingerprint": "abc"},
                "code": {"installed": ["zz"]},
                "exchange": {"groups": ["lungs"], "max_rounds": -1},
                "privacy": {"modes": ["patient-decoupled"], "delta": 1e-5, "unprotected": "yes"},
                "schedule": {"time_zone": "Europe/Nowhere", "windows": ["always"]},
                "resources": {"minimum_patients": 0},
                "hours": {},
            }
        )
    )
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    places = sorted(fault.split(":")[0] for fault in caught.value.faults)
    assert places == [
        "code.installed.0", "exchange.groups.0", "exchange.max_rounds", "federation.ca_fingerprint", "hours",
        "privacy.epsilon", "privacy.unprotected", "resources.minimum_patients", "schedule.time_zone",
        "schedule.windows.0",
    ]  # fmt: skip


def test_no_file_is_no_policy(tmp_path: Path) -> None:
    assert load_policy(tmp_path / "policy.toml") is None


def test_fingerprints_as_openssl_prints_them() -> None:
    printed = ":".join(["AB"] * 32)
    assert codes(opened(federation={"ca_fingerprint": printed})) == []


def test_what_still_refuses_everything_agrees_with_the_check() -> None:
    assert closed(opened(), CODE) == ()
    assert len(closed(SitePolicy(), CODE)) == 8
    for part in OPEN:
        policy = validated(SitePolicy, {name: content for name, content in OPEN.items() if name != part}, "test")
        assert closed(policy, CODE) and codes(policy), part
    assert closed(opened(), "00" * 32)


def test_a_policy_in_words_names_everything_it_allows() -> None:
    words = json.dumps(described(opened()))
    for part in OPEN.values():
        for value in part.values():
            for item in value if isinstance(value, list) else [value]:
                assert str(item) in words or isinstance(item, bool | float), item
