"""The site's page beside a daemon that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from client.page.model import site_picture
from client.page.view import headline, sections, warnings
from client.site_file import load_site_file
from more_model.exchange import Instruction


def test_the_page_shows_what_the_daemon_does_and_no_number_of_its_patients(
    new_site: Callable[..., Any], here: Callable[[Any], Any], instruct: Callable[..., Instruction]
) -> None:
    site = new_site("site-1")
    with here(site) as daemon:
        site.write_policy({"federation": {"name": "another"}})
        daemon.train(instruct(1))
        picture = site_picture(load_site_file(site.site_file))
        (site.folder / "policy.toml").unlink()
        without = site_picture(load_site_file(site.site_file))
    assert picture.faults == {}
    assert picture.daemon is not None and picture.left is not None
    assert (picture.daemon["state"], picture.daemon["policy"]) == ("running", "in force")
    assert headline(picture) == "The daemon is running."
    assert not {"patients", "withdrawn"} & picture.daemon.keys()
    newest = picture.left.messages[0]
    assert (newest.kind, newest.left, newest.run, newest.round) == ("refusal", True, "federated", 1)
    assert newest.said == picture.daemon["last_refusal"] != ""
    assert picture.left.whole and picture.left.anchored
    assert without.daemon is not None and without.daemon["policy"] == "none"
    assert "Everything is refused: the policy is missing." in warnings(without)
    assert [part.title for part in sections(picture)] == [
        "Now", "Cohort", "Quarantine", "What left the building", "Privacy budget", "Certificates",
    ]  # fmt: skip
