"""One self-contained HTML page from sections: nothing is fetched, no script runs, everything shown is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from more_model.report.blocks import Section


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says. ``kind`` heads it ("Evaluation report"), ``cautions`` are shown before all sections,
    ``synthetic_words`` stand in the banner of a page with ``synthetic``."""

    kind: str
    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    cautions: Sequence[str] = ()
    synthetic: bool = False
    synthetic_words: str = "Every patient here was generated. No figure on this page says anything about real patients."
    footer: str = ""


def write_page(path: Path, page: Page) -> Path:
    """Writes ``page`` to ``path`` whole or not at all. Raises OSError where the folder is not writable."""
    return write_whole(path, page_environment().get_template("page.html.j2").render(page=page))


def write_whole(path: Path, text: str) -> Path:
    """Writes a text file beside its final name and renames it, so a reader never finds half of it."""
    draft = path.with_name(f"{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path


def page_environment(*packages: str) -> Environment:
    """The templates of this package and of ``packages`` (searched first). Everything shown is escaped, save drawings
    that the project made itself."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in (*packages, "more_model.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup
    css = resources.files("more_model.report").joinpath("report.css").read_text(encoding="utf-8")
    environment.globals["style"] = Markup(css)
    return environment
