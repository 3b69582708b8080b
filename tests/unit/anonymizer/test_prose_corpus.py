"""A corpus of free text with invented people: every name goes, nine words of ten stay.

A frame has the person's words in braces, so each sentence says itself what must go.
"""

from __future__ import annotations

import re

import pytest

from pleura.anonymizer.prose import clean_prose
from pleura.anonymizer.rules import load_rules
from pleura.anonymizer.text import Seeds, fold

TERMS = load_rules().defined_terms
SECRET = re.compile(r"\{([^}]*)\}")
WORD = re.compile(r"[^\W_]+")

# Names, numbers and places the header tells of.
SEEDED = [
    "Chest CT of {Thelwick} with contrast, no prior",
    "{THELWICK, MARGOLD} 64 y, cough and weight loss",
    "Large right pleural effusion in {Margold Thelwick}",
    "No change since last exam of Mrs {Thelwick-Osprel}",
    "{thelwick_margold} thorax lateral view",
    "CT Abdomen {M. Thelwick} portal venous phase",
    "Lungs clear. Heart size normal. {Thelwick}",
    "PA and lateral, {Thelwick's} second visit",
    "Follow up nodule ({HX-55120}) left upper lobe",
    "Transferred from {Gravenmoor Infirmary} with suspected pulmonary embolism",
    "Thorax ap liegend, Patientin {Thelwick} Zustand nach Operation",
    "Radiographie du thorax de face, {Thelwick}, sans épanchement",
    "Radiografía de tórax, {Thelwick}, sin derrame pleural",
    "Bedside chest, tube position, {ÖZGÜRTAN}",
    "{özgürtan} control after drainage",
    "HRCT 1.25mm 120kV B60f {Özgürtan}",
    "Рентген {Кравелин} грудная клетка",
]
# People and numbers no header tells of.
UNSEEDED = [
    "Chest pain, ordered by Dr {Wexholm}",
    "Read by Dr. {Ilka Wexholm} on call, no pneumothorax",
    "Referring physician {Wexholm}, persistent cough",
    "Attending: {Wexholm}. Lungs are clear",
    "Reported by {Wexholm}, findings discussed with the ward",
    "Discussed with Prof. {Wexholm}; repeat in three months",
    "Befund durch Dr. {Wexholm}: kein Erguss",
    "Frau {Wexholm}, Kontrolle nach Drainage",
    "Sr. {Wexholm}, dolor de pecho",
    "Patient: {Wexholm Ilka} Chest routine",
    "Name: {Wexholm}, Lung window",
    "MRN {4471902} chest routine",
    "DOB: {03/07/1941} male with fever",
    "History: {93} year old woman with dyspnea",
    "Call back {555-013-4477} if worse",
    "Tel. {030 5550 1344} Station drei, Thorax",
    "Compare with CT of {12.03.2019}, stable nodule",
    "Prior from {March 12, 2019} shows the same mass",
    "Acquired {2019-03-12} at {14:35} with low dose",
    "Send report to {ward7@gravenmoor.example} today",
    "Images at {http://10.2.3.4/view?id=7} for review",
    "SSN {219-09-9999} emergency chest film",
]
HARMLESS = [
    "Thorax routine 1.5mm B70f", "CT chest w/o contrast 120 kV 80 mAs", "Lung 5.0 FC51",
    "Chest PA and lateral, two views", "Pulmonary embolism protocol", "Recon 3: lung kernel",
    "No focal consolidation, pleural effusion or pneumothorax", "LUNG 1.0 mm axial MIP",
    "Heart size is normal. The mediastinal contours are unremarkable.", "T1 TSE axial fat sat",
    "Interstitial markings are mildly increased compared with the previous examination",
    "Right internal jugular catheter tip projects over the superior vena cava",
    "Status post sternotomy; small left basal atelectasis has decreased in size",
    "Thorax pa stehend, Lunge frei, Herz nicht vergrößert",
    "Nodule in the right upper lobe measures 8 x 6 mm, previously 7 x 6 mm",
]  # fmt: skip


def seeds(*, seeded: bool = True) -> Seeds:
    made = Seeds(terms=TERMS)
    if seeded:
        for name in ("Thelwick^Margold", "Özgürtan^Ayb", "Кравелин^Таро", "Thelwick-Osprel^Nan"):
            made.add_name(name)
        made.add_identifier("HX-55120")
        made.add_identifier("Gravenmoor Infirmary")
    return made


def judge(frame: str, made: Seeds, *, strict: bool) -> tuple[list[str], int, int]:
    """Return the secret words that are left, and kept and wanted harmless words."""
    text = SECRET.sub(lambda m: m[1], frame)
    left = set(WORD.findall(fold(clean_prose(text, made, strict=strict, terms=TERMS).text)))
    secret = {w for part in SECRET.findall(frame) for w in WORD.findall(fold(part)) if len(w) > 1}
    harmless = WORD.findall(fold(SECRET.sub(" ", frame)))
    return sorted(secret & left), sum(word in left for word in harmless), len(harmless)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("frame", SEEDED)
def test_a_person_of_the_header_is_gone(frame: str, strict: bool) -> None:
    assert judge(frame, seeds(), strict=strict)[0] == []


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("frame", UNSEEDED)
def test_a_person_no_header_tells_of_is_gone(frame: str, strict: bool) -> None:
    assert judge(frame, seeds(seeded=False), strict=strict)[0] == []


@pytest.mark.parametrize("strict", [False, True])
def test_nine_of_ten_harmless_words_stay(strict: bool) -> None:
    kept = wanted = 0
    for frames, made in ((SEEDED + HARMLESS, seeds()), (UNSEEDED, seeds(seeded=False))):
        for frame in frames:
            _, stayed, all_words = judge(frame, made, strict=strict)
            kept, wanted = kept + stayed, wanted + all_words
    assert wanted > 300
    assert kept / wanted >= 0.9, f"{kept} of {wanted}"
