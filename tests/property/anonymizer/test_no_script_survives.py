"""For any script, text representation and profile: no name or number of a patient is left.

The values lie at the top, in nested items and in private elements, as themselves and inside
sentences, in the character sets that hospitals send.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pleura.anonymizer.profile import PROFILE_NAMES, Profile, load_profile
from tests.builders.deidentified import run
from tests.builders.identified import ct_dataset, item, write

PROFILES = [
    profile.with_options(options)
    for profile in map(load_profile, PROFILE_NAMES)
    for options in (profile.offers[:0], profile.offers)
]
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
KANJI = "鷲鷹鴨鵜鷺鳩鶴鯉鯛鯨"
# Terms of (0008,0005), letters of the script, Python's name of the encoding.
SCRIPTS: list[tuple[str | list[str], str, str]] = [
    ("ISO_IR 100", "äöüßéñãõøåæ", "latin-1"),
    ("ISO_IR 101", "łőžćńšęąďť", "iso8859-2"),
    ("ISO_IR 144", "бгджзклмпрфхцчш", "iso8859-5"),
    ("ISO_IR 126", "βγδζθκλμξπρφχψω", "iso8859-7"),
    ("ISO_IR 127", "بتثجحخدذرزسش", "iso8859-6"),
    ("ISO_IR 138", "אבגדהוזחטיכלמ", "iso8859-8"),
    ("ISO_IR 166", "กขคงจชซญดตถท", "tis-620"),
    ("GB18030", "鹫鹰鸭鸬鹭鸠鹤鸥鲤鲷", "gb18030"),
    ("GBK", "鹫鹰鸭鸬鹭鸠鹤鸥鲤鲷", "gbk"),
    ("ISO_IR 192", f"бгджβγδζ{KANJI}갉갊값갓갔", "utf-8"),
    (["", "ISO 2022 IR 87"], KANJI, "iso2022_jp"),
    (["ISO 2022 IR 6", "ISO 2022 IR 149"], "박곽탁팽옹견궉뇌", "euc_kr"),
    (["ISO 2022 IR 100", "ISO 2022 IR 144"], "бгджзклмпрфхцчш", "iso8859-5"),
]
ASCII = st.text("bdfgjkpvwxz", min_size=6, max_size=10)
NUMBERS = st.text("346789", min_size=7, max_size=12)
NAMED = ("PatientName", "OtherPatientNames", "ReferringPhysicianName", "OperatorsName")
SENTENCES = {
    "SH": "ConvolutionKernel", "LO": "SeriesDescription", "ST": "DerivationDescription",
    "LT": "ImageComments", "UC": "LongCodeValue", "UT": "TextValue",
}  # fmt: skip
PLAIN = {"CS": "BodyPartExamined", "AE": "RetrieveAETitle", "UR": "RetrieveURL"}
PRIVATE = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "OB", "UN")


@st.composite
def scripted(draw: st.DrawFn) -> tuple[Dataset, list[str], str]:
    """Return a data set in one script, what is planted in it, and the script's encoding."""
    terms, letters, encoding = draw(st.sampled_from(SCRIPTS))
    native = st.text(letters, min_size=4, max_size=7)
    secrets: list[str] = []

    def secret(strategy: st.SearchStrategy[str]) -> str:
        secrets.append(draw(strategy))
        return secrets[-1]

    ds = ct_dataset(SpecificCharacterSet=terms)
    for keyword in draw(st.sets(st.sampled_from(NAMED), min_size=1)):
        latin = f"{secret(ASCII)}^{secret(ASCII)}"
        setattr(ds, keyword, f"{latin}={secret(native)}^{secret(native)}")
    ds.PatientID = secret(NUMBERS)
    ds.InstitutionName = secret(native)
    levels = [ds]
    for keyword in draw(
        st.lists(
            st.sampled_from(("ContentSequence", "AnatomicRegionSequence", "CTExposureSequence")),
            max_size=3,
        )
    ):
        inner = item(PersonName=f"{secret(ASCII)}^={secret(native)}")
        setattr(levels[-1], keyword, Sequence([inner]))
        levels.append(inner)
    plain = [s for s in secrets if s.isascii()]
    for level in levels:
        for keyword in draw(st.sets(st.sampled_from(sorted(SENTENCES.values())))):
            setattr(level, keyword, f"x {draw(st.sampled_from(secrets))}"[:16])
        for keyword in draw(st.sets(st.sampled_from(sorted(PLAIN.values())))):
            setattr(level, keyword, draw(st.sampled_from(plain)).upper()[:16])
        for number, vr in enumerate(draw(st.lists(st.sampled_from(PRIVATE), max_size=4))):
            level.add_new(0x00290010, "LO", "ACME")
            value = draw(st.sampled_from(plain)).upper()
            is_bytes = vr in ("OB", "UN")
            level.add_new(0x00291000 + number, vr, value.encode() if is_bytes else value)
    return ds, secrets, encoding


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripted(), st.sampled_from(PROFILES), st.sampled_from(SYNTAXES))
def test_no_value_of_any_script_survives_in_output(
    case: tuple[Dataset, list[str], str], profile: Profile, syntax: str
) -> None:
    ds, secrets, encoding = case
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with disable_value_validation():
            source = write(Path(name) / "a.dcm", ds, syntax=syntax)
            given_bytes = source.read_bytes()
            result = run(source, Path(name) / "out", profile=profile)
            output = result.path.read_bytes().lower() + str(result.receipt).lower().encode()
            text = str(dcmread(result.path)).lower()
    for secret in secrets:
        patterns = {secret.lower().encode(e) for e in (encoding, "utf-8")}
        assert not [p for p in patterns if p in output]
        assert secret.lower() not in text
    assert any(s.encode(encoding) in given_bytes for s in secrets if not s.isascii())
