"""Channel: every signed HTTPS request of a site to its coordinator.

Trusts the pinned CA of the coordinator and nothing else, signs each request
with the site's transport key, and turns what can go wrong into two kinds of
named error: `Refused` (stop, an operator acts) and `Unreachable` (try again).
It knows the routes of the gateway for blobs; Flower's messages go through
Flower's own client with `ssl_context` and `signing_headers` of this class.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Self

import httpx

from pleura.client.errors import (
    CaMismatch,
    CoordinatorRefused,
    CoordinatorUnreachable,
    NotEnrolled,
    ReplyMalformed,
)
from pleura.client.settings import SiteSettings
from pleura.common import events
from pleura.common.canonical import parse_json, sha256_hex
from pleura.common.clock import Clock
from pleura.common.errors import (
    BlobMissing,
    BlobTooLarge,
    ClockSkew,
    DigestMismatch,
    EnvelopeMalformed,
    KeyUnknown,
    PleuraError,
    ReplayRejected,
    SignatureRejected,
    SiteNotApproved,
)
from pleura.common.ids import SiteId
from pleura.common.keys import SigningKey, load_key
from pleura.common.request_signature import MAX_SKEW_S, WARN_SKEW_S, sign_request

MAX_REPLY_BYTES: Final = 32 * 1024 * 1024
READ_BYTES: Final = 256 * 1024

_REFUSALS: Final[Mapping[str, type[PleuraError]]] = {
    error.code: error
    for error in (
        BlobTooLarge,
        ClockSkew,
        DigestMismatch,
        KeyUnknown,
        SignatureRejected,
        SiteNotApproved,
    )
}
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_-]{1,39}")
_REFUSING_STATUSES: Final = frozenset({400, 401, 403, 405, 413, 422, 429})


@dataclass(frozen=True, slots=True)
class UploadState:
    """How much of a blob the coordinator holds."""

    offset: int
    is_complete: bool


class Channel:
    """A pinned, signed connection pool to one coordinator; safe to share by threads."""

    def __init__(
        self,
        url: str,
        ca_file: Path,
        site_id: SiteId,
        transport_key: SigningKey,
        clock: Clock,
    ) -> None:
        """Open the pool; nothing is sent.

        Raises:
            CaMismatch: the CA file is missing or is not a certificate.
        """
        self.url = url.rstrip("/")
        self.site_id = site_id
        self._key = transport_key
        self._clock = clock
        self._ssl_context = pinned_context(ca_file)
        self._warned_of_skew = False
        self._client = httpx.Client(
            base_url=self.url,
            verify=self._ssl_context,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "pleura"},
        )

    @classmethod
    def from_settings(cls, settings: SiteSettings, clock: Clock) -> Self:
        """Open the channel of an enrolled site.

        Raises:
            NotEnrolled: there is no transport key yet.
            CaMismatch, KeyFileInsecure, KeyUnreadable: see `__init__` and `load_key`.
        """
        if not settings.transport_key_file.exists():
            raise NotEnrolled("no transport key")
        key = load_key(settings.transport_key_file)
        coordinator = settings.coordinator
        return cls(coordinator.url, coordinator.ca_file, settings.site_id, key, clock)

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """The context that trusts only the pinned CA, for Flower's client."""
        return self._ssl_context

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def signing_headers(self, method: str, target: str, body_sha256: str) -> dict[str, str]:
        """Return the headers that sign one request; `target` is path and query as sent."""
        return sign_request(self._key, self.site_id, method, target, body_sha256, self._clock.now())

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> httpx.Response:
        """Send one signed request and return the whole reply.

        Replies 2xx, 404, 409 and 416 are returned; the caller decides.

        Raises:
            CoordinatorUnreachable: no answer, or a 5xx; try again later.
            ReplyMalformed: the reply is larger than `MAX_REPLY_BYTES`.
            CaMismatch: the other side is not the pinned coordinator.
            KeyUnknown, SignatureRejected, SiteNotApproved, ClockSkew,
            BlobTooLarge, DigestMismatch, CoordinatorRefused: the gateway refused.
        """
        signed = self.signing_headers(method, target, sha256_hex(body))
        with self._opened(method, target, signed, headers, body, timeout_s) as response:
            return _whole(response)

    def blob_state(self, digest: str) -> UploadState:
        """Return how much of a blob the coordinator holds.

        Raises:
            as `request`.
        """
        response = self.request("HEAD", blob_target(digest))
        if response.status_code == httpx.codes.OK:
            return UploadState(_number(response, "Content-Length"), True)
        return UploadState(_number(response, "Upload-Offset"), False)

    def upload_chunk(
        self, digest: str, data: bytes, offset: int, total: int, *, timeout_s: float = 60.0
    ) -> UploadState:
        """Send the bytes of a blob of `total` bytes that begin at `offset`.

        Where the coordinator holds another amount, nothing is stored and its own
        offset is returned, so the caller continues from there.

        Raises:
            DigestMismatch: the finished blob differs from its digest; the coordinator
                dropped it and the upload starts again at 0.
            BlobTooLarge: the coordinator's limit is smaller than this blob.
            and as `request`.
        """
        target = f"{blob_target(digest)}?offset={offset}&total={total}"
        extra = {"Content-Type": "application/octet-stream"}
        reply = self.request("PATCH", target, body=data, headers=extra, timeout_s=timeout_s)
        if reply.status_code == httpx.codes.CONFLICT:
            return UploadState(_number(reply, "Upload-Offset"), False)
        return _upload_state(reply)

    def download(self, digest: str, offset: int = 0, *, timeout_s: float = 30.0) -> Iterator[bytes]:
        """Yield the bytes of a blob from `offset`; the caller verifies the digest.

        Raises:
            BlobMissing: the coordinator has no such blob.
            CoordinatorUnreachable: the stream broke; resume from what arrived.
            and as `request`.
        """
        target = blob_target(digest)
        signed = self.signing_headers("GET", target, sha256_hex(b""))
        extra = {"Range": f"bytes={offset}-"} if offset else {}
        with self._opened("GET", target, signed, extra, b"", timeout_s) as response:
            expected = httpx.codes.PARTIAL_CONTENT if offset else httpx.codes.OK
            if response.status_code == httpx.codes.NOT_FOUND:
                raise BlobMissing("not at the coordinator")
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # everything is here already
            if response.status_code != expected:
                raise ReplyMalformed(f"status {response.status_code}")
            try:
                yield from response.iter_raw(READ_BYTES)
            except httpx.TransportError as exc:
                raise CoordinatorUnreachable("the transfer broke") from exc

    def _opened(
        self,
        method: str,
        target: str,
        signed: Mapping[str, str],
        extra: Mapping[str, str] | None,
        content: bytes | Iterator[bytes],
        timeout_s: float,
    ) -> _Opened:
        """Send the request and return the checked, still open reply."""
        request = self._client.build_request(
            method,
            target,
            content=content,
            headers={**(extra or {}), **signed},
            timeout=timeout_s,
        )
        if request.url.raw_path.decode("ascii") != target:
            raise ValueError("target is not in the form it travels in")
        try:
            response = self._client.send(request, stream=True)
        except httpx.TransportError as exc:
            raise transport_error(exc) from exc
        try:
            self._check_date(response)
            raise_for_refusal(response)
        except BaseException:
            response.close()
            raise
        return _Opened(response)

    def _check_date(self, response: httpx.Response) -> None:
        """Compare the coordinator's clock with ours; see `check_skew`."""
        skew_s = check_skew(response.headers, self._clock.now())
        is_off = skew_s > WARN_SKEW_S
        if is_off and not self._warned_of_skew:
            events.emit("clock.skewed", seconds=skew_s, code=ClockSkew.code)
        self._warned_of_skew = is_off


