"""Blobs through a real TLS gateway: resumed, refused, and private to their sender."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pleura.client.agent.blobs import BlobCarrier
from pleura.client.agent.channel import Channel, UploadState, blob_target
from pleura.client.errors import CoordinatorUnreachable
from pleura.common.blobs import BlobStore
from pleura.common.canonical import sha256_hex
from pleura.common.errors import BlobMissing, BlobTooLarge, DigestMismatch
from pleura.server.gateway import blobs
from tests.builders.coordinator import RunningGateway, running_gateway

CHUNK = 200_000


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path / "coordinator", max_blob_mb=2) as running:
        yield running


@pytest.fixture
def channel(gateway: RunningGateway, tmp_path: Path) -> Iterator[Channel]:
    with gateway.channel("site-a", tmp_path / "a") as opened:
        yield opened


def blob_file(folder: Path, size: int) -> tuple[Path, str]:
    data = os.urandom(size)
    file = folder / "blob"
    file.write_bytes(data)
    return file, sha256_hex(data)


def send(
    channel: Channel, digest: str, file: Path, offset: int, chunk: int | None = None
) -> UploadState:
    data = file.read_bytes()
    end = len(data) if chunk is None else offset + chunk
    return channel.upload_chunk(digest, data[offset:end], offset, len(data))


class FileTrainer:
    """Offers one file as a trainer offers an update."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def get_blob(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        yield self.file.read_bytes()[offset:]

    def put_blob(self, sha256: str, total: int, offset: int, data: Iterator[bytes]) -> bool:
        raise AssertionError("nothing is brought in")


def upload(channel: Channel, digest: str, file: Path, chunk: int = CHUNK) -> UploadState:
    carrier = BlobCarrier(channel, FileTrainer(file), chunk_bytes=chunk)
    carrier.send_update(digest, file.stat().st_size)
    return channel.blob_state(digest)


