"""Whether a site may do what an instruction asks: every reason against it, as a code for the wire and in words.

A code says which rule, never a number or a name of the site's: it may leave the site. The words hold what the policy
says and what was found, and stay in the site's log.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from client.policy import SitePolicy
from more_model.errors import ConfigError
from more_model.exchange import ExchangeSpec, Instruction
from more_model.score_exchange import Question
from privacy.settings import PrivacySettings

PolicyCode = Literal[
    "no-policy",
    "federation-not-allowed",
    "code-not-allowed",
    "bundle-not-allowed",
    "tensors-not-allowed",
    "bytes-above-policy",
    "rounds-above-policy",
    "privacy-not-allowed",
    "epsilon-above-policy",
    "delta-above-policy",
    "secure-sum-required",
    "secure-sum-not-allowed",
    "evaluation-not-allowed",
    "outside-hours",
    "gpu-share-above-policy",
    "cohort-below-policy",
]
POLICY_CODES: frozenset[str] = frozenset(get_args(PolicyCode))

#: Of an answer beside its tensors: weights, counts, digests, keys and shares.
_FACTS_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not: ``code`` may leave the site, ``words`` may not."""

    code: PolicyCode
    words: str


_NO_POLICY = (
    Reason(
        "no-policy", "there is no policy file; write one with `more-client policy init FILE`, and name it in site.toml"
    ),
)


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What the daemon knows for itself when an instruction arrives, none of it from the instruction.

    federation, ca_fingerprint: of the connection (hex SHA-256). code: `installed_code_digest` at the daemon's start.
    bundle: hex SHA-256 of the app bundle of the instruction's run, as the relay took it; empty where no relay did.
    spec: the site's own exchange specification. patients: with a pair to train on. declared_patients: the public
    number that noise is computed with. gpu_share: what training here would take, 0 on a CPU. rounds_answered: other
    rounds, of all runs, that this site has answered.
    """

    federation: str
    ca_fingerprint: str
    code: str
    bundle: str
    spec: ExchangeSpec
    patients: int
    declared_patients: int
    local_epochs: int
    gpu_share: float
    rounds_answered: int


def check_instruction(
    policy: SitePolicy | None, instruction: Instruction, facts: SiteFacts, now: datetime
) -> tuple[Reason, ...]:
    """Every reason why this site must not answer ``instruction``; empty where it may. ``now`` knows its time zone.

    Without a policy (None) that is the only reason. What a run may cost is compared with what is planned for it; what
    all runs together have spent is the ledger's to refuse.
    """
    if policy is None:
        return _NO_POLICY
    return (
        *_who(policy, facts),
        *_exchange(policy, instruction, facts),
        *_privacy(policy, instruction, facts),
        *_secure_sum(policy, instruction),
        *_when_and_how_much(policy, facts, now),
    )


def check_question(
    policy: SitePolicy | None, question: Question, facts: SiteFacts, now: datetime
) -> tuple[Reason, ...]:
    """Every reason why this site must not measure a model on its held-out patients; as `check_instruction`."""
    if policy is None:
        return _NO_POLICY
    words = evaluation_fault(policy, question.terms_digest)
    return (
        *_who(policy, facts),
        *([Reason("evaluation-not-allowed", words)] if words else []),
        *_when_and_how_much(policy, facts, now),
    )


def check_bundle(policy: SitePolicy, bundle: str) -> tuple[Reason, ...]:
    """Why this site must not answer a run that came with ``bundle`` (as in `SiteFacts`); empty where it may."""
    if bundle in policy.code.bundles:
        return ()
    words = f"the app bundle {bundle} is not among code.bundles" if bundle else "no relay said which app bundle it is"
    return (Reason("bundle-not-allowed", words),)


def evaluation_fault(policy: SitePolicy, terms_digest: str) -> str:
    """Why the policy does not let counts of held-out patients leave on these terms, in words; empty where it does."""
    rule = policy.evaluation
    if terms_digest not in rule.terms or rule.minimum_count is None:
        return "the policy does not name these terms of evaluation with a minimum_count"
    protected = not policy.privacy.unprotected or policy.privacy.secure_sums == "required"
    if protected and not rule.counts_are_public:
        return "updates are protected here, and the policy does not say evaluation.counts_are_public = true"
    return ""


def spec_faults(policy: SitePolicy, spec: ExchangeSpec) -> tuple[str, ...]:
    """Why the policy does not let a specification's tensors leave, in words; empty where it does."""
    rule, digest = policy.exchange, spec.digest()
    if not rule.specifications and not rule.groups:
        return ("the policy names neither exchange specifications nor groups of tensors",)
    faults = []
    if rule.specifications and digest not in rule.specifications:
        faults.append(f"the exchange specification {digest} is not among those of the policy")
    if rule.groups and (others := sorted({tensor.tower for tensor in spec.tensors} - set(rule.groups))):
        faults.append(f"tensors of the groups {', '.join(others)} would leave, and the policy does not name these")
    return tuple(faults)


def _who(policy: SitePolicy, facts: SiteFacts) -> list[Reason]:
    return [*_federation(policy, facts), *_code(policy, facts)]


