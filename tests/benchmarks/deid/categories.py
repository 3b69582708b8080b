"""What was planted, asked of an output: the ten categories of `scoring`, per tool.

Five ask for removal (`text_removed`, `date_shifted`, `uid_changed`, `pixels_hidden`, and in
part `patid_consistent`): a file that was not written passes them. The others ask for what
must stay: there a file that is missing counts as lost. Deleting everything passes half.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pleura.anonymizer.iod import attribute_type
from pleura.anonymizer.scoring import (
    AUTHORED,
    OBJECT_UIDS,
    STANDARD_UIDS,
    Category,
    Ratio,
    Tally,
    must_be_same,
    must_be_there,
    must_have_value,
)
from tests.benchmarks.deid.manifest import PixelText, PlantedFile, Record
from tests.benchmarks.deid.reading import PIXELS, Seen, element_at, fold, text_of

_PATIENT_ID = 0x00100020
_GLYPHS_LEFT = 0.05  # share of a text's pixels that may still stand out

IsKept = Callable[[Record, frozenset[str]], bool]
UidPath = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Categories:
    """Counts up file by file; consistency is known only at the end."""

    active: frozenset[str]
    _tally: Tally = field(default_factory=Tally)

    @property
    def lost(self) -> Counter[tuple[Category, int]]:
        """What failed, by category and attribute."""
        return self._tally.lost

    def add(self, file: PlantedFile, source: Seen, seen: Seen | None, is_kept: IsKept) -> None:
        """Count one file; `seen` is None where the tool wrote none."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._add_retained(file, source.dataset, seen, is_kept)
            self._add_removed(file, seen, is_kept)
            self._add_identity(file, source.dataset, seen)
            self._add_pixels(file, source.dataset, seen)

    def _add_retained(
        self, file: PlantedFile, source: Dataset, seen: Seen | None, is_kept: IsKept
    ) -> None:
        rows = {r.tag: r for r in file.records if not r.path and r.row is not None}
        sop_class = str(source.get("SOPClassUID", ""))
        for element in source:
            tag = int(element.tag)
            if tag in AUTHORED or tag in PIXELS or (tag >> 16) & 1:
                continue
            record, kind = rows.get(tag), attribute_type(sop_class, (), tag)
            basic = record.row.basic if record is not None and record.row is not None else ""
            out = None if seen is None else element_at(seen.dataset, (), tag)
            if must_be_there(kind, basic):
                self._tally.note("tag_retained", out is not None, tag)
            is_empty = element.is_empty and basic not in ("D", "U")
            if must_have_value(kind, basic) and not is_empty:
                self._tally.note("text_notnull", out is not None and not out.is_empty, tag)
            is_needed = record is None and not element.is_empty
            is_needed &= must_be_same(kind, element.VR)
            if is_needed and not (file.pixel_texts and tag >> 16 == 0x0028):
                same = out is not None and text_of(out) == text_of(element)
                self._tally.note("text_retained", same, tag)
        for record in file.records:
            self._add_kept(record, seen, is_kept)

    def _add_kept(self, record: Record, seen: Seen | None, is_kept: IsKept) -> None:
        """Count values an option keeps, and the harmless words of cleaned prose."""
        if record.place != "top":
            return
        out = None if seen is None else element_at(seen.dataset, record.path, record.tag)
        text = "" if out is None else text_of(out)
        if record.row is not None and record.value and is_kept(record, self.active):
            self._tally.note("text_retained", text == record.value, record.tag)
        elif "clean_desc" in self.active:
            for word in record.words_to_keep:
                self._tally.note("text_retained", fold(word) in fold(text), record.tag)

    def _add_removed(self, file: PlantedFile, seen: Seen | None, is_kept: IsKept) -> None:
        kept = {w for r in file.records if is_kept(r, self.active) for w in r.words}
        for word in {w for r in file.records for w in r.words} - kept:
            tag = None if seen is None else seen.find(word)
            self._tally.note("text_removed", tag is None, tag or 0)
        for record in file.records:
            if not record.value or is_kept(record, self.active):
                continue
            out = None if seen is None else element_at(seen.dataset, record.path, record.tag)
            text = "" if out is None else text_of(out)
            if record.vr == "UI":
                self._tally.note("uid_changed", record.value not in text.split("\\"), record.tag)
            elif record.vr in ("DA", "DT"):
                self._tally.note("date_shifted", text != record.value, record.tag)
                if text != record.value:
                    self._note_shift(file.patient, record, text)

    def _note_shift(self, patient: str, record: Record, text: str) -> None:
        if record.row is not None and record.row.is_cleaned_by(self.active):
            self._tally.note_shift(patient, record.value, text)

    def _add_identity(self, file: PlantedFile, source: Dataset, seen: Seen | None) -> None:
        out = None if seen is None else seen.dataset
        element = None if out is None else element_at(out, (), _PATIENT_ID)
        patient = "" if element is None else text_of(element).strip()
        is_changed = patient != str(source[_PATIENT_ID].value)
        self._tally.note_patient(file.patient, patient, is_changed=is_changed)
        for path, uid in _uids_of(source, ()):
            is_own = len(path) == 1 and path[0][0] in OBJECT_UIDS
            new = "" if out is None else _uid_at(out, path)
            if new or is_own:
                self._tally.note_uid(uid, new, path[-1][0])

    def _add_pixels(self, file: PlantedFile, source: Dataset, seen: Seen | None) -> None:
        if not any(tag in source for tag in PIXELS):
            return
        if not file.pixel_texts:
            if not file.has_real_text:
                is_same = seen is not None and _same_pixels(source, seen.dataset)
                self._tally.note("pixels_retained", is_same)
            return
        for text in file.pixel_texts:
            is_gone = seen is None or _is_hidden(text, source, seen.dataset)
            self._tally.note("pixels_hidden", is_gone)

    def finish(self) -> dict[Category, Ratio]:
        """Return all ten; a shift, a UID or a patient that differs from its others is wrong."""
        return self._tally.ratios()


