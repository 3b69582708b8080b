"""A worker's side: `python -m pleura.anonymizer.serving FD`, started by a `WorkerPool` only.

The socket FD brings the import path of the batch, then its job, then task after task. Nothing
of the batch's own program is imported, or every start would take twice as long.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from pleura.common.supervision import die_with_parent

if TYPE_CHECKING:
    from pleura.anonymizer.workers import Job, Outcome


def serve(pipe: Connection, job: Job) -> None:
    """Answer tasks until the pipe closes; the first error that is no outcome is the last word."""
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer: Outcome | Exception = job.run(task)
        except Exception as exc:  # noqa: BLE001  raised again in the parent
            answer = exc
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionError):
            return
        if isinstance(answer, Exception):
            return


def main() -> None:
    """Serve the batch at the other end of the socket whose descriptor is the argument."""
    die_with_parent()  # a killed batch leaves no worker behind
    pipe = Connection(int(sys.argv[1]))
    sys.modules["requests"] = None  # type: ignore[assignment]  # pydicom would, for test files
    try:
        sys.path[:] = pipe.recv()
        job = pipe.recv()
    except (EOFError, ConnectionError):
        return  # the batch ended before its worker began
    serve(pipe, job)
    os._exit(0)  # nothing is held here, and an orderly exit takes a tenth of a second


if __name__ == "__main__":
    main()
