"""Invented identifiers, each given out once: names, numbers, UIDs, days.

Everything is drawn from a seed, so a corpus is the same in every run. Nobody is called
like this: the names are syllables in a row.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, timedelta

UID_ROOT = "1.2.826.0.1.3680043.10.954"
_ONSETS = ("zor", "qua", "vex", "mib", "tul", "kry", "wof", "gil", "pav", "hud", "jas", "nef")
_MIDDLES = ("ba", "dri", "fo", "gu", "ly", "mo", "ne", "pu", "ri", "sto", "te", "vu", "xi", "za")
_ENDS = ("bel", "dim", "gorn", "hax", "kov", "lint", "mund", "nax", "pold", "rik", "sunk", "wim")
_SCRIPTS = {
    "latin1": ("Zä", "Kö", "Fü", "Ñe", "çe", "ßel", "ård", "øm", "ül", "ræ", "né", "ghö"),
    "cyrillic": ("Жо", "Бра", "щу", "ков", "тил", "мер", "зин", "гла", "пёр", "дюк", "хал", "рим"),
    "japanese": tuple("巽鯨簾霞楠蔭碧繭鷹椿鞍凪"),
    "korean": tuple("곽뇨듬렴몽붕삭엉젼찬켠팥"),
    "chinese": tuple("霍缪筠翟郗檀鄢郜鞠逄臧僪"),
}


@dataclass(slots=True)
class Tokens:
    """The register: no value is given out twice."""

    seed: int
    _random: random.Random = field(init=False)
    _given: set[str] = field(default_factory=set)
    _days: set[date] = field(default_factory=set)
    _files: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def _once(self, draw: list[tuple[str, ...]], *, is_upper: bool = False) -> str:
        while True:
            text = "".join(self._random.choice(part) for part in draw)
            text = text.upper() if is_upper else text[:1].upper() + text[1:]
            if text.casefold() not in self._given:
                self._given.add(text.casefold())
                return text

    def word(self) -> str:
        """Return a name of 12 to 16 letters."""
        return self._once([_ONSETS, _MIDDLES, _MIDDLES, _MIDDLES, _ENDS])

    def code_word(self) -> str:
        """Return an upper-case name of at most 16 letters, lawful as CS and AE."""
        return self._once([_ONSETS, _MIDDLES, _MIDDLES, _MIDDLES, _ENDS], is_upper=True)

    def foreign_word(self, script: str) -> str:
        """Return a name in a script; ideographic ones have 3 letters."""
        if script == "latin":
            return self.word()
        letters = _SCRIPTS[script]
        return self._once([letters] * (3 if len(letters[0]) == 1 else 4))

    def identifier(self) -> str:
        """Return two letters, a dash and seven digits."""
        letters = tuple("BCDFGHJKLMNPQRSTVWXZ")
        digits = tuple("0123456789")
        return self._once([letters, letters, ("-",), *[digits] * 7], is_upper=True)

    def digits(self, count: int) -> str:
        """Return a number without a leading zero."""
        return self._once([tuple("123456789"), *[tuple("0123456789")] * (count - 1)])

    def uid(self) -> str:
        """Return a UID of another organisation's root."""
        return f"{UID_ROOT}.{self.digits(9)}.{self.digits(9)}"

    def phone(self) -> str:
        """Return a telephone number."""
        return f"+49 30 {self.digits(7)}"

    def day(self) -> date:
        """Return a day between 1925 and 2019."""
        while True:
            found = date(1925, 1, 1) + timedelta(days=self._random.randrange(34_500))
            if found not in self._days:
                self._days.add(found)
                return found

    def next_file(self) -> None:
        """Allow days to be given out again: they need to differ within one file only."""
        self._days.clear()
        self._files += 1

    @property
    def is_sloppy(self) -> bool:
        """Whether this file spells dates unlawfully: one in six, for some tools stop there."""
        return self._files % 6 == 0

    def time(self) -> str:
        """Return a time of day to the microsecond, as TM."""
        second = self._random.randrange(86_400)
        clock = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
        return f"{clock}.{self._random.randrange(1, 10**6):06d}"

    def choice(self, count: int) -> int:
        """Return a number below `count`."""
        return self._random.randrange(count)
