"""For any data set: no identifying input value is in the output, and keys behave."""

from __future__ import annotations

import string
import tempfile
from datetime import date
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pleura.anonymizer.dates import parse_date, shift_date
from pleura.anonymizer.engine import deidentify_file
from pleura.anonymizer.errors import Quarantined
from pleura.anonymizer.profile import PROFILE_NAMES, Profile, load_profile
from pleura.anonymizer.wire import Element, Syntax, encode, parse_file
from tests.builders.deidentified import run
from tests.builders.identified import ct_dataset, item, project_key, write

KEY = project_key()
PROFILES = [
    profile.with_options(options)
    for profile in map(load_profile, PROFILE_NAMES)
    for options in [[], *([name] for name in profile.offers), profile.offers]
]
# Words no table or engine text holds, so that finding one is always a leak.
WORDS = st.text("bdfgjkpvwxz", min_size=6, max_size=12)
NUMBERS = st.text("346789", min_size=7, max_size=12)
UIDS = st.integers(10**6, 10**12).map(lambda n: f"1.2.826.0.1.999.{n}")
IDENTIFIED = (
    "PatientID", "AccessionNumber", "StudyID", "InstitutionName", "StationName", "OtherPatientIDs",
    "PatientAddress", "ReferringPhysicianAddress", "AdmissionID", "MedicalRecordLocator",
    "PerformedStationName", "FillerOrderNumberImagingServiceRequest",
)  # fmt: skip
NAMED = (
    "PatientName", "OtherPatientNames", "ReferringPhysicianName", "OperatorsName",
    "PatientBirthName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy",
)  # fmt: skip
REPEATED = (
    "Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "FilterType", "SeriesDescription",
    "StudyDescription", "ImageComments", "PatientComments", "ProtocolName", "SoftwareVersions",
    "DerivationDescription", "RescaleType", "PositionReferenceIndicator",
)  # fmt: skip
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


