"""What names somebody in free text, English and German, as regular expressions: one tuple a kind.

The kinds follow the list of 18 identifiers of the HIPAA safe harbour (45 CFR 164.514(b)(2)) as far as they occur as
text: names, dates finer than a year, ages over 89, telephone and fax numbers, e-mail and web addresses, record, account
and insurance numbers, addresses. Years alone, and ages up to 89, may stay.

Patterns of `WITH_DIGITS` are tried near digits only, `WITHIN` characters to both sides: that is what makes the check
cheap, because most of a report has none.
"""

from __future__ import annotations

import re
from typing import Final

from privacy.deidentify.finding import Kind

#: Where something was removed already: ``[**...**]``, ``XXXX``, ``[REDACTED]``, ``<NAME>``. MIMIC's ``___`` needs no
#: rule: it is neither a number nor a capitalised word.
REMOVED: Final = re.compile(
    r"\[\*\*.*?\*\*\]|\bX{3,}\b"
    r"|[\[<](?i:redacted|removed|deleted|anonymi[sz]ed|name|date|phone|age|id|mrn|location|hospital|entfernt)"
    r"[ _#-]?\d{0,3}[\]>]"
)

_LONG = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
    *("December", "Januar", "Jänner", "Februar", "März", "Maerz", "Mai", "Juni", "Juli", "Oktober", "Dezember"),
)
_SHORT = ("Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sept", "Sep", "Oct", "Nov", "Dec", "Okt", "Dez", "Mrz")
# In lower case "may", "mar", "dec" and the like are other words, or parts of sentences.
_LOWER = (name.lower() for name in _LONG if name not in {"May", "Mai"})
_MONTH = "(?:" + "|".join((*_LONG, *_SHORT, *(name.upper() for name in _LONG + _SHORT), *_LOWER)) + ")"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR = r"(?:19|20|21)\d\d"

