"""The words of a FHIR R4 DiagnosticReport: the report as issued, else its conclusion, else its narrative."""

from __future__ import annotations

import base64
import binascii
import re
from email.message import Message
from html.parser import HTMLParser
from typing import Any, Final

from more_model.data.fhir_files import Resource, dictionaries
from more_model.errors import InputRefused

_MAX_TEXT_BYTES: Final = 2**20
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_READABLE: Final = frozenset({"text/plain", *_HTML})
#: Elements whose content is no text, and those that stand on lines of their own.
_HIDDEN: Final = frozenset({"script", "style", "head", "template", "object", "svg"})
_BLOCKS: Final = frozenset(
    {"p", "div", "br", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "section", "pre", "hr"}
)


def report_words(report: Resource) -> str:
    """Plain text, with line breaks where the source has them. ``presentedForm`` as text before HTML, then
    ``conclusion``, then ``text.div`` (https://hl7.org/fhir/R4/diagnosticreport.html).

    Raises:
        InputRefused: report-too-large, damaged-attachment, text-elsewhere (only a link: nothing is fetched),
            form-not-text (PDF and the like), no-text.
    """
    forms = dictionaries(report.get("presentedForm"))
    here = [form for form in forms if form.get("data") and _kind(form) in _READABLE]
    for form in sorted(here, key=lambda form: _kind(form) in _HTML):
        if words := _form_words(form):
            return words
    conclusion, narrative = report.get("conclusion"), report.get("text")
    if isinstance(conclusion, str) and conclusion.strip():
        return _bounded(conclusion)
    shown = narrative.get("div") if isinstance(narrative, dict) and narrative.get("status") != "empty" else None
    if words := html_words(_bounded(str(shown or ""))):
        return words
    raise _refusal(forms)


def _refusal(forms: list[Resource]) -> InputRefused:
    if any(form.get("data") and _kind(form) not in _READABLE for form in forms):
        return InputRefused("form-not-text", "The report is there as PDF or the like only.")
    if any(form.get("url") for form in forms):
        return InputRefused("text-elsewhere", "The report is there as a link only, and links are not followed.")
    return InputRefused("no-text", "The report has no words.")


def _kind(form: Resource) -> str:
    # An attachment without a type is taken for text; what is no text fails to decode.
    return str(form.get("contentType") or "text/plain").partition(";")[0].strip().lower()


def _charset(form: Resource) -> str | None:
    message = Message()
    message["Content-Type"] = str(form.get("contentType") or "")
    return message.get_content_charset()


def _form_words(form: Resource) -> str:
    try:
        data = base64.b64decode("".join(_bounded(str(form["data"]), 2 * _MAX_TEXT_BYTES).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputRefused("damaged-attachment", "The report's attachment is not base64.") from error
    text = _bounded(_decoded(data, _charset(form)))
    return html_words(text) if _kind(form) in _HTML else text.strip()


def _decoded(data: bytes, charset: str | None) -> str:
    if b"\x00" in data and not (charset or "").startswith("utf-16"):
        raise InputRefused("damaged-attachment", "The report's attachment holds bytes that no text has.")
    for name in (charset or "utf-8-sig", "utf-8-sig", "latin-1"):
        try:
            return data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    raise AssertionError("latin-1 decodes everything")


def _bounded(text: str, most: int = _MAX_TEXT_BYTES) -> str:
    if len(text) > most:
        raise InputRefused("report-too-large", f"The report has more than {_MAX_TEXT_BYTES} characters.")
    return text


_BLANKS: Final = re.compile(r"\s+")


class _Words(HTMLParser):
    """Keeps what a reader sees; nothing of the page is run or fetched."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: list[str] = []
        self._as_typed = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._as_typed += tag == "pre"
        if tag in _HIDDEN:
            self._hidden.append(tag)
        elif tag in _BLOCKS:
            self.parts.append("\n")
        elif tag in {"td", "th"}:
            self.parts.append(" ")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        # <script/> hides nothing, whatever the parser makes of it.
        self.parts.append("\n" if tag in _BLOCKS else "")

    def handle_endtag(self, tag: str) -> None:
        self._as_typed -= tag == "pre" and self._as_typed > 0
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data if self._as_typed else _BLANKS.sub(" ", data))


def html_words(page: str) -> str:
    """The text of (X)HTML, one line a block, without scripts, styles and comments."""
    words = _Words()
    words.feed(page)
    words.close()
    lines = (" ".join(line.split()) for line in "".join(words.parts).split("\n"))
    return "\n".join(line for line in lines if line)
