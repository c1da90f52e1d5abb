"""The basics that every page of the project has to meet, read from the live page."""

from __future__ import annotations

from browser.devtools import Page

CONTROLS = {"textbox", "radio", "checkbox", "slider", "combobox", "button", "link", "spinbutton", "listbox"}
TAB = 9

_FAULTS = """(() => {
  const faults = [];
  if (!document.documentElement.lang) faults.push("the page does not say its language");
  if (!document.title) faults.push("the page has no title");
  if (document.querySelectorAll("h1").length !== 1) faults.push("there is not exactly one h1");
  if (!document.querySelector("main")) faults.push("there is no main part");
  for (const e of document.querySelectorAll("[tabindex]"))
    if (e.tabIndex > 0) faults.push(`positive tabindex: ${e.outerHTML.slice(0, 80)}`);
  for (const e of document.querySelectorAll("img"))
    if (!e.alt && e.getAttribute("aria-hidden") !== "true") faults.push(`no text for ${e.id || "a picture"}`);
  for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
    for (const name of ["aria-labelledby", "aria-describedby"])
      for (const id of (e.getAttribute(name) ?? "").split(" "))
        if (id && !document.getElementById(id)) faults.push(`nothing has the id ${id}`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, place) => ids.indexOf(id) !== place))) faults.push(`id ${id} occurs twice`);
  return faults;
})()"""

_FOCUSED = """(() => {
  const e = document.activeElement, style = getComputedStyle(e);
  return { which: e.id || e.name || e.textContent.trim().slice(0, 40) || e.tagName, tag: e.tagName,
           ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
})()"""


def faults(page: Page) -> list[str]:
    """What is missing on the view that is shown: language, names of controls and pictures, order, references."""
    found = list(page.evaluate(_FAULTS))
    for node in page.call("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in CONTROLS and not node.get("name", {}).get("value", "").strip():
            found.append(f"a {role} has no name")
    return found


def tab_stops(page: Page, most: int = 60) -> tuple[list[str], list[str]]:
    """Where the Tab key leads from the top of the page, and what can be reached without its focus being seen."""
    page.evaluate("document.activeElement.blur()")
    stops: list[str] = []
    unseen: list[str] = []
    for _ in range(most):
        page.press("Tab", TAB)
        focused = page.evaluate(_FOCUSED)
        if focused["tag"] == "BODY" or (stops and focused["which"] == stops[0]):
            break
        stops.append(focused["which"])
        unseen += [] if focused["ring"] else [focused["which"]]
    return stops, unseen
