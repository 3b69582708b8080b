"""Build `tables/part15.json` and `tables/keep.json` of the anonymizer.

Source: PS3.15 Table E.1-1 edition 2024e with its option columns (a JSON file given on the
command line), the 35 attributes that edition 2026c adds, and Pleura's own house rows.
Keys are tag numbers, since dictionaries lag behind the standard.

    python tools/build_rules.py ../shared/data/ps315_table_e1_1.json
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydicom.datadict import DicomDictionary

TABLES: Final = Path(__file__).parents[1] / "anonymizer" / "pleura" / "anonymizer" / "tables"

OPTION_COLUMNS: Final[Mapping[str, str]] = {
    "rtn_safe_priv": "safe_private",
    "rtn_uids": "uids",
    "rtn_dev_id": "device",
    "rtn_inst_id": "institution",
    "rtn_pat_chars": "patient_chars",
    "rtn_long_full_dates": "full_dates",
    "rtn_long_modif_dates": "modified_dates",
    "clean_desc": "descriptors",
    "clean_struct_cont": "structured",
    "clean_graph": "graphics",
}

# Added by PS3.15 editions after 2024e up to 2026c; no option applies to any of them.
ADDED_2026C: Final[Mapping[str, tuple[str, str]]] = {
    "00081301": ("X", "Principal Diagnosis Code Sequence"),
    "00081302": ("X", "Primary Diagnosis Code Sequence"),
    "00081303": ("X", "Secondary Diagnoses Code Sequence"),
    "00081304": ("X", "Histological Diagnoses Code Sequence"),
    "00100011": ("X", "Person Names to Use Sequence"),
    "00100012": ("X", "Name to Use"),
    "00100013": ("X", "Name to Use Comment"),
    "00100014": ("X", "Third Person Pronouns Sequence"),
    "00100015": ("X", "Pronoun Code Sequence"),
    "00100016": ("X", "Pronoun Comment"),
    "00100041": ("X", "Gender Identity Sequence"),
    "00100042": ("X", "Sex Parameters for Clinical Use Category Comment"),
    "00100043": ("X", "Sex Parameters for Clinical Use Category Sequence"),
    "00100044": ("X", "Gender Identity Code Sequence"),
    "00100045": ("X", "Gender Identity Comment"),
    "00100046": ("X", "Sex Parameters for Clinical Use Category Code Sequence"),
    "00100047": ("X", "Sex Parameters for Clinical Use Category Reference"),
    "00102161": ("X", "Ethnic Group Code Sequence"),
    "00102162": ("X", "Ethnic Groups"),
    "00181010": ("X", "Secondary Capture Device ID"),
    "00181011": ("X", "Hardcopy Creation Device ID"),
    "003A0020": ("X", "Multiplex Group Label"),
    "003A0203": ("X", "Channel Label"),
    "003A020C": ("X", "Channel Derivation Description"),
    "00400556": ("X", "Acquisition Context Description"),
    "0040A034": ("X", "Effective Start DateTime"),
    "0040A035": ("X", "Effective Stop DateTime"),
    "0040B020": ("X/D", "Waveform Annotation Sequence"),
    "0040B034": ("X", "Annotation DateTime"),
    "0040B036": ("X", "Segment Definition DateTime"),
    "0040B03B": ("X", "Montage Name"),
    "0040B03F": ("X", "Montage Channel Label"),
    "0040E012": ("X", "Display URI"),
    "00700006": ("D", "Unformatted Text Value"),
    "300A0054": ("U", "Table Top Position Alignment UID"),
}

# Pleura's own rows: identifying attributes the table does not list.
HOUSE: Final[Mapping[str, tuple[str, str]]] = {
    "00100033": ("X", "Patient's Birth Date in Alternative Calendar"),
    "00100034": ("X", "Patient's Death Date in Alternative Calendar"),
    "00181003": ("X", "Device ID"),
    "00181006": ("X", "Grid ID"),
    "00181803": ("X", "NTP Source Address"),
    "30020020": ("X", "Radiation Machine Name"),
    "0074100C": ("X", "Contact Display Name"),
    "21000160": ("X", "Owner ID"),
    # Who assigned a number: names an institution, but one of the two has to be there.
    "00400031": ("X/D", "Local Namespace Entity ID"),
    "00400032": ("X/D", "Universal Entity ID"),
    "00880130": ("X", "Storage Media File-set ID"),
    # Numbers and names of orders, jobs, registries and devices.
    "00102295": ("X", "Breed Registration Number"),
    "00181801": ("X", "Time Source"),
    "00189186": ("X", "Respiratory Signal Source ID"),
    "00280061": ("X", "Compression Originator"),
    "00401006": ("X", "Placer Order Number / Procedure"),
    "00401007": ("X", "Filler Order Number / Procedure"),
    "00401008": ("X", "Confidentiality Code"),
    "00402006": ("X", "Placer Order Number / Imaging Service Request (Retired)"),
    "00402007": ("X", "Filler Order Number / Imaging Service Request (Retired)"),
    "0044000A": ("X", "Product Lot Identifier"),
    "00440012": ("X", "Substance Administration Device ID"),
    "00540400": ("X", "Image ID"),
    "00720008": ("X", "Hanging Protocol Creator"),
    "00720010": ("X", "Hanging Protocol User Group Name"),
    "00820016": ("X", "Assessment Set ID"),
    "01000426": ("X", "Authorization Equipment Certification Number"),
    "20000050": ("X", "Film Session Label"),
    "21000010": ("X", "Print Job ID"),
    "21100030": ("X", "Printer Name"),
    "21100099": ("X", "Print Queue ID"),
    # Made or bar-coded for one patient.
    "300A00DC": ("X", "Bolus ID"),
    "300A00E5": ("X", "Compensator ID"),
    "300A00F9": ("X", "Accessory Code"),
    "300A0354": ("X", "Patient Support Accessory Code"),
    "300A0355": ("X", "Tray Accessory Code"),
    "40080103": ("X", "Reference to Recorded Sound"),
    # Codes of people and services, and diagnoses as in 2026c.
    "00321031": ("X", "Requesting Physician Identification Sequence"),
    "00321034": ("X", "Requesting Service Code Sequence"),
    "00380044": ("X", "Discharge Diagnosis Code Sequence"),
    "0040A028": ("X", "Documenting Organization Identifier Code Sequence (Trial)"),
    "0040A066": ("X", "Document Identifier Code Sequence (Trial)"),
    "0040A068": ("X", "Document Author Identifier Code Sequence (Trial)"),
    "0040A070": ("X", "Identifier Code Sequence (Trial)"),
    "0040A076": ("X", "Documenting Observer Identifier Code Sequence (Trial)"),
    "0040A085": ("X", "Procedure Identifier Code Sequence (Trial)"),
    "0072000E": ("X", "Hanging Protocol User Identification Code Sequence"),
    "40080117": ("X", "Interpretation Diagnosis Code Sequence"),
    # A length of a stream that is rewritten; only video needs it.
    "7FE00003": ("X", "Encapsulated Pixel Data Value Total Length"),
    # Statements about the pixels are never trusted on input.
    "00280301": ("X", "Burned In Annotation"),
    "00280302": ("X", "Recognizable Visual Features"),
    # What an earlier de-identification wrote is replaced by what this one did.
    "00120062": ("X", "Patient Identity Removed"),
    "00120063": ("X", "De-identification Method"),
    "00120064": ("X", "De-identification Method Code Sequence"),
    "00280303": ("X", "Longitudinal Temporal Information Modified"),
}
# House rows that an option of the standard changes, as it does those of their like.
HOUSE_OPTIONS: Final[Mapping[str, tuple[str, dict[str, str]]]] = {
    "00101022": ("Patient's Body Mass Index", {"patient_chars": "K"}),
} | {
    key: (name, {"descriptors": "C"})
    for key, name in (
        ("00189908", "Potential Reasons for Procedure"),
        ("0018990A", "Potential Diagnostic Tasks"),
        ("00287007", "System Status Comment"),
        ("0028702A", "Test Result Comment"),
        ("00380102", "Resource Description"),
        ("00400255", "Performed Procedure Type Description"),
        ("00401060", "Requested Procedure Description (Trial)"),
        ("0040A492", "Completion Flag Description"),
        ("00440011", "Substance Administration Notes"),
        ("0074140B", "Reason for Channel Omission Description"),
        ("30040006", "Dose Comment"),
        ("300600C8", "Frame of Reference Transformation Comment"),
    )
}
HOUSE_GROUPS: Final[Mapping[str, str]] = {"0014": "X", "4010": "X"}

# Bulk data that may stay: pixels, look-up tables, segment and parametric data, the outline of
# a collimator. Of colour profiles only the colours stay.
BULK: Final[tuple[str, ...]] = (
    "7FE00001", "7FE00002", "7FE00008", "7FE00009", "7FE00010",
    "00281201", "00281202", "00281203", "00281204",
    "00281211", "00281212", "00281213", "00281221", "00281222", "00281223", "00281224",
    "00181638", "00281408", "00282000", "00283006",
    "00640009", "00660016", "00660021", "00660022", "00660023", "00660024", "00660025",
    "00660029", "00660040", "00660041", "00660042", "00660043", "00660103", "00660125", "00660129",
    "006A0011",
)  # fmt: skip
BULK_VRS: Final = frozenset({"OB", "OW", "OF", "OD", "OL", "OV"})
REMOVED_VRS: Final = frozenset({"PN", "UR", "UN", "AE", "LT", "ST", "UT"})
# Texts an image, segment or report may not be without (type 1C): cleaned word by word, a dummy
# where no word is left. Metabolite Map Description, Text Value, Tracking ID.
CLEANED_TEXTS: Final = frozenset({"00189080", "0040A160", "00620020"})

# CS and short-text words with a defined meaning: never taken for a name.
_TERMS = """
ORIGINAL DERIVED PRIMARY SECONDARY AXIAL LOCALIZER REFORMATTED OTHER MPR MIP MINIP VOLUME
AVERAGE MONOCHROME1 MONOCHROME2 RGB PALETTE COLOR YBR_FULL YBR_FULL_422 YBR_ICT YBR_RCT
YBR_PARTIAL_420 CT MR PT CR DX MG US RF XA NM SC SM SR SEG OT ES XC ECG RTSTRUCT RTDOSE RTPLAN
RTIMAGE PR KO REG RWV PMAP FID DOC GE AP PA LL RL RLD LLD RLO LLO L R LT RT B U A P H F HF FF
HFS HFP FFS FFP HFDR HFDL FFDR FFDL CHEST THORAX LUNG ABDOMEN PELVIS HEAD NECK BRAIN SPINE HEART
BREAST WHOLEBODY YES NO NONE M F O ISO_IR IR 100 101 109 110 126 127 138 144 148 166 192 203
GB18030 GBK ISO 2022 6 13 58 87 149 159 IDENTITY LINEAR LINEAR_EXACT SIGMOID HU US OD MGML BQML
CNTS PROPCNTS GML NORM STANDARD BONE SOFT DETAIL EDGE HELICAL SPIRAL AXIAL STATIC DYNAMIC GATED
FAST SLOW START END DECY ADMIN BINARY FRACTIONAL LABELMAP OCCUPANCY PROBABILITY AUTOMATIC
SEMIAUTOMATIC MANUAL CONTAINER CONTAINS TEXT CODE NUM PNAME DATE TIME DATETIME UIDREF IMAGE
WAVEFORM COMPOSITE SCOORD SCOORD3D TCOORD SEPARATE CONTINUOUS VERIFIED UNVERIFIED COMPLETE
PARTIAL HAS PROPERTIES OBS CONTEXT ACQ CONCEPT MOD INFERRED FROM SELECTED DCMR DCM SCT SRT LN
UCUM FMA CLOSED_PLANAR POINT POINTZ CONVEX DSI WSD DI DV DF DRW SD FULL TILED_FULL TILED_SPARSE
3D 2D 00 01 02 03 VOXEL DISTANCE PHYSICAL GY RELATIVE PLAN BEAM UNCALIBRATED AUTO AEC ISO_2375
RESAMPLED MIXED BLENDED PERFUSION DIFFUSION ANGIO TOF FUNCTIONAL RCBF RCBV MTT TTP ADC
"""
DEFINED_TERMS: Final[tuple[str, ...]] = tuple(_TERMS.split())

# Groups (beyond those with table rows) that the `minimal` list keeps: identification of the
# object, acquisition, geometry, image, segments, surfaces, structure sets, real-world values.
MINIMAL_GROUPS: Final[tuple[str, ...]] = (
    "0008", "0010", "0012", "0018", "0020", "0028", "0040", "0048", "0054", "0062", "0066", "006A",
    "0070", "2050", "3006", "5200", "7FE0",
)  # fmt: skip

# Words in an attribute's keyword that say its value may single out a person, site or order.
_IDENTIFYING = re.compile(
    r"(ID|IDs|Number|Numbers|Address|Telephone.*|Phone.*|Institution.*|Station.*|Serial.*"
    r"|Accession.*|Locator|Insurance.*|Issuer.*|Email.*|CountryOf.*|Region.*|MachineName|Identifier"
    r"|PlacerOrder.*|FillerOrder.*|AETitle|AE|URI|URL|MilitaryRank|Department.*|Organization|Residence)$"
)

# Removed, but often an ordinary word or a short number: searched for, it would cost other words.
_NO_SEEDS: Final = frozenset({"00540400", "00820016", "300A00DC", "300A00E5"})


def tag_key(tag: str) -> str:
    """Return `(0008,0050)` as `00080050`; masks keep their `X` digits."""
    match = re.fullmatch(r"\(([0-9A-FX]{4}),([0-9A-FX]{4})\)", tag)
    return match[1] + match[2] if match else "PRIVATE"


def build_part15(source: Mapping[str, object]) -> dict[str, object]:
    """Merge the 2024e table, the 2026c additions and the house rows."""
    rows: dict[str, dict[str, object]] = {}
    listed = source["rows"]
    if not isinstance(listed, list):
        raise TypeError("rows is not a list")
    for row in listed:
        options = {OPTION_COLUMNS[c]: row[c] for c in OPTION_COLUMNS if row[c]}
        rows[tag_key(row["tag"])] = {
            "name": row["name"], "basic": row["basic"], "options": options, "edition": "2024e",
        }  # fmt: skip
    for origin, extra in (("2026c", ADDED_2026C), ("house", HOUSE)):
        for key, (action, name) in extra.items():
            if key in rows:
                raise ValueError(f"{key} is listed twice")
            rows[key] = {"name": name, "basic": action, "options": {}, "edition": origin}
    for key, (name, options) in HOUSE_OPTIONS.items():
        if key in rows:
            raise ValueError(f"{key} is listed twice")
        rows[key] = {"name": name, "basic": "X", "options": options, "edition": "house"}
    return {
        "edition": "2026c",
        "source": str(source["source"]),
        "rows": dict(sorted(rows.items())),
        "house_groups": dict(HOUSE_GROUPS),
    }


def is_kept(tag: int, vr: str) -> bool:
    """Return whether a dictionary attribute without a row may stay at all."""
    vrs = set(vr.split(" or "))
    if f"{tag:08X}" in BULK or f"{tag:08X}" in CLEANED_TEXTS:
        return True
    return tag >> 16 >= 8 and not vrs & (REMOVED_VRS | BULK_VRS | {"NONE"})


def build_keep(part15: Mapping[str, object]) -> dict[str, object]:
    """Return dictionary minus table, house rows and VR rules, plus the word lists."""
    rows = part15["rows"]
    groups = part15["house_groups"]
    if not isinstance(rows, dict) or not isinstance(groups, dict):
        raise TypeError("part15 has another shape")
    keep: dict[str, list[str]] = {}
    identifying: list[str] = []
    for tag, entry in sorted(DicomDictionary.items()):
        key = f"{tag:08X}"
        if key in rows:
            is_name = _IDENTIFYING.search(entry[4]) and "Sequence" not in entry[4]
            if is_name and key not in _NO_SEEDS:
                identifying.append(key)
        elif key[:4] not in groups and is_kept(tag, entry[0]):
            keep.setdefault(key[:4], []).append(key[4:])
    return {
        "keep": keep,
        "bulk": list(BULK),
        "minimal_groups": list(MINIMAL_GROUPS),
        "defined_terms": sorted(set(DEFINED_TERMS)),
        "identifying": identifying,
    }


def render(value: Mapping[str, object]) -> str:
    """Return `value` as JSON with one top-level entry a line, for readable diffs."""
    parts = []
    for name, entry in value.items():
        if isinstance(entry, dict):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in entry.items())
            parts.append(f"{json.dumps(name)}: {{\n{inner}\n}}")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(entry)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write both tables beside the package's profiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=TABLES)
    arguments = parser.parse_args()
    part15 = build_part15(json.loads(arguments.source.read_text(encoding="utf-8")))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "part15.json").write_text(render(part15), encoding="utf-8")
    (arguments.out / "keep.json").write_text(render(build_keep(part15)), encoding="utf-8")


if __name__ == "__main__":
    main()