@st.composite
def planted(draw: st.DrawFn) -> tuple[Dataset, list[str]]:
    """Return a data set and the identifying values planted in it, on several levels."""
    secrets: list[str] = []

    def secret(strategy: st.SearchStrategy[str]) -> str:
        value = draw(strategy)
        secrets.append(value)
        return value

    ds = ct_dataset()
    uid = secret(UIDS)
    ds.SOPInstanceUID, ds.StudyInstanceUID = uid, f"{uid}.2"
    for keyword in draw(st.sets(st.sampled_from(IDENTIFIED), min_size=1)):
        setattr(ds, keyword, secret(WORDS | NUMBERS)[:16])
    for keyword in draw(st.sets(st.sampled_from(NAMED), min_size=1)):
        setattr(ds, keyword, f"{secret(WORDS)}^{secret(WORDS)}")
    for keyword in draw(st.sets(st.sampled_from(REPEATED))):
        value = draw(st.sampled_from(secrets))
        setattr(ds, keyword, f"x {value}"[:16])
    level = ds
    for keyword in draw(
        st.lists(
            st.sampled_from(
                ("AnatomicRegionSequence", "ReferencedImageSequence", "CTExposureSequence",
                 "SharedFunctionalGroupsSequence", "ContentSequence", "RequestAttributesSequence")
            ),
            max_size=5,
        )
    ):  # fmt: skip
        inner = item(
            PersonName=secret(WORDS),
            CodeMeaning=draw(st.sampled_from(secrets)),
            TextValue=draw(st.sampled_from(secrets)),
            InstitutionName=secret(WORDS),
            ReferencedSOPInstanceUID=f"{uid}.9",
        )
        inner.add_new(0x00090010, "LO", "ACME")
        inner.add_new(0x00091001, "LO", draw(st.sampled_from(secrets)))
        setattr(level, keyword, Sequence([inner]))
        level = inner
    return ds, secrets


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(planted(), st.sampled_from(PROFILES), st.sampled_from(SYNTAXES))
def test_no_input_value_survives_in_output(
    case: tuple[Dataset, list[str]], profile: Profile, syntax: str
) -> None:
    ds, secrets = case
    with tempfile.TemporaryDirectory() as name:
        source = write(Path(name) / "a.dcm", ds, syntax=syntax)
        result = run(source, Path(name) / "out", profile=profile)
        output = result.path.read_bytes().lower() + str(result.receipt).encode().lower()
        text = str(dcmread(result.path)).lower()
    stations = (ds.get("StationName"), ds.get("PerformedStationName"))
    kept = set(stations) if profile.retain_device_identity else set()
    for secret in secrets:
        if not any(secret.startswith(str(value)) for value in kept if value):
            assert secret.encode() not in output
            assert secret not in text


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=120), st.integers(0, 1400), st.sampled_from(SYNTAXES))
def test_damaged_files_are_refused_by_name_or_cleaned(
    noise: bytes, where: int, syntax: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = write(Path(name) / "a.dcm", ct_dataset(), syntax=syntax)
        data = bytearray(source.read_bytes())
        data[where : where + len(noise)] = noise
        source.write_bytes(data)
        out = Path(name) / "out"
        try:
            deidentify_file(
                source, out, profile=load_profile("gdpr_pseudonymous"), key=KEY,
                allow_unread_text=True,
            )  # fmt: skip
        except Quarantined as exc:
            assert exc.code != "INTERNAL"
            assert not [p for p in out.rglob("*") if p.is_file()]


@given(
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.text(string.printable, min_size=1),
)
def test_a_shift_keeps_every_interval_and_is_never_zero(
    first: date, second: date, patient: str
) -> None:
    days = KEY.date_shift_days(patient)
    assert 1 <= abs(days) <= 365
    moved = [parse_date(shift_date(f"{d:%Y%m%d}", days) or "") for d in (first, second)]
    assert moved[0] is not None and moved[1] is not None
    assert moved[1] - moved[0] == second - first
    assert moved[0] != first


@given(st.from_regex(r"[0-9]+(\.[0-9]+){1,8}", fullmatch=True))
def test_a_mapped_uid_is_a_valid_uuid_v8(uid: str) -> None:
    mapped = KEY.uid(uid)
    number = int(mapped.removeprefix("2.25."))
    assert len(mapped) <= 64
    assert (number >> 76) & 0xF == 8
    assert (number >> 62) & 0b11 == 0b10
    assert mapped == KEY.uid(uid)


LEAVES = st.builds(
    Element,
    # Group 0200 does not exist; first in big endian it begins like one more element of group 0002.
    st.integers(0x00080000, 0x7FDF0000)
    .map(lambda t: t & 0xFFFEFFFF | 0x10)
    .filter(lambda t: t >> 16 != 0x0200),
    st.sampled_from(("LO", "SH", "UT", "DS")),
    st.binary(max_size=20).filter(lambda b: len(b) % 2 == 0),
)


@given(st.lists(LEAVES, max_size=8), st.booleans())
def test_encoding_is_parsed_back_to_the_same_values(
    leaves: list[Element], big_endian: bool
) -> None:
    syntax = Syntax(big_endian=big_endian)
    wrapped = Element(0x7FE10010, "SQ", items=[leaves, []])
    named = ExplicitVRBigEndian if big_endian else ExplicitVRLittleEndian
    meta = encode([Element(0x00020010, "UI", named.encode())], Syntax())
    body = encode([*leaves, wrapped], syntax)
    parsed = parse_file(b"".join([bytes(128), b"DICM", *meta, *body]))
    assert [bytes(e.value) for e in parsed.elements[:-1]] == [e.value for e in leaves]
    inner = parsed.elements[-1].items
    assert inner is not None
    assert [(e.tag, e.vr, bytes(e.value)) for e in inner[0]] == [
        (e.tag, e.vr, e.value) for e in leaves
    ]
    assert inner[1] == []
