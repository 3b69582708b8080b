"""Searching bytes for planted values, however they may be written down.

A value counts as found in UTF-8, Latin-1, UTF-16 or the two encodings phantoms are
written in, as itself or in another case, in the bytes as they are or inside base64.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "iso2022_jp", "euc_kr")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")
_KEY = 6  # bytes a pattern is looked up by
_DEPTH = 2  # an envelope in JSON in an envelope


class Planted:
    """The values of all sites as byte patterns, found in one pass over the data."""

    def __init__(self, values: Iterable[str]) -> None:
        self.patterns: dict[bytes, str] = {}
        for value in values:
            for spelling in {value, value.upper(), value.lower()}:
                for encoding in ENCODINGS:
                    try:
                        self.patterns[spelling.encode(encoding)] = value
                    except UnicodeEncodeError:
                        continue
        self._short = [p for p in self.patterns if len(p) < _KEY]
        self._by_key: dict[int, list[bytes]] = {}
        for pattern in self.patterns:
            if len(pattern) >= _KEY:
                key = int.from_bytes(pattern[:_KEY], "big")
                self._by_key.setdefault(key, []).append(pattern)
        self._keys = np.array(sorted(self._by_key), dtype=np.uint64)
        self._starts = np.zeros(1 << 24, dtype=bool)
        self._starts[(self._keys >> np.uint64(8 * (_KEY - 3))).astype(np.int64)] = True

    def found_in(self, data: bytes) -> set[str]:
        """Return the values that `data` holds."""
        return {value for layer in _layers(data, _DEPTH) for value in self._found(layer)}

    def _found(self, data: bytes) -> Iterator[str]:
        yield from (self.patterns[p] for p in self._short if p in data)
        if len(data) < _KEY:
            return
        wide = np.frombuffer(data, dtype=np.uint8).astype(np.int64)
        three = wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]
        places = np.flatnonzero(self._starts[three[: len(data) - _KEY + 1]])
        keys = np.zeros(len(places), dtype=np.uint64)
        for offset in range(_KEY):
            keys = keys << np.uint64(8) | wide[places + offset].astype(np.uint64)
        for place in places[np.isin(keys, self._keys)].tolist():
            for pattern in self._by_key[int.from_bytes(data[place : place + _KEY], "big")]:
                if data.startswith(pattern, place):
                    yield self.patterns[pattern]

    def found_below(self, files: Iterable[Path]) -> Mapping[Path, set[str]]:
        """Return the values each file holds, in its content or its name; only files with some."""
        hits = {}
        for path in files:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # a journal that was folded in meanwhile
            found = self.found_in(data) | self.found_in(bytes(path.name, "utf-8"))
            if found:
                hits[path] = found
        return hits


def files_below(root: Path, *, without: Iterable[str] = ()) -> Iterator[Path]:
    """Yield every regular file below `root`, leaving out folders named in `without`."""
    barred = frozenset(without)
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts[:-1]
        if path.is_file() and not path.is_symlink() and not barred.intersection(inside):
            yield path


def _layers(data: bytes, depth: int) -> Iterator[bytes]:
    yield data
    if depth == 0:
        return
    inner = b"\n".join(_decoded(run) for run in _BASE64.findall(data))
    if inner.strip(b"\n"):
        yield from _layers(inner, depth - 1)


def _decoded(run: bytes) -> bytes:
    whole = run.rstrip(b"=")
    whole = whole[: len(whole) - (len(whole) % 4 == 1)]
    try:
        return base64.b64decode(whole + b"=" * (-len(whole) % 4))
    except binascii.Error:
        return b""