def _federation(policy: SitePolicy, facts: SiteFacts) -> list[Reason]:
    rule = policy.federation
    if rule.name and rule.name == facts.federation and rule.ca_fingerprint == facts.ca_fingerprint:
        return []
    if not rule.name or rule.ca_fingerprint is None:
        return [Reason("federation-not-allowed", "the policy names no federation with its ca_fingerprint")]
    words = (
        f"the policy is for {rule.name} under the authority {rule.ca_fingerprint}; this connection is to "
        f"{facts.federation} under {facts.ca_fingerprint}"
    )
    return [Reason("federation-not-allowed", words)]


def _code(policy: SitePolicy, facts: SiteFacts) -> list[Reason]:
    reasons = []
    if facts.code not in policy.code.installed:
        words = f"the installed code {facts.code} is not among code.installed; see `more-client policy show`"
        reasons.append(Reason("code-not-allowed", words))
    return [*reasons, *check_bundle(policy, facts.bundle)]


def _exchange(policy: SitePolicy, instruction: Instruction, facts: SiteFacts) -> list[Reason]:
    rule, reasons = policy.exchange, [Reason("tensors-not-allowed", words) for words in spec_faults(policy, facts.spec)]
    if instruction.spec_digest != facts.spec.digest():
        words = "the coordinator's exchange specification is not this site's"
        reasons.append(Reason("tensors-not-allowed", words))
    size = facts.spec.upward(instruction.round).nbytes + _FACTS_BYTES
    if size > rule.max_bytes_per_round:
        words = f"an answer takes up to {size} bytes; the policy lets {rule.max_bytes_per_round} out in a round"
        reasons.append(Reason("bytes-above-policy", words))
    rounds = max(instruction.rounds, instruction.round, facts.rounds_answered + 1)
    if rounds > rule.max_rounds:
        words = (
            f"round {instruction.round} of {instruction.rounds}, after {facts.rounds_answered} other answered rounds; "
            f"the policy allows {rule.max_rounds} rounds"
        )
        reasons.append(Reason("rounds-above-policy", words))
    return reasons


def _privacy(policy: SitePolicy, instruction: Instruction, facts: SiteFacts) -> list[Reason]:
    rule = policy.privacy
    try:
        asked = PrivacySettings.model_validate_json(instruction.privacy or "{}")
    except ValueError:
        return [Reason("privacy-not-allowed", "the instruction's privacy settings cannot be read")]
    if asked.mode == "none":
        words = "updates without differential privacy: the policy does not say unprotected = true"
        return [] if rule.unprotected else [Reason("privacy-not-allowed", words)]
    reasons = []
    if asked.mode not in rule.modes:
        reasons.append(Reason("privacy-not-allowed", f"the policy does not name the privacy mode {asked.mode}"))
    if (asked.delta or 0.0) > rule.delta:
        words = f"the run promises delta {asked.delta:g}; the policy demands at most {rule.delta:g}"
        reasons.append(Reason("delta-above-policy", words))
    if words := _epsilon_fault(rule.epsilon, asked, instruction, facts):
        reasons.append(Reason("epsilon-above-policy", words))
    return reasons


def _epsilon_fault(allowed: float, asked: PrivacySettings, instruction: Instruction, facts: SiteFacts) -> str:
    epsilon = asked.target_epsilon
    if epsilon is None:
        from privacy.rounds import round_plan

        try:
            plan = round_plan(
                asked, facts.declared_patients, rounds=instruction.rounds, local_epochs=facts.local_epochs
            )
            epsilon = plan.claim().result.epsilon
        except ConfigError as error:
            return f"what the run would cost cannot be computed: {error.cause}"
    return "" if epsilon <= allowed else f"the run may cost epsilon {epsilon:.4g}; the policy allows {allowed:g}"


def _secure_sum(policy: SitePolicy, instruction: Instruction) -> list[Reason]:
    rule = policy.privacy.secure_sums
    if not instruction.secure_sum:
        words = "the update is asked for in the clear; the policy lets it into secure sums only"
        return [Reason("secure-sum-required", words)] if rule == "required" else []
    return [Reason("secure-sum-not-allowed", "the policy refuses secure sums")] if rule == "refused" else []


def _when_and_how_much(policy: SitePolicy, facts: SiteFacts, now: datetime) -> list[Reason]:
    schedule, resources = policy.schedule, policy.resources
    local = now.astimezone(ZoneInfo(schedule.time_zone))
    reasons = []
    if not any(window.holds(local) for window in schedule.parsed()):
        allowed = ", ".join(schedule.windows) or "no time"
        words = f"it is {local:%a %H:%M} in {schedule.time_zone}; the policy allows {allowed}"
        reasons.append(Reason("outside-hours", words))
    if facts.gpu_share > resources.gpu_share:
        words = f"training here takes {facts.gpu_share:g} of the GPU; the policy allows {resources.gpu_share:g}"
        reasons.append(Reason("gpu-share-above-policy", words))
    if resources.minimum_patients is None or facts.patients < resources.minimum_patients:
        wanted = resources.minimum_patients or "a number that it does not name"
        reasons.append(Reason("cohort-below-policy", f"{facts.patients} patients; the policy demands {wanted}"))
    return reasons
