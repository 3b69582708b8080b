"""Marking: what the engine itself writes into a file, in the data set and around it.

The marks PS3.15 E.1.1 asks for, the pseudonym, and our own file meta (PS3.10 7.1): nothing of
the original preamble or file meta gets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version as installed_version
from typing import Final

from pleura.anonymizer.profile import METHOD_MEANINGS, Profile
from pleura.anonymizer.wire import Element, Syntax, encode

VERSION: Final = installed_version("pleura")
IMPLEMENTATION_CLASS_UID: Final = "2.25.327170163436853155066129286553806817917"


def method(profile: Profile) -> str:
    """Return the text of (0012,0063)."""
    return f"Pleura {VERSION} {profile.name}"[:64]


def authored(profile: Profile) -> frozenset[str]:
    """Return every text `stamp` writes: a patient may be called `Removed`."""
    marks = {"YES", "NO", "MODIFIED", "REMOVED", "DCM", method(profile)}
    return frozenset(marks | METHOD_MEANINGS.keys() | set(METHOD_MEANINGS.values()))


def stamp(
    elements: Sequence[Element], profile: Profile, pseudonym: str, *, codes: Sequence[str]
) -> list[Element]:
    """Return the data set with the pseudonym and the marks; `codes` say what was done."""
    items = [
        [
            Element(0x00080100, "SH", code.encode()),
            Element(0x00080102, "SH", b"DCM"),
            Element(0x00080104, "LO", METHOD_MEANINGS[code].encode()),
        ]
        for code in codes
    ]
    modified = b"MODIFIED" if profile.dates == "shift" or profile.year_only else b"REMOVED"
    stamps = [
        Element(0x00100010, "PN", pseudonym.encode()),
        Element(0x00100020, "LO", pseudonym.encode()),
        Element(0x00120062, "CS", b"YES"),
        Element(0x00120063, "LO", method(profile).encode()),
        Element(0x00120064, "SQ", items=items),
        Element(0x00280303, "CS", modified),
    ]
    if "113101" in codes:
        stamps.append(Element(0x00280301, "CS", b"NO"))
    by_tag = {e.tag: e for e in elements} | {e.tag: e for e in stamps}
    return [by_tag[tag] for tag in sorted(by_tag)]


def file_head(sop_class: str, sop_uid: str, transfer_syntax: str) -> bytes:
    """Return a preamble of zeros and our own file meta (PS3.10 7.1)."""
    meta = b"".join(
        map(
            bytes,
            encode(
                [
                    Element(0x00020001, "OB", b"\0\1"),
                    Element(0x00020002, "UI", sop_class.encode()),
                    Element(0x00020003, "UI", sop_uid.encode()),
                    Element(0x00020010, "UI", transfer_syntax.encode()),
                    Element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()),
                    Element(0x00020013, "SH", f"PLEURA_{VERSION}"[:16].encode()),
                ],
                Syntax(),
            ),
        )
    )
    length = encode([Element(0x00020000, "UL", len(meta).to_bytes(4, "little"))], Syntax())
    return b"".join([bytes(128), b"DICM", *map(bytes, length), meta])
