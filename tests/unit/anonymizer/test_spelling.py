"""One name or number of the header, written otherwise in a text, is found; others are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleura.anonymizer.header import read_header
from pleura.anonymizer.leaves import Leaf
from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.pseudonyms import clean_patient_id
from pleura.anonymizer.residues import Expectation, collect, tokens_left
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.seeding import collect_seeds
from pleura.anonymizer.source import BytesSource
from pleura.anonymizer.spelling import name_forms, number_forms, unsplit_parts
from pleura.anonymizer.text import Seeds, fold, words
from pleura.anonymizer.wire import parse_file
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, cleaned, run
from tests.builders.identified import ct_dataset, write

UTF_8 = ("ISO_IR 192",)
EXPECTED = Expectation(
    pseudonym="PAAAAAAAAAAAAAAAA",
    shift_days=None,
    retained=frozenset(),
    identifying=frozenset({0x00100020}),
    defined_terms=frozenset(),
    authored=frozenset(),
)

# Header, and what stands in the text.
NAMES = [
    ("OʼBrien^Pat", "O'Brien"),
    ("OʻBrien^Pat", "OBrien"),
    ("O'Brien^Pat", "O´Brien"),
    ("O'Brien^Pat", "O`Brien"),
    ("O'Brien^Pat", "OʼBrien"),
    ("OBrien^Pat", "O'Brien"),
    ("OBrien^Pat", "O’Brien"),
    ("OBrien^Pat", "O`Brien"),
    ("Raʾīsī^ʿAlī", "Ra'isi"),
    ("Raʾīsī^ʿAlī", "Raisi"),
    ("Testmann^Jo", "Test\u3164mann"),
    ("Testmann^Jo", "T\u20dde\u20ddstmann"),
    ("D’Angelo^Pat", "DʹAngelo"),
    ("Соловʼйов^Олег", "Солов'йов"),
    ("Солов'йов^Олег", "Соловйов"),
    ("محمدی^علی", "محمدي"),
    ("کریمی^رضا", "كريمي"),
    ("فاطمة^زهرا", "فاطمه"),
    ("أحمد^علي", "احمد"),
    ("王小东", "小东"),
    ("欧阳娜娜", "娜娜"),
    ("山田太郎", "太郎"),
    ("김철수", "철수"),
    ("ヤマダ^タロウ", "やまだ"),
    ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ"),
    ("やまだ^たろう", "ﾔﾏﾀﾞ"),
    ("Ｙａｍａｄａ^Ｔａｒｏ", "Yamada"),
    ("Kowalska^Ewa", "Kowalskiej"),
    ("Kowalska^Ewa", "Kowalską"),
    ("Nováková^Eva", "Novákovou"),
    ("Novotný^Jan", "Novotného"),
    ("Ковалева^Анна", "Ковалевой"),
    ("Достоевский^Фёдор", "Достоевского"),
    ("Shevchenko^Olena", "Shevchenka"),
    ("Kazlauskas^Jonas", "Kazlausko"),
    ("Bērziņš^Jānis", "Bērziņam"),
    ("Kaczmarek^Jan", "Kaczmarka"),
    ("Παπαδόπουλος^Νίκος", "Παπαδοπούλου"),
    ("Papadopoulos^Nikos", "Papadopoulou"),
    ("張^偉民", "张伟民"),
    ("张伟民", "偉民"),
    ("渡邊^学", "渡辺"),
    ("Əliyev^Rəşad", "Eliyev"),
]


def seeds_for(tmp_path: Path, name: str) -> Seeds:
    path = write(tmp_path / "a.dcm", ct_dataset(SpecificCharacterSet=UTF_8[0], PatientName=name))
    parsed = parse_file(BytesSource(path.read_bytes()))
    return collect_seeds(parsed.elements, load_rules(), HIPAA, parsed.meta)


def residues_in(text: str, *, name: str = "Nemo", patient_id: str = "") -> frozenset[str]:
    source = [
        Leaf(0x00100010, "PN", name.encode(), UTF_8, 0),
        Leaf(0x00100020, "LO", patient_id.encode(), UTF_8, 0),
    ]
    text_leaf = Leaf(0x00204000, "LT", text.encode(), UTF_8, 0)
    return tokens_left([text_leaf], collect(source, EXPECTED), EXPECTED)


@pytest.mark.parametrize(("name", "spelled"), NAMES)
def test_the_engine_and_the_scan_find_a_name_in_another_form(
    tmp_path: Path, name: str, spelled: str
) -> None:
    seeds = seeds_for(tmp_path, name)
    text = f"Chest {spelled} left"
    left = clean_prose(text, seeds, strict=False, terms=frozenset()).text
    assert [word for word in words(left) if len(word) > 1] in (["chest", "left"], [])
    assert seeds.found_in(text)
    assert residues_in(text, name=name)


def test_a_schwa_is_written_as_an_a_too(tmp_path: Path) -> None:
    assert seeds_for(tmp_path, "Əliyev^Rəşad").found_in("Aliyev Rashad")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Rivera^Ana", "river"),  # an ordinary word is no stem
        ("Salinas^Ana", "saline"),
        ("Buckley^Ana", "buckling"),
        ("Costa^Ana", "coste"),  # four letters are none either
        ("Mario^Luigi", "mari"),
        ("Kowalski^Jan", "kowal"),
        ("Odell^Ann", "dell"),
        ("王小东", "东部"),
        ("山田^太郎", "山"),
        ("김^철수", "수"),
    ],
)
def test_what_is_no_form_of_a_name_stays(name: str, text: str) -> None:
    seeds = Seeds()
    seeds.add_name(name)
    assert not seeds.found_in(text)


def test_a_name_whose_parts_are_told_is_not_split() -> None:
    assert not [*unsplit_parts("山田^太郎"), *unsplit_parts("Wang Xiaodong"), *unsplit_parts("山")]
    assert [*unsplit_parts("Wang=王小东")] == ["王", "小东"]


def test_a_chinese_institution_is_not_split(tmp_path: Path) -> None:
    ds = ct_dataset(SpecificCharacterSet=UTF_8[0], InstitutionName="东方医院")
    path = write(tmp_path / "a.dcm", ds)
    parsed = parse_file(BytesSource(path.read_bytes()))
    assert not collect_seeds(parsed.elements, load_rules(), HIPAA).found_in("医院")


def test_forms_are_few() -> None:
    assert all(len(name_forms(fold(name))) <= 2 for name in ("Odnokova", "Kowalska", "Nowak"))


NUMBERS = [
    ("0004711", "4711"),
    ("4711", "0004711"),
    ("4711", "0000000000004711"),
    ("4711", "٤٧١١"),
    ("4711", "４７１１"),
    ("4711", "४७११"),
    ("٤٧١١", "4711"),
    ("417", "417"),
    ("0417", "417"),
    ("417", "0417"),
]


@pytest.mark.parametrize(("number", "spelled"), NUMBERS)
def test_a_number_goes_with_other_zeros_and_digits(number: str, spelled: str) -> None:
    seeds = Seeds()
    seeds.add_identifier(number)
    left = clean_prose(f"case {spelled} done", seeds, strict=False, terms=frozenset()).text
    assert left in ("case done", "")
    assert residues_in(f"case {spelled} done", patient_id=number)


@pytest.mark.parametrize("number", ["7", "42", "120", "512", "192", "007", "0120", "000"])
def test_a_short_or_technical_number_is_not_searched_for(number: str) -> None:
    seeds = Seeds()
    seeds.add_identifier(number)
    text = f"kV {number.lstrip('0') or '0'}"
    assert not seeds.found_in(text)
    assert not residues_in(text, patient_id=number)


@pytest.mark.parametrize("number", ["417", "0007", "4711"])
def test_a_longer_number_is_another(number: str) -> None:
    assert not residues_in(f"{number}3 1{number}", patient_id=number)
    assert number in number_forms(number)


@pytest.mark.parametrize("profile", [HIPAA, GDPR, RESEARCH], ids=lambda p: p.name)
def test_a_patients_number_of_three_figures_costs_no_numbers(
    tmp_path: Path, profile: object
) -> None:
    ds = ct_dataset(PatientID="417", KVP="417", SeriesNumber="417", ConvolutionKernel="B 417")
    out = cleaned(tmp_path, ds, profile=profile)  # type: ignore[arg-type]
    assert (out.get("KVP"), out.get("SeriesNumber")) == (417, 417)
    assert "417" not in str(out.ConvolutionKernel)


IDS = [
    ("Jürgen1234", "Ju\u0308rgen1234"),
    ("A1", "A1\\"),
    ("A1", "\\A1\\ "),
    ("A1", "\ufeffA1"),
    ("A1", "A\u200b1 "),
    ("A1", "A1\0"),
    ("A1\\B2", "A1\\\\B2"),
]


@pytest.mark.parametrize(("one", "other"), IDS)
def test_one_patient_has_one_id(one: str, other: str) -> None:
    assert clean_patient_id(one) == clean_patient_id(other)


@pytest.mark.parametrize("value", ["A1", "12345678", "山田^太郎", "a1", "A-1_b/3", "A1\\B2", ""])
def test_a_plain_id_is_what_it_was(value: str) -> None:
    assert clean_patient_id(value) == value


@pytest.mark.parametrize(
    ("raw", "sets"),
    [
        ("Jürgen1".encode("latin-1"), "ISO_IR 100"),
        ("Jürgen1".encode(), "ISO_IR 100"),
        ("Jürgen1".encode(), "ISO_IR 192"),
        ("Ju\u0308rgen1".encode(), "ISO_IR 192"),
        ("Jürgen1".encode(), ""),
    ],
)
def test_one_id_has_one_pseudonym_in_every_character_set(
    tmp_path: Path, raw: bytes, sets: str
) -> None:
    held = raw + b" " * (len(raw) % 2)
    path = write(
        tmp_path / "a.dcm", ct_dataset(PatientID="~" * len(held), SpecificCharacterSet=sets)
    )
    path.write_bytes(path.read_bytes().replace(b"~" * len(held), held))
    assert read_header(parse_file(BytesSource(path.read_bytes()))).patient_id == "Jürgen1"
    assert run(path, tmp_path / "out").patient
