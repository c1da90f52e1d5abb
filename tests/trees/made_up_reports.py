"""Made-up reports that name made-up people: sentences with one identifier each, and where it stands.

The values are drawn apart from the rules that look for them: formats as hospitals write them, names that stand partly
in the lists of the gate and partly in none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_GIVEN = ("Sarah", "Michael", "Ingrid", "Hans-Peter", "Robert", "Ursula", "Thomas", "Elke", "Juan", "Priya", "Ewa")
_FAMILY = ("Smith", "O'Connor", "Müller", "Schmidt-Rottluff", "Garcia", "Kowalczyk", "Nguyen", "von Stetten", "Lee")
_EN_MONTHS = ("January", "Feb", "March", "Apr.", "May", "June", "July", "Aug", "September", "Oct", "November", "Dec.")
_DE_MONTHS = ("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November")


@dataclass(frozen=True)
class MadeUp:
    """One report, the kind of identifier that it holds, and the characters ``start``-``end`` of it."""

    kind: str
    text: str
    start: int
    end: int


def made_up_reports(count: int, seed: int) -> Iterator[MadeUp]:
    """``count`` reports a kind."""
    draw = random.Random(seed)
    for kind, (value, sentences) in _KINDS.items():
        for _ in range(count):
            identifier = value(draw)
            before, after = draw.choice(sentences).split("@@")
            opening = draw.choice(_OPENINGS)
            start = len(opening) + len(before)
            text = f"{opening}{before}{identifier}{after}{draw.choice(_CLOSINGS)}"
            yield MadeUp(kind, text, start, start + len(identifier))


_OPENINGS = (
    "CHEST (PA AND LAT)\n\nThe lungs are clear. There is a 3.2 x 4.1 cm opacity. ",
    "FINDINGS: Heart size is normal, cardiothoracic ratio 0.48. ",
    "Befund: Herz normal groß, kein Erguss, ZVK in Projektion auf die V. cava superior. ",
    "",
)
_CLOSINGS = (
    "\nIMPRESSION: No acute cardiopulmonary process.",
    " Multiple rib fractures (5-8) on the left.",
    " Kein Infiltrat.",
    "",
)


def _full_name(draw: random.Random) -> str:
    given, family = draw.choice(_GIVEN), draw.choice(_FAMILY)
    return draw.choice(
        (f"{given} {family}", f"{given} {draw.choice('ABCJ')}. {family}", f"{given[0]}. {family}", family)
    )


def _date(draw: random.Random) -> str:
    day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1935, 2025)
    english, german = _EN_MONTHS[month - 1], _DE_MONTHS[draw.randrange(len(_DE_MONTHS))]
    return draw.choice(
        (
            f"{month}/{day}/{year}", f"{month:02d}/{day:02d}/{year % 100:02d}", f"{year}-{month:02d}-{day:02d}",
            f"{day:02d}.{month:02d}.{year}", f"{day}.{month}.{year % 100:02d}", f"{day}. {german} {year}",
            f"{english} {day}, {year}", f"{day} {english} {year}", f"{year}{month:02d}{day:02d}", f"{english} {year}",
            f"{day}-{english.strip('.')[:3]}-{year}", f"{day:02d}. {month:02d}. {year}",
        )
    )  # fmt: skip


def _digits(draw: random.Random, count: int) -> str:
    return str(draw.randint(1, 9)) + "".join(str(draw.randint(0, 9)) for _ in range(count - 1))


def _phone(draw: random.Random) -> str:
    a, b, c = _digits(draw, 3), _digits(draw, 3), _digits(draw, 4)
    area, number = _digits(draw, 2), _digits(draw, 7)
    return draw.choice(
        (
            f"({a}) {b}-{c}", f"{a}-{b}-{c}", f"{a}.{b}.{c}", f"+1 {a} {b} {c}", f"1-{a}-{b}-{c}", f"0{area}/{number}",
            f"0{area} {number}", f"+49 {area} {number}", f"+49 (0){area} {number[:3]} {number[3:]}",
            f"0{area}-{number[:4]} {number[4:]}", f"x{_digits(draw, 1)}-{c}",
        )
    )  # fmt: skip


def _record_number(draw: random.Random) -> str:
    return draw.choice(
        (
            f"MRN: {_digits(draw, 7)}", f"MRN {_digits(draw, 5)}", f"Medical record number {_digits(draw, 8)}",
            f"Accession # {_digits(draw, 8)}", f"Accession: RA{_digits(draw, 7)}", f"Patient ID {_digits(draw, 6)}",
            f"SSN {_digits(draw, 3)}-{_digits(draw, 2)}-{_digits(draw, 4)}", f"Fallnummer: {_digits(draw, 9)}",
            f"Pat.-Nr. {_digits(draw, 6)}", f"Versichertennummer A{_digits(draw, 9)}", f"A{_digits(draw, 9)}",
            f"Auftrags-Nr.: {_digits(draw, 3)}-{_digits(draw, 4)}", f"Acct # {_digits(draw, 8)}", _digits(draw, 8),
        )
    )  # fmt: skip


def _address(draw: random.Random) -> str:
    number, code = draw.randint(1, 999), _digits(draw, 5)
    return draw.choice(
        (
            f"{number} Main Street", f"{number} North Cherry Ave", f"{number} Old Mill Road", f"Boston, MA {code}",
            f"Hauptstraße {number}", f"Berliner Str. {number}", f"Lindenweg {number}a", f"{code} Hannover",
            f"D-{code} Köln", f"P.O. Box {number}", f"Karl-Marx-Allee {number}", f"Postfach {code}",
        )
    )  # fmt: skip


def _email(draw: random.Random) -> str:
    return f"{draw.choice(('s.mueller', 'jane.doe', 'mike_77'))}@{draw.choice(('klinik.example', 'mail.hospital.org'))}"


def _web_address(draw: random.Random) -> str:
    return draw.choice(
        ("https://pacs.example/study?id=4", "www.klinik.example/bilder", f"10.{draw.randint(0, 255)}.3.17")
    )


def _old_age(draw: random.Random) -> str:
    age = draw.randint(90, 107)
    return draw.choice(
        (f"{age}-year-old", f"{age} year old", f"{age} y/o", f"{age}yo", f"{age}-jährige", f"{age} Jahre", f"age {age}",
         f"Alter: {age}", f"{age} yr old")
    )  # fmt: skip


_Sentences = tuple[str, ...]
_KINDS: dict[str, tuple[Callable[[random.Random], str], _Sentences]] = {
    "name": (
        _full_name,
        (
            "Discussed with Dr. @@ by telephone.", "Dictated by: @@.", "Electronically signed by @@, MD.",
            "ATTENDING RADIOLOGIST: @@\n", "Patient name: @@\n", "Mr. @@ was informed.", "Herr @@ wurde aufgeklärt.",
            "Frau @@ stellt sich vor.", "Befundet von Dr. med. @@.", "Mitteilung an Prof. Dr. @@ erfolgt.",
            "Referring physician: @@\n", "Findings were relayed to Ms. @@.", "Patientin: @@\n", "gez. @@",
        ),
    ),
    "date": (_date, ("Compared to the study of @@.", "Vergleich: Voraufnahme @@.", "DOB: @@\n", "geb. @@.", "(@@)")),
    "phone": (_phone, ("Please call @@ with questions.", "Tel. @@.", "(phone: @@)", "Rückfragen unter @@.")),
    "record-number": (_record_number, ("@@\n", "See @@.", "(@@)", "Siehe auch @@.")),
    "address": (_address, ("Lives at @@.", "wohnhaft @@.", "Sent to @@.", "@@\n")),
    "email": (_email, ("Reply to @@.", "E-Mail: @@\n")),
    "web-address": (_web_address, ("Images at @@ today.", "Bilder unter @@ abrufbar.")),
    "age-over-89": (_old_age, ("The patient is @@.", "INDICATION: @@ patient with fall.", "Anamnese: @@ alt, Sturz.")),
}  # fmt: skip
