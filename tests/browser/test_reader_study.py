"""Readers work through a study in a real browser, and what they hand over can be analysed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser.accessibility import faults, tab_stops
from browser.devtools import Connection, Page, open_page
from trees.reader_cases import write_cases

from more_model.reader_study.analyse import analyse
from more_model.reader_study.answers import read_answers
from more_model.reader_study.cases import read_cases
from more_model.reader_study.manifest import read_key
from more_model.reader_study.package import StudyChoice, build_study

if TYPE_CHECKING:
    from more_model.reader_study.manifest import Manifest

ENTER, ARROW_RIGHT, ARROW_DOWN, SPACE = 13, 39, 40, 32
Build = Callable[..., "tuple[Manifest, Path]"]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A study of four cases (or ``count``) without a pause unless told otherwise; returns it and its page."""

    def make(count: int = 4, **choice: Any) -> tuple[Manifest, Path]:
        write_cases(tmp_path / "cases", count)
        settings = StudyChoice(**{"readers": 2, "washout_days": 0, "seed": 1, **choice})
        manifest = build_study(read_cases([tmp_path / "cases"]), settings, tmp_path / "study")
        return manifest, tmp_path / "study" / "package" / "index.html"

    return make


def begin(page: Page, reader: str) -> None:
    """Chooses the reader and opens the first case that is not answered yet."""
    page.evaluate(f"document.getElementById('reader').value = {json.dumps(reader)}")
    page.click("#begin")


def shown(page: Page) -> str:
    """Which view can be seen."""
    return str(page.evaluate("[...document.querySelectorAll('main > section')].find((e) => !e.hidden).id"))


def upcoming(page: Page) -> dict[str, Any]:
    reading: dict[str, Any] = page.evaluate("nextReading()")
    return reading


def rate(page: Page, answers: list[int]) -> None:
    for number, answer in enumerate(answers):
        page.click(f'input[name="rating-{number}"][value="{answer}"]')


def text(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))


def answer_all(page: Page, answers_to: Callable[[dict[str, Any]], list[int]], most: int = 100) -> None:
    """Saves reading after reading until the pause, the end, or ``most`` of them."""
    for _ in range(most):
        if shown(page) != "reading":
            break
        rate(page, answers_to(upcoming(page)))
        page.click("#save")


def exported(page: Page, manifest: Manifest, reader: str, *, partial: bool = False) -> Path:
    page.click("main > section:not([hidden]) [data-export]")
    return page.downloaded(f"answers-{manifest.study}-{reader}{'-partial' if partial else ''}.json")


def test_two_readers_finish_a_study_with_a_reload_in_the_middle(build: Build, page: Page, tmp_path: Path) -> None:
    manifest, path = build()
    key = read_key(tmp_path / "study" / "key.json", manifest)

    def right_with_aid(reading: dict[str, Any]) -> list[int]:
        truth = key.cases[reading["case"]].truth
        return [5 if truth[label] and reading["aided"] else 1 for label in manifest.cases[reading["case"]].labels]

    page.goto(path)
    begin(page, "reader-1")
    answer_all(page, right_with_aid, most=2)
    page.click('input[name="rating-1"][value="2"]')
    page.click("#comment")
    page.type("too dark <b>")
    page.click("#quality")
    before = upcoming(page)
    assert page.reload(), "the page has to ask before answers are left that were not handed over"
    assert shown(page) == "start"
    begin(page, "reader-1")
    assert text(page, "#status") == "Continued after 2 readings."
    assert upcoming(page) == before
    assert page.evaluate("document.querySelector('[name=\"rating-1\"]:checked').value") == "2"
    assert page.evaluate("document.getElementById('comment').value") == "too dark <b>"
    answer_all(page, right_with_aid)
    assert shown(page) == "pause"
    page.click("#next-session")
    answer_all(page, right_with_aid)
    assert shown(page) == "done"
    files = [exported(page, manifest, "reader-1")]
    assert not page.reload(), "everything was handed over: there is nothing to ask"

    begin(page, "reader-2")
    answer_all(page, right_with_aid)
    page.click("#next-session")
    answer_all(page, right_with_aid)
    files.append(exported(page, manifest, "reader-2"))

    result = analyse(manifest, key, read_answers(files, manifest), replicates=50)
    mean = result["labels"]["Edema"]["mean"]
    assert mean["aided"]["auroc"]["value"] == 1.0
    assert mean["unaided"]["auroc"]["value"] == 0.5
    assert result["labels"]["Edema"]["agreement"]["aided"]["fleiss_calls"]["kappa"] == 1.0
    assert result["comments"] == [
        {"reader": "reader-1", "case": before["case"], "aided": before["aided"], "comment": "too dark <b>"}
    ]
    assert result["quality_limited"] == 1
    assert all(reading.visible_ms > 0 for one in read_answers(files, manifest) for reading in one.readings)
    assert page.complaints() == []
    assert {address.split(":")[0] for address in page.requests()} == {"file", "data"}


