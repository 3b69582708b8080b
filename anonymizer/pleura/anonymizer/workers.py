"""Workers: processes that take one file at a time and survive each other's death.

A worker that is killed or hangs costs the file it was working on, never the batch: the file is
tried once more in a new worker and is then given up. Results come back in any order.
"""

from __future__ import annotations

import math
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from pleura.anonymizer.errors import InternalFault, LimitExceeded
from pleura.anonymizer.journal import Row
from pleura.common import events

# Work given to a worker ahead, so that it never waits for the parent, in seconds and in files:
# slow files are not promised to one worker while another one is free.
_AHEAD_S: Final = 0.12
_LEAST_AHEAD: Final = 2
_MOST_AHEAD: Final = 32
_TRIES: Final = 2
_TICK_S: Final = 0.5
_GATHER_S: Final = 0.02
_SLEPT_S: Final = 60.0  # longer than the parent is ever busy between two looks at its workers
_RECENT: Final = 0.2  # weight of the last file in the mean
# One thread each: every other one that OpenBLAS starts spins for a tenth of a second at first.
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Task(NamedTuple):
    """One file, or member `member` of an archive; `seq` is the caller's number for it.

    `purpose`: de-identify it as the policy says, only look for text, or read all of its pixels.
    """

    seq: int
    path: Path
    member: int | None = None
    name: str = ""
    stamp: str = ""
    purpose: Literal["policy", "look", "read"] = "policy"


class Outcome(NamedTuple):
    """What became of a task: `staged`, a row of the journal, or a `code`.

    `members` counts the files of an archive, which are tasks of their own; an archive has
    neither row nor code. `shows_text` is the answer to a look.
    """

    code: str = ""
    counts: Mapping[str, int] = {}
    staged: Row | None = None
    members: int | None = None
    shows_text: bool = False


class Job(Protocol):
    """Work that can be sent to another process; its parts are pickled by multiprocessing."""

    def run(self, task: Task) -> Outcome:
        """Do one task."""
        ...


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    tasks: deque[Task] = field(default_factory=deque)
    since: float = 0.0
    _arrival: select.poll = field(default_factory=select.poll)

    def __post_init__(self) -> None:
        self._arrival.register(self.pipe.fileno(), select.POLLIN)

    @property
    def has_more(self) -> bool:
        """Whether the pipe holds an answer, or has ended (ten times cheaper than its `poll`)."""
        return bool(self._arrival.poll(0))


class Pool(Protocol):
    """Where tasks are done."""

    @property
    def room(self) -> int:
        """How many more tasks it can use."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether no task is left."""
        ...

    def submit(self, tasks: Iterable[Task]) -> None:
        """Hand in tasks."""
        ...

    def outcomes(self) -> Iterator[tuple[Task, Outcome]]:
        """Yield some outcomes."""
        ...


class ThisProcess:
    """A pool of no processes: tasks are done here, one at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._queue: deque[Task] = deque()

    @property
    def room(self) -> int:
        """One task at most."""
        return 1 - len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether no task is left."""
        return not self._queue

    def submit(self, tasks: Iterable[Task]) -> None:
        """Hand in tasks."""
        self._queue.extend(tasks)

    def outcomes(self) -> Iterator[tuple[Task, Outcome]]:
        """Do what was handed in."""
        while self._queue:
            task = self._queue.popleft()
            yield task, self._job.run(task)