def test_an_upload_that_lacks_only_its_end_is_finished(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    file, digest = blob_file(tmp_path, 1000)
    BlobStore(gateway.settings.blobs_dir).append_partial(digest, 0, [file.read_bytes()], 1000)
    assert upload(channel, digest, file) == UploadState(1000, True)


def test_uploaded_blob_is_stored_whole_and_can_be_read_back(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    file, digest = blob_file(tmp_path, 1_000_003)
    assert channel.blob_state(digest) == UploadState(0, False)
    assert upload(channel, digest, file) == UploadState(1_000_003, True)
    assert channel.blob_state(digest) == UploadState(1_000_003, True)
    store = BlobStore(gateway.settings.blobs_dir)
    assert store.path(digest).read_bytes() == file.read_bytes()
    assert b"".join(channel.download(digest)) == file.read_bytes()


def test_download_resumes_at_any_offset(channel: Channel, tmp_path: Path) -> None:
    file, digest = blob_file(tmp_path, 300_000)
    upload(channel, digest, file)
    assert b"".join(channel.download(digest, 123_456)) == file.read_bytes()[123_456:]
    assert b"".join(channel.download(digest, 300_000)) == b""


def test_upload_cut_in_the_middle_of_a_chunk_resumes_at_the_last_whole_chunk(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    file, digest = blob_file(tmp_path, 900_000)
    first = send(channel, digest, file, 0, CHUNK)
    assert first == UploadState(CHUNK, False)
    cut_upload(gateway, channel, file, digest, offset=CHUNK, send=100_000)
    deadline = time.monotonic() + 10
    while channel.blob_state(digest).offset != CHUNK and time.monotonic() < deadline:
        time.sleep(0.02)
    assert channel.blob_state(digest) == UploadState(CHUNK, False)
    assert upload(channel, digest, file).is_complete
    assert b"".join(channel.download(digest)) == file.read_bytes()


def cut_upload(
    gateway: RunningGateway, channel: Channel, file: Path, digest: str, offset: int, send: int
) -> None:
    """Send a signed chunk but close the connection after `send` bytes of its body."""
    data = file.read_bytes()
    target = f"{blob_target(digest)}?offset={offset}&total={len(data)}"
    body = data[offset:]
    headers = channel.signing_headers("PATCH", target, sha256_hex(body))
    head = f"PATCH {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    address = ("127.0.0.1", gateway.settings.port)
    with (
        socket.create_connection(address) as plain,
        channel.ssl_context.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
    ):
        stream.sendall(head.encode("ascii") + body[:send])


def test_large_chunk_that_was_altered_leaves_nothing_behind(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    """More than one piece, so parts of it were on disk when the digest showed the change."""
    with (
        running_gateway(tmp_path / "big", max_blob_mb=64) as big,
        big.channel("site-b", tmp_path / "b") as sender,
    ):
        size = 9 * 1024 * 1024
        body = bytes(size)
        digest = sha256_hex(body)
        target = f"{blob_target(digest)}?offset=0&total={size + 1}"
        signed = sender.signing_headers("PATCH", target, sha256_hex(body))
        altered = body[:-1] + b"x"
        response = sender._client.patch(target, content=altered, headers=signed)
        assert (response.status_code, response.json()["code"]) == (401, "REJ-DIGEST")
        assert sender.blob_state(digest) == UploadState(0, False)


def test_wrong_offset_is_answered_with_the_right_one(channel: Channel, tmp_path: Path) -> None:
    file, digest = blob_file(tmp_path, 500_000)
    send(channel, digest, file, 0, CHUNK)
    assert send(channel, digest, file, 300_000) == UploadState(CHUNK, False)
    assert channel.blob_state(digest) == UploadState(CHUNK, False)


def test_blob_whose_bytes_have_another_digest_is_deleted(channel: Channel, tmp_path: Path) -> None:
    file, _ = blob_file(tmp_path, 1000)
    claimed = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DigestMismatch):
        send(channel, claimed, file, 0)
    assert channel.blob_state(claimed) == UploadState(0, False)


def test_blob_above_the_limit_is_refused_before_it_is_sent(
    channel: Channel, tmp_path: Path
) -> None:
    file, digest = blob_file(tmp_path, 2 * 1024 * 1024 + 1)
    with pytest.raises(BlobTooLarge):
        send(channel, digest, file, 0)
    assert channel.blob_state(digest) == UploadState(0, False)


def test_chunk_longer_than_its_total_is_refused(gateway: RunningGateway, channel: Channel) -> None:
    body = b"0123456789"
    digest = sha256_hex(body)
    target = f"{blob_target(digest)}?offset=0&total=5"
    headers = channel.signing_headers("PATCH", target, sha256_hex(body))
    response = channel._client.patch(target, content=body, headers=headers)
    assert response.status_code == 413
    assert channel.blob_state(digest) == UploadState(0, False)


def test_uploads_leave_the_coordinators_reserve_of_the_volume_alone(
    channel: Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, digest = blob_file(tmp_path, 1000)
    with monkeypatch.context() as full:
        full.setattr(blobs, "RESERVE_BYTES", 2**62)
        with pytest.raises(CoordinatorUnreachable, match="507"):
            send(channel, digest, file, 0)
    assert channel.blob_state(digest) == UploadState(0, False)
    assert upload(channel, digest, file).is_complete


def test_another_sites_update_cannot_be_read(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    file, digest = blob_file(tmp_path, 1000)
    upload(channel, digest, file)
    with gateway.channel("site-b", tmp_path / "b") as other:
        with pytest.raises(BlobMissing):
            list(other.download(digest))
        # claiming the same bytes does not open them either
        assert send(other, digest, file, 0).is_complete
        with pytest.raises(BlobMissing):
            list(other.download(digest))


def test_blob_of_the_coordinator_is_read_by_every_site(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    data = os.urandom(1000)
    gateway.publish_model(data)
    with gateway.channel("site-b", tmp_path / "b") as other:
        assert b"".join(channel.download(sha256_hex(data))) == data
        assert b"".join(other.download(sha256_hex(data))) == data


def test_unknown_blob_is_missing(channel: Channel) -> None:
    with pytest.raises(BlobMissing):
        list(channel.download(sha256_hex(b"nowhere")))


@pytest.mark.parametrize("value", ["bytes=5-10", "bytes=-5", "items=1-", "bytes=1-,3-"])
def test_range_in_another_form_is_refused(channel: Channel, tmp_path: Path, value: str) -> None:
    file, digest = blob_file(tmp_path, 100)
    upload(channel, digest, file)
    target = blob_target(digest)
    headers = channel.signing_headers("GET", target, sha256_hex(b""))
    response = channel._client.get(target, headers={**headers, "Range": value})
    assert (response.status_code, response.json()["code"]) == (400, "REJ-ENVELOPE")


def test_upload_whose_last_check_was_lost_in_a_crash_is_finished(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    file, digest = blob_file(tmp_path, 1000)
    store = BlobStore(gateway.settings.blobs_dir)
    store.append_partial(digest, 0, [file.read_bytes()], 1000)
    assert channel.blob_state(digest) == UploadState(1000, False)
    assert upload(channel, digest, file) == UploadState(1000, True)
    assert b"".join(channel.download(digest)) == file.read_bytes()


def test_partial_larger_than_the_blob_is_dropped(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    file, digest = blob_file(tmp_path, 1000)
    store = BlobStore(gateway.settings.blobs_dir)
    store.append_partial(digest, 0, [bytes(5000)], 5000)
    assert upload(channel, digest, file) == UploadState(1000, True)


def test_claim_of_a_digest_without_its_bytes_locks_nobody_out(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    file, _ = blob_file(tmp_path, 1000)
    model = os.urandom(1000)
    with pytest.raises(DigestMismatch):
        send(channel, sha256_hex(model), file, 0)
    gateway.publish_model(model)
    with gateway.channel("site-b", tmp_path / "b") as other:
        assert b"".join(other.download(sha256_hex(model))) == model


def test_a_site_that_sent_a_models_bytes_first_shuts_nobody_out(
    gateway: RunningGateway, channel: Channel, tmp_path: Path
) -> None:
    file, digest = blob_file(tmp_path, 1000)
    upload(channel, digest, file)
    gateway.publish_model(file.read_bytes())
    with gateway.channel("site-b", tmp_path / "b") as other:
        assert b"".join(other.download(digest)) == file.read_bytes()


def test_a_blob_that_is_no_model_and_has_no_sender_is_read_by_nobody(
    gateway: RunningGateway, channel: Channel
) -> None:
    data = os.urandom(1000)
    BlobStore(gateway.settings.blobs_dir).put_stream([data], sha256_hex(data), 1000)
    with pytest.raises(BlobMissing):
        list(channel.download(sha256_hex(data)))


def test_a_query_in_the_unsigned_host_header_is_not_read(channel: Channel, tmp_path: Path) -> None:
    file, digest = blob_file(tmp_path, 1000)
    target = f"{blob_target(digest)}?offset=0&total=1000"
    headers = channel.signing_headers("PATCH", target, sha256_hex(file.read_bytes()))
    headers["Host"] = "127.0.0.1?offset=0&total=2000#"
    response = channel._client.patch(target, headers=headers, content=file.read_bytes())
    assert response.json() == {"offset": 1000, "complete": True}


@pytest.mark.parametrize("query", ["offset=0&total=0", "offset=5&total=4"])
def test_upload_of_nothing_or_beyond_its_end_is_refused(channel: Channel, query: str) -> None:
    target = f"{blob_target('0' * 64)}?{query}"
    headers = channel.signing_headers("PATCH", target, sha256_hex(b""))
    response = channel._client.patch(target, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "REJ-ENVELOPE")
