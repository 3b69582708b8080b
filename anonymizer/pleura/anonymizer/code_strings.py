"""Code strings: which values of VR CS are terms, and which may hold a name, number or date.

Makers put terms of their own into CS (`CT_SOM5 SPI`), so that a word the standard lacks is not
enough. A value goes if a pattern of prose finds something in it, or if it has a word of five
letters or more that neither the vocabulary of medicine nor the terms here know. What makers write
as the type of an image has more such words and nobody types it in: there a single one stays.
The header's own values are the caller's to look for. Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from pleura.anonymizer.months import any_of
from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.vocabulary import is_known_word

IMAGE_TYPES: Final = frozenset({0x00080008, 0x00089007})
MIN_NAME: Final = 3
MIN_LONE_NAME: Final = 5  # shorter words are abbreviations oftener than names

_TERMS: Final = """
mesentrica mesentricv hepaticv hepatica splenica splenicv renala renalv portalv femorala iliaca
subclaviana poplitea popliteala pulmonarya cerebrala vertebrala basilara gastrica ophthalmica
occpitala occiptalv occipitalv midhepaticv morisonspouch circleofwillis choroidplexus chabdpelv
innerauditorycan latrium rventricle csaparallel csamanip mfsplit posdisp tracew phasemap distcorr
ttest channelmix screensave volrec cardresp dixon mdixon unenhanc rtportal enface polyline cutline
rangeline infiniteline closedplanar scintillator photostimulable gasseous craniocaudal autofilter
capacitive smartprep endoscopic singleshot echoplanar turbo grappa caipirinha steadystate monopolar
pseudocontinuous bmatrix breathhold freebreathing phasedarray transcranial curvilinear urorad
radiopharm deadtime mconv rtrecord externalbeam cyberknife asymx asymy portfilm irrad afterloading
stepwise truesize rowcol superslide hotiron triplane periph visualacuity autofluorescenc aplanatic
pseudophakic funduscamera scanninglaser vasctof iflow spiralqir noreformat mprage trufi spair zoomit
denoised deblurred uniformized motioncorr advmr diffusionmap colfa colourfa bvalue magimg phaimg
aslperf qaphantom dailyqa testpattern scanneddoc dosereport patientprotocol examprotocol summer
autumn abdom riesz linearvoi linearmodality qiicr dcmqi pydicom medcom conformant
schaedel schulter huefte wirbelsaeule halswirbelsaeule brustwirbelsaeul lendenwirbelsaeu
oberschenkel unterschenkel oberarm unterarm handgelenk sprunggelenk ellenbogen kiefer
nasennebenhoehle gehirn gefaesse genou epaule hanche poignet cheville coude rachis craneo rodilla
hombro cadera tobillo muneca torace addome ginocchio spalla bacino colonna rachide encefalo polmone
fegato hoofd bekken schouder wervelkolom chabd ffe tfe tse
"""
# What body parts are made of where no space is between them (PS3.16 Annex L): HEADNECK, UPPERLEG.
_PARTS: Final = """
abd abdomen abdominal aorta aortic arch arm artery atrium auditory bile body bone brain breast
canal carotid cervical chest choroid colon common coronary ct duct ear elbow eye femur fibula foot
hand head heart hip humerus intestine internal joint kidney knee large left leg limb liver lower
lumbar lung lwr mandible neck no optic other pancreas pancreatic panc part pel pelv pelvis plexus
portal pulmonary radius renal rib right sacral shoulder sinus skull small spine stomach thoracic
thorax thigh tibia tl total trunk ulna unknown upper upr vein ventricle whole wrist half
low of and to ac si ls
"""
_TERM: Final = frozenset(_TERMS.split())
_COMPOUND: Final = re.compile(rf"[cstl]{{1,2}}spine|(?:{any_of(_PARTS.split())}){{2,6}}")
_RUN: Final = re.compile(r"[a-z]+")
_STANDARD: Final = re.compile(r"iso_\d{5}_\d{1,2}")  # how an image is compressed
# MR, MS and DR are modalities as well as titles: what an unknown word after them is, tells.
_MODALITY: Final = re.compile(r"(?<![a-z])(?:mr|ms|dr)(?![a-z])")
_TITLED: Final = re.compile(r"(?<![a-z])(?:mr|ms|dr)\s+([a-z]+)")
_MONTHLIKE: Final = re.compile(
    r"(?:jan|feb|mar|apr|may|mai|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]{2,}"
)
_INITIAL: Final = re.compile(r"(?<![^ ])(?:[a-z] ([a-z]{3,})|([a-z]{3,}) [a-z])(?![^ ])")
_NO_SEEDS: Final = Seeds()


@lru_cache(maxsize=4096)
def names_nobody(code: str, *, is_image_type: bool = False) -> bool:
    """Return whether a lawful CS value that is no term of the standard may stay."""
    plain = code.strip().lower()
    if _STANDARD.fullmatch(plain):
        return True
    spaced = plain.replace("_", " ")
    if any(map(_has_pattern, {plain, spaced})):
        return False
    unknown = {run for run in _RUN.findall(plain) if len(run) >= MIN_NAME and not _is_term(run)}
    if not unknown:
        return True
    beside = {match[1] or match[2] for match in _INITIAL.finditer(plain)}
    if unknown & (beside | set(_TITLED.findall(spaced))):
        return False
    alone = [run for run in unknown if len(run) >= MIN_LONE_NAME]
    return not alone or (is_image_type and len(unknown) == 1)


def _has_pattern(text: str) -> bool:
    text = _MONTHLIKE.sub(lambda m: "ct" if is_known_word(m[0]) else m[0], text)
    text = _MODALITY.sub("ct", text)
    terms: frozenset[str] = frozenset()
    return clean_prose(text, _NO_SEEDS, strict=False, terms=terms).removed_words > 0


def _is_term(run: str) -> bool:
    return run in _TERM or is_known_word(run) or _COMPOUND.fullmatch(run) is not None