class _Opened:
    """Closes the reply whatever happens; an error in between is an Unreachable."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __enter__(self) -> httpx.Response:
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()


def pinned_context(ca_file: Path) -> ssl.SSLContext:
    """Return a TLS client context that trusts one CA file and no other.

    Raises:
        CaMismatch: the file is missing or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise CaMismatch("the CA file cannot be read") from exc
    return context


def transport_error(exc: httpx.TransportError) -> PleuraError:
    """Return the named error of a failed exchange: a wrong certificate, or no answer."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CaMismatch(f"certificate check {cause.verify_code}")
        cause = cause.__cause__ or cause.__context__
    return CoordinatorUnreachable(type(exc).__name__)


def raise_for_refusal(response: httpx.Response) -> None:
    """Raise the named error of a reply that refuses; return for any other reply.

    Raises:
        CoordinatorUnreachable: a 5xx, or a replay refused after the gateway restarted.
        PleuraError: the leaf whose code the gateway sent, else CoordinatorRefused.
    """
    status = response.status_code
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise CoordinatorUnreachable(f"status {status}")
    if status not in _REFUSING_STATUSES:
        return
    code = refusal_code(_whole(response).content)
    if code == ReplayRejected.code:
        # each request has its own nonce, so the gateway restarted since: sign again
        raise CoordinatorUnreachable("the gateway restarted")
    known = _REFUSALS.get(code)
    if known is not None:
        raise known("said by the coordinator")
    raise CoordinatorRefused(f"status {status}, code {code or 'none'}")


def refusal_code(content: bytes) -> str:
    """Return `code` of a refusal's JSON body, or an empty text if it has none.

    It reaches terminals and logs, so what does not look like a code is none.
    """
    try:
        body = parse_json(content)
    except EnvelopeMalformed:
        return ""
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def check_skew(headers: Mapping[str, str], now: datetime) -> float:
    """Return by how many seconds the reply's `Date` and `now` differ.

    Raises:
        ClockSkew: by more than `MAX_SKEW_S`.
        ReplyMalformed: no valid `Date`.
    """
    try:
        date = parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError, TypeError) as exc:
        raise ReplyMalformed("no valid Date") from exc
    skew_s = abs((date.astimezone(UTC) - now).total_seconds())
    if skew_s > MAX_SKEW_S:
        raise ClockSkew(f"{skew_s:.0f} s against the coordinator")
    return skew_s


def blob_target(digest: str) -> str:
    """Return the path of a blob at the gateway."""
    return f"/pleura/v1/blobs/{digest}"


def _whole(response: httpx.Response) -> httpx.Response:
    """Read an open reply up to the limit and return it closed."""
    if response.is_stream_consumed:
        return response
    content = bytearray()
    try:
        for piece in response.iter_raw(READ_BYTES):
            content.extend(piece)
            if len(content) > MAX_REPLY_BYTES:
                raise ReplyMalformed("larger than allowed")
    except httpx.TransportError as exc:
        raise CoordinatorUnreachable("the reply broke") from exc
    return httpx.Response(
        response.status_code,
        headers=response.headers,
        content=bytes(content),
        request=response.request,
    )


def _number(response: httpx.Response, header: str) -> int:
    text = response.headers.get(header, "")
    if not text.isascii() or not text.isdigit():
        raise ReplyMalformed(f"no {header}")
    return int(text)


def _upload_state(response: httpx.Response) -> UploadState:
    try:
        body = parse_json(response.content)
        offset, is_complete = body["offset"], body["complete"]
    except (EnvelopeMalformed, KeyError, TypeError) as exc:
        raise ReplyMalformed("upload state") from exc
    if type(offset) is not int or offset < 0 or type(is_complete) is not bool:
        raise ReplyMalformed("upload state")
    return UploadState(offset, is_complete)
