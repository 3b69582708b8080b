"""Canonical JSON (RFC 8785) and strict parsing of JSON that came from outside."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import rfc8785

from pleura.common.errors import EnvelopeMalformed

MAX_JSON_BYTES = 256 * 1024
MAX_JSON_DEPTH = 16


def canonical_json(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value."""
    return rfc8785.dumps(value)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def parse_json(
    data: bytes, *, max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_JSON_DEPTH
) -> Any:
    """Parse JSON from outside, once.

    Raises:
        EnvelopeMalformed: too large, too deep, not UTF-8, not JSON, a key twice, NaN or infinity.
    """
    if len(data) > max_bytes:
        raise EnvelopeMalformed("larger than allowed")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as exc:  # also a number with thousands of digits
        raise EnvelopeMalformed("not JSON") from exc
    if _depth(value) > max_depth:
        raise EnvelopeMalformed("nested too deeply")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise EnvelopeMalformed("a key stands twice")
    return result


def _no_constant(_: str) -> None:
    raise EnvelopeMalformed("not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # 1e999 is a number to the parser and infinity to us
        raise EnvelopeMalformed("not a finite number")
    return value


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, depth = stack.pop()
        deepest = max(deepest, depth)
        children = (
            item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        )
        stack.extend((child, depth + 1) for child in children)
    return deepest
