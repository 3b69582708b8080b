"""Pipeline: one batch of settled files through de-identification into the store.

Sources are only read. A source that changed while it was read is left for the
next poll. Each study is committed on its own, and each source gets its ingest
row only after its object is in the catalog or in quarantine.
"""

from __future__ import annotations

import secrets
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from pleura.anonymizer.batch import LEFT_OUT, BatchItem, run_batch
from pleura.anonymizer.erasure import ErasureIndex
from pleura.anonymizer.errors import InternalFault
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import Pseudonyms
from pleura.anonymizer.quarantine import quarantine_file
from pleura.client.ingest.catalog import Catalog
from pleura.client.ingest.commit import STAGING, Arrival, Committer
from pleura.client.ingest.intake import IngestProgress, Tally
from pleura.client.ingest.rows import IngestRows, SourceRow
from pleura.client.ingest.vault import open_erasure_index, open_site_pseudonyms, site_profile
from pleura.client.ingest.watcher import Found, read_stamp
from pleura.client.settings import SiteSettings
from pleura.common.files import ensure_private_folder, sweep_parts

AUDIT: Final = "audit"  # one chained audit file a batch, its head in the ingest rows


class Pipeline:
    """Everything one ingest process holds open. Made by `open_pipeline`."""

    def __init__(
        self,
        settings: SiteSettings,
        *,
        key: Pseudonyms,
        profile: Profile,
        catalog: Catalog,
        rows: IngestRows,
        erased: ErasureIndex,
    ) -> None:
        self._settings = settings
        self._key = key
        self._profile = profile
        self._catalog = catalog
        self._rows = rows
        self._erased = erased
        self._known = rows.known()
        self._committer = Committer(settings.store_dir, catalog, rows)

    def close(self) -> None:
        self._catalog.close()
        self._rows.close()
        self._erased.close()
        self._key.close()

    def recover(self) -> None:
        """Mend what a crash left half done; call once, before the first batch."""
        self._committer.recover()
        if self._settings.quarantine_dir.is_dir():
            sweep_parts(self._settings.quarantine_dir)

    def unknown(self, ready: Sequence[Found]) -> list[Found]:
        """Return the settled files whose present state was not finished before."""
        return [item for item in ready if self._known.get(self._name(item.path)) != item.stamp]

    def take_in(
        self,
        batch: Sequence[Found],
        tally: Tally,
        on_progress: Callable[[IngestProgress], None] | None = None,
    ) -> None:
        """Take in one batch and add to the tally.

        Raises:
            DiskFull: the volume has no room; studies already committed stay.
        """
        batch_id = secrets.token_hex(8)
        staging = ensure_private_folder(self._settings.store_dir / STAGING / batch_id)
        audit = ensure_private_folder(self._settings.ingest_db_file.parent / AUDIT)
        done_before = tally.done
        items: list[BatchItem] = []

        def show(count: int) -> None:
            tally.done = done_before + count
            if on_progress is not None:
                on_progress(tally.progress())

        try:
            report = run_batch(
                [item.path for item in batch],
                staging,
                self._settings.quarantine_dir,
                profile=self._profile,
                key=self._key,
                jobs=self._settings.ingest.workers,
                ocr=self._settings.ingest.ocr,
                allow_unread_text=self._settings.ingest.accept_unread_text,
                on_result=items.append,
                on_progress=show,
                audit=audit / f"{batch_id}.jsonl",
                journal=staging / "journal.db",
                tombstones=self._erased.tombstones,
            )
            self._rows.record_batch(batch_id, report.audit_head)
            self._commit(batch, items, tally)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        show(len(batch))

    def _commit(self, batch: Sequence[Found], items: Sequence[BatchItem], tally: Tally) -> None:
        """Bring every item to its end: store, duplicate, quarantine, or the next poll."""
        found_by_path = {found.path: found for found in batch}
        studies: dict[str, list[Arrival]] = defaultdict(list)
        refused: list[tuple[Found, str]] = []
        for item in items:
            found = found_by_path[item.source]
            if read_stamp(found.path) != found.stamp:
                tally.waiting += 1  # changed or gone while it was read
            elif item.result is not None:
                arrival = Arrival(found, self._name(found.path), item.result)
                studies[item.result.study_uid].append(arrival)
            else:
                refused.append((found, item.code or InternalFault.code))
        for arrivals in studies.values():
            refused += self._commit_study(arrivals, tally)
        self._record_refused(refused, tally)

    def _commit_study(self, arrivals: Sequence[Arrival], tally: Tally) -> list[tuple[Found, str]]:
        refused: list[tuple[Found, str]] = []
        for arrival, decision in self._committer.commit_study(arrivals):
            if decision == "store":
                tally.stored += 1
            elif decision == "duplicate":
                tally.duplicates += 1
            else:
                quarantine_file(
                    arrival.found.path,
                    self._settings.quarantine_dir,
                    decision,
                    key=self._key,
                    profile=self._profile.name,
                )
                refused.append((arrival.found, decision))
                continue
            self._known[arrival.name] = arrival.found.stamp
        return refused

    def _record_refused(self, refused: Sequence[tuple[Found, str]], tally: Tally) -> None:
        rows = [
            SourceRow(self._name(found.path), found.stamp, "quarantined", code)
            for found, code in refused
        ]
        objects = [row for row in rows if row.code not in LEFT_OUT]
        self._catalog.record_quarantined({row.name: row.code for row in objects})
        self._rows.finish(rows)
        self._known.update({row.name: row.stamp for row in rows})
        tally.left_out += len(rows) - len(objects)
        tally.quarantined.update(row.code for row in objects)

    def _name(self, path: Path) -> str:
        return self._key.keyed("name", str(path))


def open_pipeline(settings: SiteSettings) -> Pipeline:
    """Open key, profile, catalog and ingest rows of a site; the key is made on first use.

    Raises:
        PleuraError: one of them cannot be used; the error names which.
    """
    profile = site_profile(settings)
    key = open_site_pseudonyms(settings, profile)
    with ExitStack() as opened:
        opened.callback(key.close)
        catalog = Catalog(settings.catalog_file)
        opened.callback(catalog.close)
        rows = IngestRows(settings.ingest_db_file)
        opened.callback(rows.close)
        erased = open_erasure_index(settings)
        opened.pop_all()
    return Pipeline(settings, key=key, profile=profile, catalog=catalog, rows=rows, erased=erased)
