"""Text that poses as binary numbers, and numbers whose bytes happen to be letters."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pleura.anonymizer.characters import are_words, foreign_names, hold_seed
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.text import Seeds
from tests.builders.deidentified import GDPR, HIPAA, RESEARCH, run
from tests.builders.identified import ct_dataset, write

COMMENT = b"Meiernagel 0171555".ljust(24)
VRS = ("US", "SS", "UL", "SL", "AT", "FL", "FD")


def seeds(name: str, identifier: str = "55002917") -> Seeds:
    found = Seeds()
    found.add_name(name)
    found.add_identifier(identifier)
    return found


def holds(raw: bytes, name: str = "Tran^Jo", identifier: str = "55002917") -> bool:
    found = seeds(name, identifier)
    return hold_seed(raw, found, foreign_names(found))


@pytest.mark.parametrize("vr", VRS)
@pytest.mark.parametrize(
    "raw",
    [COMMENT, b"\1\0\2\0" + COMMENT[:20], b"MEIERNAGEL  \0\0\0\0", b"MEIERNAG", b"seen by Meier   ",
     "Weißmüller Jürgen  ".encode()[:16], "Meiernagel".encode("utf-16-le") + bytes(4),
     "Meiernagel".encode("utf-16-be") + bytes(4), "Meiernagel".encode("utf-32-le")],
    ids=repr,
)  # fmt: skip
def test_words_in_binary_numbers_are_seen_whoever_wrote_them(raw: bytes, vr: str) -> None:
    assert are_words(raw, vr)


@pytest.mark.parametrize(
    ("raw", "vr"),
    [
        (struct.pack("<4d", 0.7, 0.3, 1 / 3, 1.4), "FD"),  # ffffff, 333333, UUUUUU
        (np.arange(0, 65536, 257, dtype="<u2").tobytes(), "US"),
        (np.arange(0, 65535, 16, dtype="<u2").tobytes(), "US"),
        (np.arange(24929, 31354, dtype="<u2").tobytes(), "US"),
        (np.arange(31354, 24929, -1, dtype="<u2").tobytes(), "SS"),
        (np.arange(65, 123, dtype="<u4").tobytes(), "UL"),
        (np.arange(97, 123, dtype="<u2").tobytes(), "US"),
        (struct.pack("<4H", 512, 512, 0, 16), "US"),
        (b"\x28\x00\x10\x00", "AT"),
        (b"", "US"),
    ],
)
def test_numbers_whose_bytes_are_letters_are_numbers(raw: bytes, vr: str) -> None:
    assert not are_words(raw, vr)
    assert not holds(raw)


def test_measured_numbers_are_hardly_ever_taken_for_words() -> None:
    draw = np.random.default_rng(3)
    doubles = draw.normal(0, 300, (60_000, 1))
    singles = draw.normal(0, 300, (30_000, 3)).astype("<f4")
    curves = np.sort(draw.integers(0, 65536, (60, 1024)), axis=1).astype("<u2")
    assert not [n for n in doubles if are_words(n.tobytes(), "FD")]
    assert not [n for n in singles if are_words(n.tobytes(), "FL")]
    assert not [n for n in curves if are_words(n.tobytes(), "US")]


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"Tran^Jo ", "Tran^Jo"),
        (b"\1\0\0\0 TRAN \0\7\1", "Tran^Jo"),
        (b"Kim\0", "Kim^Li"),
        (b"55002917", "Tran"),
        ("Müller ".encode(), "Müller^Jo"),
        ("Müller  ".encode("latin-1"), "Müller^Jo"),
        ("Tran".encode("utf-16-le"), "Tran^Jo"),
        ("Tran".encode("utf-16-be"), "Tran^Jo"),
        ("Иванов".encode("cp1251"), "Иванов^Олег"),
        ("ИВАНОВ".encode("koi8-r"), "Иванов^Олег"),
        ("Андрей".encode("iso8859-5"), "Андрей^Олег"),
        ("Иванов".encode("utf-16-le"), "Иванов^Олег"),
        (b"\1\0" + "Иванов".encode() + b"\7\7", "Иванов^Олег"),
        ("Νικολάου".encode("iso8859-7"), "Νικολάου^Α"),
        ("山田太郎".encode("shift_jis"), "Yamada^Tarou=山田^太郎="),
        ("김희중".encode("euc_kr"), "Kim^Heejoong=김^희중"),
        ("李小龙".encode("gb18030"), "Li^Xiaolong=李^小龙"),
    ],
)
def test_what_the_header_names_is_found_in_any_encoding(raw: bytes, name: str) -> None:
    assert holds(raw, name)
    assert not holds(bytes(len(raw)), name)
    assert not holds(raw, "Quibbleworth^Я", "998877")


@pytest.mark.parametrize("profile", [GDPR, HIPAA, RESEARCH], ids=lambda p: p.name)
def test_no_text_survives_in_numbers_of_a_file(tmp_path: Path, profile: Profile) -> None:
    ds = ct_dataset(
        PatientName="Tran^Jo",
        SimpleFrameList=list(struct.unpack("<6I", COMMENT)),
        TagAngleSecondAxis=list(struct.unpack("<12h", COMMENT)),  # of one value
        XAAcquisitionDuration=struct.unpack("<d", b"Tran^Jo ")[0],
        FloatingPointValues=COMMENT,
        FrameIncrementPointer=[g << 16 | e for g, e in struct.iter_unpack("<2H", COMMENT)],
    )
    source = write(tmp_path / "a.dcm", ds)
    assert source.read_bytes().count(b"Meiernagel") == 4
    raw = run(source, tmp_path / "out", profile=profile, allow=True).path.read_bytes()
    assert b"Meiernagel" not in raw
    assert b"Tran" not in raw
