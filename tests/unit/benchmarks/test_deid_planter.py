"""The planter: what it says it planted is in the file, readable, and nothing else is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.benchmarks.deid import planting
from tests.benchmarks.deid.pixel_text import plant_text
from tests.benchmarks.deid.planting import SCRIPTS
from tests.benchmarks.deid.reading import Unreadable, element_at, read, text_of
from tests.benchmarks.deid.tokens import Tokens
from tests.builders.identified import ct_dataset
from tests.builders.planted import plant_corpus


def test_every_planted_word_is_readable_in_every_script(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, [f"1.2.3.{n}" for n in range(len(SCRIPTS))])
    for file in corpus.files:
        seen = read(file.path)
        words = {word for record in file.records for word in record.words}
        assert len(words) > 100
        assert [word for word in words if not seen.find(word)] == []
    declared = {str(read(file.path).dataset.SpecificCharacterSet) for file in corpus.files}
    assert len(declared) == len({str(charset) for charset, _ in SCRIPTS})


def test_name_its_character_set_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planting, "SCRIPTS", (("ISO_IR 100", "korean"),))
    with pytest.raises(planting.Unplanted):
        plant_corpus(tmp_path)


def test_every_planted_value_is_found_where_the_manifest_says(tmp_path: Path) -> None:
    (file,) = plant_corpus(tmp_path).files
    dataset = read(file.path).dataset
    places = set()
    for record in file.records:
        element = element_at(dataset, record.path, record.tag)
        assert element is not None
        assert not record.value or text_of(element) == record.value
        places.add(record.place)
    assert places == {"top", "kept", "unlisted"}


def test_word_that_was_not_planted_is_not_found(tmp_path: Path) -> None:
    (file,) = plant_corpus(tmp_path).files
    assert read(file.path).find("Quabaldrimo") is None


def test_files_of_one_patient_share_name_and_character_set(tmp_path: Path) -> None:
    corpus = plant_corpus(tmp_path, ["1.2.3.1", "1.2.3.1", "1.2.3.2"])
    first, second, other = (read(file.path).dataset for file in corpus.files)
    assert first.PatientName == second.PatientName != other.PatientName
    assert first.SpecificCharacterSet == second.SpecificCharacterSet
    assert first.StudyInstanceUID == second.StudyInstanceUID != other.StudyInstanceUID


def test_same_seed_plants_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    planted = [
        plant_corpus(tmp_path / str(number), seed=seed).files[0].path.read_bytes()
        for number, seed in enumerate((7, 7, 8))
    ]
    assert planted[0] == planted[1] != planted[2]


def test_tokens_give_out_no_value_twice() -> None:
    tokens = Tokens(1)
    drawn = [tokens.word() for _ in range(2000)] + [tokens.uid() for _ in range(2000)]
    assert len({value.casefold() for value in drawn}) == 4000


@pytest.mark.parametrize(
    ("word", "encoding"),
    [("Zorqbel", "ascii"), ("霍翟郗", "gb18030"), ("곽뇨듬", "euc_kr"), ("巽鯨簾", "iso2022_jp")],
)
def test_word_that_only_raw_bytes_hold_is_found(tmp_path: Path, word: str, encoding: str) -> None:
    (file,) = plant_corpus(tmp_path).files
    path = tmp_path / "odd.dcm"
    preamble = word.encode(encoding).ljust(128, b" ")
    path.write_bytes(preamble + file.path.read_bytes()[128:])
    assert read(path).find(word) == 0
    assert read(file.path).find(word) is None


def test_raw_bytes_of_a_deflated_file_are_searched_inflated(tmp_path: Path) -> None:
    (file,) = plant_corpus(tmp_path).files
    ds = dcmread(file.path)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "deflated.dcm"
    ds.save_as(path)
    number = str(ds.PatientID)
    assert number.encode() not in path.read_bytes()
    assert number.lower().encode() in read(path).raw


def test_word_in_pixel_data_is_no_header_leak(tmp_path: Path) -> None:
    (file,) = plant_corpus(tmp_path).files
    ds = dcmread(file.path)
    ds.PixelData = b"Quabaldrimo!" + ds.PixelData[12:]
    path = tmp_path / "pixels.dcm"
    ds.save_as(path)
    assert read(path).find("Quabaldrimo") is None


def test_file_that_is_no_dicom_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"no image")
    with pytest.raises(Unreadable):
        read(path)


def test_white_glyphs_on_white_are_not_noted_as_visible() -> None:
    masks = []
    for behind in (0, 4095):
        ds = dcmread(_flat_image(behind))
        (text,) = plant_text(ds, ("ZORQ 1",))
        masks.append(int(text.glyphs.sum()))
    assert masks[0] > 100
    assert masks[1] == 0


def _flat_image(value: int) -> io.BytesIO:
    """Return a flat image as a file in memory."""
    ds = ct_dataset(Rows=256, Columns=256)
    ds.PixelData = np.full((256, 256), value, dtype="<u2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    file.seek(0)
    return file
