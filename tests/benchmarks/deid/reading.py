"""One output as the scorer sees it: elements, decoded text, and raw bytes outside pixels."""

from __future__ import annotations

import unicodedata
import warnings
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.benchmarks.deid.manifest import Step

PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
# how a name outside ASCII may lie in a file, whatever character set that declares
_ENCODINGS = (
    "utf-8", "latin-1", "iso8859_5", "gb18030", "iso2022_jp", "shift_jis", "euc_kr",
)  # fmt: skip


class Unreadable(Exception):
    """An output that is no DICOM file any more; it counts as missing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file that was read. `text` is all decoded values, folded; `raw` is in lower case."""

    dataset: Dataset
    text: str
    raw: bytes
    _starts: tuple[int, ...]
    _tags: tuple[int, ...]

    def find(self, word: str) -> int | None:
        """Return the tag that shows a word, 0 if only raw bytes hold it, None if nothing."""
        position = self.text.find(fold(word))
        if position >= 0:
            return self._tags[bisect_right(self._starts, position) - 1]
        return 0 if any(form in self.raw for form in _forms(word)) else None


def fold(text: str) -> str:
    """Return text in the form in which it is compared: case and composition do not count."""
    return unicodedata.normalize("NFC", text).casefold()


def _forms(word: str) -> Iterator[bytes]:
    if word.isascii():
        yield word.lower().encode()
        return
    for encoding in _ENCODINGS:
        try:
            encoded = word.encode(encoding)
        except UnicodeEncodeError:
            continue
        # ISO 2022 wraps a word in escapes, which lie elsewhere in a longer text
        yield encoded.removeprefix(b"\x1b$B").removesuffix(b"\x1b(B").lower()


def read(path: Path) -> Seen:
    """Read one file.

    Raises:
        Unreadable: it is missing or no DICOM file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = dcmread(path)
            pieces = [(element.tag, fold(text_of(element))) for element in walk(ds)]
            raw = _raw(path.read_bytes(), ds)
        except Exception as exc:
            raise Unreadable(type(exc).__name__) from exc
    starts, at = [], 0
    for _, text in pieces:
        starts.append(at)
        at += len(text) + 1
    text = "\0".join(text for _, text in pieces)
    return Seen(ds, text, raw, tuple(starts), tuple(int(tag) for tag, _ in pieces))


def _raw(data: bytes, ds: Dataset) -> bytes:
    """Return the bytes outside pixels, inflated where they are deflated, in lower case."""
    meta = ds.file_meta
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # preamble and DICM, the group length element (12 bytes), the group
        start = 144 + int(meta.FileMetaInformationGroupLength)
        data = data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)
    for tag in PIXELS:
        if tag in ds and isinstance(ds[tag].value, bytes) and len(ds[tag].value) > 8:
            data = data.replace(ds[tag].value, b"", 1)
    return data.lower()


def walk(ds: Dataset) -> Iterator[DataElement]:
    """Yield every element at any depth, file meta first, pixels and sequences left out."""
    yield from getattr(ds, "file_meta", ())
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from walk(item)
        elif int(element.tag) not in PIXELS:
            yield element


def text_of(element: DataElement) -> str:
    """Return a value as text, without padding; that of a sequence is empty."""
    value = element.value
    if value is None or element.VR == "SQ":
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1").rstrip(" \0")
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return str(value).rstrip(" \0")
    if element.VR == "PN" and not isinstance(value, list) and hasattr(value, "components"):
        return str(value)
    return "\\".join(str(part) for part in value).rstrip(" \0")


def item_at(ds: Dataset, path: tuple[Step, ...], *, exactly: bool = False) -> Dataset | None:
    """Return the item at a path; unless `exactly`, the last item stands for one that went."""
    for tag, index in path:
        if tag not in ds or ds[tag].VR != "SQ" or not ds[tag].value:
            return None
        last = len(ds[tag].value) - 1
        if exactly and index > last:
            return None
        ds = ds[tag].value[min(index, last)]
    return ds


def element_at(ds: Dataset, path: tuple[Step, ...], tag: int) -> DataElement | None:
    """Return one element below a path, or None."""
    item = item_at(ds, path)
    return item[tag] if item is not None and tag in item else None
