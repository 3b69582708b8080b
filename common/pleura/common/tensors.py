"""Packed tensors: one canonical safetensors file for a model or an update, streamed.

Canonical means: keys in byte order, contiguous little-endian data in that order,
no metadata, header padded with spaces to 8 bytes. Equal tensors give equal
bytes. Nothing here holds more than one tensor in memory. Names, types, shapes
and sizes are bounded before any allocation; values are checked for NaN and
infinity wherever a digest is computed.

The tensor digest (PRIVACY.md section 5) covers names, types, shapes and values
independently of the container; the blob digest covers the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from pleura.common.canonical import canonical_json, sha256_hex
from pleura.common.errors import DigestMismatch, NotFinite, TensorsRejected
from pleura.common.files import atomic_writer
from pleura.common.orders import BlobRef

Array = NDArray[Any]
PackedInfo = BlobRef  # what packing returns: digests and size

_MAGIC: Final = b"pleura-tensors-v1\0"
_NAME: Final = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}$")
_TO_NUMPY: Final[Mapping[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_TO_SAFE: Final = {dtype: name for name, dtype in _TO_NUMPY.items()}
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a packed file from outside."""

    max_tensors: int = 4096
    max_dimensions: int = 8
    max_bytes: int = 8 * 2**30
    max_header_bytes: int = 4 * 2**20


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, numpy dtype text (`<f4`) and shape of one tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class TensorSchema:
    """Specs of all tensors, in byte order of their names."""

    specs: tuple[TensorSpec, ...]

    @staticmethod
    def of(tensors: Mapping[str, Array]) -> TensorSchema:
        """Return the schema of named arrays.

        Raises:
            TensorsRejected: a name, type or shape is not allowed.
        """
        specs = [
            TensorSpec(name, _little(array.dtype).str, tuple(array.shape))
            for name, array in tensors.items()
        ]
        return TensorSchema.checked(specs)

    @staticmethod
    def checked(specs: list[TensorSpec], limits: Limits = DEFAULT_LIMITS) -> TensorSchema:
        """Return the schema in canonical order.

        Raises:
            TensorsRejected: empty, too many, a name twice, or a name, type or shape not allowed.
        """
        if not 0 < len(specs) <= limits.max_tensors:
            raise TensorsRejected("number of tensors")
        for spec in specs:
            if not _NAME.fullmatch(spec.name):
                raise TensorsRejected("tensor name")
            if np.dtype(spec.dtype) not in _TO_SAFE:
                raise TensorsRejected("tensor type")
            if len(spec.shape) > limits.max_dimensions or any(n < 0 for n in spec.shape):
                raise TensorsRejected("tensor shape")
        if len({spec.name for spec in specs}) != len(specs):
            raise TensorsRejected("a tensor name stands twice")
        if sum(spec.size_bytes for spec in specs) > limits.max_bytes:
            raise TensorsRejected("tensors are larger than allowed")
        return TensorSchema(tuple(sorted(specs, key=lambda spec: spec.name.encode())))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical list of name, type and shape."""
        return sha256_hex(canonical_json([[s.name, s.dtype, list(s.shape)] for s in self.specs]))

    def header(self) -> bytes:
        """Return the safetensors length prefix and header."""
        entries: dict[str, dict[str, object]] = {}
        offset = 0
        for spec in self.specs:
            entries[spec.name] = {
                "dtype": _TO_SAFE[np.dtype(spec.dtype)],
                "shape": list(spec.shape),
                "data_offsets": [offset, offset + spec.size_bytes],
            }
            offset += spec.size_bytes
        text = json.dumps(entries, separators=(",", ":")).encode("ascii")
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text


class TensorDigest:
    """Running digest over tensors in key order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(_MAGIC)

    def begin(self, spec: TensorSpec) -> None:
        name, dtype = spec.name.encode(), spec.dtype.encode()
        self._hash.update(struct.pack("<I", len(name)) + name)
        self._hash.update(struct.pack("<I", len(dtype)) + dtype)
        self._hash.update(struct.pack("<I", len(spec.shape)))
        self._hash.update(struct.pack(f"<{len(spec.shape)}Q", *spec.shape))
        self._hash.update(struct.pack("<Q", spec.size_bytes))

    def feed(self, data: bytes | memoryview) -> None:
        self._hash.update(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def tensor_digest(tensors: Mapping[str, Array]) -> str:
    """Return the tensor digest of named arrays, 64 hex digits."""
    schema, digest = TensorSchema.of(tensors), TensorDigest()
    for spec in schema.specs:
        digest.begin(spec)
        digest.feed(_bytes_of(tensors[spec.name]))
    return digest.hexdigest()


class PackedWriter:
    """Writes a packed file tensor by tensor, in the order of `schema`.

    The file appears under `path` only when the block ends with every tensor
    written; `info` is set then.
    """

    info: BlobRef

    def __init__(self, path: Path, schema: TensorSchema) -> None:
        self._schema = schema
        self._manager = atomic_writer(path)
        self._blob, self._tensors = hashlib.sha256(), TensorDigest()
        self._written, self._size = 0, 0

    def __enter__(self) -> PackedWriter:
        self._file: BinaryIO = self._manager.__enter__()
        self._put(self._schema.header())
        return self

    def add(self, name: str, array: Array) -> None:
        """Write the next tensor.

        Raises:
            TensorsRejected: not the tensor the schema expects next.
            NotFinite: it holds NaN or infinity.
            DiskFull: the volume has no room.
        """
        if self._written == len(self._schema.specs):
            raise TensorsRejected("more tensors than the schema has")
        spec = self._schema.specs[self._written]
        if name != spec.name or tuple(array.shape) != spec.shape:
            raise TensorsRejected("not the tensor the schema expects next")
        if _little(array.dtype).str != spec.dtype:
            raise TensorsRejected("tensor type differs from the schema")
        _require_finite(array)
        data = _bytes_of(array)
        self._tensors.begin(spec)
        self._tensors.feed(data)
        self._put(data)
        self._written += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._written != len(self._schema.specs):
            kind, value = TensorsRejected, TensorsRejected("tensors are missing")
            self._manager.__exit__(kind, value, None)
            raise value
        self._manager.__exit__(kind, value, trace)
        if kind is None:
            self.info = BlobRef(
                blob_sha256=self._blob.hexdigest(),
                size_bytes=self._size,
                tensor_digest=self._tensors.hexdigest(),
                schema_digest=self._schema.digest,
            )

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._blob.update(data)
        self._size += len(data)


def write_packed(path: Path, tensors: Mapping[str, Array]) -> BlobRef:
    """Write named arrays as one canonical file and return its digests.

    Raises:
        TensorsRejected: a name, type or shape is not allowed.
        NotFinite: a value is NaN or infinity.
        DiskFull: the volume has no room.
    """
    schema = TensorSchema.of(tensors)
    with PackedWriter(path, schema) as writer:
        for spec in schema.specs:
            writer.add(spec.name, tensors[spec.name])
    return writer.info


class PackedReader:
    """Reads a packed file one tensor at a time, from a memory map.

    Raises:
        TensorsRejected: the header is not canonical or breaks a limit.
    """

    def __init__(self, path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.path = path
        size = path.stat().st_size
        if not 8 < size <= limits.max_bytes + limits.max_header_bytes:
            raise TensorsRejected("file size")
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0]
            if not 0 < length <= min(limits.max_header_bytes, size - 8):
                raise TensorsRejected("header size")
            header = file.read(length)
        self.schema = TensorSchema.checked(_parse_header(header), limits)
        if self.schema.header() != prefix + header:
            raise TensorsRejected("header is not canonical")
        data_bytes = sum(spec.size_bytes for spec in self.schema.specs)
        if size != 8 + length + data_bytes:
            raise TensorsRejected("file size differs from its header")
        self._offsets, offset = {}, 8 + length
        for spec in self.schema.specs:
            self._offsets[spec.name] = (spec, offset)
            offset += spec.size_bytes

    def tensor(self, name: str) -> Array:
        """Return one tensor as a read-only array backed by the file.

        Raises:
            TensorsRejected: no tensor of that name.
        """
        if name not in self._offsets:
            raise TensorsRejected("no such tensor")
        spec, offset = self._offsets[name]
        if spec.size_bytes == 0:
            return np.zeros(spec.shape, spec.dtype)
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        descriptor = os.open(self.path, os.O_RDONLY)
        try:  # one map a tensor gives back what was read; np.memmap is far slower
            data = mmap.mmap(
                descriptor, offset - start + spec.size_bytes, offset=start, access=mmap.ACCESS_READ
            )
        finally:
            os.close(descriptor)
        count = math.prod(spec.shape)
        return np.frombuffer(data, spec.dtype, count, offset - start).reshape(spec.shape)

    def tensors(self) -> Iterator[tuple[TensorSpec, Array]]:
        """Yield every tensor in canonical order."""
        for spec in self.schema.specs:
            yield spec, self.tensor(spec.name)

    def verify(self, expected: BlobRef | None = None) -> BlobRef:
        """Read the whole file once: digests, finite values, and equality with `expected`.

        Raises:
            NotFinite: a value is NaN or infinity.
            DigestMismatch: the file is not the expected one.
        """
        digest = TensorDigest()
        for spec, array in self.tensors():
            _require_finite(array)
            digest.begin(spec)
            digest.feed(_bytes_of(array))
        found = BlobRef(
            blob_sha256=file_sha256(self.path),
            size_bytes=self.path.stat().st_size,
            tensor_digest=digest.hexdigest(),
            schema_digest=self.schema.digest,
        )
        if expected is not None and found != expected:
            raise DigestMismatch("packed tensors")
        return found


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _parse_header(header: bytes) -> list[TensorSpec]:
    try:
        entries = json.loads(header)
        if not isinstance(entries, dict):
            raise TensorsRejected("header")
        specs = []
        for name, entry in entries.items():
            shape = entry["shape"]
            if not all(type(n) is int for n in shape):
                raise TensorsRejected("tensor shape")
            specs.append(TensorSpec(name, _TO_NUMPY[entry["dtype"]].str, tuple(shape)))
        return specs
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise TensorsRejected("header is not safetensors") from exc


def _require_finite(array: Array) -> None:
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        if not np.isfinite(flat[start : start + _CHUNK]).all():
            raise NotFinite("a tensor holds NaN or infinity")


def _bytes_of(array: Array) -> memoryview:
    contiguous = np.ascontiguousarray(array, dtype=_little(array.dtype))
    return contiguous.reshape(-1).view(np.uint8).data


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")
