"""The trainer as a real process: off the network, and safe to kill at any moment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import torch

from pleura.client.agent.trainer_link import NeedsBase, TrainerLink
from pleura.client.errors import NotSandboxed, TrainerUnreachable
from pleura.client.ingest.catalog import Catalog
from pleura.client.trainer import sandbox
from pleura.client.training.federated import train_round
from pleura.common.exit_codes import ExitCode
from pleura.common.proto import trainer_pb2 as pb
from pleura.common.proto import trainer_pb2_grpc as pb_grpc
from tests.builders.trainer_server import answered, short_folder
from tests.builders.trainer_site import TrainerSite, trainer_site
from tests.builders.training import silent

torch.set_num_threads(1)
ENTER = "from pleura.client.trainer.sandbox import enter; enter()"
PROBE = """
import json, socket, sys
if sys.argv[1] == "enter":
    from pleura.client.trainer.sandbox import enter
    enter()
found = {}
for host, port in (("127.0.0.1", int(sys.argv[2])), ("192.0.2.1", 443)):
    with socket.socket() as probe:
        probe.settimeout(0.5)
        try:
            probe.connect((host, port))
            found[host] = "connected"
        except OSError as exc:
            found[host] = type(exc).__name__ if exc.errno is None else exc.errno
print(json.dumps(found))
"""


def _namespaces_permitted() -> bool:
    tried = subprocess.run([sys.executable, "-c", ENTER], check=False, capture_output=True)
    return tried.returncode == 0


needs_namespaces = pytest.mark.skipif(
    not _namespaces_permitted(), reason="this machine permits no network namespaces"
)


def _probe(mode: str, port: int) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, mode, str(port)], check=True, capture_output=True, timeout=30
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@needs_namespaces
def test_a_sandboxed_process_reaches_neither_its_parent_nor_another_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert _probe("stay", port)["127.0.0.1"] == "connected"
        found = _probe("enter", port)
    assert "connected" not in found.values()


def test_a_process_that_sees_an_interface_or_a_route_is_not_sandboxed() -> None:
    if all(name == "lo" for _, name in socket.if_nameindex()):
        pytest.skip("this machine itself has no network")
    with pytest.raises(NotSandboxed):
        sandbox.prove()


NO_NAMESPACES = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'


def _without_namespaces(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command where no network namespace can be made."""
    wrapped = ["unshare", "-Ur", "sh", "-c", NO_NAMESPACES, "sh", *arguments]
    if subprocess.run([*wrapped[:6], "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine permits no user namespaces")
    return subprocess.run(wrapped, check=False, capture_output=True, timeout=60)


def test_a_trainer_that_cannot_leave_the_network_does_not_start() -> None:
    if all(name == "lo" for _, name in socket.if_nameindex()):
        pytest.skip("this machine itself has no network")
    with short_folder() as folder:
        site = trainer_site(folder)
        ended = _without_namespaces(*_argv(site))
        log = _events(site)
    assert ended.returncode == ExitCode.ENVIRONMENT
    assert [e["event"] for e in log] == ["sandbox.unavailable", "error.raised"]
    assert {e["code"] for e in log} == {"HOST-SANDBOX"}


def test_a_trainer_the_steward_lets_run_unsandboxed_says_so() -> None:
    if all(name == "lo" for _, name in socket.if_nameindex()):
        pytest.skip("this machine itself has no network")
    with short_folder() as folder:
        site = trainer_site(folder, policy={"allow_unsandboxed_trainer": True})
        wrapped = ["unshare", "-Ur", "sh", "-c", NO_NAMESPACES, "sh"]
        if subprocess.run([*wrapped, "true"], check=False, capture_output=True).returncode:
            pytest.skip("this machine permits no user namespaces")
        with _process(site, wrapped), TrainerLink(site.settings.trainer_socket) as link:
            assert not link.status().sandboxed
        log = _events(site)
    assert log[0]["event"] == "sandbox.unavailable"
    assert log[0]["code"] == "HOST-SANDBOX"


def _argv(site: TrainerSite) -> list[str]:
    return [sys.executable, "-m", "pleura.client.process", "trainer", "--config", str(site.config)]


def _events(site: TrainerSite) -> list[dict[str, object]]:
    text = (site.settings.log_dir / "trainer.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def _process(site: TrainerSite, wrapped: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*wrapped, *_argv(site)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        _await(site)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def _await(site: TrainerSite) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if site.settings.trainer_socket.exists():
            try:
                with TrainerLink(site.settings.trainer_socket) as link:
                    link.status(timeout_s=2)
                return
            except TrainerUnreachable:
                pass
        time.sleep(0.1)
    raise AssertionError("the trainer did not start")


@pytest.fixture
def root() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@needs_namespaces
def test_a_trainer_without_network_answers_over_its_socket(root: Path) -> None:
    site = trainer_site(root)
    with _process(site) as process:
        ours = Path(f"/proc/{os.getpid()}/ns/net").readlink()
        assert Path(f"/proc/{process.pid}/ns/net").readlink() != ours
        with TrainerLink(site.settings.trainer_socket) as link:
            assert link.status().sandboxed
            answer = answered(link, site.signed(site.train_order()), site.base_file)
        assert answer.blob_size > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    names = [e["event"] for e in _events(site)]
    assert names[0] == "sandbox.entered"
    assert names[-1] == "process.stopped"
    assert "job.finished" in names


@needs_namespaces
def test_a_trainer_killed_mid_job_gives_the_same_update_when_asked_again(root: Path) -> None:
    site = trainer_site(root, train={"local_steps": 200})
    order = site.train_order()
    envelope = site.signed(order)
    with _process(site) as process:
        _bring_base(site, envelope)
        _await_step(site, envelope, step=3)
        process.kill()
        assert process.wait(20) == -signal.SIGKILL
    site.settings.trainer_socket.unlink()
    folder = next((site.settings.trainer_dir / "runs" / "run-1").iterdir())
    assert {path.name for path in folder.iterdir()} == {"order.json"}

    with _process(site), TrainerLink(site.settings.trainer_socket) as link:
        answer = answered(link, envelope, site.base_file)
        assert link.submit(envelope) == answer
    with Catalog(site.settings.catalog_file, read_only=True) as catalog:
        cohort = catalog.cohort(
            "ct_nodule_malignancy", "train", seed=site.plan.seed, store=site.settings.store_dir
        )
    untouched = train_round(
        order, site.base_file, cohort, site_id="north", update_path=root / "untouched.bin",
        progress=silent,
    )  # fmt: skip
    assert answer.blob_sha256 == untouched.packed.blob_sha256


def _bring_base(site: TrainerSite, envelope: bytes) -> None:
    with TrainerLink(site.settings.trainer_socket) as link:
        needed = link.submit(envelope)
        assert isinstance(needed, NeedsBase)
        assert link.put_blob(needed.sha256, needed.size, 0, [site.base_file.read_bytes()])


def _await_step(site: TrainerSite, envelope: bytes, *, step: int) -> None:
    """Submit an order and return once its job has done `step` steps."""
    options = [("grpc.default_authority", "trainer")]
    with grpc.insecure_channel(f"unix:{site.settings.trainer_socket}", options=options) as channel:
        stub = pb_grpc.TrainerStub(channel)
        for event in stub.Submit(pb.OrderEnvelope(envelope=envelope), timeout=60):
            assert event.WhichOneof("event") in ("accepted", "progress")
            if event.progress.step >= step:
                return
    raise AssertionError("the job ended before it could be killed")
