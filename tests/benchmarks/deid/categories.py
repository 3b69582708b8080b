"""The ten categories of the MIDI-B validation: correct of required, per tool.

Five ask for removal (`text_removed`, `date_shifted`, `uid_changed`, `pixels_hidden`, and in
part `patid_consistent`): a file that was not written passes them. The others ask for what
must stay: there a file that is missing counts as lost. Deleting everything passes half.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pleura.anonymizer.iod import attribute_type
from tests.benchmarks.deid.manifest import PixelText, PlantedFile, Record
from tests.benchmarks.deid.reading import PIXELS, Seen, element_at, fold, text_of

NAMES = (
    "tag_retained", "text_notnull", "text_retained", "text_removed", "date_shifted",
    "uid_changed", "uid_consistent", "patid_consistent", "pixels_retained", "pixels_hidden",
)  # fmt: skip
STANDARD_UIDS = "1.2.840.10008."
_PATIENT_ID, _OBJECT_UIDS = 0x00100020, (0x00080018, 0x0020000D, 0x0020000E)
# a de-identifier writes these itself: character set, method, burned-in, temporal information
_AUTHORED = frozenset(
    {0x00080005, 0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280302, 0x00280303}
)
_TEXT_VRS = frozenset(
    ("CS", "LO", "SH", "UC", "LT", "ST", "UT", "IS", "DS", "US", "SS", "UL", "SL", "FL", "FD")
)
_GLYPHS_LEFT = 0.05  # share of a text's pixels that may still stand out

IsKept = Callable[[Record, frozenset[str]], bool]
UidPath = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many of the required were done."""

    correct: int
    required: int

    @property
    def share(self) -> float:
        """From 0 to 1; 1 where nothing was required."""
        return self.correct / self.required if self.required else 1.0


