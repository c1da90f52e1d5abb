"""A policy in the words of the people who answer for it."""

from __future__ import annotations

from client.policy import SitePolicy


def closed(policy: SitePolicy, installed_code: str) -> tuple[str, ...]:
    """What refuses every instruction, one sentence each; empty where the policy lets some run. ``installed_code``: the
    digest of the packages here."""
    federation, code, exchange = policy.federation, policy.code, policy.exchange
    privacy, schedule, resources = policy.privacy, policy.schedule, policy.resources
    gates = (
        (bool(federation.name and federation.ca_fingerprint), "no federation is named with its ca_fingerprint"),
        (installed_code in code.installed, f"the installed code {installed_code} is not in code.installed"),
        (
            bool(exchange.specifications or exchange.groups),
            "no exchange specification and no group of tensors is named",
        ),
        (exchange.max_bytes_per_round > 0, "exchange.max_bytes_per_round is 0"),
        (exchange.max_rounds > 0, "exchange.max_rounds is 0"),
        (bool(privacy.modes) or privacy.unprotected, "no privacy mode is named, and unprotected is not true"),
        (bool(schedule.windows), "schedule.windows names no time"),
        (resources.minimum_patients is not None, "resources.minimum_patients is missing"),
    )
    return tuple(words for is_open, words in gates if not is_open)


def described(policy: SitePolicy) -> list[tuple[str, str]]:
    """The policy as pairs of what is decided and how."""
    federation, code, exchange = policy.federation, policy.code, policy.exchange
    privacy, schedule, resources = policy.privacy, policy.schedule, policy.resources
    budget = f", a run at most epsilon {privacy.epsilon:g} at delta {privacy.delta:g}" if privacy.modes else ""
    protection = [*privacy.modes, *(["none (updates as they are)"] if privacy.unprotected else [])]
    return [
        ("federation", federation.name or "none"),
        ("its authority", federation.ca_fingerprint or "none"),
        ("installed code", _list(code.installed)),
        ("app bundles", _list(code.bundles)),
        ("specifications", _list(exchange.specifications) if exchange.specifications else _any(bool(exchange.groups))),
        ("tensor groups", _list(exchange.groups) if exchange.groups else _any(bool(exchange.specifications))),
        ("bytes up a round", f"at most {exchange.max_bytes_per_round}"),
        ("rounds in all", f"at most {exchange.max_rounds}"),
        ("privacy", _list(protection) + budget),
        ("secure sums", privacy.secure_sums),
        ("evaluation", _evaluation(policy)),
        ("hours", f"{_list(schedule.windows)} ({schedule.time_zone})"),
        ("GPU", f"at most {resources.gpu_share:.0%}"),
        ("patients", "refused" if resources.minimum_patients is None else f"at least {resources.minimum_patients}"),
    ]


def _evaluation(policy: SitePolicy) -> str:
    rule = policy.evaluation
    if not rule.terms or rule.minimum_count is None:
        return "none"
    public = ", counts are public" if rule.counts_are_public else ""
    shown = ", shown to the other sites" if rule.show_site else ""
    return f"on the terms {_list(rule.terms)}, counts of at least {rule.minimum_count} patients{public}{shown}"


def _list(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names) or "none"


def _any(otherwise_bound: bool) -> str:
    return "any" if otherwise_bound else "none"