def test_help_is_shown_in_the_readings_that_have_it_and_in_no_other(build: Build, page: Page) -> None:
    manifest, path = build()
    page.goto(path)
    begin(page, "reader-1")
    seen = set()
    for _ in range(4):
        reading = upcoming(page)
        shows = page.evaluate("document.getElementById('picture-explanation') !== null")
        expected = reading["aided"] and "explanation" in manifest.cases[reading["case"]].pictures
        assert shows == expected
        assert ("Probability by the model" in text(page, "#aid")) == reading["aided"]
        assert page.evaluate("[...document.images].every((e) => e.complete && e.naturalWidth > 0)")
        seen.add(reading["aided"])
        rate(page, [3, 3])
        page.click("#save")
    assert seen == {True, False}


def test_a_report_is_shown_as_text_and_no_script_of_it_runs(build: Build, page: Page) -> None:
    _, path = build()
    page.goto(path)
    begin(page, "reader-1")
    words = set()
    for _ in range(4):
        words.add(page.evaluate("document.querySelector('blockquote')?.textContent ?? ''"))
        rate(page, [3, 3])
        page.click("#save")
    assert any("</script><script>" in one for one in words)
    assert page.evaluate("document.title") == "Reader study: reader study"
    assert page.complaints() == []


def test_the_page_can_reach_nothing_even_if_it_tried(build: Build, page: Page) -> None:
    _, path = build()
    page.goto(path)
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'reached', () => 'refused')")
    assert refused == "refused"
    page.until(page.complaints, "the browser to say why")
    assert "Content Security Policy" in " ".join(page.complaints())


def test_unanswered_questions_are_named_and_get_the_focus(build: Build, page: Page) -> None:
    _, path = build()
    page.goto(path)
    page.click("#begin")
    assert text(page, "#error") == "Choose your reader number first."
    begin(page, "reader-1")
    rate(page, [4])
    page.click("#save")
    assert text(page, "#error") == "Not answered yet: Pleural Effusion"
    assert page.evaluate("document.activeElement.name") == "rating-1"
    assert page.evaluate("state.readings.length") == 0


def test_a_study_can_be_read_with_the_keyboard_alone(build: Build, page: Page) -> None:
    _, path = build(scale="probability")
    page.goto(path)
    stops, unseen = tab_stops(page)
    assert stops[:4] == ["To the content", "reader", "begin", "import"]
    assert unseen == []
    page.evaluate("document.getElementById('reader').focus()")
    page.press("ArrowDown", ARROW_DOWN)
    page.press("Tab", 9)
    page.press("Enter", ENTER, "\r")
    assert shown(page) == "reading"
    assert page.evaluate("document.activeElement.id") == "case-heading"
    for number in range(2):
        while page.evaluate("document.activeElement.name") != f"rating-{number}":
            page.press("Tab", 9)
        page.press("ArrowRight", ARROW_RIGHT)
    assert text(page, "fieldset output") == "55 %"
    page.press("Enter", ENTER, "\r")
    assert page.evaluate("state.readings[0].ratings") == {"Edema": 55, "Pleural Effusion": 55}
    assert page.evaluate("document.activeElement.id") == "case-heading"
    assert text(page, "#status") == "Saved. 1 of 8 readings are done."


def test_a_slider_that_was_not_moved_is_no_answer(build: Build, page: Page) -> None:
    _, path = build(scale="probability")
    page.goto(path)
    begin(page, "reader-1")
    assert text(page, "fieldset output") == "not set yet"
    page.click("#save")
    assert "Not answered yet: Edema, Pleural Effusion" in text(page, "#error")


@pytest.mark.parametrize("scale", ["confidence", "probability"])
def test_every_view_meets_the_basics_of_accessibility(build: Build, page: Page, scale: str) -> None:
    _, path = build(2, scale=scale)
    page.goto(path)
    assert faults(page) == []
    begin(page, "reader-1")
    for _ in range(2):
        assert faults(page) == []
        stops, unseen = tab_stops(page)
        assert {"rating-0", "rating-1", "quality", "comment", "save"} <= set(stops)
        assert unseen == []
        page.evaluate("for (const label of ['Edema', 'Pleural Effusion']) rate(label, 5)")
        page.click("#save")
    assert shown(page) == "pause"
    assert faults(page) == []
    page.evaluate("while (nextReading() !== null) { beginDraft(); saveReading(); } showDone()")
    assert shown(page) == "done"
    assert faults(page) == []