def _uids_of(ds: Dataset, path: UidPath) -> Iterator[tuple[UidPath, str]]:
    """Yield every UID outside the standard's root with the path to it."""
    for element in ds:
        tag = int(element.tag)
        if element.VR == "SQ" and not (tag >> 16) & 1:
            for index, item in enumerate(element.value):
                yield from _uids_of(item, (*path, (tag, index)))
        elif element.VR == "UI" and not (tag >> 16) & 1:
            uid = text_of(element)
            if uid and "\\" not in uid and not uid.startswith(STANDARD_UIDS):
                yield (*path, (tag, 0)), uid


def _uid_at(ds: Dataset, path: UidPath) -> str:
    for tag, index in path[:-1]:
        if tag not in ds or ds[tag].VR != "SQ" or index >= len(ds[tag].value):
            return ""
        ds = ds[tag].value[index]
    tag = path[-1][0]
    return text_of(ds[tag]) if tag in ds else ""


def _pixels(ds: Dataset) -> NDArray[np.generic]:
    """Return stored values; bits above those stored do not count."""
    pixels = np.asarray(ds.pixel_array)
    if pixels.dtype.kind == "u" and ds.BitsStored < ds.BitsAllocated:
        pixels = pixels & pixels.dtype.type((1 << int(ds.BitsStored)) - 1)
    return pixels


def _same_pixels(source: Dataset, out: Dataset) -> bool:
    for tag in PIXELS:
        if tag in source and tag in out and source[tag].value == out[tag].value:
            return True
    try:
        return bool(np.array_equal(_pixels(source), _pixels(out)))
    except Exception:  # noqa: BLE001  decoders raise anything; not decodable is not retained
        return False


def _is_hidden(text: PixelText, source: Dataset, out: Dataset) -> bool:
    """Return whether the glyphs no longer stand out of their box, in every frame."""
    try:
        before, after = _pixels(source), _pixels(out)
    except Exception:  # noqa: BLE001  pixels that are gone or broken show nothing
        return True
    shape = (-1, int(source.Rows), int(source.Columns), int(source.get("SamplesPerPixel", 1)))
    if before.size != after.size:
        return True
    top, left, bottom, right = text.box
    planted = before.reshape(shape)[:, top:bottom, left:right].astype(float)
    found = after.reshape(shape)[:, top:bottom, left:right].astype(float)
    span = max(float(planted.max() - planted.min()), 1.0)
    for old, new in zip(planted, found, strict=True):
        is_as_planted = np.abs(new - old).max(axis=-1) < 0.1 * span
        is_flat = float(new.max() - new.min()) < 0.1 * span
        if not is_flat and np.sum(is_as_planted & text.glyphs) > _GLYPHS_LEFT * np.sum(text.glyphs):
            return False
    return True
