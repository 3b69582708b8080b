"""The files the bench plants into, over modalities, encodings and makers.

No encapsulated documents and no heads: Pleura refuses both as a whole (SOP_REFUSED,
FACE_IN_FIELD), whatever was planted in them, so there is nothing to compare.
"""

from __future__ import annotations

from tests.benchmarks.deid.planting import Case

_CORNERSTONE = "cornerstonejs__cornerstoneWADOImageLoader/testImages_CTImage.dcm"
_AXIAL = "SaltyJoke__Image-Registration/A002304_axial"

CASES = (
    # CT
    Case("QIICR__dcmqi/ct-3slice_01.dcm"),
    Case("QIICR__dcmqi/ct-3slice_02.dcm"),
    Case("QIICR__dcmqi/ct-3slice_03.dcm"),
    Case(f"{_AXIAL}_19001231-076.dcm"),
    Case(f"{_AXIAL}_19010112-135.dcm"),
    Case(f"{_CORNERSTONE}_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm"),
    Case(f"{_CORNERSTONE}_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm"),
    Case(f"{_CORNERSTONE}_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm"),
    Case(f"{_CORNERSTONE}_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm"),
    Case("QIICR__dcmqi/multiframe_mf.dcm"),
    Case("QIICR__dcmqi/image_IMG0001.dcm"),
    Case("QIICR__dcmqi/image_IMG0002.dcm"),
    Case("ImagingDataCommons__highdicom/test_files_ct_image.dcm"),
    Case("dcm4che__dcm4che/resources_CT-JPEGLosslessSV1.dcm"),
    # MR
    Case("dcm4che__dcm4che/dicom_MR01.dcm"),
    Case("dcm4che__dcm4che/dicom_MR02.dcm"),
    Case("dcm4che__dcm4che/resources_MR-JPEGLosslessSV1.dcm"),
    Case("pydicom__pydicom-data/data_MR-SIEMENS-DICOM-WithOverlays.dcm"),
    Case("QIICR__dcmqi/paramaps_pm-example-slice.dcm"),
    # CR, DX
    Case("pydicom__pydicom-data/data_RG3_J2KR.dcm", text=True, has_real_text=True),
    Case("mlmed__torchxrayvision/tests_Fake_MONOHR1.dcm", text=True, has_real_text=True),
    Case("ImagingDataCommons__highdicom/test_files_dx_image.dcm", has_real_text=True),
    # US, OT
    Case("pydicom__deid-data/ultrasounds_RGB_IMAGE.dcm", text=True, has_real_text=True),
    Case("pydicom__deid-data/ultrasounds_GREYSCALE_IMAGE.dcm", text=True, has_real_text=True),
    Case("pydicom__pydicom-data/data_OBXXXX1A.dcm", has_real_text=True),
    Case("dcm4che__dcm4che/resources_YBR_FULL-RLE.dcm", has_real_text=True),
    Case("dcm4che__dcm4che/resources_test16signed.dcm", text=True, has_real_text=True),
    # SEG, SR, parametric map, slide
    Case("ImagingDataCommons__highdicom/test_files_seg_image_ct_binary.dcm"),
    Case("QIICR__dcmqi/segmentations_liver.dcm"),
    Case("QIICR__dcmqi/sr-example_seg.dcm"),
    Case("pydicom__pydicom-data/data_liver_rle.dcm"),
    Case("ImagingDataCommons__highdicom/test_files_sr_document.dcm"),
    Case("QIICR__dcmqi/sr-example_sr.dcm"),
    Case("dcm4che__dcm4che/resources_Tag-0040-A170-VR-CS.dcm"),
    Case("pydicom__pydicom-data/data_parametric_map_float.dcm"),
    Case("ImagingDataCommons__highdicom/test_files_sm_image.dcm", has_real_text=True),
)
