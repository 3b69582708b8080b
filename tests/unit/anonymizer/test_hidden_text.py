"""Text that another character set than the file's reads: it goes, or is read as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from pleura.anonymizer import verify
from pleura.anonymizer.leaves import Leaf, is_unreadable
from pleura.anonymizer.residues import Expectation, collect, hidden_in, tokens_left
from pleura.anonymizer.text import Seeds, decode_text, encode_text, fold
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, run
from tests.builders.identified import ct_dataset, write

LATIN = ("ISO_IR 100",)
JAPANESE = ("", "ISO 2022 IR 87")
SECRET = "Dr. Meiernagel 5550199 11.12.50"
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16")
FIELDS = (0x00204000, 0x00081030, 0x00181030, 0x00082111, 0x00281055, 0x00181210, 0x00181000)


def written(
    folder: Path, tag: int, raw: bytes, *, ds: Dataset | None = None, sets: str = "ISO_IR 100"
) -> Path:
    """Write a file whose text element `tag` has these very bytes."""
    ds = ds if ds is not None else ct_dataset()
    ds.SpecificCharacterSet = sets.split("\\") if "\\" in sets else sets
    held = raw + b" " * (len(raw) % 2)
    marker = b"~" * len(held)
    ds.add_new(tag, "LT" if tag == 0x00204000 else "LO", marker.decode())
    path = write(folder / "a.dcm", ds)
    data = path.read_bytes()
    assert data.count(marker) == 1
    path.write_bytes(data.replace(marker, held))
    return path


def left(folder: Path, path: Path, profile: object) -> bytes:
    return run(path, folder / "out", profile=profile, allow=True).path.read_bytes()  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
@pytest.mark.parametrize("tag", FIELDS)
def test_wide_text_goes_from_every_field(tmp_path: Path, tag: int, profile: object) -> None:
    raw = SECRET.encode("utf-16-le")
    data = left(tmp_path, written(tmp_path, tag, raw), profile)
    assert "Meiernagel".encode("utf-16-le") not in data
    assert "5550199".encode("utf-16-le") not in data


@pytest.mark.parametrize("codec", WIDE)
@pytest.mark.parametrize(
    "text", [SECRET, "Иван Петров", "Γιώργος", "ישראל כהן", "محمد علي", "김철수 환자", "र राम कुमार"]
)
def test_wide_text_of_every_script_is_unreadable(codec: str, text: str) -> None:
    assert decode_text(text.encode(codec), LATIN, "LT") is None


@pytest.mark.parametrize(
    "raw", [b"Test\x07mann", b"A\0B", b"\0A", b"x\x1by", b"Caf\xe9\x08", b"a\x7f"]
)
def test_control_characters_are_no_text(raw: bytes) -> None:
    assert decode_text(raw, LATIN, "LO") is None


@pytest.mark.parametrize("raw", [b"one\r\ntwo\tthree\x0c", b"padded\0\0", b"A\0\\B\0", b"", b"\0"])
def test_lines_tabs_and_padding_are_text(raw: bytes) -> None:
    assert decode_text(raw, LATIN, "LT") == raw.decode()
    assert not is_unreadable(raw)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("Mülleröck".encode(), "Mülleröck"),
        ("Mülleröck".encode("latin-1"), "Mülleröck"),
        ("Lunge – die rechte".encode("cp1252"), "Lunge – die rechte"),
        ("patient’s chest".encode("cp1252"), "patient’s chest"),
    ],
)
def test_utf_8_and_windows_letters_in_a_latin_file_are_read_as_such(raw: bytes, text: str) -> None:
    assert decode_text(raw, LATIN, "LT") == text
    again = encode_text(text, LATIN, "LT")
    assert again is not None
    assert decode_text(again, LATIN, "LT") == text


def test_what_one_reading_hides_another_finds(tmp_path: Path) -> None:
    ds = ct_dataset(PatientName="Mülleröck^Jan")
    path = written(tmp_path, 0x00281055, "Kernel Mülleröck".encode(), ds=ds)
    assert b"ller" not in left(tmp_path, path, RESEARCH)


@pytest.mark.parametrize("sets", ["ISO_IR 100", "ISO_IR 192"])
@pytest.mark.parametrize("raw", [b"Quibble\x07worth", b"Quibble\x1bworth", b"Q\0uibbleworth"])
def test_a_control_character_hides_no_name(tmp_path: Path, raw: bytes, sets: str) -> None:
    path = written(tmp_path, 0x00281055, raw, sets=sets)
    assert b"worth" not in left(tmp_path, path, RESEARCH)


@pytest.mark.parametrize(
    ("raw", "sets"),
    [
        (b"W\x1b$BQuibbleworth1\x1b(B", "\\ISO 2022 IR 87"),
        (b"W\x1b$BWQuibbleworth\x1b(B", "\\ISO 2022 IR 87"),
        (b"W\x1b$(DQuibbleworth1\x1b(B", "\\ISO 2022 IR 159"),
        (b"W\x1b$)CQuibbleworth", "\\ISO 2022 IR 149"),
        (b"\x81Quibbleworth", "GB18030"),
        (b"\x81Quibbleworth", "ISO_IR 13"),
    ],
)
def test_bytes_of_another_set_hide_no_name(tmp_path: Path, raw: bytes, sets: str) -> None:
    path = written(tmp_path, 0x00281055, raw, sets=sets)
    assert b"uibbleworth" not in left(tmp_path, path, RESEARCH).replace(b"Q", b"")


def test_bytes_of_another_set_hide_no_number(tmp_path: Path) -> None:
    raw = b"Wer\x1b$B55002917\x1b(B"
    path = written(
        tmp_path, 0x00281055, raw, ds=ct_dataset(PatientID="55002917"), sets="\\ISO 2022 IR 87"
    )
    assert b"55002917" not in left(tmp_path, path, RESEARCH)


def test_utf_8_read_in_two_byte_letters_hides_no_name() -> None:
    seeds = Seeds()
    seeds.add_name("Mülleröck")
    text = decode_text("Mülleröck".encode(), ("GB18030",), "LO")
    assert text is None or seeds.found_in(text)


@pytest.mark.parametrize("text", ["胸部CT検査", "肺炎 右 turner", "폐렴 흉부", "ปอด"])
def test_lawful_text_of_many_letters_stays(text: str) -> None:
    seeds = Seeds()
    seeds.add_name("Quibbleworth^Li Ann")
    seeds.add_identifier("4711")
    assert not seeds.found_in(text)


@pytest.mark.parametrize("name", ["Quibble\x07worth", "Q\0u\0i\0b\0b\0l\0e\0w\0o\0r\0t\0h\0"])
def test_a_name_of_the_header_is_read_without_its_control_characters(name: str) -> None:
    assert fold(name) == "quibbleworth"


EXPECTED = Expectation(
    pseudonym="PAAAAAAAAAAAAAAAA",
    shift_days=None,
    retained=frozenset(),
    identifying=frozenset({0x00100020}),
    defined_terms=frozenset(),
    authored=frozenset(),
)


@pytest.mark.parametrize(
    ("raw", "sets"),
    [
        ("by Mülleröck".encode(), LATIN),
        ("by Mülleröck".encode("utf-16-le"), LATIN),
        ("by Mülleröck".encode("utf-32-be"), LATIN),
        ("by Mülleröck".encode(), ("GB18030",)),
    ],
)
def test_the_scan_reads_every_reading(raw: bytes, sets: tuple[str, ...]) -> None:
    residues = collect([Leaf(0x00100010, "PN", "Mülleröck".encode("latin-1"), LATIN, 0)], EXPECTED)
    assert "mullerock" in tokens_left([Leaf(0x00204000, "LT", raw, sets, 0)], residues, EXPECTED)


@pytest.mark.filterwarnings("ignore:Failed to decode:UserWarning")
@pytest.mark.parametrize("raw", [b"a\x1b$BQuibbleworth1\x1b(B", b"a\x1b$BWQuibbleworth\x1b(B"])
def test_the_scan_sees_letters_behind_an_escape(raw: bytes) -> None:
    residues = collect([Leaf(0x00100010, "PN", b"Quibbleworth", LATIN, 0)], EXPECTED)
    assert tokens_left([Leaf(0x00204000, "LT", raw, JAPANESE, 0)], residues, EXPECTED)


@pytest.mark.filterwarnings("ignore:Failed to decode:UserWarning")
@pytest.mark.parametrize(
    ("raw", "sets"),
    [
        ("山田太郎".encode("iso2022_jp"), JAPANESE),
        ("Rückenlage métastatiques".encode("latin-1"), LATIN),
        ("Rückenlage".encode(), LATIN),
        ("Rückenlage".encode(), ("ISO_IR 192",)),
        ("肺 Rückenlage".encode(), ("ISO_IR 192",)),
    ],
)
def test_lawful_text_has_one_reading_for_the_scan(raw: bytes, sets: tuple[str, ...]) -> None:
    leaf = Leaf(0x00204000, "LT", raw, sets, 0)
    assert leaf.visible() == (leaf.text(),)
    residues = collect([Leaf(0x00100010, "PN", b"Lage^Stati^3ed", LATIN, 0)], EXPECTED)
    assert not hidden_in(leaf.hidden(), residues)


@pytest.mark.filterwarnings("ignore:Failed to decode:UserWarning")
@pytest.mark.parametrize(
    ("raw", "sets", "problem"),
    [
        (SECRET.encode("utf-16-le"), LATIN, "text"),
        (b"chest\x07", LATIN, "text"),
        (b"chest\0left", LATIN, "text"),
        (b"W\x1b$BQuibbleworth1\x1b(B", JAPANESE, "text"),
        (b"see Quibbleworth", LATIN, "text"),
        (b"chest left\0\0", LATIN, None),
        (b"one\r\ntwo", LATIN, None),
        ("山田太郎".encode("iso2022_jp"), JAPANESE, None),
        ("Lungenübersicht".encode(), LATIN, None),
    ],
)
def test_a_finished_file_holds_no_text_that_cannot_be_read(
    raw: bytes, sets: tuple[str, ...], problem: str | None
) -> None:
    residues = collect([Leaf(0x00100010, "PN", b"Quibbleworth", LATIN, 0)], EXPECTED)
    leaf = Leaf(0x00204000, "LT", raw, sets, 0)
    found = verify._problem(leaf, residues, EXPECTED, verify._Suspects([leaf], residues, EXPECTED))
    assert (found or "").endswith(problem or "")
    assert bool(found) == bool(problem)
