"""The ingest process: polls the watched folders until told to stop; one a site.

A full disk stops intake and intake resumes alone; anything else that cannot be
mended by the next poll ends the process with a code, and the supervisor decides.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event

from pleura.client.errors import WatchFolderMissing
from pleura.client.ingest.intake import GB, IngestProgress, IngestSummary, Tally, plan_batch
from pleura.client.ingest.pipeline import Pipeline, open_pipeline
from pleura.client.ingest.watcher import Found, Settler, list_folders, unreadable_folders
from pleura.client.settings import SiteSettings
from pleura.common import events
from pleura.common.errors import AlreadyRunning, DiskFull
from pleura.common.exit_codes import ExitCode
from pleura.common.files import ensure_private_folder, free_bytes
from pleura.common.supervision import stop_on_signals

PROCESS = "ingest"
ProgressHook = Callable[[IngestProgress], None]


def main(settings: SiteSettings) -> ExitCode:
    """Run until SIGTERM or SIGINT and return OK.

    A signal ends the loop after the batch in hand. SIGKILL is safe at any time.

    Raises:
        PleuraError: what the next poll cannot mend; `pleura.client.process` ends with its code.
    """
    stop = stop_on_signals()
    started = time.monotonic()
    events.emit("process.started", process=PROCESS, pid=os.getpid())
    run_until(settings, stop)
    events.emit(
        "process.stopped",
        process=PROCESS,
        status=int(ExitCode.OK),
        seconds=time.monotonic() - started,
    )
    return ExitCode.OK


def run_until(settings: SiteSettings, stop: Event) -> None:
    """Poll the watched folders until `stop` is set.

    A folder that is not there is reported once and watched again when it comes back.

    Raises:
        AlreadyRunning: another process takes in for this site.
        PleuraError: key, profile, database or state folder cannot be used.
    """
    settler = Settler(settings.ingest.settle_s)
    is_full = False
    missing: tuple[int, ...] = ()
    with _opened(settings) as pipeline:
        while not stop.is_set():
            missing = _report_missing(settings, missing)
            looked_s = time.monotonic()
            listing = list_folders(settings.ingest.watch)
            look_s = time.monotonic() - looked_s
            ready = settler.settled(listing, time.monotonic())
            try:
                _take_in(settings, pipeline, ready, Tally(), stop)
                is_full = False
            except DiskFull as exc:
                if not is_full:
                    _report_full(settings, exc)
                is_full = True
            # a long listing (100,000 files on a slow share) takes a tenth of the time at most
            stop.wait(max(settings.ingest.poll_s, 9 * look_s))


def scan_once(settings: SiteSettings, on_progress: ProgressHook | None = None) -> IngestSummary:
    """Take in everything that is settled now, and return what became of it.

    Looks twice, `ingest.settle_s` apart. Files that still change are counted as
    waiting. A second scan of the same files takes nothing in.

    Raises:
        AlreadyRunning: another process takes in for this site.
        DiskFull: free space is under `ingest.reserve_gb`; what was stored stays stored.
        WatchFolderMissing: a watched folder cannot be read; nothing was taken in.
    """
    missing = unreadable_folders(settings.ingest.watch)
    if missing:
        raise WatchFolderMissing(f"ingest.watch no. {', '.join(map(str, missing))}")
    settler = Settler(settings.ingest.settle_s)
    with _opened(settings) as pipeline:
        listing = list_folders(settings.ingest.watch)
        ready = settler.settled(listing, time.monotonic())
        if settings.ingest.settle_s > 0 and listing:
            time.sleep(settings.ingest.settle_s)
            listing = list_folders(settings.ingest.watch)
            ready = settler.settled(listing, time.monotonic())
        tally = Tally(found=len(listing), waiting=len(listing) - len(ready))
        try:
            _take_in(settings, pipeline, ready, tally, Event(), on_progress)
        except DiskFull as exc:
            _report_full(settings, exc)
            raise
        return tally.summary()


def _take_in(
    settings: SiteSettings,
    pipeline: Pipeline,
    ready: Sequence[Found],
    tally: Tally,
    stop: Event,
    on_progress: ProgressHook | None = None,
) -> None:
    remaining = pipeline.unknown(ready)
    tally.known = len(ready) - len(remaining)
    tally.total = len(remaining)
    while remaining and not stop.is_set():
        batch = plan_batch(
            remaining,
            free_bytes=free_bytes(settings.store_dir),
            reserve_bytes=int(settings.ingest.reserve_gb * GB),
        )
        pipeline.take_in(batch, tally, on_progress)
        remaining = remaining[len(batch) :]


@contextmanager
def _opened(settings: SiteSettings) -> Iterator[Pipeline]:
    ensure_private_folder(settings.state_dir)
    ensure_private_folder(settings.store_dir)
    ensure_private_folder(settings.ingest_db_file.parent)
    with single_ingest(settings):
        pipeline = open_pipeline(settings)
        try:
            pipeline.recover()
            yield pipeline
        finally:
            pipeline.close()


@contextmanager
def single_ingest(settings: SiteSettings) -> Iterator[None]:
    """Hold the lock of this site's intake.

    Raises:
        AlreadyRunning: another process takes in for this site, or erases.
    """
    path = settings.ingest_db_file.parent / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            # a record lock, not flock: worker processes must not inherit it
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise AlreadyRunning("ingest of this site") from None
        yield
    finally:
        os.close(descriptor)


def _report_missing(settings: SiteSettings, before: tuple[int, ...]) -> tuple[int, ...]:
    missing = unreadable_folders(settings.ingest.watch)
    if missing and missing != before:
        events.emit(
            "error.raised",
            process=PROCESS,
            code=WatchFolderMissing.code,
            error=WatchFolderMissing.__name__,
        )
    return missing


def _report_full(settings: SiteSettings, exc: DiskFull) -> None:
    events.emit("disk.filled", process=PROCESS, code=exc.code, bytes=free_bytes(settings.store_dir))