@dataclass(slots=True)
class Categories:
    """Counts up file by file; consistency is known only at the end."""

    active: frozenset[str]
    _correct: Counter[str] = field(default_factory=Counter)
    _required: Counter[str] = field(default_factory=Counter)
    _uids: list[tuple[str, str]] = field(default_factory=list)
    _patients: list[tuple[str, str, str]] = field(default_factory=list)
    _shifts: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    lost: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, file: PlantedFile, source: Seen, seen: Seen | None, is_kept: IsKept) -> None:
        """Count one file; `seen` is None where the tool wrote none."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._add_retained(file, source.dataset, seen, is_kept)
            self._add_removed(file, seen, is_kept)
            self._add_identity(file, source.dataset, seen)
            self._add_pixels(file, source.dataset, seen)

    def _note(self, name: str, is_correct: bool, tag: int = 0) -> None:
        self._required[name] += 1
        self._correct[name] += is_correct
        if not is_correct:
            self.lost[name, tag] += 1

    def _add_retained(
        self, file: PlantedFile, source: Dataset, seen: Seen | None, is_kept: IsKept
    ) -> None:
        rows = {r.tag: r for r in file.records if not r.path and r.row is not None}
        sop_class = str(source.get("SOPClassUID", ""))
        for element in source:
            tag = int(element.tag)
            if tag in _AUTHORED or tag in PIXELS or (tag >> 16) & 1:
                continue
            record, kind = rows.get(tag), attribute_type(sop_class, (), tag)
            basic = record.row.basic if record is not None and record.row is not None else ""
            out = None if seen is None else element_at(seen.dataset, (), tag)
            if kind in ("1", "2") or basic in ("D", "U", "Z"):
                self._note("tag_retained", out is not None, tag)
            if (kind == "1" and not element.is_empty) or basic in ("D", "U"):
                self._note("text_notnull", out is not None and not out.is_empty, tag)
            is_needed = record is None and kind in ("1", "1C", "2", "2C") and not element.is_empty
            if (
                is_needed
                and element.VR in _TEXT_VRS
                and not (file.pixel_texts and tag >> 16 == 0x0028)
            ):
                same = out is not None and text_of(out) == text_of(element)
                self._note("text_retained", same, tag)
        for record in file.records:
            self._add_kept(record, seen, is_kept)

    def _add_kept(self, record: Record, seen: Seen | None, is_kept: IsKept) -> None:
        """Count values an option keeps, and the harmless words of cleaned prose."""
        if record.place != "top":
            return
        out = None if seen is None else element_at(seen.dataset, record.path, record.tag)
        text = "" if out is None else text_of(out)
        if record.row is not None and record.value and is_kept(record, self.active):
            self._note("text_retained", text == record.value, record.tag)
        elif "clean_desc" in self.active:
            for word in record.words_to_keep:
                self._note("text_retained", fold(word) in fold(text), record.tag)

    def _add_removed(self, file: PlantedFile, seen: Seen | None, is_kept: IsKept) -> None:
        kept = {w for r in file.records if is_kept(r, self.active) for w in r.words}
        for word in {w for r in file.records for w in r.words} - kept:
            tag = None if seen is None else seen.find(word)
            self._note("text_removed", tag is None, tag or 0)
        for record in file.records:
            if not record.value or is_kept(record, self.active):
                continue
            out = None if seen is None else element_at(seen.dataset, record.path, record.tag)
            text = "" if out is None else text_of(out)
            if record.vr == "UI":
                self._note("uid_changed", record.value not in text.split("\\"), record.tag)
            elif record.vr in ("DA", "DT"):
                self._note("date_shifted", text != record.value, record.tag)
                if text != record.value:
                    self._note_shift(file.patient, record, text)

    def _note_shift(self, patient: str, record: Record, text: str) -> None:
        is_moved = record.row is not None and record.row.is_cleaned_by(self.active)
        before, after = _day(record.value), _day(text)
        if is_moved and before is not None and after is not None and text[:8] != "19000101":
            self._shifts[patient][(after - before).days] += 1

    def _add_identity(self, file: PlantedFile, source: Dataset, seen: Seen | None) -> None:
        out = None if seen is None else seen.dataset
        element = None if out is None else element_at(out, (), _PATIENT_ID)
        patient = "" if element is None else text_of(element).strip()
        self._patients.append((file.patient, str(source[_PATIENT_ID].value), patient))
        for path, uid in _uids_of(source, ()):
            is_own = len(path) == 1 and path[0][0] in _OBJECT_UIDS
            new = "" if out is None else _uid_at(out, path)
            if new or is_own:
                self._uids.append((uid, new))

    def _add_pixels(self, file: PlantedFile, source: Dataset, seen: Seen | None) -> None:
        if not any(tag in source for tag in PIXELS):
            return
        if not file.pixel_texts:
            if not file.has_real_text:
                is_same = seen is not None and _same_pixels(source, seen.dataset)
                self._note("pixels_retained", is_same)
            return
        for text in file.pixel_texts:
            is_gone = seen is None or _is_hidden(text, source, seen.dataset)
            self._note("pixels_hidden", is_gone)

    def finish(self) -> dict[str, Ratio]:
        """Return all ten; a shift, a UID or a patient that differs from its others is wrong."""
        for counts in self._shifts.values():
            stray = counts.total() - max(counts.values())
            self._correct["date_shifted"] -= stray
        for is_right in _consistent(self._uids):
            self._note("uid_consistent", is_right)
        pairs = [(patient, new) for patient, _, new in self._patients]
        unchanged = [old == new for _, old, new in self._patients]
        for is_right, is_old in zip(_consistent(pairs), unchanged, strict=True):
            self._note("patid_consistent", is_right and not is_old)
        return {name: Ratio(self._correct[name], self._required[name]) for name in NAMES}


def _consistent(pairs: list[tuple[str, str]]) -> Iterator[bool]:
    """Yield for each pair whether old and new belong to each other alone; empty is wrong."""
    new_of: dict[str, str] = {}
    old_of: dict[str, str] = {}
    for old, new in pairs:
        if new:
            new_of.setdefault(old, new)
            old_of.setdefault(new, old)
        yield bool(new) and new_of[old] == new and old_of[new] == old


def _day(text: str) -> date | None:
    """Return the day of a DA or DT in any spelling that was planted."""
    parts = text.replace(".", "-").split("-") if not text[:8].isdigit() else []
    try:
        if len(parts) == 3:
            return date(int(parts[0]), int(parts[1]), int(parts[2]))
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


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
