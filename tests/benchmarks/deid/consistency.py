"""Do two processes with one key agree, and do two keys have nothing in common?

Compared are whole outputs: with the same key every file must come out byte for byte the same,
so UIDs, patients and dates do too. With another key no UID and no patient may come back, or
two projects could be joined.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from pleura.anonymizer.scoring import STANDARD_UIDS, Ratio
from tests.benchmarks.deid.reading import text_of, walk

Outputs = Mapping[str, Path | None]
_CLASS_UIDS = frozenset({0x00020002, 0x00020010, 0x00020012, 0x00080016, 0x00081150, 0x00080062})
_PATIENT_ID = 0x00100020


@dataclass(frozen=True, slots=True)
class Consistency:
    """`same`: files alike from both processes; `shared`: names common to two keys, of `names`."""

    same: Ratio
    shared: int
    names: int


def compare(first: Outputs, again: Outputs, other_key: Outputs) -> Consistency:
    """Compare two runs with one key, and the first with a run under another key."""
    alike = sum(_digest(first[name]) == _digest(again.get(name)) for name in first)
    written = sum(path is not None for path in first.values())
    missing = len(first) - written
    names, others = _names(first), _names(other_key)
    return Consistency(Ratio(alike - missing, written), len(names & others), len(names))


def _digest(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _names(outputs: Outputs) -> frozenset[str]:
    """Return every pseudonym in all outputs: UIDs of ours and patients."""
    paths = (path for path in outputs.values() if path is not None)
    return frozenset(name for path in paths for name in _names_in(dcmread(path)))


def _names_in(ds: Dataset) -> Iterator[str]:
    if ds.get(_PATIENT_ID):
        yield text_of(ds[_PATIENT_ID])
    for element in walk(ds):
        if element.VR == "UI" and int(element.tag) not in _CLASS_UIDS:
            uids = text_of(element).split("\\")
            yield from (uid for uid in uids if uid and not uid.startswith(STANDARD_UIDS))
