"""The page in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from client.data_report import Shown
from client.page.budget import DataSetBudget
from client.page.cohort import KINDS, Cohort
from client.page.left import SHOWN, Left, Message
from client.page.model import NOT_RUNNING, SitePicture
from more_model.report.blocks import Block, Cell, Facts, Section, Table, Words
from privacy.claims import rounded_up

_STATES = {
    NOT_RUNNING: "No daemon of this site is running.",
    "running": "The daemon is running.",
    "paused": "The site is paused: no new round begins.",
    "draining": "The daemon finishes what has begun, and ends.",
}
_NOTHING = Cell("–", tone="quiet")
_DIGEST_SHOWN = 12


def headline(picture: SitePicture) -> str:
    """One sentence: what the site does now."""
    daemon = picture.daemon
    if daemon is None:
        return "What the daemon does cannot be told now."
    activity = daemon.get("activity")
    if activity:
        return (
            f"The daemon answers the question {activity['kind']} of round {activity['round']}, run {activity['run']}."
        )
    return _STATES.get(str(daemon["state"]), str(daemon["state"]))


def warnings(picture: SitePicture) -> list[str]:
    """What somebody should look at."""
    found = [
        f"The {each.name}: {each.cause} To do: {each.remedy}." for each in picture.certificates if each.level != "ok"
    ]
    if picture.left is not None and not picture.left.whole:
        found.append("The audit log was changed. more-client audit verify says where; keep the file as evidence.")
    daemon = picture.daemon or {}
    if daemon.get("policy") in ("none", "cannot be read"):
        found.append(
            f"Everything is refused: the policy {'is missing' if daemon['policy'] == 'none' else 'is faulty'}."
        )
    found += [
        f"{each['name']} is hindered; more-client status says by what."
        for each in daemon.get("companions", ())
        if each["hindered"]
    ]
    return found + [
        f"Nothing is left of the budget of {each.name}." for each in picture.budgets if each.left == 0 and each.budget
    ]


def sections(picture: SitePicture) -> list[Section]:
    """Every part in the order of the page; one that cannot be shown says why."""
    found, few = picture.cohort, picture.minimum_count

    def part(anchor: str, title: str, blocks: list[Block], source: str = "") -> Section:
        fault = picture.faults.get(source or anchor)
        return Section(anchor, title, [Words(fault, tone="note")] if fault else blocks)

    return [
        part("daemon", "Now", [_now(picture)]),
        part("cohort", "Cohort", _cohort(found, few) if found else []),
        part("quarantine", "Quarantine", _quarantine(found, few) if found else [], "cohort"),
        part("left", "What left the building", _left(picture.left)),
        part("budget", "Privacy budget", _budget(picture.budgets)),
        part("certificates", "Certificates", [_certificates(picture)]),
    ]


def size(count: int) -> str:
    """Bytes in decimal units."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.2f}\N{NO-BREAK SPACE}{unit}"
    return f"{count}\N{NO-BREAK SPACE}bytes"


def _now(picture: SitePicture) -> Facts:
    daemon = picture.daemon or {}
    items = [("Daemon", str(daemon.get("state", "")))]
    if daemon.get("state") != NOT_RUNNING and daemon:
        items += [
            ("Running since", _clock(daemon["started"])),
            *([("Paused since", _clock(daemon["paused_since"]))] if daemon["paused_since"] else []),
            ("Policy", str(daemon["policy"])),
            ("Rounds answered", str(daemon["rounds_answered"])),
            *([("Last refusal", str(daemon["last_refusal"]))] if daemon["last_refusal"] else []),
            *([("Not in a round", str(daemon["last_verdict"]))] if daemon["last_verdict"] else []),
            *((each["name"], "running" if each["running"] else "not running") for each in daemon["companions"]),
        ]
    return Facts([*items, ("As of", _clock(picture.at.isoformat()))])


def _cohort(found: Cohort, few: int) -> list[Block]:
    totals = found.totals
    table = Table(
        "Patients with usable studies, by split and by what they have",
        ["Split", *KINDS, *(["All"] if totals else [])],
        [
            [split, *(_cell(row[kind]) for kind in KINDS), *([str(totals[split])] if totals else [])]
            for split, row in found.patients.items()
        ],
        note=f"Numbers below {few} are not shown"
        + ("." if totals else ", and neither is any sum from which they could be computed."),
    )
    if found.studies is None:
        return [table]
    return [table, _counts("Studies stored, by modality", "Modality", found.studies)]


