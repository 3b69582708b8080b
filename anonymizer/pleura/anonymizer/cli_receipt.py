"""The command `receipt`: what the audit of an output proves, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import typer

from pleura.anonymizer.cli_common import (
    AsJson,
    OutFolder,
    beside,
    console,
    exits_on_error,
    print_data,
)
from pleura.anonymizer.cohort import Evidence, OutputReceipt, receipt_of
from pleura.anonymizer.journal import audit_mark_of
from pleura.anonymizer.recall import STRONG_PERCENT, ReaderEvidence

WORDS: Final = {
    "audit_head": "audit head",
    "profiles": "profile",
    "profile_digests": "profile digest",
    "options": "options",
    "rule_editions": "rule edition",
    "rules_digests": "rules digest",
    "key_ids": "key id",
    "mappings": "pseudonyms",
    "versions": "made by Pleura",
    "objects": "objects",
    "patients": "patients",
    "overrides": "accepted although nobody read their pixels",
    "gone": "accepted once, not there any more",
    "left_out": "left out, no objects",
}
_COUNTS: Final = ("objects", "patients", "overrides", "gone", "left_out")
_MAPPINGS: Final = {"hmac": "computed from the key", "random": "drawn at random"}
ACTIONS: Final = {
    "removed": "removed",
    "emptied": "emptied",
    "dummy": "replaced by a dummy",
    "uid_mapped": "UIDs mapped",
    "kept": "kept",
    "shifted": "dates and times shifted",
    "recursed": "sequences whose items were cleaned",
    "seed": "texts and numbers with words of the patient, cleaned",
    "hidden_bits": "pictures with unused pixel bits, cleared",
    "comments": "pictures with comments in their code, taken out",
}
EVIDENCE: Final = {
    "invalid_values": "values that were not lawful, taken out",
    "objects_read_for_text": "objects read for burned-in text",
    "frames_read": "frames read",
    "boxes_blacked_out": "texts blacked out",
    "markers_kept": "side markers kept",
    "smallest_cell": "patients in the smallest group",
    "cells": "groups of patients",
    "cells_below_five": "groups of fewer than five",
}
_CELLS: Final = ("smallest_cell", "cells", "cells_below_five")
_WIDE: Final = 14


def receipt_command(
    out: OutFolder,
    evidence: Annotated[
        bool,
        typer.Option("--evidence", help="For an expert: counts per rule, smallest group, reader."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what the audit of OUT proves; counts below five read <5.

    --evidence is for an expert determination (HIPAA 164.514(b)(1)): counts per rule, the smallest
    group of patients with the same sex, age band and modality, and how much text burned into
    pixels the reader finds, measured once on invented text, with the version it was measured for.
    """
    with exits_on_error():
        mark = audit_mark_of(beside(out, ".journal.db"))  # before the audit, which may grow
        audit = beside(out, ".audit.jsonl")
        receipt = receipt_of(out, audit, passes=mark, with_evidence=evidence)
    for warning in receipt.evidence.reader.warnings if receipt.evidence else ():
        console().print(f"[bold red]warning[/] {warning}", soft_wrap=True)
    if as_json:
        print_data(receipt.model_dump_json(exclude_none=True))
        return
    print_data(*receipt_lines(receipt))


def receipt_lines(receipt: OutputReceipt) -> list[str]:
    """Return the text of a receipt; counts are hidden already."""
    found = receipt.model_dump(exclude={"evidence"})
    found["mappings"] = [_MAPPINGS[name] for name in receipt.mappings]
    facts = {WORDS[name]: _listed(found[name]) for name in WORDS if name not in _COUNTS}
    counts = {WORDS[name]: found[name] for name in _COUNTS}
    lines = [*_rows(facts), "", *_rows(counts)]
    lines += _table("quarantined", receipt.quarantined)
    return lines + _evidence_lines(receipt.evidence) if receipt.evidence is not None else lines


def _evidence_lines(found: Evidence) -> list[str]:
    actions = {ACTIONS[name]: count for name, count in found.actions.items()}
    given = found.model_dump(include=set(EVIDENCE))
    return [
        "",
        "evidence",
        *_table("what was done to attributes", actions, 2),
        *_table("removed, by attribute", found.removed, 2),
        *_table("methods claimed in the files (codes of DICOM)", found.method_codes, 2),
        "  pixels and values",
        *_rows({EVIDENCE[name]: given[name] for name in EVIDENCE if name not in _CELLS}, 4),
        "  smallest group of patients with the same sex, age band and modality",
        *_rows({EVIDENCE[name]: given[name] for name in _CELLS}, 4),
        *_reader_lines(found.reader),
    ]


def _reader_lines(found: ReaderEvidence) -> list[str]:
    recall = found.recall
    area = f"{recall.clean_pixels_covered.percent:.3f} % of their area"
    rows = {
        "measured": f"{recall.measured_on} with {recall.reader} {recall.reader_version} and "
        f"Pleura {recall.pleura_version}",
        "installed here": f"{recall.reader} {found.installed_version or 'none'}",
        "images": f"{recall.images}, {recall.split} split, strings from "
        f"{recall.smallest_height_px} pixels high",
        "counted as found": f"from {recall.covered_percent} % of a string blacked out on",
        **{f"contrast {c} %": share for c, share in sorted(recall.strings.items())},
        f"from {STRONG_PERCENT} % on": f"{recall.strong}, {recall.strong.percent:.1f} %",
        "all contrasts": f"{recall.every}, {recall.every.percent:.1f} %",
        "side markers kept": recall.markers_kept,
        "clean images touched": f"{recall.clean_images_touched}, {area}",
        **{f"refused {code}": count for code, count in recall.refused.items()},
    }
    lines = ["  reader of text in pixels, measured on invented text"]
    lines += [f"    {name:<22} {value}" for name, value in rows.items()]
    return [*lines, *(f"    WARNING {warning}" for warning in found.warnings)]


def _table(head: str, rows: Mapping[str, str], indent: int = 0) -> list[str]:
    if not rows:
        return _rows({head: "none"}, indent)
    return [" " * indent + head, *_rows(rows, indent + 2)]


def _rows(rows: Mapping[str, object], indent: int = 0) -> list[str]:
    wide = max(_WIDE, *map(len, rows)) if rows else 0
    return [f"{' ' * indent}{label:<{wide}}  {value}" for label, value in rows.items()]


def _listed(value: str | tuple[str, ...] | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "none"
