"""Catalog: the only way to pixels. One row an object that is stored and has a receipt.

The ingest process is the one writer; the trainer opens it read-only. Rows are
added after their files are durable in the store, so a row never names a missing
file. Nothing here holds an original identifier: only pseudonyms and keyed values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from pydicom.datadict import keyword_for_tag

from pleura.client.data.cohort import Cohort, Split
from pleura.client.data.splits import TrainingSplit
from pleura.client.errors import CatalogMissing, KeyVersionsMixed, LabelsMissing
from pleura.client.ingest.catalog_schema import (
    COUNT_MATCHED,
    DELETE_LABELS,
    SCHEMA,
    SELECT_LABELLED,
    VERSION,
)
from pleura.client.ingest.geometry import Geometry
from pleura.client.ingest.selection import (
    LabelledRow,
    Mark,
    imported_splits,
    select_cohort,
    task_unit,
)
from pleura.common.canonical import canonical_json
from pleura.common.database import open_database, transaction
from pleura.common.errors import DatabaseDamaged
from pleura.common.files import ensure_private_folder
from pleura.common.results import RemovalCount, patients_bucket


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One stored object. `path` is relative to the store; `receipt` is a JSON object."""

    sop_uid: str
    study_uid: str
    series_uid: str
    patient: str
    modality: str
    path: str
    sha256: str
    size_bytes: int
    accession_key: str | None
    sop_key: str
    geometry: Geometry
    basis: Literal["patient", "study"]
    input_digest: str  # keyed hash of the source's bytes
    receipt: str
    removals: frozenset[tuple[str, str]] = frozenset()  # (tag, action)


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """Digests of a stored object and, keyed, of the source it was made from."""

    sha256: str
    input_digest: str


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One keyed label of a task."""

    kind: Literal["accession", "sop"]
    key: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class CatalogCounts:
    """What the catalog holds; exact numbers that stay at the site."""

    patients: int
    studies: int
    instances: int
    size_bytes: int
    labels: Mapping[str, int]  # task -> label rows
    quarantined: Mapping[str, int]  # code -> source files


class Catalog:
    """`store/catalog.db`.

    Raises:
        CatalogMissing: `read_only` and nothing was taken in yet.
        DatabaseDamaged: the file fails its check or is of another version.
        StateInsecure: the store is open to others.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        if read_only:
            self._db = _open_read_only(path)
        else:
            ensure_private_folder(path.parent)
            self._db = open_database(path, schema=SCHEMA, version=VERSION)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    # --- objects -----------------------------------------------------------------

    def add(self, entries: Sequence[CatalogEntry]) -> None:
        """Add the objects of a study, all or none; their files are durable already.

        Raises:
            DiskFull: the volume has no room; nothing was added.
            sqlite3.IntegrityError: an object is there already, or has no receipt.
        """
        with transaction(self._db) as db:
            for entry in entries:
                place = entry.geometry
                db.execute(
                    "INSERT INTO instances VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                    (
                        entry.sop_uid,
                        entry.study_uid,
                        entry.series_uid,
                        entry.patient,
                        entry.modality,
                        entry.path,
                        entry.sha256,
                        entry.size_bytes,
                        entry.accession_key,
                        entry.sop_key,
                        place.manufacturer,
                        place.position_mm,
                        place.orientation,
                        place.instance_number,
                        place.frames,
                        entry.basis,
                        entry.input_digest,
                        entry.receipt,
                    ),
                )
                db.executemany(
                    "INSERT INTO removals VALUES (?,?,1)"
                    " ON CONFLICT DO UPDATE SET objects = objects + 1",
                    sorted(entry.removals),
                )

    def stored(self, sop_uid: str) -> StoredBytes | None:
        """Return the digests of a stored object, or None if it is not in the catalog."""
        row = self._db.execute(
            "SELECT sha256, input_digest FROM instances WHERE sop_uid = ?", (sop_uid,)
        ).fetchone()
        return None if row is None else StoredBytes(str(row[0]), str(row[1]))

    def patient_of(self, study_uid: str) -> str | None:
        """Return the one patient of a stored study, or None if it is not in the catalog."""
        row = self._db.execute(
            "SELECT patient FROM instances WHERE study_uid = ? LIMIT 1", (study_uid,)
        ).fetchone()
        return None if row is None else str(row[0])

    def modalities_of(self, study_uid: str) -> set[str]:
        """Return the modalities of a stored study."""
        query = "SELECT DISTINCT modality FROM instances WHERE study_uid = ?"
        return {str(row[0]) for row in self._db.execute(query, (study_uid,))}

    def has_path(self, path: str) -> bool:
        """Return whether an object with this relative path is in the catalog."""
        found = self._db.execute("SELECT 1 FROM instances WHERE path = ?", (path,)).fetchone()
        return found is not None

    def namings(self) -> int:
        """Return how many ways stored objects were named: by key version, keyed or drawn where."""
        rows = self._db.execute(
            "SELECT DISTINCT json_extract(receipt, '$.key_id'), json_extract(receipt, '$.mapping'),"
            " json_extract(receipt, '$.mapping_id') FROM instances"
        )
        return len({(row[0], row[1] or "hmac", row[2]) for row in rows})

    def files_of(self, pseudonym: str) -> Sequence[str]:
        """Return the paths of a patient's objects, relative to the store."""
        rows = self._db.execute(
            "SELECT path FROM instances WHERE patient = ? ORDER BY path", (pseudonym,)
        )
        return [str(row["path"]) for row in rows]

    def drop_files(self, pseudonym: str) -> None:
        """Forget the objects of a patient and the labels that name them, all or nothing."""
        with transaction(self._db) as db:
            db.execute(DELETE_LABELS, {"patient": pseudonym})
            db.execute("DELETE FROM instances WHERE patient = ?", (pseudonym,))

    # --- quarantine --------------------------------------------------------------

    def record_quarantined(self, codes: Mapping[str, str]) -> None:
        """Remember the code of each refused source, by its keyed name; counted once each."""
        with transaction(self._db) as db:
            db.executemany(
                "INSERT INTO quarantine VALUES (?,?) ON CONFLICT DO UPDATE SET code=excluded.code",
                sorted(codes.items()),
            )

    def clear_quarantined(self, sources: Iterable[str]) -> None:
        """Forget sources that were refused before and are stored now."""
        with transaction(self._db) as db:
            db.executemany("DELETE FROM quarantine WHERE source = ?", [(s,) for s in sources])

    # --- labels ------------------------------------------------------------------

    def replace_labels(self, task: str, rows: Sequence[LabelRow]) -> None:
        """Make `rows` the labels of a task, all or nothing.

        Raises:
            LabelsUnreadable: a patient in the store would be in two splits.
            TaskUnknown: this version has no such task.
        """
        with transaction(self._db) as db:
            db.execute("DELETE FROM labels WHERE task = ?", (task,))
            db.executemany(
                "INSERT INTO labels VALUES (?,?,?,?,?)",
                [(task, row.kind, row.key, row.mark.label, row.mark.split) for row in rows],
            )
            imported_splits(self._labelled(task))

    def matched_labels(self, task: str) -> int:
        """Return how many label rows of a task name an object in the store."""
        return int(self._db.execute(COUNT_MATCHED, {"task": task}).fetchone()[0])

    # --- reading -----------------------------------------------------------------

    def cohort(self, task: str, split: Split, *, seed: int, store: Path) -> Cohort:
        """Return the labelled samples of one split, in canonical order.

        CXR: a sample is one instance; CT: one study, its files in anatomical order.
        A patient's split is the imported one, else drawn from `seed` and pseudonym.
        Objects whose source named no patient are left out.

        Raises:
            KeyVersionsMixed: stored objects were named under several keys, or in two ways.
            LabelsMissing: the task has no labels at this site.
            LabelsUnreadable: labels contradict each other.
            TaskUnknown: this version has no such task.
        """
        task_unit(task)
        if not self._db.execute("SELECT 1 FROM labels WHERE task=? LIMIT 1", (task,)).fetchone():
            raise LabelsMissing(task)
        if self.namings() > 1:
            raise KeyVersionsMixed
        return select_cohort(task, split, self._labelled(task), seed=seed, store=store)

    def removals(self) -> dict[tuple[str, str], int]:
        """Return how many objects lost or changed each (tag, action); exact, for this site only."""
        rows = self._db.execute("SELECT tag, action, objects FROM removals ORDER BY tag, action")
        return {(row[0], row[1]): row[2] for row in rows}

    def removal_counts(self) -> tuple[RemovalCount, ...]:
        """Return `removals` as it may leave the site: in public buckets."""
        return tuple(
            RemovalCount(
                tag=tag, keyword=_keyword(tag), action=action, objects=patients_bucket(count)
            )
            for (tag, action), count in self.removals().items()
        )

    def counts(self) -> CatalogCounts:
        """Return how much the catalog holds."""
        patients, studies, instances, size_bytes = self._db.execute(
            "SELECT count(DISTINCT patient), count(DISTINCT study_uid), count(*),"
            " coalesce(sum(size_bytes), 0) FROM instances"
        ).fetchone()
        return CatalogCounts(
            patients=patients,
            studies=studies,
            instances=instances,
            size_bytes=size_bytes,
            labels=self._tally("SELECT task, count(*) FROM labels GROUP BY task ORDER BY task"),
            quarantined=self._tally(
                "SELECT code, count(*) FROM quarantine GROUP BY code ORDER BY code"
            ),
        )

    def _tally(self, query: str) -> dict[str, int]:
        return {str(row[0]): int(row[1]) for row in self._db.execute(query)}

    def _labelled(self, task: str) -> list[LabelledRow]:
        modalities = canonical_json(list(task_unit(task).modalities)).decode()
        query = {"task": task, "modalities": modalities}
        return [_labelled_row(row) for row in self._db.execute(SELECT_LABELLED, query)]


