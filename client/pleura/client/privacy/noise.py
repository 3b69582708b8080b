"""Noise: secret randomness of one step, as ChaCha20 streams and Gaussian numbers.

Each step draws 32 fresh bytes; HKDF-SHA256 turns them into independent streams,
one for a purpose. Streams are read as little-endian 64-bit words. Keys are never
stored, logged or used twice. Normals are exact up to fp64 rounding; the gap that
floating point leaves (Mironov 2012) stays and is documented.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from pleura.client.errors import EntropyMissing

SECRET_BYTES: Final = 32
_NONCE: Final = bytes(16)
_UNIT: Final = 2.0**-53
_CHUNK: Final = 1 << 18  # normals made at a time: bounds memory, does not change their values


class Stream:
    """The keystream of ChaCha20 under one key and a zero nonce, read from its start."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(algorithms.ChaCha20(key, _NONCE), mode=None).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next `count` words, uint64."""
        return np.frombuffer(self._encryptor.update(bytes(8 * count)), dtype="<u8")

    def normals(self, count: int) -> NDArray[np.float64]:
        """Return the next `count` standard normals; an odd count uses up the pair's other one.

        Box-Muller in fp64: of each two words, k = word >> 11, u1 = (k0 + 1) / 2^53 in
        (0, 1], u2 = k1 / 2^53, z = sqrt(-2 ln u1) * (cos, sin)(2 pi u2).
        """
        pairs = (count + 1) // 2
        bits = self.words(2 * pairs) >> np.uint64(11)
        radius = np.sqrt(-2.0 * np.log((bits[0::2] + np.uint64(1)).astype(np.float64) * _UNIT))
        angle = bits[1::2].astype(np.float64) * (2.0 * math.pi * _UNIT)
        normals = np.empty(2 * pairs, dtype=np.float64)
        normals[0::2] = radius * np.cos(angle)
        normals[1::2] = radius * np.sin(angle)
        return normals[:count]


@dataclass(frozen=True, slots=True)
class StepStreams:
    """The streams of one step: who takes part, with which images, the noise, the augmentation."""

    sample: Stream
    subset: Stream
    noise: Stream
    augment: Stream


def step_streams(entropy: Callable[[int], bytes]) -> StepStreams:
    """Draw a fresh secret and return its streams.

    Raises:
        EntropyMissing: the source gave another number of bytes than asked for.
    """
    secret = entropy(SECRET_BYTES)
    if len(secret) != SECRET_BYTES:
        raise EntropyMissing("too few random bytes")
    return StepStreams(*(Stream(derive(secret, name)) for name in StepStreams.__slots__))


def derive(secret: bytes, label: str) -> bytes:
    """Return the 32-byte key of a purpose: HKDF-SHA256, empty salt, the label as info."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=label.encode()).derive(secret)


def add_noise(total: NDArray[np.float64], std: float, stream: Stream) -> None:
    """Add normals of standard deviation `std` to a one-dimensional array in place."""
    for start in range(0, total.size, _CHUNK):
        part = total[start : start + _CHUNK]
        part += std * stream.normals(part.size)
