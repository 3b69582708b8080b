"""The conformance page of the de-identifier, made from its tables and profiles.

Called by `build_reference.py`, which writes the page and whose test asserts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from pleura.anonymizer.iod import load_types
from pleura.anonymizer.private import load_safe_rows
from pleura.anonymizer.profile import METHOD_MEANINGS, PROFILE_NAMES, Profile, load_profile
from pleura.anonymizer.rules import Row, Rules, describe, load_rules

EDITIONS: Final = ("2024e", "2026c")
SWITCHES: Final[Sequence[tuple[str, str, str]]] = (
    ("113101", "clean_pixels", "claimed for a file only if all its frames were read"),
    ("113103", "clean_graphics", "overlays and curves are removed whole"),
    ("113104", "clean_structured_content", "items of a report are kept and cleaned"),
    (
        "113105",
        "clean_descriptors",
        "descriptions and comments lose names, numbers, dates and unknown words",
    ),
    ("113108", "retain_patient_characteristics", "sex, size, weight and capped age are kept"),
    ("113109", "retain_device_identity", "station and device attributes are kept"),
    ("113111", "safe_private", "listed technical private elements whose value is clean are kept"),
)
HIPAA: Final[Sequence[tuple[str, str]]] = (
    ("A names; B geography", "person names of patient and staff, addresses and institutions"),
    ("C dates, ages over 89", "removed by `hipaa_safe_harbor` only; a shift is no Safe Harbor"),
    ("D-F phone, fax, mail; N, O URL, IP", "attributes removed; patterns in text"),
    ("G-L numbers of a person", "PatientID becomes a pseudonym, the others go or are emptied"),
    ("M devices", "removed unless a profile keeps devices"),
    ("P, Q biometrics, faces", "audio and fields that may reach a face refused, none is altered"),
    ("R other codes", "UIDs mapped, private elements removed unless listed"),
)
LIMITS: Final = (
    "- 113102, 113106, 113110 and 113112 are never claimed: nothing does them.\n"
    "- A shift of dates is not Safe Harbor; pseudonymous data stay personal data.\n"
    "- See also [limits](../limits.md)."
)
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def counts_of(rules: Rules, edition: str) -> Counter[str]:
    """Return how many attributes of the standard's table have each code in an edition."""
    upto = EDITIONS[: EDITIONS.index(edition) + 1]
    return Counter(row.basic for row in rules.rows.values() if row.edition in upto)


def parts(table: Table) -> list[str]:
    """Return the parts of the page below its title."""
    rules = load_rules()
    old, new = (counts_of(rules, edition) for edition in EDITIONS)
    profiles = [load_profile(name) for name in PROFILE_NAMES]
    house = sorted((t, r) for t, r in rules.rows.items() if r.edition == "house")
    groups = ", ".join(f"`{group:04X}`" for group in sorted(rules.house_groups))
    return [
        "What the de-identifier does of PS3.15 Annex E, counted from the tables it runs on. The"
        " four rows with a mask (curves, overlay data and comments, private) are not counted:"
        " these attributes are removed by a rule of their own.",
        f"Rule edition `{rules.edition}`, digest `{rules.digest}`.",
        "## Rows by code",
        table(
            ("code", *EDITIONS),
            [(f"`{c}`", str(old[c]), str(n)) for c, n in sorted(new.items())]
            + [("all", str(old.total()), str(new.total()))],
        ),
        "## House rows",
        f"Attributes the table has no row for. Removed as whole groups: {groups}.",
        table(
            ("tag", "name", "code", "with an option"),
            [(f"`{describe(t)}`", row.name, f"`{row.basic}`", _options(row)) for t, row in house],
        ),
        "## Profiles",
        table(("option", "what it does", *PROFILE_NAMES), _option_rows(profiles)),
        "## HIPAA 164.514(b)(2)",
        table(("identifiers", "what is done"), HIPAA),
        "## Lists",
        table(("list", "entries"), _list_rows(rules)),
        "## Limits",
        LIMITS,
    ]


def _options(row: Row) -> str:
    return ", ".join(f"{name} `{action}`" for name, action in row.options.items()) or "-"


def _option_rows(profiles: Sequence[Profile]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("113100 " + METHOD_MEANINGS["113100"], "the table", *("yes" for _ in profiles)),
        (
            "113107 " + METHOD_MEANINGS["113107"], "dates move by a secret number of days",
            *(_yes(p.dates == "shift") for p in profiles),
        ),
    ]  # fmt: skip
    rows += [
        (f"{code} {METHOD_MEANINGS[code]}", what, *(_yes(bool(getattr(p, key))) for p in profiles))
        for code, key, what in SWITCHES
    ]
    return [
        *sorted(rows),
        ("pseudonyms", "computed by key or drawn at random", *(p.pseudonyms for p in profiles)),
        ("attributes", "`standard` keep list or `minimal`", *(p.keep for p in profiles)),
        (
            "on request", "a caller may add these",
            *(", ".join(f"`{name}`" for name in p.offers) or "-" for p in profiles),
        ),
    ]  # fmt: skip


def _yes(is_on: bool) -> str:
    return "yes" if is_on else "no"


def _list_rows(rules: Rules) -> list[tuple[str, str]]:
    types = load_types()
    return [
        ("attributes kept without a row", str(len(rules.kept))),
        ("safe private elements", str(len(load_safe_rows()))),
        (f"storage classes with types; {types.source}", str(len(types.sop_classes))),
    ]
