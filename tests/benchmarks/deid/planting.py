"""The planter: writes invented identifiers into real files, everywhere a file can hold them.

Every attribute of Table E.1-1 is planted three times: at top level, in an item of a sequence
that stays (Referenced Image Sequence) and in an item of a standard sequence the table does
not list (Anatomic Region Sequence). Private elements, prose in several scripts and, where
asked, pixel text come on top. All real UIDs are replaced, the same one by the same one, so
that references between files still resolve.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence

from tests.benchmarks.deid.manifest import Corpus, Place, PlantedFile, Record, Step
from tests.benchmarks.deid.pixel_text import plant_text
from tests.benchmarks.deid.prose import Person, Prose, write_prose, write_report
from tests.benchmarks.deid.reading import read
from tests.benchmarks.deid.table import Row
from tests.benchmarks.deid.tokens import Tokens
from tests.benchmarks.deid.values import fill, fill_sequence, person_item

KEPT_SEQUENCE, UNLISTED_SEQUENCE, CONTENT = 0x00081140, 0x00082218, 0x0040A730
STANDARD_UIDS = "1.2.840.10008."
SCRIPTS: tuple[tuple[str | list[str], str], ...] = (
    ("ISO_IR 100", "latin1"),
    ("ISO_IR 192", "chinese"),
    (["", "ISO 2022 IR 87"], "japanese"),
    ("ISO_IR 144", "cyrillic"),
    (["", "ISO 2022 IR 149"], "korean"),
    ("ISO_IR 192", "cyrillic"),
    ("GB18030", "chinese"),
    ("", "latin"),
)
# carriers of the planting itself, object identity and what the prose fills: no row of their own
_TOP_OWN = {0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00100010, 0x00100020, 0x00100030}
_CARRIERS = {KEPT_SEQUENCE, UNLISTED_SEQUENCE, CONTENT}
Script = tuple[str | list[str], str]
_PRIVATE_CREATOR = "ZORQ IMAGING 3"


class Unplanted(Exception):
    """The planter failed at its own work: the count is of words that are not in the file."""


@dataclass(frozen=True, slots=True)
class Case:
    """A source file. `text`: draw the patient into the pixels."""

    source: str
    text: bool = False
    has_real_text: bool = False


@dataclass(slots=True)
class Planter:
    """Plants one corpus; patients and UIDs are shared by its files."""

    table: Many[Row]
    tokens: Tokens
    _uids: dict[str, str] = field(default_factory=dict)
    _people: dict[str, Person] = field(default_factory=dict)
    _patients: dict[str, str] = field(default_factory=dict)
    _objects: set[str] = field(default_factory=set)
    _scripts: dict[str, Script] = field(default_factory=dict)

    def plant_all(self, root: Path, cases: Many[Case], folder: Path) -> Corpus:
        """Plant every case of `root` into `folder` and return what was planted."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for number, case in enumerate(cases, 1):
            target = folder / f"IM{number:04d}"
            files.append(self.plant(root / case.source, target, case))
        return Corpus(folder, tuple(files))

    def plant(self, source: Path, target: Path, case: Case) -> PlantedFile:
        """Plant one file, in the character set of its patient.

        Raises:
            Unplanted: a planted word cannot be read back from the file.
        """
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            ds = dcmread(source)
            ds.decode()
            patient = self._patient_of(ds, case.source)
            self._replace_uids(ds)
            if str(ds.SOPInstanceUID) in self._objects:  # one image in another encoding
                ds.SOPInstanceUID = self.tokens.uid()
            self._objects.add(str(ds.SOPInstanceUID))
            charset, script = self._script_of(patient)
            person = self._person(patient, script)
            texts = plant_text(ds, (f"{person.family} {person.number}",)) if case.text else ()
            ds.SpecificCharacterSet = charset
            records = self._fill(ds, person)
            for item in ds.get(CONTENT, DataElement(CONTENT, "SQ", [])).value:
                _set_charset(item, charset)
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.file_meta.SourceApplicationEntityTitle = "ZORQAE"
            ds.preamble = b"ZORQ PREAMBLE".ljust(128, b" ")
            ds.save_as(target, enforce_file_format=True)
        _check_readable(target, records)
        return PlantedFile(
            path=target, source=case.source, modality=str(ds.get("Modality", "")),
            patient=patient, records=tuple(records), pixel_texts=texts,
            has_real_text=case.has_real_text,
        )  # fmt: skip

    def _patient_of(self, ds: Dataset, source: str) -> str:
        """Return a name for the patient: one study is one patient."""
        study = str(ds.get("StudyInstanceUID", "")) or source
        return self._patients.setdefault(study, str(ds.get("PatientID", "")) or study)

    def _script_of(self, patient: str) -> Script:
        """Return character set and script of a patient, whose name all files have to hold."""
        return self._scripts.setdefault(patient, SCRIPTS[len(self._scripts) % len(SCRIPTS)])

    def _person(self, patient: str, script: str) -> Person:
        if patient not in self._people:
            tokens = self.tokens
            self._people[patient] = Person(
                tokens.word(), tokens.word(), tokens.foreign_word(script),
                tokens.identifier(), tokens.day(),
            )  # fmt: skip
        return self._people[patient]

    def _replace_uids(self, ds: Dataset) -> None:
        for element in ds:
            if element.VR == "SQ":
                for item in element.value:
                    self._replace_uids(item)
            elif element.VR == "UI" and element.value:
                many = [element.value] if isinstance(element.value, str) else list(element.value)
                element.value = [self._uid(str(uid)) for uid in many]

    def _uid(self, uid: str) -> str:
        if not uid or uid.startswith(STANDARD_UIDS):
            return uid
        if uid not in self._uids:
            self._uids[uid] = self.tokens.uid()
        return self._uids[uid]

    def _fill(self, ds: Dataset, person: Person) -> list[Record]:
        self.tokens.next_file()
        records = [*self._prose(ds, person), *self._private(ds, "top", ())]
        taken = {record.tag for record in records if not record.path} | _TOP_OWN | _CARRIERS
        records += self._identity(ds, person)
        records += self._rows(ds, "top", (), taken)
        carriers: tuple[tuple[Place, int], ...] = (
            ("kept", KEPT_SEQUENCE),
            ("unlisted", UNLISTED_SEQUENCE),
        )
        for place, tag in carriers:
            items = list(ds[tag].value) if tag in ds else []
            item = Dataset()
            path = ((tag, len(items)),)
            records += self._private(item, place, path)
            records += self._rows(item, place, path, {*_CARRIERS, 0xFFFCFFFC})
            ds.add(DataElement(tag, "SQ", Sequence([*items, item])))
        return records

    def _identity(self, ds: Dataset, person: Person) -> list[Record]:
        rows = {row.tag: row for row in self.table}
        name = f"{person.family}^{person.given}"
        if person.native.isascii() or _is_single_byte(ds):
            name = f"{name}^{person.native}"
        else:
            name = f"{name}={person.native}"
        values = (
            (0x00100010, "PN", name, (person.family, person.given, person.native)),
            (0x00100020, "LO", person.number, (person.number,)),
            (0x00100030, "DA", f"{person.birth:%Y%m%d}", ()),
        )
        for tag, vr, text, _ in values:
            ds.add(DataElement(tag, vr, text))
        found = [
            Record("row", "top", (), tag, vr, text, words, (), rows.get(tag))
            for tag, vr, text, words in values
        ]
        for tag in (0x00080018, 0x0020000D, 0x0020000E, 0x00200052):
            if tag in ds and ds[tag].value:
                uid = str(ds[tag].value)
                found.append(Record("row", "top", (), tag, "UI", uid, (uid,), (), rows.get(tag)))
        return found

    def _rows(
        self, ds: Dataset, place: Place, path: tuple[Step, ...], without: set[int]
    ) -> list[Record]:
        """Plant every row but those of `without` into one data set."""
        records = []
        for row in self.table:
            if row.tag in without:
                continue
            if row.vr == "SQ":
                value, words = fill_sequence(self.tokens)
                ds.add(DataElement(row.tag, "SQ", value))
                records.append(Record("row", place, path, row.tag, "SQ", "", words, (), row))
            else:
                filled, text, words = fill(row, self.tokens)
                ds.add(DataElement(row.tag, row.vr, filled))
                records.append(Record("row", place, path, row.tag, row.vr, text, words, (), row))
        return records

    def _prose(self, ds: Dataset, person: Person) -> list[Record]:
        """Plant the texts, and a report item with one more."""
        rows = {row.tag: row for row in self.table}
        records = []
        for prose in write_prose(person, self.tokens):
            ds.add(DataElement(prose.tag, prose.vr, prose.text))
            records.append(_prose_record(prose, "top", (), rows.get(prose.tag)))
        report = write_report(person, self.tokens)
        item, words = person_item(self.tokens)
        item.ValueType, item.RelationshipType = "TEXT", "CONTAINS"
        item.add(DataElement(report.tag, report.vr, report.text))
        items = list(ds[CONTENT].value) if CONTENT in ds else []
        path = ((CONTENT, len(items)),)
        ds.add(DataElement(CONTENT, "SQ", Sequence([*items, item])))
        records.append(_prose_record(report, "top", path, rows.get(report.tag)))
        records.append(
            Record("row", "top", path, 0x0040A123, "PN", f"{words[0]}^{words[1]}", words[:2],
                   (), rows.get(0x0040A123))
        )  # fmt: skip
        return records

    def _private(self, ds: Dataset, place: Place, path: tuple[Step, ...]) -> list[Record]:
        """Plant private elements of every kind under one creator."""
        tokens = self.tokens
        word, name, number, uid = tokens.word(), tokens.word(), tokens.identifier(), tokens.uid()
        item, words = person_item(tokens)
        item.add(DataElement(0x00090010, "LO", _PRIVATE_CREATOR))
        inner = tokens.word()
        item.add(DataElement(0x00091001, "LO", inner))
        planted: tuple[tuple[int, str, object, tuple[str, ...]], ...] = (
            (0x00091001, "LO", word, (word,)),
            (0x00091002, "PN", f"{name}^X", (name,)),
            (0x00091003, "UI", uid, (uid,)),
            (0x00091004, "SQ", Sequence([item]), (*words, inner)),
            (0x00091005, "OB", number.encode(), (number,)),
            (0x00091006, "UN", word.encode() + b" " * (len(word) % 2), ()),
        )
        ds.add(DataElement(0x00090010, "LO", _PRIVATE_CREATOR))
        for tag, vr, value, _ in planted:
            ds.add(DataElement(tag, vr, value))
        return [Record("private", place, path, tag, vr, "", w) for tag, vr, _, w in planted]


def _check_readable(path: Path, records: Many[Record]) -> None:
    """Raise if a word is not in the file: what was never there, nobody can leak."""
    seen = read(path)
    lost = sum(not seen.find(word) for record in records for word in record.words)
    if lost:
        raise Unplanted(f"{lost} words")


def _prose_record(prose: Prose, place: Place, path: tuple[Step, ...], row: Row | None) -> Record:
    return Record(
        "prose", place, path, prose.tag, prose.vr, prose.text, prose.words, prose.keep, row
    )


def _is_single_byte(ds: Dataset) -> bool:
    charset = ds.SpecificCharacterSet
    return isinstance(charset, str) and charset in ("", "ISO_IR 100", "ISO_IR 144")


def _set_charset(item: Dataset, charset: object) -> None:
    if "SpecificCharacterSet" in item:
        item.SpecificCharacterSet = charset