DATES: Final = (
    rf"(?<![\d.,/-]){_YEAR}([./-])(?:0?[1-9]|1[0-2])\1{_DAY}(?!\d)",
    rf"(?<!\d){_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)",
    rf"(?<![\w./,-])(?<!ribs )(?<!rib ){_DAY}([./-]){_DAY}\1(?:{_YEAR}|\d\d)(?![\w/-]|\.\d)",
    rf"(?<![\w.,/-]){_DAY}\. ?{_DAY}\. ?{_YEAR}(?!\d)",
    # "... of 2. May represent ..." is a new sentence; in German "2. Mai" is a date.
    rf"(?<![\w.,/-]){_DAY}(?:(?:st|nd|rd|th)?(?:\s+of)?\s+|\.\s*(?!\s*May\b)){_MONTH}\b",
    rf"(?<![\w.,/-]){_DAY}-(?:{_MONTH})-(?:{_YEAR}|\d\d)\b",
    rf"\b{_MONTH}\b\.?,?\s+(?:{_DAY}(?:st|nd|rd|th)?\b(?!\.?\d)(?:,?\s+{_YEAR}\b)?|{_YEAR}\b)",
    rf"(?i:\b(?:on|dated|since|until)\s+)(?:0?[1-9]|1[0-2])/{_DAY}(?![\w/])",
    rf"(?i:\b(?:am|vom|seit|bis|zum|dem|den)\s+){_DAY}\.\s?(?:0?[1-9]|1[0-2])\.(?!\d)",
)
AGES: Final = (
    r"(?<![\w.,])(?:9\d|1[0-2]\d)[ -]*(?i:years?|yrs?\.?|yo\b|y/o|y\.o\.|y\b|jährig|jahre?\b)(?!\s*(?:ago|earlier))",
    r"(?i:\b(?:age|aged|alter)\b(?:\s+von)?\s*[:=]?\s*)(?:9\d|1[0-2]\d)(?!\d|[.,]\d|\s*%)",
    r"(?<![\w.,])(?:9\d|1[0-2]\d)\s?[MFWmfw](?=\s+(?:with|w/|s/p|who|presenting|mit|nach)\b)",
)
PHONES: Final = (
    r"(?<![\w.-])(?:\+?1[ .-]?)?(?:\(\d{3}\)[ -]?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\d)",
    r"(?<!\w)(?:\+|00)[1-9]\d{0,2}[ ./-]?(?:\(0\)[ ]?)?(?:\d[ ./()-]{0,2}){6,13}",
    r"(?<![\w.,])\(?0\d{2,5}\)?\s?[/ -]\s?\d{3,9}(?:[ -]\d{1,6})*(?!\w)",
    r"(?i:\b(?:pager|beeper|(?:tele)?phone|tel(?:efon)?|fax|mobile|mobil|cell|handy|durchwahl|ext(?:ension)?|piepser"
    r"|rufnummer|funk)\b\.?\s*(?:no\.?|nr\.?|number|is|#)?\s*[:#]?\s*)[+(]?\d[\d ()/.-]{2,}\d",
    r"(?<!\w)x\d(?:-\d{4}|\d{4})(?!\w)",
)
# Letters, then digits with an occasional hyphen or slash; four digits at least.
_NUMBER = r"[A-Z]{0,4}[-/ ]?\d(?:[-/ ]?\d){3,}[A-Z]?"
RECORD_NUMBERS: Final = (
    r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])",
    r"(?<!\w)[A-Z]\d{9}(?!\w)",
    r"(?<!\w)\d{2} ?\d{6} ?[A-Z] ?\d{3}(?!\w)",
    r"(?i:\b(?:mrn|mr ?#|med(?:ical)?\.? rec(?:ord)?s?|pat(?:ient(?:en)?)?\.?[ -]?(?:id|nr|no|nummer|number|kennung)"
    r"|(?:fall|case|auftrags?|untersuchungs|befund|studien|order|study|visit|account|acct|versicherten|versicherungs"
    r"|insurance|policy|member|serial|unit|record|chart)[ -]?(?:nr|no|nummer|number|id|#)"
    r"|accession|acc|ssn|social security|s/n)\b[ .:#=-]*(?:(?:no|nr|number|num|id|is|lautet)\b[ .:#=-]*)*)" + _NUMBER,
    r"(?<!\w)[A-Z]{1,3}-?\d{6,}(?!\w)",
    r"(?<![\w.,])\d{7,}(?!\w)",
)
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA"
    "|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC"
)
ADDRESSES: Final = (
    r"(?<![\w.,/])\d{1,5}[a-z]?\s+(?:[NSEW]\.?\s+)?(?:[A-Z][\w'’.-]*\s+){1,3}"
    r"(?:Street|St\b|Avenue|Ave\b|Road|Rd\b|Drive|Lane|Ln\b|Boulevard|Blvd|Court|Terrace|Highway|Parkway|Square"
    r"|STREET|AVENUE|ROAD|LANE|BOULEVARD|DRIVE)",
    r"(?<!\w)(?:[A-ZÄÖÜ][\wäöüß-]*[- ])?[A-ZÄÖÜa-zäöüß-]*(?:[Ss]traße|[Ss]trasse|[Ss]tr\.|[Ww]eg|[Pp]latz|[Aa]llee"
    r"|[Gg]asse|[Uu]fer)\s+\d{1,4}\s?[a-z]?(?!\w|[.,]\d)",
    r"(?<![\w.,-])(?:D-)?\d{5}\s+[A-ZÄÖÜ][a-zäöüß]{2,}",
    rf"(?<!\w)[A-Z][a-z]+,?\s+(?:{_STATES})\s+\d{{5}}(?:-\d{{4}})?(?!\d)",
    r"(?i:\b(?:p\.? ?o\.? box|postfach))\s+\d+",
)
IP_ADDRESSES: Final = (r"(?<![\w.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\w.])",)

