"""A whole audit of a subject that is one real Gaussian release, and its report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from more_model.errors import ConfigError, EnvironmentFault
from privacy.audit.levels import Audit, NotRun, Request, run_audit
from privacy.audit.opening import GROUP, open_run
from privacy.audit.report import as_json, as_page, as_text, write_report
from privacy.audit.subject import AuditSubject

ALL = Request((1, 2, 3, 4, 5), canaries=1000, references=4, draws=2000)


@pytest.fixture
def audited(gaussian_subject: Callable[..., Any], scaled_noise: Any) -> Callable[..., Audit]:
    """``audited(request, ...)``: of a `GaussianSubject` with these settings, with repeatable noise."""

    def made(request: Request = ALL, **settings: Any) -> Audit:
        scaled_noise(1.0, 0)
        subject: AuditSubject = gaussian_subject(**settings)
        return run_audit(request, subject)

    return made


def test_all_levels_of_an_honest_run_hold_or_say_nothing(audited: Callable[..., Audit]) -> None:
    audit = audited()
    assert audit.broken() == ()
    outcomes = {(verdict.level, verdict.test): verdict.outcome for verdict in audit.verdicts()}
    assert outcomes[2, "one training run with canaries"] == "holds"
    assert outcomes[3, "membership in the training data"] == "holds"
    assert [verdict.level for verdict in audit.verdicts()] == sorted(verdict.level for verdict in audit.verdicts())
    assert audit.one_run is not None and 0.3 < audit.one_run.epsilon < 0.6 * audit.claimed.epsilon  # type: ignore[union-attr]


def test_a_run_with_a_tenth_of_its_noise_is_found_by_its_canaries(audited: Callable[..., Audit]) -> None:
    broken = audited(Request((2,)), honest=False, noise_multiplier=2.0).broken()
    assert [(verdict.level, verdict.test) for verdict in broken] == [(2, "one training run with canaries")]


def test_what_a_subject_refuses_is_said_and_the_rest_goes_on(audited: Callable[..., Audit]) -> None:
    audit = audited(Request((4, 5)))
    assert audit.not_run == (NotRun(4, "words of the reports: this run has no report tower"),)
    assert len(audit.heads) == 1 and audit.reidentification is not None
    assert (audit.one_run, audit.membership, audit.mechanisms) == (None, None, ())


def test_each_level_is_announced_and_only_those_asked_for_run(gaussian_subject: Callable[..., Any]) -> None:
    heard: list[str] = []
    run_audit(Request((3, 5)), gaussian_subject(), on_step=heard.append)
    assert heard == ["Level 3: reference trainings", "Level 5: embeddings"]


def test_requests_that_cannot_be_met_are_refused_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        run_audit(Request((2, 6), canaries=5, references=0))
    text = str(caught.value)
    for words in ("level 6", "level 2: needs a run", "canaries 5", "references 0"):
        assert words in text


class _Page(HTMLParser):
    """Tags that were opened, those still open, and attributes that load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "link"}:
            self.open.append(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in {"src", "href"} and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_holds_every_verdict(audited: Callable[..., Audit], tmp_path: Path) -> None:
    audit = audited(claims_something=False)
    content, page = write_report(audit, tmp_path / "new" / "audit")
    text = page.read_text(encoding="utf-8")
    parsed = _Page(text)
    assert parsed.open == [] and "svg" in parsed.tags and "script" not in parsed.tags
    # Inside the figure, marks refer to shapes of the same page.
    assert not parsed.loads and not re.findall(r'xlink:href="(?!#)', text)
    for verdict in audit.verdicts():
        assert verdict.words.replace("'", "&#x27;") in text
    values = json.loads(content.read_text(encoding="utf-8"))
    assert values["claimed"]["epsilon"] is None
    assert values["broken"] == 0 and len(values["verdicts"]) == len(audit.verdicts())
    assert values["one_run"]["canaries"] == 1000


def test_names_from_outside_cannot_write_into_the_page() -> None:
    audit = Audit(Request((2,)), "<script>x</script>", None, not_run=(NotRun(2, "<b>why</b>"),))
    assert "<b>why" not in as_page(audit) and "&lt;b&gt;why" in as_page(audit)


def test_the_text_names_the_claim_and_each_verdict(audited: Callable[..., Audit]) -> None:
    text = as_text(audited(Request((2, 4))))
    assert text.startswith("toy run, site north. Claimed per patient: epsilon 4.38 at delta 1e-05")
    assert "CLAIM HOLDS, AS FAR AS THIS TEST SEES" in text
    assert "words of the reports: this run has no report tower" in text
    for line in text.splitlines():
        assert "true epsilon" not in line


def test_json_of_the_mechanisms_alone(scaled_noise: Any) -> None:
    scaled_noise(1.0, 1)
    values = as_json(run_audit(Request((1,), draws=2000)))
    assert (values["subject"], values["claimed"]) == (None, None)
    assert len(values["mechanisms"]) == 5
    json.dumps(values, allow_nan=False)


def test_without_an_installed_opener_the_fault_names_the_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("privacy.audit.opening.entry_points", lambda **_: ())
    with pytest.raises(EnvironmentFault, match=GROUP):
        open_run(tmp_path, None)


def test_the_installed_opener_is_given_run_site_and_progress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Entry:
        def load(self) -> Any:
            return lambda *given: given

    wanted: list[dict[str, str]] = []

    def entries(**selected: str) -> tuple[Entry, ...]:
        wanted.append(selected)
        return (Entry(),)

    monkeypatch.setattr("privacy.audit.opening.entry_points", entries)
    assert open_run(tmp_path, "north", print) == (tmp_path, "north", print)  # type: ignore[comparison-overlap]
    assert wanted == [{"group": "more_fed.audit_subject", "name": "run"}]
