"""Planted identifiers: invented people, staff and hospitals, and where they go in an object.

Every value is drawn so that finding it later is never a coincidence: surnames of
four or more invented syllables, ten-digit numbers, an organisation root for UIDs.
`values` of each record lists what a search of de-identified output must not
find. Dates of the visit are listed apart (`dates`): a shifted date can by chance
equal another patient's true one, so only birth dates count as distinctive.
No value belongs to a real person; the generator is seeded and pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_LATIN = _words(
    "vor na qui stel bra mun dor fel gri hax jol kem lun pra rov sten tul wex yor zil "
    "bec cav dru eph fro gam hul imb kos lev"
)
_LATIN_ENDS = _words("berg sen escu quist owicz mann ström häuser ović eña iñez dóttir")
_GIVEN = _words("Anneliese Bertrand Casimira Dietlinde Eustachius Friederun Gwendolin Hieronymus")
_CYRILLIC = _words("бор вел гор дра жел зим кор лап мор ныр пол рус тур хол чер шум")
_GREEK = _words("αλ βου γρι δελ ζαχ θεο καρ λυκ μαυ νικ παπ σταυ τσα φωτ χρι")
_ARABIC = _words("بر جل حم خل در رش سم شر صب طل عم غز فض قس كم لط")
_HANGUL = tuple("각넘듀렴믁벼솔앙쟁촉콩탑펄황")
_KANJI = tuple("鷹柊雫楓鶴凪椿燕碧櫻鮎霞萩琴颯鳳")
_KANA = _words("タカ ヒイ シズ カエ ツル ナギ ツバ エン アオ サク アユ カス ハギ コト ハヤ オオ")
_SCRIPTS = ("latin", "latin", "latin", "cyrillic", "greek", "arabic", "korean", "japanese")
_STREETS = ("Lindenallee", "Rue du Moulin", "Harbour Lane", "Calle Mayor", "Via Roma")
_PRIVATE_CREATOR = "PHANTOM CONSOLE 1.0"


@dataclass(frozen=True, slots=True)
class PlantedSite:
    """One invented hospital and its scanner's identity."""

    institution: str
    department: str
    address: str
    phone: str
    station: str
    ae_title: str
    device_serial: str
    uid_root: str

    @property
    def values(self) -> tuple[str, ...]:
        return (
            self.institution,
            self.department,
            self.address,
            self.phone,
            self.station,
            self.ae_title,
            self.device_serial,
            self.uid_root,
        )

    @property
    def device(self) -> tuple[str, ...]:
        """Return the part of `values` that Retain Device Identity keeps (PS3.15 E.3.8)."""
        return (self.station, self.device_serial)


@dataclass(frozen=True, slots=True)
class PlantedPatient:
    """One invented patient; `name` is a DICOM PN with up to three groups."""

    name: str
    family: str
    given: str
    patient_id: str
    other_id: str
    birth_date: date
    sex: str
    age_years: int
    address: str
    phone: str

    @property
    def values(self) -> tuple[str, ...]:
        groups = tuple(part for group in self.name.split("=") for part in group.split("^"))
        distinctive = tuple(part for part in groups if len(part.encode()) >= 6)
        return (
            *distinctive,
            self.patient_id,
            self.other_id,
            f"{self.birth_date:%Y%m%d}",
            self.address,
            self.phone,
        )


@dataclass(frozen=True, slots=True)
class PlantedStudy:
    """One invented visit: its numbers, its staff and its UIDs under the site's root."""

    accession: str
    study_id: str
    order_number: str
    study_uid: UID
    series_uid: UID
    frame_uid: UID
    taken_on: date
    taken_at: str
    referring: str
    operator: str
    reader: str

    @property
    def values(self) -> tuple[str, ...]:
        names = (self.referring, self.operator, self.reader)
        families = tuple(name.split("^")[0] for name in names)
        return (self.accession, self.study_id, self.order_number, *families)

    @property
    def dates(self) -> tuple[str, ...]:
        return (f"{self.taken_on:%Y%m%d}",)


def _digits(rng: np.random.Generator, count: int = 10) -> str:
    first = str(rng.integers(1, 10))
    return first + "".join(map(str, rng.integers(0, 10, count - 1)))


def _join(rng: np.random.Generator, syllables: tuple[str, ...], count: int) -> str:
    return "".join(syllables[i] for i in rng.integers(0, len(syllables), count))