_IN_ORDER: Final[tuple[tuple[Kind, tuple[str, ...]], ...]] = (
    ("web-address", IP_ADDRESSES),
    ("date", DATES),
    ("age-over-89", AGES),
    ("address", ADDRESSES),
    ("phone", PHONES[:1]),
    ("record-number", RECORD_NUMBERS[:4]),
    ("phone", PHONES[1:]),
    ("record-number", RECORD_NUMBERS[4:]),
)
#: In the order in which they claim a stretch of text: a phone number is not also a record number.
WITH_DIGITS: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = tuple(
    (kind, re.compile(pattern)) for kind, patterns in _IN_ORDER for pattern in patterns
)
WITHIN: Final = 48
EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
WEB_ADDRESS: Final = re.compile(r"(?i:https?://|www\.)\S+")

_WORD = r"(?:[A-ZÄÖÜ][\wäöüßéèáóíñç]*(?:['’-][A-ZÄÖÜ]?[\wäöüßéèáóíñç]+)*)"
_PARTICLE = r"(?:(?:von|van|de|der|den|zu|di|da|la|le|al|bin)\s+)"
_WHOLE = rf"(?P<name>(?:[A-Z]\.\s*)*{_PARTICLE}{{0,2}}{_WORD}(?:,?\s+(?:[A-Z]\.|{_PARTICLE}?{_WORD}))*)"

# "MR CHEST", "DR Thorax" and "MS" are words of radiology, "12 Fr. tube" is a size: hence the full stop or the case.
TITLED: Final = re.compile(
    r"\b(?:(?:Mr|Mrs|Ms|Dr|Drs|Prof|Hr)\.?|(?:MR|MRS|MS|DR|DRS|PROF)\.|Miss|Herrn?|Frau|Doctor|Professor"
    r"|(?<!\d )(?<!\d)Fr\.)"
    rf"(?:\s*(?:Dr|Prof|med|dent|rer|nat|univ|habil)\b\.?)*\s+{_WHOLE}"
)
LOWER_TITLED: Final = re.compile(r"\b(?:dr|prof|mrs|hr)\.\s+(?P<name>[a-zäöüß]{3,})")
#: A word that a label can end with, and a name after it; `LABEL` then judges what stands before.
AFTER_LABEL: Final = re.compile(rf"(?:(?<=\w):\s*|(?<=\s)(?:by|BY|By|von|durch)\s*:?\s+|gez\.\s*){_WHOLE}")
LABEL_WITHIN: Final = 40
LABEL: Final = re.compile(
    r"(?i)\b(?:(?:patient(?:'s)?|first|last|full|family) name|patient(?:in)?|pat\.|name|(?:nach|vor|familien)name"
    r"|surname|attending(?: (?:physician|radiologist))?|resident|radiologist|physician|provider|technologist|clinician"
    r"|(?:referring|ordering)(?: (?:physician|provider|md))?|arzt|ärztin|oberarzt|oberärztin|chefarzt|befunder(?:in)?"
    r"|untersucher(?:in)?|überweiser|zuweiser|mtra?|cc|gez\."
    r"|(?:dictated|transcribed|read|interpreted|signed|reviewed|approved|reported|verified|confirmed|overread|notified"
    r"|entered) by|(?:befundet|diktiert|unterschrieben|freigegeben|validiert|geschrieben) (?:von|durch))\s*:?\s*$"
)
_DEGREE = r"(?:M\.?D\b\.?|D\.O\.|R\.?N\b|Ph\.?D\b|FRCR|FACR|MBBS|MBChB|PA-C|RT\(R\)|Facharzt|Fachärztin)"
DEGREE: Final = re.compile(rf"[ ,]{_DEGREE}")
DEGREE_WITHIN: Final = 60
CREDENTIALED: Final = re.compile(rf"{_WHOLE},?\s+{_DEGREE}")
CAPITALISED: Final = re.compile(_WORD)
#: From a capitalised word on: a second one, with initials between them, or turned round with a comma.
PAIR: Final = re.compile(rf"(?P<first>{_WORD})(?P<comma>,)?\s+(?:[A-Z]\.\s*)*{_PARTICLE}?(?P<second>{_WORD})")