def test_time_runs_only_while_the_page_can_be_seen(build: Build, page: Page, browser: Connection) -> None:
    """The page's clock is replaced, so nothing here depends on how fast the machine is."""
    _, path = build()
    page.goto(path)
    page.evaluate("window.fakeNow = 0; performance.now = () => window.fakeNow")
    begin(page, "reader-1")
    page.evaluate("fakeNow = 4000")
    # Another tab in front hides this one.
    browser.call("Target.createTarget", url="about:blank", browserContextId=page.context)
    page.until("document.visibilityState === 'hidden'")
    page.evaluate("fakeNow = 900000")
    page.call("Page.bringToFront")
    page.until("document.visibilityState === 'visible'")
    page.until("runningSince === 900000")
    page.evaluate("fakeNow = 903000; tick()")
    assert page.evaluate("state.draft.visible_ms") == 7000
    # Ten minutes in one step: the machine slept.
    page.evaluate("fakeNow += 600000; tick()")
    assert page.evaluate("state.draft.visible_ms") == 12000
    rate(page, [3, 3])
    page.click("#save")
    assert page.evaluate("state.readings[0].visible_ms") == 12000


def test_the_second_session_opens_after_the_pause(build: Build, page: Page) -> None:
    _, path = build(2, washout_days=28)
    page.goto(path)
    begin(page, "reader-1")
    answer_all(page, lambda reading: [1, 1])
    assert "Session 2 opens on " in text(page, "#pause-words")
    assert page.evaluate("document.getElementById('next-session').disabled")
    page.reload()
    page.evaluate("const real = Date.now; Date.now = () => real() + 28 * 86400000 + 60000")
    begin(page, "reader-1")
    assert text(page, "#pause-words") == "Session 2 is open."
    page.click("#next-session")
    assert text(page, "#case-heading") == "Session 2, case 1 of 2"


def test_a_saved_file_goes_on_in_a_browser_that_remembers_nothing(
    build: Build, page: Page, browser: Connection, tmp_path: Path
) -> None:
    manifest, path = build()
    page.goto(path)
    begin(page, "reader-2")
    answer_all(page, lambda reading: [2, 4], most=3)
    file = exported(page, manifest, "reader-2", partial=True)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(file.read_text()), "package_digest": "0"}), encoding="utf-8")
    moved = json.loads(file.read_text())
    moved["readings"][0]["case"] = moved["readings"][1]["case"]
    (tmp_path / "moved.json").write_text(json.dumps(moved), encoding="utf-8")
    with open_page(browser, tmp_path) as fresh:
        fresh.goto(path)
        for chosen, given, expected in (
            ("reader-2", path, "This file holds no answers of a reader study."),
            ("reader-2", other, "This file belongs to another study."),
            ("reader-1", file, "This file holds the answers of reader-2, not of reader-1."),
            ("reader-2", tmp_path / "moved.json", "The cases in this file are not in this reader's order."),
        ):
            fresh.evaluate(f"document.getElementById('reader').value = '{chosen}'")
            fresh.choose("#import", given)
            fresh.until(f"document.getElementById('error').textContent === {json.dumps(expected)}", expected)
        fresh.choose("#import", file)
        fresh.until("state !== null && state.readings.length === 3", "the answers to be taken up")
        assert text(fresh, "#case-heading") == "Session 1, case 4 of 4"


def test_a_file_does_not_replace_more_answers_than_it_holds(build: Build, page: Page) -> None:
    manifest, path = build()
    page.goto(path)
    begin(page, "reader-1")
    answer_all(page, lambda reading: [2, 4], most=1)
    file = exported(page, manifest, "reader-1", partial=True)
    answer_all(page, lambda reading: [2, 4], most=1)
    page.reload()
    page.evaluate("document.getElementById('reader').value = 'reader-1'")
    page.choose("#import", file)
    page.until("document.getElementById('error').textContent.includes('already holds more answers')")
    begin(page, "reader-1")
    assert page.evaluate("state.readings.length") == 2


def test_a_second_tab_takes_over(build: Build, page: Page, browser: Connection, tmp_path: Path) -> None:
    _, path = build()
    page.goto(path)
    begin(page, "reader-1")
    answer_all(page, lambda reading: [2, 4], most=1)
    with open_page(browser, tmp_path, context=page.context) as second:
        second.goto(path)
        begin(second, "reader-1")
        page.until("state === null", "the first tab to step back")
        assert text(page, "#error") == "This study was opened in another tab. Go on there."
        answer_all(second, lambda reading: [3, 3], most=1)
        assert second.evaluate("state.readings.map((reading) => reading.ratings.Edema)") == [2, 3]


def test_a_browser_without_storage_says_so(build: Build, page: Page) -> None:
    _, path = build()
    page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="Storage.prototype.setItem = Storage.prototype.getItem = () => { throw new Error('denied'); };",
    )
    page.goto(path)
    assert page.evaluate("document.getElementById('storage-warning').hidden")
    begin(page, "reader-1")
    assert not page.evaluate("document.getElementById('storage-warning').hidden")
    rate(page, [1, 1])
    page.click("#save")
    assert page.evaluate("state.readings.length") == 1
