"""Phantom sites: reproducible, valid, planted, labelled, and neither trivial nor hopeless."""

from __future__ import annotations

import csv
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from pleura.client.data.preprocess import prepare, read_dicom
from pleura.client.errors import PhantomFolderNotEmpty
from pleura.client.phantoms.fields import gaussian_blur
from pleura.client.phantoms.identifiers import invent_patient, invent_site, invent_study
from pleura.client.phantoms.looks import CT_LOOKS, RADIOGRAPH_LOOKS
from pleura.client.phantoms.nodule_ct import NodulePainter, draw_nodule
from pleura.client.phantoms.objects import RadiographEncoding, radiograph_object, write_object
from pleura.client.phantoms.radiograph import RadiographPainter, draw_anatomy
from pleura.client.phantoms.site import PhantomSite, PhantomSummary, labels_path, write_site
from pleura.common.orders import PreprocSpec

Written = tuple[Path, PhantomSummary]

# PS3.3 A.2, A.3, A.26: type 1 attributes, without those that hold for one object only
_TYPE_1 = "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality SamplesPerPixel"
_TYPE_1 += " PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit"
_TYPE_1 += " PixelRepresentation PixelData"
_TYPE_1_OF = {
    "CR": "",
    "DX": "PresentationIntentType ImageType PixelIntensityRelationship ImagerPixelSpacing"
    " PixelIntensityRelationshipSign RescaleIntercept RescaleSlope RescaleType"
    " PresentationLUTShape LossyImageCompression BurnedInAnnotation ImageLaterality"
    " AnatomicRegionSequence ViewCodeSequence",
    "CT": "ImageType FrameOfReferenceUID ImagePositionPatient ImageOrientationPatient"
    " PixelSpacing RescaleIntercept RescaleSlope",
}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _label_rows(summary: PhantomSummary) -> list[dict[str, str]]:
    with summary.labels_csv.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _auc(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    positive, negative = scores[labels], scores[~labels]
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(wins)


@pytest.fixture(scope="module")
def cxr(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("cxr") / "dicom"
    site = PhantomSite("north", "aurora", 20, 7, "cxr_abnormal", prevalence=0.4, size_px=96)
    return folder, write_site(folder, site)


@pytest.fixture(scope="module")
def cxr_inverted(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("cxr1") / "dicom"
    site = PhantomSite("south", "borealis", 6, 7, "cxr_abnormal", size_px=96)
    return folder, write_site(folder, site)


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("ct") / "dicom"
    site = PhantomSite("west", "borealis", 8, 7, "ct_nodule_malignancy", (1, 3), prevalence=0.5)
    return folder, write_site(folder, site)


@pytest.fixture(scope="module")
def every(cxr: Written, cxr_inverted: Written, ct: Written) -> tuple[Written, ...]:
    return cxr, cxr_inverted, ct


def _small(seed: int, name: str = "east") -> PhantomSite:
    return PhantomSite(name, "cirrus", 2, seed, "ct_nodule_malignancy")


def test_the_same_site_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write_site(tmp_path / name / "dicom", _small(3)) for name in "ab")
    first, second = ([p.read_bytes() for p in _files(tmp_path / name / "dicom")] for name in "ab")
    assert len(first) == one.files
    assert first == second
    assert one.planted == two.planted
    assert one.labels_csv.read_bytes() == two.labels_csv.read_bytes()


@pytest.mark.parametrize("other", [_small(4), _small(3, "elsewhere")])
def test_another_seed_or_name_gives_other_people_and_pixels(
    other: PhantomSite, tmp_path: Path
) -> None:
    one = write_site(tmp_path / "a", _small(3))
    two = write_site(tmp_path / "b", other)
    assert set(one.planted).isdisjoint(two.planted)
    first, second = (dcmread(_files(tmp_path / name)[0]).PixelData for name in "ab")
    assert first != second


def test_every_file_is_valid_when_read_again(every: tuple[Written, ...]) -> None:
    for folder, summary in every:
        files = _files(folder)
        assert len(files) == summary.files
        uids = set()
        for path in files:
            ds = dcmread(path)
            assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
            for keyword in f"{_TYPE_1} {_TYPE_1_OF[ds.Modality]}".split():
                assert not ds[keyword].is_empty, keyword
            assert ds.pixel_array.shape == (ds.Rows, ds.Columns)
            assert int(abs(ds.pixel_array).max()) < 1 << ds.BitsStored
            assert len(str(ds.SOPInstanceUID)) <= 64
            uids.add(ds.SOPInstanceUID)
        assert len(uids) == len(files)


def test_file_names_are_those_of_a_pacs_export(cxr: Written) -> None:
    for path in _files(cxr[0]):
        parts = path.relative_to(cxr[0]).parts
        assert [part[:2] for part in parts] == ["PA", "ST", "SE", "IM"]
        assert all(part[2:].isdigit() and len(part) == 8 for part in parts)


def test_every_planted_value_is_in_the_bytes(every: tuple[Written, ...]) -> None:
    for folder, summary in every:
        data = b"".join(path.read_bytes() for path in _files(folder))
        assert [value for value in summary.planted if value.encode() not in data] == []
        assert [day for day in summary.dates if day.encode() not in data] == []


def test_planted_values_are_distinctive(every: tuple[Written, ...]) -> None:
    seen: set[str] = set()
    for _, summary in every:
        assert len(set(summary.planted)) == len(summary.planted)
        assert all(len(value.encode()) >= 6 for value in summary.planted)
        assert seen.isdisjoint(summary.planted)
        seen.update(summary.planted)


def test_names_are_planted_flat_nested_in_prose_and_in_private_tags(cxr: Written) -> None:
    ds = dcmread(_files(cxr[0])[0])
    name, number = ds.PatientName, ds.PatientID
    family = str(name).split("^")[0]
    before = ds.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert (before.PatientName, before.PatientID) == (name, number)
    assert family in ds.StudyDescription
    assert family in ds.ImageComments and number in ds.ImageComments
    block = ds.private_block(0x0011, "PHANTOM CONSOLE 1.0")
    assert block[0x02].value == name
    assert block[0x10].value[0].PatientID == number
    assert family in block[0x01].value


def test_names_come_in_several_scripts() -> None:
    rng = np.random.default_rng(0)
    text = "".join(invent_patient(rng).name for _ in range(80))
    for low, high in ((0x400, 0x4FF), (0x370, 0x3FF), (0x600, 0x6FF), (0xAC00, 0xD7A3)):
        assert any(low <= ord(letter) <= high for letter in text)
    assert any(0x4E00 <= ord(letter) <= 0x9FFF for letter in text)
    assert any(0x30A0 <= ord(letter) <= 0x30FF for letter in text)


def test_labels_join_every_accession_and_lie_beside_the_folder(every: tuple[Written, ...]) -> None:
    for folder, summary in every:
        rows = _label_rows(summary)
        found = {dcmread(path, stop_before_pixels=True).AccessionNumber for path in _files(folder)}
        assert found == {row["accession"] for row in rows}
        assert len(rows) == summary.studies == len(found)
        assert sum(int(row["label"]) for row in rows) == summary.positives
        assert summary.labels_csv == labels_path(folder)
        assert summary.labels_csv.parent == folder.parent


def test_prevalence_is_honoured_exactly(cxr: Written, ct: Written) -> None:
    assert (cxr[1].studies, cxr[1].positives) == (20, 8)
    assert ct[1].positives == round(ct[1].studies * 0.5)


@pytest.mark.parametrize("prevalence", [0.0, 1.0])
def test_one_class_only_is_possible(prevalence: float, tmp_path: Path) -> None:
    site = PhantomSite("x", "aurora", 5, 1, "cxr_abnormal", (1, 1), prevalence, size_px=64)
    assert write_site(tmp_path / "dicom", site).positives == 5 * prevalence


def test_a_ct_study_is_one_stack_of_eight_regular_slices(ct: Written) -> None:
    folder, summary = ct
    stacks = defaultdict(list)
    patients = set()
    for path in _files(folder):
        ds = dcmread(path, stop_before_pixels=True)
        stacks[ds.AccessionNumber].append(path)
        patients.add(ds.PatientID)
        assert list(ds.PixelSpacing) == [0.7, 0.7]
    assert len(patients) == summary.patients == 8
    assert summary.patients < summary.studies <= 24
    spec = PreprocSpec(modality="CT", size_px=48, slices=8)
    for paths in stacks.values():
        picture = prepare([path.read_bytes() for path in paths], spec)
        assert picture.shape == (8, 48, 48)
        # lung round the nodule, something denser than lung in the centre
        assert np.median(picture) < 0.7 and picture[2:6, 18:30, 18:30].max() > 0.2
    assert all(float(row["diameter_mm"]) > 2.0 for row in _label_rows(summary))


def test_an_inverted_look_shows_the_same_polarity_after_preprocessing(
    cxr: Written, cxr_inverted: Written
) -> None:
    spec = PreprocSpec(modality="CXR", size_px=64)
    for (folder, _), expected in ((cxr, "MONOCHROME2"), (cxr_inverted, "MONOCHROME1")):
        data = _files(folder)[0].read_bytes()
        assert read_dicom(data).PhotometricInterpretation == expected
        picture = prepare([data], spec)[0]
        spine, right_lung = picture[24:40, 30:34].mean(), picture[20:36, 15:22].mean()
        assert spine > right_lung + 0.2


def test_looks_differ_in_header_and_in_pixels_of_the_same_anatomy() -> None:
    anatomy = draw_anatomy(np.random.default_rng(5), is_abnormal=False)
    pictures = {}
    for name, look in RADIOGRAPH_LOOKS.items():
        painter = RadiographPainter(look, 96, np.random.default_rng(1))
        picture = painter.paint(anatomy, np.random.default_rng(2), is_ap=False)
        pictures[name] = picture / (2**look.bits_stored - 1)
    for one, two in pairwise([*pictures.values(), pictures["aurora"]]):
        assert np.abs(one - two).mean() > 0.03
    for looks in (RADIOGRAPH_LOOKS, CT_LOOKS):
        assert len({(look.manufacturer, look.model) for look in looks.values()}) == 3


def _lung_features(picture: NDArray[np.floating]) -> list[float]:
    """Return smoothed local contrast of the lungs and their left-right difference."""
    smooth = gaussian_blur(picture.astype(np.float64), 3.0)
    contrast = smooth - gaussian_blur(picture.astype(np.float64), 10.0)
    lungs = np.r_[18:40, 56:78]
    block, mirrored = smooth[20:66][:, lungs], smooth[20:66, ::-1][:, lungs]
    local = contrast[20:66][:, lungs]
    return [
        float(np.abs(block - mirrored).mean()),
        float(np.quantile(np.abs(block - mirrored), 0.95)),
        float(np.quantile(local, 0.98)),
        float(block.mean()),
        float(local.std()),
    ]


def _fisher_scores(
    features: NDArray[np.floating], labels: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Return Fisher discriminant scores of the second half, fitted on the first."""
    half = len(labels) // 2
    train, flags = features[:half], labels[:half]
    centre, scale = train.mean(axis=0), train.std(axis=0)
    z = (train - centre) / scale
    within = np.cov(z[flags].T) + np.cov(z[~flags].T) + 0.2 * np.eye(z.shape[1])
    direction = np.linalg.solve(within, z[flags].mean(axis=0) - z[~flags].mean(axis=0))
    return ((features[half:] - centre) / scale) @ direction


@pytest.mark.parametrize("name", sorted(RADIOGRAPH_LOOKS))
def test_a_hand_made_detector_separates_radiographs_but_not_perfectly(name: str) -> None:
    look = RADIOGRAPH_LOOKS[name]
    rng = np.random.default_rng(11)
    painter = RadiographPainter(look, 96, rng)
    labels = np.arange(240) % 2 == 1
    features = np.array(
        [
            _lung_features(
                painter.paint(draw_anatomy(rng, is_abnormal=bool(flag)), rng, is_ap=False)
                / (2**look.bits_stored - 1)
            )
            for flag in labels
        ]
    )
    area = _auc(_fisher_scores(features, labels), labels[120:])
    assert 0.7 < area < 0.995


@pytest.mark.parametrize("name", sorted(CT_LOOKS))
def test_nodule_classes_overlap_in_size_and_in_dense_volume(name: str) -> None:
    rng = np.random.default_rng(12)
    painter = NodulePainter(CT_LOOKS[name], rng)
    labels = np.arange(160) % 2 == 1
    nodules = [draw_nodule(rng, is_malignant=bool(flag)) for flag in labels]
    volumes = np.stack([painter.paint(nodule, rng) for nodule in nodules])
    dense = (volumes[:, 2:6, 12:36, 12:36] > -600).mean(axis=(1, 2, 3))
    assert 0.6 < _auc(dense, labels) < 0.95
    diameters = np.array([nodule.diameter_mm for nodule in nodules])
    assert 0.7 < _auc(diameters, labels) < 0.95
    assert volumes.dtype == np.int16 and volumes.min() >= -1024 and volumes.max() <= 3071


def test_conspicuity_makes_lesions_stand_out_and_leaves_normals_alone() -> None:
    plain, strong = (
        draw_anatomy(np.random.default_rng(4), is_abnormal=True, conspicuity=factor)
        for factor in (1.0, 2.0)
    )
    assert sum(one.strength for one in strong.lesions) > sum(one.strength for one in plain.lesions)
    assert len(strong.lesions) == len(plain.lesions)
    normal = draw_anatomy(np.random.default_rng(4), is_abnormal=False, conspicuity=2.0)
    assert normal.lesions == ()


def test_progress_is_told_for_every_patient(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_site(tmp_path / "dicom", _small(1), lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"x")
    with pytest.raises(PhantomFolderNotEmpty):
        write_site(tmp_path, _small(1))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"patients": 0},
        {"prevalence": 1.1},
        {"images_per_patient": (2, 1)},
        {"images_per_patient": (0, 1)},
        {"size_px": 32},
        {"seed": -1},
        {"conspicuity": 0.0},
    ],
)
def test_a_site_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    settings = {"name": "x", "look": "aurora", "patients": 2, "seed": 1, "task": "cxr_abnormal"}
    with pytest.raises(ValueError, match=">="):
        PhantomSite(**{**settings, **wrong})  # type: ignore[arg-type]


def test_pixels_that_do_not_fit_and_inverted_dx_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    site, patient = invent_site(rng), invent_patient(rng)
    study = invent_study(rng, site)
    pixels = np.full((8, 8), 300, dtype=np.uint16)
    eight = RadiographEncoding("m", "n", "CR", "MONOCHROME2", 8, 1.0, "PA")
    inverted = RadiographEncoding("m", "n", "DX", "MONOCHROME1", 12, 1.0, "PA")
    for encoding in (eight, inverted):
        with pytest.raises(ValueError):
            radiograph_object(pixels, encoding, site, patient, study, 1)
    twelve = RadiographEncoding("m", "n", "CR", "MONOCHROME2", 12, 1.0, "PA")
    ds = radiograph_object(pixels, twelve, site, patient, study, 1)
    write_object(tmp_path / "a" / "IM000001", ds)
    with pytest.raises(FileExistsError):
        write_object(tmp_path / "a" / "IM000001", ds)