def _family_name(rng: np.random.Generator) -> str:
    ending = _LATIN_ENDS[int(rng.integers(len(_LATIN_ENDS)))]
    return (_join(rng, _LATIN, 3) + ending).capitalize()


def _person(rng: np.random.Generator, script: str) -> tuple[str, str, str]:
    """Return (PN value, family, given); family and given are what prose would print."""
    family, given = _family_name(rng), _GIVEN[int(rng.integers(len(_GIVEN)))]
    given += _join(rng, _LATIN, 2)
    if script == "latin":
        return f"{family}^{given}", family, given
    if script == "japanese":
        picks = rng.integers(0, len(_KANJI), 6)
        kanji = "".join(_KANJI[i] for i in picks[:3]) + "^" + "".join(_KANJI[i] for i in picks[3:])
        kana = "".join(_KANA[i] for i in picks[:3]) + "^" + "".join(_KANA[i] for i in picks[3:])
        return f"{family}^{given}={kanji}={kana}", family, given
    if script == "korean":
        return f"{family}^{given}={_join(rng, _HANGUL, 3)}^{_join(rng, _HANGUL, 3)}", family, given
    pool = {"cyrillic": _CYRILLIC, "greek": _GREEK, "arabic": _ARABIC}[script]
    native, first = _join(rng, pool, 4).capitalize(), _join(rng, pool, 3).capitalize()
    return f"{native}^{first}", native, first


def _staff(rng: np.random.Generator, prefix: str) -> str:
    return f"{_family_name(rng)}^{_GIVEN[int(rng.integers(len(_GIVEN)))]}^^{prefix}"


def _street(rng: np.random.Generator) -> str:
    street = _STREETS[int(rng.integers(len(_STREETS)))]
    return f"{street} {rng.integers(1, 300)}, {_digits(rng, 5)} {_family_name(rng)}stadt"


def invent_site(rng: np.random.Generator) -> PlantedSite:
    """Return one hospital; the same generator state gives the same hospital."""
    family = _family_name(rng)
    return PlantedSite(
        institution=f"Klinikum Sankt {family}",
        department=f"Radiologie {_family_name(rng)}",
        address=_street(rng),
        phone=f"+49 {_digits(rng)}",
        station=f"ST{_digits(rng)}",
        ae_title=f"AE{_digits(rng)}",
        device_serial=f"SN{_digits(rng)}",
        uid_root=f"1.2.826.0.1.3680043.10.{_digits(rng)}",
    )


def invent_patient(
    rng: np.random.Generator, *, sex: str | None = None, age_years: int | None = None
) -> PlantedPatient:
    """Return one patient, in one of six scripts.

    Args:
        sex: "M", "F" or "O"; drawn when absent.
        age_years: age at the visit; drawn from 18 to 92 when absent.
    """
    script = _SCRIPTS[int(rng.integers(len(_SCRIPTS)))]
    name, family, given = _person(rng, script)
    drawn_age, drawn_sex = int(rng.integers(18, 93)), "MF"[int(rng.integers(2))]
    age = drawn_age if age_years is None else age_years
    return PlantedPatient(
        name=name,
        family=family,
        given=given,
        patient_id=_digits(rng),
        other_id=f"VS{_digits(rng)}",
        birth_date=date(2022 - age, 1, 1) + timedelta(days=int(rng.integers(0, 364))),
        sex=drawn_sex if sex is None else sex,
        age_years=age,
        address=_street(rng),
        phone=f"+49 {_digits(rng)}",
    )


def invent_study(rng: np.random.Generator, site: PlantedSite) -> PlantedStudy:
    """Return one visit in 2023 at `site`, with UIDs under the site's root."""
    study_uid = f"{site.uid_root}.1.{_digits(rng)}"
    clock = rng.integers(0, (10, 60, 60, 1_000_000))
    return PlantedStudy(
        accession=f"A{_digits(rng)}",
        study_id=f"S{_digits(rng)}",
        order_number=f"O{_digits(rng)}",
        study_uid=UID(study_uid),
        series_uid=UID(f"{study_uid}.2"),
        frame_uid=UID(f"{study_uid}.3"),
        taken_on=date(2023, 1, 1) + timedelta(days=int(rng.integers(0, 364))),
        taken_at=f"{clock[0] + 8:02d}{clock[1]:02d}{clock[2]:02d}.{clock[3]:06d}",
        referring=_staff(rng, "Dr."),
        operator=_staff(rng, "MTRA"),
        reader=_staff(rng, "Prof. Dr."),
    )


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _set_patient(ds: Dataset, patient: PlantedPatient) -> None:
    ds.PatientName = patient.name
    ds.PatientID = patient.patient_id
    ds.PatientBirthDate = f"{patient.birth_date:%Y%m%d}"
    ds.PatientSex = patient.sex
    ds.PatientAge = f"{patient.age_years:03d}Y"
    ds.PatientAddress = patient.address
    ds.PatientTelephoneNumbers = patient.phone
    ds.OtherPatientIDsSequence = Sequence(
        [_item(PatientID=patient.other_id, TypeOfPatientID="TEXT")]
    )
    ds.PatientComments = f"Call {patient.given} {patient.family} on {patient.phone} before noon"


