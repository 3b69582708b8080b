"""Workers: one file too many, too long or fatal costs that file only."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

from pleura.anonymizer import workers
from pleura.anonymizer.serving import serve
from pleura.anonymizer.workers import Job, Outcome, Task, WorkerPool
from pleura.common.errors import DiskFull

FILES = [Task(seq, Path(name)) for seq, name in enumerate(["a", "b", "slow", "c", "d"])]


@dataclass(frozen=True, slots=True)
class NamingJob:
    """Answers with the name of the file as the code; `slow` takes a minute, `fatal` kills."""

    def run(self, task: Task) -> Outcome:
        if task.path.name == "slow":
            time.sleep(60)
        if task.path.name == "fatal":
            os.kill(os.getpid(), signal.SIGKILL)
        if task.path.name == "full":
            raise DiskFull
        return Outcome(task.path.name.upper())


@dataclass(frozen=True, slots=True)
class LongJob:
    """Answers with more than a pipe holds."""

    def run(self, task: Task) -> Outcome:
        return Outcome("X" * (4 << 20))


@dataclass(frozen=True, slots=True)
class TalkingJob:
    """Writes the name of the file to both descriptors, as a codec's own library may."""

    def run(self, task: Task) -> Outcome:
        for descriptor in (1, 2):
            os.write(descriptor, task.path.name.encode())
        return Outcome("DONE")


@dataclass(frozen=True, slots=True)
class CalculatingJob:
    """Answers how many threads it has once numpy is there."""

    def run(self, task: Task) -> Outcome:
        assert np.ones((2, 2)).all()
        return Outcome(str(sum(1 for _ in Path("/proc/self/task").iterdir())))


@dataclass
class CountingJob:
    """Counts what it was asked to do."""

    done: int = 0

    def run(self, task: Task) -> Outcome:
        self.done += 1
        return Outcome(task.path.name.upper())


def codes(job: Job, tasks: list[Task], *, count: int = 1, limit_s: float = 60) -> list[str]:
    with WorkerPool(job, count, limit_s=limit_s) as pool:
        waiting = list(tasks)
        found: list[str] = []
        while waiting or not pool.is_idle:
            room = pool.room
            pool.submit(waiting[:room])
            del waiting[:room]
            found += [outcome.code for _, outcome in pool.outcomes()]
    return sorted(found)


def test_a_file_that_takes_too_long_is_given_up_and_the_others_are_done() -> None:
    assert codes(NamingJob(), FILES, limit_s=1) == ["A", "B", "C", "D", "LIMIT"]


def test_a_file_that_kills_its_worker_twice_is_given_up() -> None:
    tasks = [Task(0, Path("a")), Task(1, Path("fatal")), Task(2, Path("b"))]
    assert codes(NamingJob(), tasks, count=2) == ["A", "B", "INTERNAL"]


def test_a_worker_killed_in_the_middle_of_its_answer_costs_nothing() -> None:
    with WorkerPool(LongJob(), 1, limit_s=60) as pool:
        pool.submit([Task(0, Path("a"))])
        pool._hand_out()
        while not pool._workers[0].has_more:
            time.sleep(0.01)
        pool._workers[0].process.kill()
        found = []
        while not pool.is_idle:
            found += [outcome.code[:1] for _, outcome in pool.outcomes()]
    assert found == ["X"]


def test_time_in_which_everybody_was_stopped_is_not_a_worker_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with WorkerPool(NamingJob(), 1, limit_s=600) as pool:
        pool.submit([Task(0, Path("slow"))])
        assert list(pool.outcomes()) == []
        clock = time.monotonic
        monkeypatch.setattr(workers.time, "monotonic", lambda: clock() + 3600)
        assert list(pool.outcomes()) == []
        assert not pool.is_idle
        pool._workers[0].process.kill()


def test_what_libraries_write_in_a_worker_reaches_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    assert codes(TalkingJob(), [Task(0, Path("Doe^Jane"))]) == ["DONE"]
    assert capfd.readouterr() == ("", "")


def test_a_worker_has_one_thread() -> None:
    assert codes(CalculatingJob(), [Task(0, Path("a"))]) == ["1"]


def test_a_few_last_files_are_shared_among_the_workers() -> None:
    with WorkerPool(NamingJob(), 2, limit_s=60) as pool:
        pool.submit(Task(seq, Path("a")) for seq in range(pool.room))
        while not pool.is_idle:
            list(pool.outcomes())
        pool.submit(Task(seq, Path("a")) for seq in range(3))
        pool._hand_out()
        assert sorted(len(worker.tasks) for worker in pool._workers) == [1, 2]
        while not pool.is_idle:
            list(pool.outcomes())


def test_more_files_than_workers_hold_are_all_answered() -> None:
    tasks = [Task(seq, Path(f"f{seq}")) for seq in range(100)]
    assert len(codes(NamingJob(), tasks, count=2)) == len(tasks)


@pytest.fixture
def answers() -> Iterator[list[object]]:
    """What `serve` says to three tasks of which the second finds the disk full."""
    ours, theirs = Pipe()
    ours.send([Task(0, Path("a")), Task(1, Path("full"))])
    ours.send([Task(2, Path("b"))])
    serve(theirs, NamingJob())
    theirs.close()
    found = []
    try:
        while True:
            found.append(ours.recv())
    except (EOFError, ConnectionError):  # the third task is still unread
        yield found


def test_an_error_that_is_no_outcome_is_the_last_word(answers: list[object]) -> None:
    assert isinstance(answers[0], Outcome)
    assert isinstance(answers[1], DiskFull)
    assert len(answers) == 2


@pytest.mark.parametrize("is_deaf", [False, True])
def test_a_worker_ends_with_its_pipe(is_deaf: bool) -> None:
    ours, theirs = Pipe()
    if is_deaf:  # the batch is gone before it hears the answer
        theirs.send("an answer that nobody read")
        ours.send([Task(0, Path("a"))])
    ours.close()
    job = CountingJob()
    serve(theirs, job)
    theirs.close()
    assert job.done == int(is_deaf)
