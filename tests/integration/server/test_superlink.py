"""A real SuperLink and ServerApp: a whole run, and the same run under kill -9."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pleura.common.blobs import BlobStore
from pleura.common.clock import SystemClock
from pleura.common.ids import SiteId
from pleura.common.orders import RunPlan
from pleura.common.supervision import Supervisor
from pleura.common.tensors import write_packed
from pleura.server.creating import create_run
from pleura.server.keeper import RunKeeper
from pleura.server.ledger.log import StatementLog
from pleura.server.runner import RunLoop
from pleura.server.runs import RoundState, RunState
from pleura.server.settings import ServerSettings
from pleura.server.sites import SiteRegistry
from pleura.server.store import RunStore
from pleura.server.superlink import has_executor, is_listening, prepare
from pleura.server.supervisor import SUPERLINK, children
from tests.builders.coordinator import free_port
from tests.builders.federation import (
    COORDINATOR,
    FEDERATION,
    SITES,
    Federation,
    SiteStub,
    make_plan,
    model_tensors,
)
from tests.builders.fleet_site import fleet

pytestmark = pytest.mark.timeout(240)


class Coordinator:
    """SuperLink and run keeper of one state folder, supervised in a thread."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "server.toml"
        self.settings = ServerSettings(
            federation_id=FEDERATION, state_dir=folder / "state", superlink_port=free_port()
        )
        self.config.write_text(
            f'federation_id = "{FEDERATION}"\nstate_dir = "state"\n'
            f"superlink_port = {self.settings.superlink_port}\n"
        )
        self.settings.log_dir.mkdir(parents=True, mode=0o700)
        key_file = self.settings.signing_key_file
        key_file.parent.mkdir(mode=0o700)
        key_file.write_bytes(COORDINATOR.to_pem())
        key_file.chmod(0o600)
        prepare(self.settings)
        self.blobs = BlobStore(self.settings.blobs_dir)
        self.store = RunStore(self.settings.runs_db_file)
        self.log = StatementLog(self.settings.log_db_file)
        self.stop = threading.Event()
        self.keeper = RunKeeper(
            self.settings,
            self.config,
            self.restart,
            is_ready=lambda: is_listening(self.settings),
            has_executor=lambda: has_executor(self.superlink),
        )
        superlink = [c for c in children(self.settings, self.config) if c.name == SUPERLINK]
        self.supervisor = Supervisor(superlink, tick=self.keeper.tick)
        self.thread = threading.Thread(target=self.supervisor.run_until, args=(self.stop,))

    @property
    def superlink(self) -> int:
        return self.supervisor.pids().get(SUPERLINK, 0)

    def restart(self) -> None:
        os.kill(self.superlink, signal.SIGTERM)

    def create(self, plan: RunPlan, folder: Path) -> None:
        write_packed(folder / "initial.st", model_tensors())
        registry = SiteRegistry(self.settings.sites_db_file, SystemClock())
        create_run(
            plan,
            folder / "initial.st",
            settings=self.settings,
            registry=registry,
            store=self.store,
            log=self.log,
            key=COORDINATOR,
            now=SystemClock().now(),
        )
        registry.close()

    def wait(self, done: Callable[[], bool], timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, self.trace()
            time.sleep(0.05)

    def state(self, plan: RunPlan) -> RunState:
        return self.store.state_of(plan.run_id)

    def trace(self) -> str:
        logs = sorted(self.settings.log_dir.iterdir())
        return "\n".join(f"{p.name}\n{p.read_text()[-3000:]}" for p in logs)


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    made = Coordinator(tmp_path)
    made.thread.start()
    yield made
    made.stop.set()
    made.thread.join(30)
    made.keeper.close()
    made.store.close()
    made.log.close()


def stubs_of(coordinator: Coordinator, folder: Path) -> dict[SiteId, SiteStub]:
    stubs = {}
    for site in SITES:
        work = folder / site
        work.mkdir()
        stubs[site] = SiteStub(site, coordinator.blobs, work)
    return stubs


def reference_model(folder: Path, plan: RunPlan) -> str:
    """Return the final model's digest of the same plan, run in memory."""
    folder.mkdir()
    federation = Federation(folder, plan)
    federation.create()
    RunLoop(federation.office()).work(plan.run_id)
    digest = federation.store.models(plan.run_id)[-1].ref.blob_sha256
    federation.close()
    return digest


def serverapps(coordinator: Coordinator, program: bytes = b"flwr-serverapp") -> list[int]:
    """Return the ids of ServerApp processes that work for this coordinator."""
    wanted = f"127.0.0.1:{coordinator.settings.superlink_port}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in words and any(w.endswith(program) for w in words):
                found.append(int(entry.name))
    return found


def test_a_run_over_a_real_superlink_ends_with_the_same_model_as_in_memory(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    plan = make_plan(fed={"rounds": 4, "deadline_s": 60})
    address = f"127.0.0.1:{coordinator.settings.superlink_port}"
    stubs = stubs_of(coordinator, tmp_path)
    with fleet(stubs, address, coordinator.settings.sites_db_file):
        coordinator.create(plan, tmp_path)
        coordinator.wait(lambda: coordinator.state(plan).is_final)
    assert coordinator.state(plan) is RunState.FINISHED, coordinator.trace()
    final = coordinator.store.models(plan.run_id)[-1].ref.blob_sha256
    assert final == reference_model(tmp_path / "memory", plan)
    assert len(coordinator.store.evaluations(plan.run_id)) == 3
    rounds = [r for r in coordinator.store.rounds(plan.run_id) if r.state is RoundState.CLOSED]
    took = [(r.closed_at - r.opened_at).total_seconds() for r in rounds if r.closed_at]
    print("round seconds", took)
    assert max(took) < 20  # Flower alone needs 6.3 s on an idle machine


def test_a_killed_serverapp_and_a_killed_superlink_cost_seconds_and_change_no_byte(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    plan = make_plan(fed={"rounds": 8, "deadline_s": 60})
    address = f"127.0.0.1:{coordinator.settings.superlink_port}"
    stubs = stubs_of(coordinator, tmp_path)
    slow = threading.Event()
    for stub in stubs.values():
        original = stub.answer
        stub.answer = lambda envelope, o=original: (slow.wait(0.3), o(envelope))[1]  # type: ignore[method-assign]
    with fleet(stubs, address, coordinator.settings.sites_db_file):
        coordinator.create(plan, tmp_path)
        coordinator.wait(lambda: coordinator.store.get(plan.run_id).round >= 2)
        before = serverapps(coordinator)
        assert len(before) == 1
        os.kill(before[0], signal.SIGKILL)
        killed_at, round_ = time.monotonic(), coordinator.store.get(plan.run_id).round
        coordinator.wait(lambda: coordinator.store.get(plan.run_id).round > round_ + 1)
        print("ServerApp killed; two rounds later after s", time.monotonic() - killed_at)
        assert time.monotonic() - killed_at < 60  # room for a loaded machine
        os.kill(coordinator.supervisor.pids()[SUPERLINK], signal.SIGKILL)
        killed_at, round_ = time.monotonic(), coordinator.store.get(plan.run_id).round
        coordinator.wait(lambda: coordinator.store.get(plan.run_id).round > round_)
        print("SuperLink killed; next round after s", time.monotonic() - killed_at)
        assert time.monotonic() - killed_at < 60  # room for a loaded machine
        coordinator.wait(lambda: coordinator.state(plan).is_final)
    assert coordinator.state(plan) is RunState.FINISHED, coordinator.trace()
    final = coordinator.store.models(plan.run_id)[-1].ref.blob_sha256
    assert final == reference_model(tmp_path / "memory", plan)
    assert all(stub.computed == 9 for stub in stubs.values())


def test_a_killed_superexec_is_noticed_although_the_superlink_goes_on(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    plan = make_plan(fed={"rounds": 4, "deadline_s": 60})
    address = f"127.0.0.1:{coordinator.settings.superlink_port}"
    stubs = stubs_of(coordinator, tmp_path)
    coordinator.wait(lambda: is_listening(coordinator.settings))
    coordinator.wait(lambda: has_executor(coordinator.superlink))
    before = coordinator.superlink
    executors = serverapps(coordinator, b"flower-superexec")
    assert len(executors) == 1
    os.kill(executors[0], signal.SIGKILL)
    coordinator.wait(lambda: not has_executor(before))
    with fleet(stubs, address, coordinator.settings.sites_db_file):
        coordinator.create(plan, tmp_path)
        coordinator.wait(lambda: coordinator.state(plan).is_final)
    assert coordinator.state(plan) is RunState.FINISHED, coordinator.trace()
    assert coordinator.superlink != before
