"""The scan's own reader: every element outside the pixels, whatever the encoding."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pleura.anonymizer.encoding import Element, Syntax, encode
from pleura.anonymizer.errors import SelfCheckFailed
from pleura.anonymizer.leaves import elements_of, leaves_of, preamble_of
from pleura.anonymizer.source import FileSource
from tests.builders.identified import ct_dataset, item, nested, write


def planted() -> object:
    inner = item(CodeMeaning="deep", PatientName="Quibbleworth")
    ds = ct_dataset(**nested("AnatomicRegionSequence", inner))
    ds.RequestAttributesSequence = Sequence(
        [item(RequestedProcedureID="ORD-1", SpecificCharacterSet="ISO_IR 192")]
    )
    ds.add_new(0xFFFCFFFC, "OB", b"tail")
    return ds


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_every_element_but_the_pixels_is_found(tmp_path: Path, syntax: str) -> None:
    path = write(tmp_path / "a", planted(), syntax=syntax)
    expected = sorted(
        int(e.tag) for e in dcmread(path).iterall() if e.VR != "SQ" and e.tag != 0x7FE00010
    )
    with FileSource(path) as source:
        leaves = list(leaves_of(source))
        assert preamble_of(source) == path.read_bytes()[:128] == preamble_of(path.read_bytes())
    assert sorted(leaf.tag for leaf in leaves if leaf.tag >> 16 != 2) == expected
    by_tag = {leaf.tag: leaf for leaf in leaves}
    assert (by_tag[0x00080104].text(), by_tag[0x00080104].depth) == ("deep", 1)
    assert by_tag[0x00401001].sets == ("ISO_IR 192",)
    assert by_tag[0xFFFCFFFC].raw == b"tail"


def test_fragments_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a", planted())
    ds = dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path)
    data = path.read_bytes()
    tags = [leaf.tag for leaf in leaves_of(data)]
    assert 0x7FE00010 not in tags
    assert tags[-1] == 0xFFFCFFFC
    with pytest.raises(Exception):  # noqa: B017  any failure is a refusal of the scan
        list(leaves_of(data[:-30]))


def test_a_file_that_ends_inside_its_pixels_is_a_refusal(tmp_path: Path) -> None:
    data = write(tmp_path / "a", ct_dataset()).read_bytes()
    with pytest.raises(SelfCheckFailed):
        list(leaves_of(data[:-2]))


def test_a_sequence_sent_as_unknown_is_walked(tmp_path: Path) -> None:
    inner = [[Element(0x00100010, "PN", b"Quibbleworth")]]
    implicit = b"".join(
        map(bytes, encode([Element(0x00082218, "SQ", items=inner)], Syntax(implicit=True)))
    )
    unknown = encode([Element(0x00082218, "UN", implicit[8:])], Syntax())
    head = write(tmp_path / "a", ct_dataset()).read_bytes()
    start = head.index(b"\x08\x00\x05\x00CS")
    data = head[:start] + b"".join(map(bytes, unknown))
    assert [leaf.raw for leaf in leaves_of(data)][-1] == b"Quibbleworth"


@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")
@pytest.mark.filterwarnings("ignore:Failed to decode:UserWarning")
def test_text_without_a_known_character_set_is_read_byte_by_byte(tmp_path: Path) -> None:
    ds = ct_dataset(PatientName="Müllerin")
    data = write(tmp_path / "a", ds).read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999")
    names = [leaf.text() for leaf in leaves_of(data) if leaf.tag == 0x00100010]
    assert names[0].startswith("M")
    data = data.replace(b"ISO_IR 999", b"ISO_IR 192")
    assert next(leaf.text() for leaf in leaves_of(data) if leaf.tag == 0x00100010)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_every_element_knows_its_item_and_a_sequence_its_number_of_items(
    tmp_path: Path, syntax: str
) -> None:
    deep = item(PatientName="Quibbleworth", ConceptCodeSequence=Sequence([item(CodeValue="1")]))
    ds = ct_dataset(**nested("AnatomicRegionSequence", item(CodeMeaning="first"), deep))
    ds.RequestAttributesSequence = Sequence([])
    with FileSource(write(tmp_path / "a.dcm", ds, syntax=syntax)) as source:
        found = {(leaf.path, leaf.tag): leaf for leaf in elements_of(source)}
        leaves = list(leaves_of(source))
    regions, concepts = 0x00082218, int(deep["ConceptCodeSequence"].tag)
    second = ((regions, 1),)
    assert (found[(), regions].vr, found[(), regions].raw) == ("SQ", b"2")
    assert found[(), 0x00400275].raw == b""
    assert found[second, concepts].raw == b"1"
    assert found[second, 0x00100010].text() == "Quibbleworth"
    assert found[(*second, (concepts, 0)), 0x00080100].depth == 2
    assert [leaf for leaf in found.values() if leaf.vr != "SQ"] == leaves
