"""The residual scan: every kind of residue planted into a finished file is found."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from pleura.anonymizer import verify
from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.errors import SelfCheckFailed
from pleura.anonymizer.profile import load_profile
from pleura.anonymizer.residues import Expectation
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.verify import check_residuals
from tests.builders.identified import STUDY, ct_dataset, item, project_key, write

KEY = project_key()
PROFILE = load_profile("gdpr_pseudonymous")


class Finished:
    """An input, its clean output and what the scan expects."""

    def __init__(self, folder: Path, ds: Dataset) -> None:
        source = write(folder / "a.dcm", ds)
        self.source = source.read_bytes()
        result = deidentify_file(source, folder / "out", profile=PROFILE, key=KEY)
        self.output = result.path.read_bytes()
        rules = load_rules()
        self.expected = Expectation(
            pseudonym=result.patient,
            shift_days=KEY.date_shift_days("MRN-7733"),
            retained=frozenset(),
            identifying=rules.identifying,
            defined_terms=rules.defined_terms,
            authored=frozenset({"MODIFIED", *_authored(self.output)}),
        )

    def with_changes(self, **values: object) -> bytes:
        ds = dcmread(BytesIO(self.output))
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        return _bytes(ds)

    def with_element(self, tag: int, vr: str, value: object) -> bytes:
        ds = dcmread(BytesIO(self.output))
        ds.add_new(tag, vr, value)
        return _bytes(ds)


def _authored(output: bytes) -> set[str]:
    ds = dcmread(BytesIO(output))
    codes = ds.DeidentificationMethodCodeSequence
    return {ds.DeidentificationMethod} | {code.CodeMeaning for code in codes}


def _bytes(ds: Dataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    return Finished(tmp_path, ct_dataset())


def test_a_clean_output_passes(finished: Finished) -> None:
    check_residuals(finished.source, finished.output, finished.expected)


@pytest.mark.parametrize(
    ("values", "tag"),
    [
        ({"Manufacturer": "for quibbleworth"}, "0008,0070"),
        ({"Manufacturer": "LUDMÌLLA"}, "0008,0070"),
        ({"SeriesDescription": "id mrn-7733 done"}, "0008,103E"),
        ({"SeriesDescription": "on 2020-01-31"}, "0008,103E"),
        ({"SeriesDescription": "on 20200131"}, "0008,103E"),
        ({"SeriesDescription": f"see {STUDY}"}, "0008,103E"),
        ({"SeriesDescription": "Saint Wendelin Hospital"}, "0008,103E"),
        ({"BodyPartExamined": "LUDMILLA"}, "0018,0015"),
        ({"OperatorsName": "Somebody^Else"}, "0008,1070"),
        ({"FrameOfReferenceUID": STUDY + ".9"}, "0020,0052"),
        ({"FrameOfReferenceUID": "1.2.3.4.5"}, "0020,0052"),
        ({"ContentDate": "20200131"}, "0008,0023"),
        ({"AcquisitionDateTime": "20200131101500"}, "0008,002A"),
        ({"SliceThickness": "20200131"}, "0018,0050"),
        ({"RedPaletteColorLookupTableData": b"..LUDMILLA."}, "0028,1201"),
        ({"PatientID": "MRN-7733"}, "0010,0020"),
        ({"PatientIdentityRemoved": "NO"}, "0012,0062"),
        ({"AnatomicRegionSequence": Sequence([item(PatientName="Quibbleworth")])}, "0010,0010"),
        ({"PrivateInformationCreatorUID": "1.2.3"}, "0002,0100"),
    ],
)
def test_a_residue_is_found_and_only_its_tag_is_named(
    finished: Finished, values: dict[str, object], tag: str
) -> None:
    if "PrivateInformationCreatorUID" in values:
        ds = dcmread(BytesIO(finished.output))
        ds.file_meta.PrivateInformationCreatorUID = "1.2.3"
        ds.file_meta.PrivateInformation = b"Ludmilla"
        output = _bytes(ds)
    else:
        output = finished.with_changes(**values)
    with pytest.raises(SelfCheckFailed) as caught:
        check_residuals(finished.source, output, finished.expected)
    message = str(caught.value)
    assert f"({tag})" in message
    assert not [v for v in values.values() if isinstance(v, str) and len(v) > 3 and v in message]


def test_pixel_data_in_a_sequence_is_found(finished: Finished) -> None:
    picture = Dataset()
    picture.add_new(0x7FE00010, "OW", b"\1\2")
    with pytest.raises(SelfCheckFailed, match="nested pixel data"):
        output = finished.with_changes(SourceImageSequence=Sequence([picture]))
        check_residuals(finished.source, output, finished.expected)


def test_a_private_element_is_found(finished: Finished) -> None:
    with pytest.raises(SelfCheckFailed, match="private"):
        check_residuals(
            finished.source, finished.with_element(0x00091001, "LO", "x"), finished.expected
        )


def test_an_original_uid_in_the_file_meta_is_found(finished: Finished) -> None:
    ds = dcmread(BytesIO(finished.output))
    ds.file_meta.MediaStorageSOPInstanceUID = ct_dataset().SOPInstanceUID
    with pytest.raises(SelfCheckFailed, match="unmapped UID"):
        check_residuals(finished.source, _bytes(ds), finished.expected)


def test_a_filled_preamble_is_found(finished: Finished) -> None:
    with pytest.raises(SelfCheckFailed, match="preamble"):
        check_residuals(finished.source, b"x" + finished.output[1:], finished.expected)


def test_any_date_is_a_residue_where_dates_must_be_gone(finished: Finished) -> None:
    expected = replace(finished.expected, shift_days=None)
    with pytest.raises(SelfCheckFailed, match="date"):
        check_residuals(finished.source, finished.output, expected)


def test_a_kept_attribute_is_no_residue(finished: Finished) -> None:
    output = finished.with_changes(DeviceSerialNumber="SN-55667788")
    with pytest.raises(SelfCheckFailed, match="text"):
        check_residuals(finished.source, output, finished.expected)
    kept = replace(finished.expected, retained=frozenset({0x00181000}))
    check_residuals(finished.source, output, kept)


def test_short_and_partial_values_pass_where_the_rules_say_so(tmp_path: Path) -> None:
    ds = ct_dataset(PatientName="Xu^A 12345", StudyDate="2020", AcquisitionDateTime="2017")
    finished = Finished(tmp_path, ds)
    check_residuals(finished.source, finished.output, finished.expected)
    with pytest.raises(SelfCheckFailed):
        check_residuals(
            finished.source, finished.with_changes(FilterType="no 12345"), finished.expected
        )


def test_a_scan_that_cannot_run_is_a_refusal(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ValueError("Quibbleworth")

    monkeypatch.setattr(verify, "collect", broken)
    with pytest.raises(SelfCheckFailed) as caught:
        check_residuals(finished.source, finished.output, finished.expected)
    assert str(caught.value) == "SELF_CHECK: scan ended with ValueError"


def test_an_unknown_character_set_falls_back_to_bytes(tmp_path: Path) -> None:
    ds = ct_dataset(PatientName="Müllerin^Ludmilla")
    finished = Finished(tmp_path, ds)
    source = finished.source.replace(b"ISO_IR 100", b"ISO_IR 999")
    check_residuals(source, finished.output, finished.expected)
