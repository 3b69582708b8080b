"""No planted identifier leaves a hospital, nor lies in its state outside vault and quarantine.

What the sites send is recorded in the clear by a proxy that shows the coordinator's own
certificate. Every search has a twin that finds the same values where they are.
"""

from __future__ import annotations

import base64
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.federations import Federation, StudyPlan, federation, write_hospitals
from tests.builders.leaks import Planted, files_below
from tests.builders.recording_proxy import RecordingProxy, recording_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
TRAINING, EXTERNAL = ("north", "river"), "external"
SECRET_FOLDERS = ("vault", "quarantine")


@dataclass(frozen=True)
class Observed:
    federation: Federation
    proxy: RecordingProxy
    planted: Planted
    report: Path
    folder: Path
    gateway_port: int


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("leaks")
    hospitals = write_hospitals(folder / "pacs", (*TRAINING, EXTERNAL))
    spoiled = next(path for path in files_below(hospitals[0].dicom))
    spoiled.write_bytes(spoiled.read_bytes()[:-40])  # one object goes to quarantine
    with (
        pytest.MonkeyPatch.context() as environment,
        federation(folder, hospitals, join=False) as running,
    ):
        environment.setenv("GRPC_VERBOSITY", "debug")
        tls = running.local.server_state / "tls"
        gateway_port = running.local.port
        with recording_proxy(tls, gateway_port) as proxy:
            running.local.port = proxy.port  # from here on sites are told this port
            for hospital in hospitals:
                running.join(hospital.site_id, allow_non_dp=False)
            running.await_ingest()
            plan = StudyPlan(TRAINING, (EXTERNAL,), mode="dp", rounds=2, every_rounds=1)
            run_id = running.begin(plan)
            assert running.await_end(run_id)["event"] == "run.finished"
            report = running.local.write_report(run_id, folder / "report")
            values = dict.fromkeys(
                value for h in hospitals for value in (*h.summary.planted, *h.summary.dates)
            )
            yield Observed(running, proxy, Planted(values), report, folder, gateway_port)


def values_without_dates(observed: Observed) -> Planted:
    """Return the values that cannot be made again by chance: dates of visits are shifted."""
    hospitals = observed.federation.hospitals.values()
    return Planted(dict.fromkeys(v for h in hospitals for v in h.summary.planted))


def test_search_finds_the_values_in_the_source_folders(observed: Observed) -> None:
    pacs = observed.folder / "pacs"
    found = set().union(*observed.planted.found_below(files_below(pacs)).values())
    expected = set(observed.planted.patterns.values())
    assert len(found) > 0.9 * len(expected), sorted(expected - found)[:5]


def test_recording_holds_what_the_sites_send(observed: Observed) -> None:
    sent = b"\n".join(observed.proxy.sent())
    for site in (*TRAINING, EXTERNAL):
        assert f"pleura-site: {site}".encode() in sent.lower()
    assert b"PATCH /pleura/v1/blobs/" in sent
    assert b"POST /v1/fleet/push-messages" in sent
    marks = Planted(["epsilon_total_after", "dataset_commitment"])  # inside signed statements
    assert marks.found_in(sent) == {"epsilon_total_after", "dataset_commitment"}


def test_no_planted_value_is_sent(observed: Observed) -> None:
    for part in observed.proxy.sent():
        assert observed.planted.found_in(part) == set()


def test_no_planted_value_is_in_a_sites_state(observed: Observed) -> None:
    planted = values_without_dates(observed)
    for site in (*TRAINING, EXTERNAL):
        state = observed.federation.local.site_state(site)
        files = list(files_below(state, without=SECRET_FOLDERS))
        assert any(path.suffix == ".db" for path in files)
        assert any(path.name.endswith(".jsonl") for path in files)
        assert planted.found_below(files) == {}


def test_no_planted_value_is_at_the_coordinator_or_in_the_report(observed: Observed) -> None:
    server = observed.federation.local.server_state
    files = [*files_below(server), observed.report, *observed.federation.root.glob("*.out")]
    assert any(path.name == "statements.db" for path in files)
    assert observed.planted.found_below(files) == {}


def test_quarantine_keeps_the_spoiled_object_and_the_search_sees_it(observed: Observed) -> None:
    assert observed.federation.sites[TRAINING[0]].find("object.quarantined")
    state = observed.federation.local.site_state(TRAINING[0])
    hits = observed.planted.found_below(files_below(state / "quarantine"))
    assert hits, "the quarantined original is where values may be"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "base64"])
def test_search_finds_a_value_planted_in_a_sites_state(
    observed: Observed, encoding: str, tmp_path: Path
) -> None:
    value = next(iter(observed.planted.patterns.values()))
    data = (
        base64.b64encode(b'{"name":"' + value.encode() + b'"}')
        if encoding == "base64"
        else value.encode(encoding)
    )
    copy = tmp_path / "agent"
    shutil.copytree(observed.federation.local.site_state(TRAINING[0]) / "agent", copy)
    (copy / "forgotten.tmp").write_bytes(b"\0\1" + data + b"\2\n")
    assert observed.planted.found_below(files_below(copy)) == {copy / "forgotten.tmp": {value}}


def test_search_finds_a_value_that_is_sent(observed: Observed) -> None:
    value = next(iter(observed.planted.patterns.values()))
    tls = observed.federation.local.server_state / "tls"
    context = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    with recording_proxy(tls, observed.gateway_port) as proxy:
        request = urllib.request.Request(
            f"https://127.0.0.1:{proxy.port}/pleura/v1/nothing", data=value.encode()
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, context=context, timeout=30)
        refused.value.close()
        assert value in observed.planted.found_in(b"\n".join(proxy.sent()))
