"""A worker's side: `python -m pleura.anonymizer.serving FD`, started by a `WorkerPool` only.

The socket FD brings the import path of the batch, then its job, then task after task. Nothing
of the batch's own program is imported, or every start would take twice as long.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from pleura.common.supervision import die_with_parent

if TYPE_CHECKING:
    from pleura.anonymizer.workers import Job, Outcome, Task


def serve(pipe: Connection, job: Job) -> None:
    """Answer lists of tasks, one by one, until the pipe closes.

    The first error that is no outcome is the last word.
    """
    try:
        while True:
            for task in pipe.recv():
                answer = _answer(job, task)
                pipe.send(answer)
                if isinstance(answer, Exception):
                    return
    except (EOFError, ConnectionError):
        return  # the batch is over


def _answer(job: Job, task: Task) -> Outcome | Exception:
    try:
        return job.run(task)
    except Exception as exc:  # noqa: BLE001  raised again in the parent
        return exc


def main() -> None:
    """Serve the batch at the other end of the socket whose descriptor is the argument."""
    die_with_parent()  # a killed batch leaves no worker behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the batch hears it and ends its workers
    pipe = Connection(int(sys.argv[1]))
    sys.modules["requests"] = None  # type: ignore[assignment]  # pydicom would, for test files
    gc.disable()
    try:
        sys.path[:] = pipe.recv()
        job = pipe.recv()
    except (EOFError, ConnectionError):
        return  # the batch ended before its worker began
    gc.freeze()  # what was imported stays, so nobody looks through it again
    gc.enable()
    serve(pipe, job)
    os._exit(0)  # nothing is held here, and an orderly exit takes a tenth of a second


if __name__ == "__main__":
    main()