def _labelled_row(row: sqlite3.Row) -> LabelledRow:
    return LabelledRow(
        sop_uid=row["sop_uid"],
        study_uid=row["study_uid"],
        series_uid=row["series_uid"],
        patient=row["patient"],
        path=row["path"],
        sha256=row["sha256"],
        geometry=Geometry(
            position_mm=row["position_mm"],
            orientation=row["orientation"],
            instance_number=row["instance_number"],
            frames=row["frames"],
        ),
        sop_mark=_mark(row["sop_label"], row["sop_split"]),
        accession_mark=_mark(row["accession_label"], row["accession_split"]),
    )


def _mark(label: int | None, split: TrainingSplit | None) -> Mark | None:
    return None if label is None else Mark(label=label, split=split)


def _open_read_only(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise CatalogMissing("no catalog in the store")
    db = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA busy_timeout=5000")
        with closing(db.execute("PRAGMA user_version")) as cursor:
            found = int(cursor.fetchone()[0])
        if found == 0:
            raise CatalogMissing("the catalog is being made")
        if found != VERSION:
            raise DatabaseDamaged(f"schema version {found}, this program knows {VERSION}")
    except sqlite3.DatabaseError as exc:
        db.close()
        raise DatabaseDamaged("the catalog cannot be read") from exc
    except BaseException:
        db.close()
        raise
    return db


def _keyword(tag: str) -> str:
    """Return the dictionary's keyword of `(gggg,eeee)`, or nothing for private and unknown ones."""
    return keyword_for_tag(int(tag[1:5] + tag[6:10], 16)) if tag.startswith("(") else ""
