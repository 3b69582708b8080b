"""Checks: what each check of `verify` promises, and what to do about a file that fails it.

The closed list: `verifying` makes the checks of a folder and its audit, `comparing` those that
need the sources. A check without its line here cannot be reported.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_AGAIN: Final = "Take it out of OUT; make it again with run."
_INSIDE: Final = "Keep it inside the site; report the check to us."


class Check(NamedTuple):
    """What holds where the check is passed, and what to do where it is not."""

    promise: str
    remedy: str


SCANNED: Final[dict[str, Check]] = {
    "unreadable": Check("every file can be read as DICOM", "Take it out of OUT."),
    "link or other file": Check(
        "plain files only, no links or devices", "Take it out of OUT; run writes no such thing."
    ),
    "place": Check(
        "path is <patient>/<study>/<series>/<sop>.dcm",
        "Put it back; if run had --names mirror, say so here too.",
    ),
    "SOP UID twice": Check("no two files are the same object", "Keep the one at its place."),
    "study of two patients": Check(
        "a study belongs to one patient",
        "Correct the PatientID at the source; redo the study in a new OUT.",
    ),
    "profiles mixed": Check(
        "all files are of one profile and its options",
        "Some may say more than others; redo all data with one profile in a new OUT.",
    ),
    "preamble": Check("the first 128 bytes are zero", _AGAIN),
    "file meta": Check("the file's head names no other software", _AGAIN),
    "pseudonym": Check(
        "patient's name and ID are one pseudonym", f"It may name a patient. {_AGAIN}"
    ),
    "marks": Check("the file says how it was de-identified", _AGAIN),
    "private element": Check("no private element but a safe one", _AGAIN),
    "odd group": Check("no commands, curves or overlays", _AGAIN),
    "foreign UID": Check("every UID is a mapped one (2.25.)", _AGAIN),
}
"""Made of every file by itself, and of all together."""

AUDIT: Final = "audit chain"
AUDITED: Final[dict[str, Check]] = {
    AUDIT: Check(
        "no line of the audit was changed or cut",
        "Bring the audit back from a backup; until then nothing proves these files.",
    ),
    "bytes not in the audit": Check(
        "the bytes are those that run recorded", f"It was changed, or put here. {_AGAIN}"
    ),
    "keys mixed": Check(
        "all pseudonyms are of one key, and of one mapping if they are drawn",
        "A patient may have two names here; redo all data with one of them in a new OUT.",
    ),
}
"""Made where an audit lies beside the folder; the last two only if its chain holds."""

END_UNKNOWN: Final = Check(
    "no line of the audit was changed; without the journal, a cut end is not noticed",
    AUDITED[AUDIT].remedy,
)
"""What the check of the chain promises where no journal says where the audit ended."""

COMPARED: Final[dict[str, Check]] = {
    "residual": Check("no identifying value of its source is left", _INSIDE),
    "unchanged value": Check("what must change is not as in its source", _INSIDE),
    "no source": Check(
        "its source lies in IN and can be read", "Name the folder that run read with --against."
    ),
    "shift differs": Check("all dates of a patient moved alike", _AGAIN),
    "UID mapped twice": Check("a UID became the same everywhere", _AGAIN),
    "patient named twice": Check(
        "a patient has one pseudonym", "Redo the patient's data with one key in a new OUT."
    ),
    "pixels changed": Check("pixels are the source's, or black", _AGAIN),
    "pixels undecodable": Check(
        "pixels can be decoded and compared", "Look at the picture; nobody compared it."
    ),
    "removal score": Check(
        "what must go or be consistent scores in full", "See which score below is not 100 %."
    ),
    "output without a pair": Check(
        "the name map names every file",
        "Give the map that run wrote for this OUT; take out what is not its.",
    ),
}
"""Made with the sources at hand; a removal score counts values, not files."""

EVERY: Final = SCANNED | AUDITED | COMPARED
