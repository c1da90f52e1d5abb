"""The door through which a site's messages leave: what is not on the list stays in, and all of it is written down."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.egress import EgressGate, EgressRefused, payload_digest
from client.egress_rules import UNEXPECTED, SiteName
from client.policy import SitePolicy
from client.records.audit_log import AuditLog, open_log
from client.records.lines import Entry, entries
from client.records.verify import verify
from more_model.errors import EnvironmentFault
from more_model.evaluation.federated_terms import EvaluationTerms, evaluation_terms
from more_model.exchange import ExchangeSpec, Fingerprint, Joined, Refusal, SumStage, TensorSpec, Update
from more_model.score_exchange import Evaluation, ScoreCounts
from more_model.settings import validated
from privacy.secure_sum.messages import Advertisement, Confirmation, MaskedInput, Revealed, SealedShares
from server.admission import fault_of

SPEC = ExchangeSpec(
    (
        TensorSpec("text.head", (2, 3), "text"),
        TensorSpec("xray.head", (4,), "xray"),
        TensorSpec("xray.odd", (5,), "xray", up="odd"),
    )
)
BASE = Fingerprint({"base": "any"})
RUN, SESSION = "trial", "5e" * 32
ALLOWED: dict[str, dict[str, Any]] = {
    "federation": {"name": "chest", "ca_fingerprint": "ab" * 32},
    "exchange": {"groups": ["text", "xray"], "max_bytes_per_round": 10_000, "max_rounds": 5},
    "privacy": {"unprotected": True, "secure_sums": "allowed"},
}


def policy(**changes: dict[str, Any]) -> SitePolicy:
    return validated(SitePolicy, {part: {**ALLOWED[part], **changes.get(part, {})} for part in ALLOWED}, "test")


@dataclass
class Site:
    """A gate over a log, as the daemon of ``north`` holds them."""

    log: AuditLog
    gate: EgressGate

    def entry(self) -> Entry:
        """The newest."""
        return list(entries(self.log.path))[-1]

    def withheld(self, message: Any, run: str = RUN) -> tuple[str, ...]:
        """The rules by which ``message`` is refused; checks that the log says the same, and nothing of the content."""
        before = len(list(entries(self.log.path)))
        with pytest.raises(EgressRefused) as caught:
            self.gate.release(message, run=run)
        assert len(list(entries(self.log.path))) == before + 1
        entry = self.entry()
        assert entry.kind == "withheld" and tuple(entry.content["rules"]) == caught.value.codes
        assert set(entry.content) == {"message", "run", "round", "destination", "rules"}
        return caught.value.codes

    def under(self, policy: SitePolicy | None) -> Site:
        """The same log with another policy."""
        return Site(self.log, EgressGate(self.log, policy, SPEC))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_log(tmp_path / "audit.jsonl", site="north") as log:
        yield Site(log, EgressGate(log, policy(), SPEC))


def update(number: int = 2, **changes: Any) -> Update:
    draw = np.random.default_rng(number)
    towers = ("text", "xray")
    deltas = {t.name: draw.normal(size=t.shape).astype(np.float32) for t in SPEC.upward(number).of_towers(towers)}
    parts: dict[str, Any] = {
        "site": "north",
        "round": number,
        "deltas": deltas,
        "weights": {"text": 12.0, "xray": 10.0, "ecg": 0.0, "shared": 0.0},
        "spec_digest": SPEC.digest(),
        "fingerprint_digest": BASE.digest(),
        "counts": {"loss": 1.25, "steps": 3.0, "pairs_xray": 10.0, "pairs_ecg": 0.0, "gradient_text": 0.5},
    }
    return Update(**{**parts, **changes})


def joined(number: int = 2, **changes: Any) -> Joined:
    weights = {"text": 3, "xray": 3}
    keys = Advertisement(SESSION, "north", b"s" * 32, b"m" * 32, weights, b"g" * 64).facts()
    return Joined("north", number, {**keys, **changes})


STAGES = {
    "share": SealedShares(SESSION, "north", {"south": b"box"}, {"text": b"c" * 32}),
    "mask": MaskedInput(
        SESSION, "north", {"text": np.arange(6, dtype=np.uint32), "xray": np.arange(4, dtype=np.uint32)}
    ),
    "confirm": Confirmation(SESSION, "north", b"g" * 64),
    "reveal": Revealed(SESSION, "north", {"south": {"text": b"share"}}, {"west": b"key"}),
}


def stage(name: str, arrays: dict[str, Any] | None = None, **changes: Any) -> SumStage:
    message: Any = STAGES[name]
    own = message.arrays() if name == "mask" else {}
    return SumStage(name, {**message.facts(), **changes}, own if arrays is None else arrays)


def test_an_update_leaves_and_the_entry_says_what_left(site: Site) -> None:
    sent = update()
    assert site.gate.release(sent, run=RUN) is sent
    entry = site.entry()
    content = entry.content
    assert entry.kind == "released"
    assert (content["message"], content["run"], content["round"]) == ("update", RUN, 2)
    assert content["destination"] == "chest"
    assert [row[:4] for row in content["tensors"]] == [
        ["text.head", [2, 3], "float32", 24], ["xray.head", [4], "float32", 16],
    ]  # fmt: skip
    whole = np.concatenate([delta.ravel() for delta in sent.deltas.values()]).astype(np.float64)
    assert content["norm"] == pytest.approx(float(np.linalg.norm(whole)), rel=1e-12)
    assert content["sha256"] == payload_digest(sent.facts(), sent.deltas)
    assert content["bytes"] == 40 + sum(content["facts"].values())
    assert json.loads(content["told"]["counts"]) == sent.counts
    assert verify(site.log.path).released_bytes == content["bytes"]


def test_the_entry_is_on_the_disk_before_the_message_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(EnvironmentFault, match="nothing was sent"):
            site.gate.release(update(), run=RUN)
    assert site.gate.rounds_answered() == 0
    site.gate.release(update(), run=RUN)
    assert verify(site.log.path).kinds["released"] == 1


def test_what_the_gate_lets_out_the_coordinator_lets_in(site: Site) -> None:
    for number in (1, 2):
        sent = site.gate.release(update(number), run=RUN)
        assert fault_of(sent, site="north", round_number=number, spec=SPEC, fingerprint=BASE, max_norm=None) is None


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in update().deltas.items() if key != name}


def changed(name: str, value: Any) -> dict[str, Any]:
    return {**update().deltas, name: value}


FLOATS, HUGE = np.zeros(4, np.float32), 2e9
OUTSIDE = "tensors-outside-specification"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"deltas": changed("xray.images", FLOATS)}, OUTSIDE),
        ({"deltas": changed("xray.odd", np.zeros(5, np.float32))}, OUTSIDE),
        ({"deltas": without("xray.head")}, OUTSIDE),
        ({"deltas": changed("xray.head", np.full(4, np.nan, np.float32))}, OUTSIDE),
        ({"deltas": changed("xray.head", np.full(4, np.inf, np.float32))}, OUTSIDE),
        ({"deltas": changed("xray.head", np.zeros(5, np.float32))}, OUTSIDE),
        ({"deltas": changed("xray.head", np.zeros(4))}, OUTSIDE),
        ({"deltas": changed("xray.head", [0.0] * 4)}, OUTSIDE),
        ({"weights": {"text": 12.0}}, OUTSIDE),
        ({"weights": {"text": 12.0, "patients": 1.0}}, "unknown-facts"),
        ({"weights": {"text": 12.0, "xray": float("nan")}}, "unknown-facts"),
        ({"weights": {"text": 12.0, "xray": -1.0}}, "unknown-facts"),
        ({"counts": {"loss": 1.0, "oldest_patient": 93.0}}, "unknown-facts"),
        ({"counts": {"loss": float("inf")}}, "unknown-facts"),
        ({"counts": {"steps": HUGE}}, "unknown-facts"),
        ({"counts": {"loss": "12 Main Street"}}, "unknown-facts"),
        ({"spec_digest": "0" * 64}, "unknown-facts"),
        ({"fingerprint_digest": "a name"}, "unknown-facts"),
        ({"round": 0}, "unknown-facts"),
        ({"site": "south"}, "other-site"),
    ],
)
def test_updates_that_stay_in(site: Site, changes: dict[str, Any], rule: str) -> None:
    assert rule in site.withheld(update(**changes))
    assert verify(site.log.path).released_bytes == 0


def test_nothing_of_a_withheld_message_is_in_the_log(site: Site) -> None:
    secret = "MRN-4711"
    site.withheld(update(counts={secret: 1.0}, deltas=changed(secret, FLOATS)))
    site.withheld(Refusal("north", 1, secret))
    site.withheld(joined(**{secret: secret}))
    assert secret not in site.log.path.read_text()


def test_a_kind_of_message_that_nobody_knows_stays_in(site: Site) -> None:
    assert site.withheld({"anything": 1}) == ("unknown-message",)


@pytest.mark.parametrize("rule", [{"groups": ["text"]}, {"groups": [], "specifications": ["0" * 64]}, {"groups": []}])
def test_tensors_that_the_policy_does_not_name_stay_in(site: Site, rule: dict[str, Any]) -> None:
    assert site.under(policy(exchange=rule)).withheld(update()) == ("tensors-not-allowed",)


def test_where_sums_are_required_no_update_leaves_in_the_clear(site: Site) -> None:
    strict = site.under(policy(privacy={"secure_sums": "required"}))
    assert strict.withheld(update()) == ("secure-sum-required",)
    strict.gate.release(joined(), run=RUN)
    assert site.under(policy(privacy={"secure_sums": "refused"})).withheld(joined()) == ("secure-sum-not-allowed",)


def test_under_privacy_alone_no_counts_of_the_data_leave(site: Site) -> None:
    private = site.under(policy(privacy={"unprotected": False, "modes": ["hospital"], "epsilon": 1.0, "delta": 1e-5}))
    assert private.withheld(update()) == ("unknown-facts",)
    private.gate.release(update(counts={"steps": 3.0}), run=RUN)


def test_bytes_of_a_round_add_up_and_a_repetition_costs_nothing(site: Site) -> None:
    site.gate.release(update(), run=RUN)
    size = site.entry().content["bytes"]
    tight = site.under(policy(exchange={"max_bytes_per_round": size}))
    tight.gate.release(update(), run=RUN)
    assert site.entry().content["repeated"] is True
    assert tight.withheld(update(counts={"steps": 3.0})) == ("bytes-above-policy",)
    tight.gate.release(update(4), run=RUN)
    tight.gate.release(update(), run="another run")
    assert site.entry().content["repeated"] is False


def test_rounds_are_counted_over_all_runs_and_restarts(site: Site) -> None:
    site.gate.release(update(), run="first")
    site.gate.release(update(), run="first")
    site.gate.release(joined(3), run="second")
    site.gate.release(Refusal("north", 4, "outside-hours"), run="second")
    assert site.gate.rounds_answered() == 2
    again = site.under(policy(exchange={"max_rounds": 2}))
    assert again.gate.rounds_answered() == 2
    assert again.gate.rounds_answered(apart_from=("first", 2)) == 1
    again.gate.release(update(), run="first")
    assert again.withheld(update(4), run="first") == ("rounds-above-policy",)


def test_a_secure_sum_leaves_stage_by_stage(site: Site) -> None:
    site.gate.release(joined(), run=RUN)
    for name in STAGES:
        sent = stage(name)
        assert site.gate.release(sent, run=RUN) is sent
        content = site.entry().content
        assert (content["message"], content["round"], content["told"]) == ("sum-stage", 2, {"stage": name})
        assert "norm" in content and content["norm"] is None
    assert "736861726565" not in site.log.path.read_text(), "shares of secrets do not stay in the log"


OTHER = {"session": "00" * 32}


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (stage("share", **OTHER), "no-such-secure-sum"),
        (stage("share", site="south"), "other-site"),
        (stage("share", note="x"), "unknown-facts"),
        (stage("share", boxes="{}", commitments='{ "text": "00" }'), "unknown-facts"),
        (stage("confirm", signature="not hexadecimal"), "unknown-facts"),
        (stage("confirm", arrays={"text": np.zeros(6, np.uint32)}), "unknown-facts"),
        (stage("mask", arrays={"text": np.zeros(6, np.uint32)}), OUTSIDE),
        (stage("mask", arrays={**STAGES["mask"].arrays(), "ecg": np.zeros(1, np.uint32)}), OUTSIDE),  # type: ignore[attr-defined]
        (stage("mask", arrays={"text": np.zeros(7, np.uint32), "xray": np.zeros(4, np.uint32)}), OUTSIDE),
        (stage("mask", arrays={"text": np.zeros(6, np.float32), "xray": np.zeros(4, np.float32)}), OUTSIDE),
        (replace(stage("share"), stage="gossip"), "unknown-message"),
    ],
)
def test_messages_of_a_secure_sum_that_stay_in(site: Site, message: SumStage, rule: str) -> None:
    site.gate.release(joined(), run=RUN)
    assert site.withheld(message) == (rule,)


def test_a_stage_of_a_sum_that_was_not_joined_stays_in(site: Site) -> None:
    assert site.withheld(stage("reveal")) == ("no-such-secure-sum",)
    site.gate.release(joined(), run=RUN)
    assert site.withheld(stage("reveal"), run="another run") == ("no-such-secure-sum",)
    assert site.under(policy()).withheld(stage("reveal")) == ("no-such-secure-sum",)  # a restart ends the session


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (joined(note="x"), "unknown-facts"),
        (joined(weights='{"patients": 3}'), "unknown-facts"),
        (joined(site="south"), "other-site"),
        (replace(joined(), site="south"), "other-site"),
    ],
)
def test_keys_that_stay_in(site: Site, message: Joined, rule: str) -> None:
    assert site.withheld(message) == (rule,)


@pytest.mark.parametrize("code", ["outside-hours, code-not-allowed", "BudgetExhausted", "EgressRefused", UNEXPECTED])
def test_refusals_made_of_known_codes_leave(site: Site, code: str) -> None:
    site.gate.release(Refusal("north", 3, code), run=RUN)
    assert site.entry().content["told"] == {"refusal": code, "site": "north"}


@pytest.mark.parametrize("code", ["", "cannot read /data/4711.dcm", "ExchangeError: north-0042", "outside-hours,"])
def test_refusals_that_say_more_stay_in(site: Site, code: str) -> None:
    assert site.withheld(Refusal("north", 3, code)) == ("unknown-refusal-code",)


def test_only_the_sites_own_name_leaves(site: Site) -> None:
    site.gate.release(SiteName("north"))
    assert site.withheld(SiteName("south")) == ("other-site",)
    assert site.withheld(Refusal("south", 1, "outside-hours")) == ("other-site",)


@pytest.fixture(scope="module")
def terms() -> EvaluationTerms:
    return evaluation_terms("chexpert_ecg")


def evaluation(terms: EvaluationTerms, **changes: Any) -> Evaluation:
    counts = {name: ScoreCounts(((0, 2, 7), (4, 5, 9)), None) for name in terms.names}
    parts = {"counts": counts, "terms_digest": terms.digest(), "minimum_count": 6, **changes}
    own = {"site": "north", "round": 1, "split": "test", "spec_digest": SPEC.digest(), "fingerprint_digest": "0" * 64}
    return Evaluation(**{**own, **parts})


def evaluating(site: Site, terms: EvaluationTerms | None, rule: dict[str, Any], **privacy: Any) -> Site:
    content = {**ALLOWED, "privacy": {**ALLOWED["privacy"], **privacy}, "evaluation": rule}
    return Site(site.log, EgressGate(site.log, validated(SitePolicy, content, "test"), SPEC, terms=terms))


def test_counts_of_held_out_patients_leave_on_agreed_terms(site: Site, terms: EvaluationTerms) -> None:
    rule = {"terms": [terms.digest()], "minimum_count": 6}
    site = evaluating(site, terms, rule)
    sent = evaluation(terms)
    assert site.gate.release(sent, run=RUN) is sent
    content = site.entry().content
    assert (content["message"], content["round"]) == ("evaluation", 1)
    assert content["told"] == {"split": "test", "minimum_count": 6, "show_site": 0}
    assert content["sha256"] == payload_digest(sent.facts(), {})
    assert site.gate.rounds_answered() == 0, "measuring answers no round"
    few = {name: ScoreCounts(((0, 2, 5),), None) for name in terms.names}
    strange = {**sent.counts, "Jane Doe": ScoreCounts(None, None)}
    for changes in ({"counts": few}, {"counts": strange}, {"split": "train"}, {"spec_digest": ""}, {"round": -1}):
        assert site.withheld(evaluation(terms, **changes)) == ("unknown-facts",)
    for changes in ({"terms_digest": "0" * 64}, {"minimum_count": 5}, {"show_site": True}):
        assert site.withheld(evaluation(terms, **changes)) == ("evaluation-not-allowed",)
    assert site.withheld(evaluation(terms, site="south")) == ("other-site",)
    assert "Jane Doe" not in site.log.path.read_text()


def test_counts_of_held_out_patients_that_the_policy_does_not_let_out(site: Site, terms: EvaluationTerms) -> None:
    rule = {"terms": [terms.digest()], "minimum_count": 6}
    closed = [
        evaluating(site, None, rule), evaluating(site, terms, {}), evaluating(site, terms, {"terms": rule["terms"]}),
        evaluating(site, terms, rule, unprotected=False),
    ]  # fmt: skip
    for each in closed:
        assert each.withheld(evaluation(terms)) == ("evaluation-not-allowed",)
    public = evaluating(site, terms, {**rule, "counts_are_public": True, "show_site": True}, unprotected=False)
    public.gate.release(evaluation(terms, show_site=True), run=RUN)


def test_without_a_policy_only_refusals_leave(site: Site) -> None:
    closed = site.under(None)
    messages: list[Any] = [update(), joined(), stage("share"), SiteName("north")]
    assert {closed.withheld(message) for message in messages} == {("no-policy",)}
    closed.gate.release(Refusal("north", 1, "no-policy"), run=RUN)


def test_a_policy_that_allows_nothing_lets_nothing_out(site: Site) -> None:
    closed = site.under(SitePolicy())
    assert closed.withheld(update(counts={})) == ("secure-sum-required", "tensors-not-allowed")
    assert closed.withheld(joined()) == ("tensors-not-allowed",)