def _set_visit(ds: Dataset, site: PlantedSite, study: PlantedStudy) -> None:
    day = f"{study.taken_on:%Y%m%d}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = study.taken_at
    ds.InstanceCreationDate, ds.InstanceCreationTime = day, study.taken_at
    ds.AccessionNumber = study.accession
    ds.StudyID = study.study_id
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.study_uid, study.series_uid
    ds.ReferringPhysicianName = study.referring
    ds.OperatorsName = study.operator
    ds.NameOfPhysiciansReadingStudy = study.reader
    ds.InstitutionName, ds.InstitutionAddress = site.institution, site.address
    ds.InstitutionalDepartmentName = site.department
    ds.StationName, ds.DeviceSerialNumber = site.station, site.device_serial
    ds.PerformedStationAETitle = site.ae_title
    ds.FillerOrderNumberImagingServiceRequest = study.order_number


def _set_nested(
    ds: Dataset, site: PlantedSite, patient: PlantedPatient, study: PlantedStudy
) -> None:
    full_name = f"{patient.given} {patient.family}"
    ds.ReferringPhysicianIdentificationSequence = Sequence(
        [
            _item(
                InstitutionName=site.institution,
                PersonAddress=site.address,
                PersonTelephoneNumbers=site.phone,
                PersonIdentificationCodeSequence=Sequence(
                    [
                        _item(
                            CodeValue=study.order_number[:16],
                            CodingSchemeDesignator="99PHANTOM",
                            CodeMeaning=study.referring.split("^")[0],
                        )
                    ]
                ),
            )
        ]
    )
    ds.RequestAttributesSequence = Sequence(
        [
            _item(
                RequestedProcedureID=study.order_number,
                ScheduledProcedureStepID=study.study_id,
                RequestedProcedureDescription=f"Chest, requested for {full_name}"[:64],
            )
        ]
    )
    before = _item(PatientName=patient.name, PatientID=patient.patient_id)
    ds.OriginalAttributesSequence = Sequence(
        [
            _item(
                ModifiedAttributesSequence=Sequence([before]),
                AttributeModificationDateTime=f"{study.taken_on:%Y%m%d}{study.taken_at}",
                ModifyingSystem=site.station,
                SourceOfPreviousValues=site.ae_title,
                ReasonForTheAttributeModification="CORRECT",
            )
        ]
    )


def _set_prose_and_private(ds: Dataset, patient: PlantedPatient, study: PlantedStudy) -> None:
    full_name = f"{patient.given} {patient.family}"
    ds.StudyDescription = f"Chest follow-up of {full_name}"[:64]
    ds.ImageComments = (
        f"Compared with the earlier chest images of {full_name}, MRN {patient.patient_id}; "
        f"discussed with {study.referring.split('^')[0]}, no pleural effusion"
    )
    block = ds.private_block(0x0011, _PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", f"Console user note: {patient.family}"[:64])
    block.add_new(0x02, "PN", patient.name)
    block.add_new(0x03, "LO", patient.other_id)
    inner = _item(PatientName=patient.name, PatientID=patient.patient_id)
    block.add_new(0x10, "SQ", Sequence([inner]))


def plant(ds: Dataset, site: PlantedSite, patient: PlantedPatient, study: PlantedStudy) -> None:
    """Write every planted value into `ds`: flat, nested, in prose and in private tags."""
    ds.SpecificCharacterSet = "ISO_IR 192"
    _set_patient(ds, patient)
    _set_visit(ds, site, study)
    _set_nested(ds, site, patient, study)
    _set_prose_and_private(ds, patient, study)