def _quarantine(found: Cohort, few: int) -> list[Block]:
    blocks: list[Block] = [Facts([("Check for identifiers", found.deidentification)])]
    if not found.quarantine:
        return [*blocks, Words("No study is in quarantine.")]
    note = f"Numbers below {few} are not shown. The list itself lies in the store; nothing of it leaves the site."
    blocks.append(_counts("Studies set aside, by reason", "Reason", found.quarantine, note))
    if found.withheld:
        blocks.append(_counts("Of these, what may name somebody", "Kind of finding", found.withheld))
    return blocks


def _left(found: Left | None) -> list[Block]:
    if found is None:
        return [Words("Nothing so far: there is no audit log yet.")]
    state = "whole" if found.whole else f"NOT whole: {len(found.faults)} fault(s)"
    against = "" if found.anchored else "; its anchor file is missing, so entries cut off at the end go unnoticed"
    facts = Facts([
        ("Audit log", f"{state}, {found.entries} entries{against}"),
        ("Kept since", _clock(found.first_at)),
        ("Messages that left", f"{_listed(found.kinds)}; {size(found.size_bytes)} in all" if found.kinds else "none"),
        ("Held back", str(found.held_back)),
        ("Patients withdrawn", str(found.withdrawn)),
    ])  # fmt: skip
    return [facts, *((_messages(found),) if found.messages else ())]


def _messages(found: Left) -> Table:
    every = sum(found.kinds.values()) + found.held_back
    return Table(
        "Messages, the newest first" + (f" ({SHOWN} of {every})" if every > SHOWN else ""),
        [
            "When (UTC)",
            "Run",
            "Round",
            "Message",
            "Groups",
            "Bytes",
            "What it said, or why it was held back",
            "SHA-256",
        ],
        [_message(message) for message in found.messages],
        note=f"Bytes are those of the content. Of each digest the first {_DIGEST_SHOWN} digits; the log has it whole.",
        words=frozenset({1, 3, 4, 6, 7}),
    )


def _message(message: Message) -> list[Cell | str]:
    why = Cell(f"held back: {', '.join(message.rules)}", tone="warn") if not message.left else message.said or _NOTHING
    return [
        _clock(message.at, unit=""),
        message.run or _NOTHING,
        str(message.round) if message.round else _NOTHING,
        message.kind + (" (repeated)" if message.repeated else ""),
        ", ".join(message.groups) or _NOTHING,
        size(message.size_bytes) if message.left else _NOTHING,
        why,
        message.sha256[:_DIGEST_SHOWN] or _NOTHING,
    ]


def _budget(found: tuple[DataSetBudget, ...]) -> list[Block]:
    if not found:
        return [Words("Nothing is charged: no run with differential privacy so far.")]
    spent = Table(
        "Epsilon of the most exposed patient",
        ["Data set", "Spent", "Budget", "Left", "Delta", "Protects one"],
        [
            [each.name, _epsilon(each.spent, "no bound"), _epsilon(each.budget, "none set"),
             "–" if each.left is None else _rounded_down(each.left), f"{each.delta:g}", each.unit]
            for each in found
        ],
        note="The budget is for all runs together, set at the first private one. More: more-client ledger.",
        words=frozenset({5}),
    )  # fmt: skip
    rows = [
        [run.run, each.name, str(run.charges), str(run.steps), _epsilon(run.epsilon, "no bound")]
        for each in found
        for run in each.runs
    ]
    head = ["Run", "Data set", "Charges", "Steps", "Epsilon by itself"]
    runs = Table("Charges of each run", head, rows, words=frozenset({1}),
                 note="The epsilons of runs do not add up: what all of them cost together stands above.")  # fmt: skip
    return [spent, runs] if rows else [spent]


def _certificates(picture: SitePicture) -> Table:
    rows: list[list[Cell | str]] = [
        [each.name, each.cause if each.level == "ok" else Cell(each.cause, tone="warn")]
        for each in picture.certificates
    ]
    note = "The coordinator's own certificate is seen only when connecting: more-client preflight looks at it."
    return Table("How long they last", ["Certificate", "State"], rows, note=note, words=frozenset({1}))


def _counts(caption: str, what: str, counts: Mapping[str, Shown], note: str = "") -> Table:
    return Table(caption, [what, "Studies"], [[name, _cell(count)] for name, count in counts.items()], note=note)


def _cell(count: Shown) -> Cell | str:
    return str(count) if isinstance(count, int) else Cell(count, tone="quiet")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _epsilon(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else rounded_up(value)


def _rounded_down(value: float) -> str:
    # What is left must never read as more than it is, as what is spent never as less.
    return f"{int(value * 100) / 100:.2f}"


def _clock(iso: str, unit: str = " UTC") -> str:
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M:%S}{unit}" if iso else "–"
