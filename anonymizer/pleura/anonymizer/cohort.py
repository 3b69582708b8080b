"""The receipt of a whole output, from its audit: counts, digests and key ids only.

Whoever gets the output may get this too: a count below five is hidden, no pseudonym is in it.
The evidence (HIPAA 164.514(b)(1)) adds what an expert asks for: counts per rule and the
smallest cell of sex, age band and modality, and how much text in pixels the reader finds, as
measured. It is no statement that a risk is small.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydicom import dcmread
from pydicom.config import disable_value_validation

from pleura.anonymizer.audit import AuditLine, AuditLog, Mark
from pleura.anonymizer.batch import LEFT_OUT
from pleura.anonymizer.errors import AuditMissing
from pleura.anonymizer.recall import ReaderEvidence, reader_evidence
from pleura.anonymizer.receipt import CohortReceipt, Receipt, hidden_below_five, summarise
from pleura.common.database import open_to_read

_CELL: Final = ("PatientSex", "PatientAge", "Modality")
_OLDEST: Final = 90
_INDEX_VERSION: Final = 1  # of the database that `erasure.ErasureIndex` writes


class Evidence(BaseModel, frozen=True, extra="forbid"):
    """What was done over all objects, small counts hidden.

    `smallest_cell`: fewest patients that share sex, age band of ten years and modality, as far
    as the output still says them; `cells_below_five` of `cells` have fewer than five. `reader`
    was measured once for all and says nothing about these objects.
    """

    actions: dict[str, str]
    removed: dict[str, str]
    invalid_values: str
    method_codes: dict[str, str]
    objects_read_for_text: str
    frames_read: str
    boxes_blacked_out: str
    markers_kept: str
    smallest_cell: str
    cells: int
    cells_below_five: int
    reader: ReaderEvidence


class OutputReceipt(BaseModel, frozen=True, extra="forbid"):
    """The receipt of an output.

    `overrides`: accepted although their pixels should have been read and nobody did; `gone`:
    accepted once and not there any more; `left_out`: inputs that are no objects.
    """

    audit_head: str
    profiles: tuple[str, ...]
    profile_digests: tuple[str, ...]
    options: tuple[str, ...]
    rule_editions: tuple[str, ...]
    rules_digests: tuple[str, ...]
    key_ids: tuple[str, ...]
    mappings: tuple[str, ...]
    versions: tuple[str, ...]
    objects: str
    patients: str
    overrides: str
    gone: str
    left_out: str
    quarantined: dict[str, str]
    evidence: Evidence | None = None


def receipt_of(
    out: Path, audit: Path, *, passes: Mark = Mark(), with_evidence: bool = False
) -> OutputReceipt:
    """Return the receipt of an output folder; `passes`: where its journal says the audit ended.

    Raises:
        AuditMissing: there is no audit beside it.
        AuditBroken: the chain of the audit does not hold, or its end is missing.
        KeysMixed: pseudonyms of several keys or mappings, or keyed and drawn ones.
        DatabaseDamaged: the index of files beside it is no sound one.
        OSError, sqlite3.OperationalError: the host refuses to show something; nothing is written.
        RulesDamaged: the figures of the reader are missing or damaged.
    """
    if not audit.exists():
        raise AuditMissing
    log = AuditLog(audit, passes=passes)
    lines = list(log.lines_after(0))
    every = {line.receipt.sop_uid: line.receipt for line in lines if line.receipt is not None}
    receipts = _present(out, list(every.values()))
    summary: CohortReceipt = summarise("", receipts)
    refused = _refused(lines)
    return OutputReceipt(
        audit_head=log.head,
        profiles=_values(r.profile for r in receipts),
        profile_digests=_values(r.profile_digest for r in receipts),
        options=_values(option for r in receipts for option in r.options),
        rule_editions=_values(r.rule_edition for r in receipts),
        rules_digests=summary.rules_digests,
        key_ids=summary.key_ids,
        mappings=_values(r.mapping for r in receipts),
        versions=_values(r.version for r in receipts),
        objects=summary.objects,
        patients=summary.patients,
        overrides=summary.overrides,
        gone=hidden_below_five(len(every) - len(receipts)),
        left_out=hidden_below_five(sum(refused[code] for code in LEFT_OUT)),
        quarantined=_hidden(Counter({c: n for c, n in refused.items() if c not in LEFT_OUT})),
        evidence=_evidence(out, receipts) if with_evidence else None,
    )


def _present(out: Path, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Return the receipts of objects that are there: an erased patient counts no more."""
    index_file = out.with_name(out.name + ".erasure.db")
    if not index_file.exists():
        return [r for r in receipts if _place(out, r).exists()]
    with closing(open_to_read(index_file, version=_INDEX_VERSION)) as index:
        listed = {str(name) for (name,) in index.execute("SELECT DISTINCT pseudonym FROM files")}
    return [r for r in receipts if r.pseudonym in listed or _place(out, r).exists()]


def _place(out: Path, receipt: Receipt) -> Path:
    folder = out / receipt.pseudonym / receipt.study_uid / receipt.series_uid
    return folder / f"{receipt.sop_uid}.dcm"


def _values(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _refused(lines: Sequence[AuditLine]) -> Counter[str]:
    """Return how many inputs ended under each code; one refused in two runs counts once."""
    codes = {line.input_digest: line.code for line in lines}
    return Counter(code for code in codes.values() if code != "ACCEPTED")


def _evidence(out: Path, receipts: Sequence[Receipt]) -> Evidence:
    actions: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for receipt in receipts:
        actions.update({str(name): count for name, count in receipt.actions.items()})
        removed.update(receipt.removed)
        codes.update(receipt.method_codes)
    read = [r.ocr for r in receipts if r.ocr is not None]
    cells = _cells(out)
    return Evidence(
        actions=_hidden(actions),
        removed=_hidden(removed),
        invalid_values=hidden_below_five(sum(r.invalid_values for r in receipts)),
        method_codes=_hidden(codes),
        objects_read_for_text=hidden_below_five(len(read)),
        frames_read=hidden_below_five(sum(ocr.frames for ocr in read)),
        boxes_blacked_out=hidden_below_five(sum(ocr.boxes for ocr in read)),
        markers_kept=hidden_below_five(sum(ocr.markers for ocr in read)),
        smallest_cell=hidden_below_five(min(cells, default=0)),
        cells=len(cells),
        cells_below_five=sum(size < 5 for size in cells),
        reader=reader_evidence(),
    )


def _hidden(counts: Counter[str]) -> dict[str, str]:
    return {name: hidden_below_five(count) for name, count in sorted(counts.items())}


def _cells(out: Path) -> list[int]:
    """Return the number of patients of each cell of sex, age band and modality."""
    cells: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for path in sorted(out.rglob("*")):
        if not path.is_file():
            continue
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            header = dcmread(
                path, stop_before_pixels=True, specific_tags=[*_CELL, "PatientID"], force=True
            )
            sex, age, modality, patient = (
                str(header.get(name, "") or "") for name in (*_CELL, "PatientID")
            )
        cells[sex, age_band(age), modality].add(patient)
    return [len(patients) for patients in cells.values()]


def age_band(age: str) -> str:
    """Return the band of ten years of an age string (AS), empty where there is none."""
    digits = age[:3]
    if len(age) != 4 or not digits.isdigit() or age[3] not in "DWMY":
        return ""
    years = int(digits) if age[3] == "Y" else 0
    return "90+" if years >= _OLDEST else f"{years // 10 * 10}"
