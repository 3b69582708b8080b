"""Commit: moves de-identified objects from staging into the store, crash-safe.

The engine leaves durable files in staging. Order of effects: announce the paths,
rename the files, make the folders durable, add the rows to the catalog, strike
out the announcement, record the sources. A kill between any two steps is mended
by `recover` and by doing the same again: a file without a row is removed, a row
always has its file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pleura.anonymizer.burnedin.policy import may_face
from pleura.anonymizer.engine import Deidentified
from pleura.client.ingest.catalog import Catalog, CatalogEntry, StoredBytes
from pleura.client.ingest.geometry import read_geometry
from pleura.client.ingest.rows import IngestRows, SourceRow
from pleura.client.ingest.watcher import Found
from pleura.common import events
from pleura.common.canonical import sha256_hex
from pleura.common.files import fsync_folder, raise_if_disk_full
from pleura.common.ids import short

OBJECTS: Final = "objects"
STAGING: Final = "staging"
Decision = Literal["store", "duplicate", "DUPLICATE_DIFFERS", "FACE_IN_FIELD", "PATIENT_CONFLICT"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One source file and the de-identified object made of it, still in staging."""

    found: Found
    name: str  # keyed hash of the source's path
    made: Deidentified


def decide(
    arrivals: Sequence[Arrival],
    *,
    patient: str | None,
    stored: Callable[[str], StoredBytes | None],
    modalities: Collection[str] = (),
) -> list[Decision]:
    """Return what becomes of each object of one study. Pure.

    `patient` and `modalities` are those of the study in the store. A study of another patient
    is refused whole, and CT beside PET is, because it may show a face. An object
    that is there already is a duplicate if its source or its result has the same
    bytes, else it is refused; nothing in the store is ever overwritten.
    """
    patients = {arrival.made.patient for arrival in arrivals} | ({patient} - {None})
    if len(patients) > 1:
        return ["PATIENT_CONFLICT"] * len(arrivals)
    kinds = {arrival.made.modality for arrival in arrivals} | set(modalities)
    decisions: list[Decision] = []
    taken: dict[str, StoredBytes] = {}
    for arrival in arrivals:
        made = arrival.made
        if may_face(made.modality, kinds):
            decisions.append("FACE_IN_FIELD")
            continue
        mine = StoredBytes(made.sha256, made.receipt.input_digest)
        there = taken.get(made.sop_uid) or stored(made.sop_uid)
        if there is None:
            taken[made.sop_uid] = mine
            decisions.append("store")
        elif there.sha256 == mine.sha256 or there.input_digest == mine.input_digest:
            decisions.append("duplicate")
        else:
            decisions.append("DUPLICATE_DIFFERS")
    return decisions


class Committer:
    """Writes into `store/objects`, the catalog and the ingest rows."""

    def __init__(self, store: Path, catalog: Catalog, rows: IngestRows) -> None:
        self._store = store
        self._catalog = catalog
        self._rows = rows

    def recover(self) -> None:
        """Undo what a crash left half done: staging, and files the catalog does not name."""
        shutil.rmtree(self._store / STAGING, ignore_errors=True)
        pending = self._rows.pending_moves()
        for path in pending:
            if not self._catalog.has_path(path):
                (self._store / path).unlink(missing_ok=True)
        self._rows.close_moves(pending)

    def commit_study(self, arrivals: Sequence[Arrival]) -> list[tuple[Arrival, Decision]]:
        """Store the new objects of one study; return what became of every object.

        Refused objects are only decided here; the caller puts them in quarantine.

        Raises:
            DiskFull: the volume has no room; the store is unchanged.
        """
        if not arrivals:
            return []
        decisions = decide(
            arrivals,
            patient=self._catalog.patient_of(arrivals[0].made.study_uid),
            stored=self._catalog.stored,
            modalities=self._catalog.modalities_of(arrivals[0].made.study_uid),
        )
        decided = list(zip(arrivals, decisions, strict=True))
        new = [arrival for arrival, decision in decided if decision == "store"]
        if new:
            self._store_new(new)
        finished = [
            SourceRow(a.name, a.found.stamp, "stored" if d == "store" else "duplicate")
            for a, d in decided
            if d in ("store", "duplicate")
        ]
        self._catalog.clear_quarantined(row.name for row in finished)
        self._rows.finish(finished)
        return decided

    def _store_new(self, new: Sequence[Arrival]) -> None:
        entries = [catalog_entry(arrival.made) for arrival in new]
        paths = [entry.path for entry in entries]
        self._rows.open_moves(paths)
        try:
            self._move([a.made.path for a in new], [self._store / path for path in paths])
            self._catalog.add(entries)
        except OSError as exc:
            raise_if_disk_full(exc)
            raise
        self._rows.close_moves(paths)
        digest = short(sha256_hex(new[0].made.study_uid.encode()))
        events.emit("study.ingested", count=len(new), digest=digest)

    def _move(self, sources: Sequence[Path], targets: Sequence[Path]) -> None:
        folders: set[Path] = set()
        for source, target in zip(sources, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            source.replace(target)
            folders.update(_up_to(target.parent, self._store))
        for folder in sorted(folders, reverse=True):
            fsync_folder(folder)


def catalog_entry(made: Deidentified) -> CatalogEntry:
    """Return the catalog row of a de-identified object that is still in staging."""
    receipt = made.receipt
    return CatalogEntry(
        sop_uid=made.sop_uid,
        study_uid=made.study_uid,
        series_uid=made.series_uid,
        patient=made.patient,
        modality=made.modality,
        path=f"{OBJECTS}/{made.patient}/{made.study_uid}/{made.series_uid}/{made.sop_uid}.dcm",
        sha256=made.sha256,
        size_bytes=made.size_bytes,
        accession_key=made.accession_key or None,
        sop_key=made.sop_key,
        geometry=read_geometry(made.path),
        basis=receipt.basis,
        input_digest=receipt.input_digest,
        receipt=receipt.to_json().decode(),
        removals=frozenset((tag, "removed") for tag in receipt.removed),
    )


def _up_to(folder: Path, top: Path) -> list[Path]:
    chain = [folder]
    while chain[-1] != top:
        chain.append(chain[-1].parent)
    return chain
