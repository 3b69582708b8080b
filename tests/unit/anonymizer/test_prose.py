"""Prose: names go, the other words stay; the names here are invented."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds, encode_text
from pleura.anonymizer.vocabulary import load_names, load_vocabulary

TERMS = load_rules().defined_terms


def seeds() -> Seeds:
    made = Seeds(terms=TERMS)
    made.add_name("Quibbleworth^Ludmilla=王^小东=")
    made.add_name("Жуковин^Тарас")
    made.add_name("Zopf-Tirrel^Xu")
    made.add_name("金")
    made.add_identifier("QX7733991")
    made.add_identifier("Zweistein Clinic")
    made.uids.add("1.2.826.0.1.999.77")
    return made


CORPUS = [
    ("CT chest without contrast for {}", "Quibbleworth, Ludmilla"),
    ("Seen by {} for cough and fever", "L. Quibbleworth"),
    ("{} prior pneumonia right lower lobe", "QUIBBLEWORTH^LUDMILLA"),
    ("Small pleural effusion, see {} film", "QuibbleworthLudmilla"),
    ("Dr. {} requested a repeat study", "Vandrel Oskin"),
    ("Referring physician: {}, chest pain", "Oskin Brandubar"),
    ("Signed by {}; no acute findings", "Prof. Brandubar"),
    ("Prof. {} reviewed the images", "Oskin"),
    ("Herr {} Lunge unverändert ohne Erguss", "Vandrel"),
    ("Mme {} poumon droit normal", "Vandrel"),
    ("Call {} about the left nodule", "+49 30 1234567"),
    ("mail {} with the result", "o.brandubar@example.org"),
    ("see {} for the study", "https://example.org/a?b=1"),
    ("follow up of the mass on {} stable", "31.01.2020"),
    ("nodule unchanged since {} in the left lung", "Jan 31, 2020"),
    ("scan at {} with contrast", "10:15"),
    ("SSN {} chest portable", "123-45-6789"),
    ("copy of {} image", "1.2.826.0.1.999.77.5"),
    ("host {} sent the series", "10.0.0.12"),
    ("MRN: {} routine chest 512x512 B70f 5mm", "QX7733991"),
    ("{} year old male with dyspnea", "97"),
    ("thorax of {} and heart normal", "Zopf"),
    ("thorax of {} and heart normal", "Tirrel Xu"),
    ("compared with {} normal lungs", "Жуковин Тарас"),
    ("report of {} normal lungs", "王小东"),
    ("report of {} normal lungs", "金"),
]


@pytest.mark.parametrize("strict", [False, True])
def test_every_name_goes_and_nine_words_of_ten_stay(strict: bool) -> None:
    wanted = kept = 0
    for frame, secret in CORPUS:
        left = clean_prose(frame.format(secret), seeds(), strict=strict, terms=TERMS).text
        words = re.findall(r"[^\W_]+", left)
        assert not set(re.findall(r"[^\W_]{2,}", secret)) & set(words), left
        harmless = re.findall(r"[^\W_]+", frame.replace("{}", " "))
        wanted += len(harmless)
        kept += sum(word in words for word in harmless)
    assert kept / wanted >= 0.9, f"{kept} of {wanted}"


@pytest.mark.parametrize(
    "text", ["Thorax 1.0 B70f", "FC51", "STANDARD", "Chest PA erect", "Recon 2: lung 5mm 120 kV"]
)
def test_harmless_text_is_untouched(text: str) -> None:
    cleaned = clean_prose(text, seeds(), strict=True, terms=TERMS)
    assert (cleaned.text, cleaned.removed_words) == (text, 0)


def test_strict_mode_alone_drops_words_nobody_knows() -> None:
    text = "lung Wimbrack"
    assert clean_prose(text, seeds(), strict=False, terms=TERMS).text == text
    assert clean_prose(text, seeds(), strict=True, terms=TERMS).text == "lung"


def test_the_vocabulary_holds_terms_and_no_common_names() -> None:
    assert {"lung", "pneumothorax", "lunge", "siemens"} <= load_vocabulary()
    assert not {"smith", "schmidt", "garcia", "wang", "maria"} & load_vocabulary()


def build_vocab() -> ModuleType:
    path = Path(__file__).parents[3] / "tools" / "build_vocab.py"
    spec = importlib.util.spec_from_file_location("build_vocab", path)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("Zoë", ("ISO_IR 100",)), ("Жук", ("ISO_IR 144",)), ("Ωmega", ("ISO_IR 126",)),
        ("سلام", ("ISO_IR 127",)), ("שלום", ("ISO_IR 138",)), ("ปอด", ("ISO_IR 166",)),
        ("山 CT\\田", ("", "ISO 2022 IR 87")), ("흉부 CT", ("", "ISO 2022 IR 149")),
        ("王 CT", ("GB18030",)), ("王 CT", ("GBK",)), ("王 CT", ("ISO_IR 192",)),
    ],
)  # fmt: skip
def test_text_goes_back_into_its_character_set(text: str, sets: tuple[str, ...]) -> None:
    from pleura.anonymizer.text import decode_text

    raw = encode_text(text, sets, "LO")
    assert raw is not None
    assert decode_text(raw, sets, "LO") == text


def test_text_its_character_set_cannot_hold_is_refused() -> None:
    assert encode_text("王", ("ISO_IR 100",), "LO") is None
    assert encode_text("王", ("nonsense",), "LO") is None


@pytest.mark.parametrize("word", ["lobectomies", "oedema", "rescaling", "bibasal", "venenkatheter"])
def test_strict_mode_knows_words_made_by_rule(word: str) -> None:
    assert clean_prose(word, Seeds(), strict=True, terms=TERMS).text == word


@pytest.mark.parametrize("name", ["Parks", "Harding", "Fisher", "Walker", "Wimbracks", "Oswining"])
def test_a_name_that_looks_like_an_inflected_word_goes(name: str) -> None:
    assert clean_prose(f"lung {name}", Seeds(), strict=True, terms=TERMS).text == "lung"


def test_the_word_lists_hold_what_the_tool_collects_and_no_name_is_a_word() -> None:
    tool = build_vocab()
    listed = Path(tool.__file__).with_name("vocab_names.txt").read_text("utf-8").split()
    assert set(tool.collect()) <= load_vocabulary()
    assert set(listed) <= load_names()
    assert not load_names() & load_vocabulary()


def test_a_word_that_is_also_a_proper_name_is_no_vocabulary(tmp_path: Path) -> None:
    listed = tmp_path / "words"
    listed.write_text("Baker\nbaker\nbakery\nbaker's\nNASA\nKraków\n", encoding="utf-8")
    assert build_vocab().common_words(listed) == ({"bakery"}, {"baker", "krakow"})


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("seen at 12 Elm Street, D-10115 Berlin, with a cough", "seen at with a cough"),
        ("Lindenallee 12a, 50667 Köln; Thorax normal", "Thorax normal"),
        ("Hauptstraße 5 Thorax", "Thorax"),
        ("5 bis rue de la Paix, 75002 Paris", ""),
        ("calle de Alcala 45, Madrid; torax normal", "torax normal"),
        ("Kerkstraat 7, Amsterdam. Thorax", "Thorax"),
        ("Elm Road 12 chest pain", "chest pain"),
        ("4 Kings Court, London SW1A 1AA. Lungs clear", "Lungs clear"),
        ("Boston, MA 02115 chest portable", "chest portable"),
        ("lives in Springfield. chest", "lives in chest"),
        ("NI AB 12 34 56 C chest", "chest"),
        ("chest 943 476 5919 portable", "chest portable"),
        ("chest 1 85 05 78 006 084 36 portable", "chest portable"),
        ("chest 010190-1234 portable", "chest portable"),
    ],
)
def test_addresses_and_numbers_of_people_go(text: str, left: str) -> None:
    assert clean_prose(text, Seeds(terms=TERMS), strict=True, terms=TERMS).text == left


@pytest.mark.parametrize(
    "text",
    [
        "5 mm nodule in place, 2 cm left of midline. Tube 3 cm above carina",
        "120 kV 80 mA 512x512 matrix B70f 1.25 mm",
        "T2 3D axial L4 5 mm, airway 2 view",
        "right lower lobe 3 day follow up, respiratory drive low",
    ],
)
def test_sizes_and_counts_are_no_addresses(text: str) -> None:
    assert clean_prose(text, Seeds(terms=TERMS), strict=True, terms=TERMS).text == text


@pytest.mark.parametrize("spelled", ["Q U I B B L E W O R T H", "q.u.i.b.b.l.e.w.o.r.t.h"])
def test_a_spaced_out_name_goes(spelled: str) -> None:
    assert clean_prose(f"CHEST {spelled} PA", seeds(), strict=False, terms=TERMS).text == "CHEST PA"


@pytest.mark.parametrize("unit", ["a", "strasse", "9a", "é", "山"])
def test_an_endless_word_goes_without_matching_for_hours(unit: str) -> None:
    cleaned = clean_prose(f"chest {unit * 300_000} PA", seeds(), strict=True, terms=TERMS)
    assert (cleaned.text, cleaned.removed_words) == ("chest PA", 1)