class WorkerPool:
    """`count` processes that run a job's tasks. A context manager; leaving it ends them."""

    def __init__(self, job: Job, count: int, *, limit_s: float) -> None:
        """Start the workers; `limit_s` is the longest one file may take."""
        self._job, self._limit_s = job, limit_s
        self._queue: deque[Task] = deque()
        self._tries: dict[int, int] = {}
        self._file_s = _AHEAD_S / 8  # what a file takes, a running mean
        self._awake = time.monotonic()
        self._workers = [self._start() for _ in range(count)]

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.pipe.close()
            if error[0] is not None:
                worker.process.kill()
        for worker in self._workers:
            worker.process.wait()

    @property
    def room(self) -> int:
        """How many more tasks keep every worker busy."""
        return max(0, self._depth * len(self._workers) - self._held)

    @property
    def _held(self) -> int:
        return len(self._queue) + sum(len(w.tasks) for w in self._workers)

    @property
    def _depth(self) -> int:
        files = _AHEAD_S / max(self._file_s, 1e-6)
        return max(_LEAST_AHEAD, min(_MOST_AHEAD, round(files)))

    @property
    def is_idle(self) -> bool:
        """Whether no task is left."""
        return not self._queue and not any(w.tasks for w in self._workers)

    def submit(self, tasks: Iterable[Task]) -> None:
        """Hand in tasks."""
        self._queue.extend(tasks)

    def outcomes(self) -> Iterator[tuple[Task, Outcome]]:
        """Wait for some outcomes, at most half a second, and yield them.

        Raises:
            PleuraError: what stopped a worker, a full disk for instance.
        """
        self._hand_out()
        if all(len(worker.tasks) > max(2, self._depth // 2) for worker in self._workers):
            time.sleep(_GATHER_S)  # a wake-up for each file would take the time of the workers
        ready = connection.wait([w.pipe for w in self._workers], timeout=_TICK_S)
        self._forgive_sleep()
        for index, worker in enumerate(self._workers):
            if worker.pipe in ready:
                yield from self._receive(index, worker)
            elif worker.tasks and time.monotonic() - worker.since > self._limit_s:
                yield from self._replace(index, worker, code=LimitExceeded.code)

    def _forgive_sleep(self) -> None:
        """Begin to count anew if all of us were stopped: a worker did not use that time."""
        now = time.monotonic()
        if now - self._awake > _SLEPT_S:
            for worker in self._workers:
                worker.since = now
        self._awake = now

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        handle = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pleura.anonymizer.serving", str(handle)],
            pass_fds=[handle], env=os.environ | _ONE_THREAD,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # libraries quote what they read; we tell codes
        )  # fmt: skip
        theirs.close()
        worker = _Worker(process, ours)
        with suppress(OSError):  # it died already: the next wait sees that and replaces it
            ours.send(sys.path)
            ours.send(self._job)
        return worker

    def _hand_out(self) -> None:
        """Fill every worker up, but share what is less than all of them can hold."""
        share = min(self._depth, math.ceil(self._held / len(self._workers)))
        for worker in sorted(self._workers, key=lambda w: len(w.tasks)):
            tasks: list[Task] = []
            while self._queue and len(worker.tasks) + len(tasks) < share:
                tasks.append(self._queue.popleft())
            if not tasks:
                continue
            if not worker.tasks:
                worker.since = time.monotonic()
            worker.tasks.extend(tasks)
            with suppress(OSError):  # it died; the next wait sees its pipe closed and replaces it
                worker.pipe.send(tasks)

    def _receive(self, index: int, worker: _Worker) -> Iterator[tuple[Task, Outcome]]:
        while worker.has_more:
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):  # it died, maybe in the middle of an answer
                yield from self._replace(index, worker)
                return
            if isinstance(answer, BaseException):
                raise answer
            now = time.monotonic()
            self._file_s += _RECENT * (now - worker.since - self._file_s)
            worker.since = now
            yield worker.tasks.popleft(), answer

    def _replace(
        self, index: int, worker: _Worker, code: str = ""
    ) -> Iterator[tuple[Task, Outcome]]:
        """End a worker, start another one, and give back what it had not begun."""
        worker.process.kill()
        worker.process.wait()
        worker.pipe.close()
        self._workers[index] = self._start()
        if not worker.tasks:
            return
        head = worker.tasks.popleft()
        self._queue.extendleft(reversed(worker.tasks))
        tries = self._tries.get(head.seq, 0) + 1
        self._tries[head.seq] = tries
        if not code and tries < _TRIES:
            self._queue.appendleft(head)
            return
        code = code or InternalFault.code
        events.emit("error.raised", process="anonymizer", code=code, error="WorkerLost")
        yield head, Outcome(code)
