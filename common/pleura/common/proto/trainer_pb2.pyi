from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("version", "sandboxed", "busy", "waiting")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SANDBOXED_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    version: str
    sandboxed: bool
    busy: bool
    waiting: int
    def __init__(self, version: _Optional[str] = ..., sandboxed: _Optional[bool] = ..., busy: _Optional[bool] = ..., waiting: _Optional[int] = ...) -> None: ...

class OrderEnvelope(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    def __init__(self, envelope: _Optional[bytes] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("accepted", "needs_base", "progress", "answered", "refused")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    NEEDS_BASE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    needs_base: NeedsBase
    progress: Progress
    answered: Answered
    refused: RefusedUnsigned
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., needs_base: _Optional[_Union[NeedsBase, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., answered: _Optional[_Union[Answered, _Mapping]] = ..., refused: _Optional[_Union[RefusedUnsigned, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("order_digest",)
    ORDER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    order_digest: str
    def __init__(self, order_digest: _Optional[str] = ...) -> None: ...

class NeedsBase(_message.Message):
    __slots__ = ("sha256", "size", "have")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size: int
    have: int
    def __init__(self, sha256: _Optional[str] = ..., size: _Optional[int] = ..., have: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "steps")
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    step: int
    steps: int
    def __init__(self, step: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class Answered(_message.Message):
    __slots__ = ("envelope", "blob_sha256", "blob_size")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    BLOB_SHA256_FIELD_NUMBER: _ClassVar[int]
    BLOB_SIZE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    blob_sha256: str
    blob_size: int
    def __init__(self, envelope: _Optional[bytes] = ..., blob_sha256: _Optional[str] = ..., blob_size: _Optional[int] = ...) -> None: ...

class RefusedUnsigned(_message.Message):
    __slots__ = ("code",)
    CODE_FIELD_NUMBER: _ClassVar[int]
    code: str
    def __init__(self, code: _Optional[str] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("sha256", "total", "offset", "data")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    total: int
    offset: int
    data: bytes
    def __init__(self, sha256: _Optional[str] = ..., total: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutBlobReply(_message.Message):
    __slots__ = ("size", "complete")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    size: int
    complete: bool
    def __init__(self, size: _Optional[int] = ..., complete: _Optional[bool] = ...) -> None: ...

class GetBlobRequest(_message.Message):
    __slots__ = ("sha256", "offset")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    offset: int
    def __init__(self, sha256: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...
