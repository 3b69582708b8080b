"""Seeds, patterns and character sets."""

from __future__ import annotations

from datetime import date

import pytest

from pleura.anonymizer.text import Seeds, decode_text, has_pattern


def seeds() -> Seeds:
    made = Seeds(terms=frozenset({"CT", "CHEST"}))
    made.add_name("Müller-Lüdenscheidt^Xu^CT 44321")
    made.add_identifier("MRN 77")
    made.add_identifier("a7")
    made.add_identifier("998877")
    made.add_identifier("12")
    made.add_identifier("CHEST")
    made.add_identifier("")
    made.add_date(date(2020, 1, 31))
    made.uids.add("1.2.3.4.5.6")
    return made


@pytest.mark.parametrize(
    "text",
    [
        "MULLER", "of xu", "lüdenscheidtsche", "no 44321", "(mrn 77)", "plate A7", "x998877x",
        "31.01.2020", "31 Jan 2020", "on 20200131", "see 1.2.3.4.5.6.7", "ＭＵＬＬＥＲ",
    ],
)  # fmt: skip
def test_a_seed_is_found(text: str) -> None:
    assert seeds().found_in(text)


@pytest.mark.parametrize(
    "text", ["", "CT CHEST", "exuberant", "a77", "12", "9988770", "B30f", "2020"]
)
def test_other_words_stay(text: str) -> None:
    assert not seeds().found_in(text)


def test_only_long_numbers_are_taken_for_identifiers_in_numeric_values() -> None:
    made = seeds()
    made.numbers.add("1024")
    assert made.equals_number(" 998877 ")
    assert not made.equals_number("1024")
    assert not made.equals_number("998877.5")


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Who", "Name: x", "MRN 4", "a.b@c.org", "http://x", "www.x", "1234567", "01/31/20",
        "10.0.0.1", "31 Jan", "10:15", "123-45-6789", "+49 30 12", "030 123 4567",
    ],
)  # fmt: skip
def test_a_pattern_is_found(text: str) -> None:
    assert has_pattern(text)


@pytest.mark.parametrize(
    "text", ["GE MEDICAL SYSTEMS", "SOMATOM Definition AS", "B30f", "STANDARD", "Ray 64", "v4.2"]
)
def test_technical_text_has_no_pattern(text: str) -> None:
    assert not has_pattern(text)


@pytest.mark.parametrize(
    ("raw", "sets", "text"),
    [
        (b"plain", (), "plain"),
        ("Zoë".encode("latin-1"), ("ISO_IR 100",), "Zoë"),
        ("Zoë".encode(), ("ISO_IR 192",), "Zoë"),
        ("王".encode("gb18030"), ("GB18030",), "王"),
        ("Жук".encode("iso8859-5"), ("ISO_IR 144",), "Жук"),
        (b"\x1b$B;3ED\x1b(B", ("", "ISO 2022 IR 87"), "山田"),
        (b"Zo\xeb", ("ISO_IR 192",), None),
        (b"Zo\xeb", ("ISO_IR 999",), None),
        (b"Zo\xeb", (), None),
    ],
)
def test_text_is_decoded_or_refused(raw: bytes, sets: tuple[str, ...], text: str | None) -> None:
    assert decode_text(raw, sets, "LO") == text
