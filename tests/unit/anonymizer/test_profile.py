"""Profiles as data: what each does, what may be added, and what it may claim."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from pleura.anonymizer.errors import OptionRefused
from pleura.anonymizer.profile import METHOD_MEANINGS, OPTION_NAMES, PROFILE_NAMES, Profile
from pleura.anonymizer.profile import load_profile as load

HIPAA, GDPR, RESEARCH = map(load, ("hipaa_safe_harbor", "gdpr_pseudonymous", "research_dates"))


def test_the_profiles_are_those_of_the_design() -> None:
    assert (HIPAA.pseudonyms, HIPAA.dates, HIPAA.keep) == ("random", "remove", "standard")
    assert (GDPR.pseudonyms, GDPR.dates, GDPR.keep) == ("hmac", "shift", "minimal")
    assert (RESEARCH.pseudonyms, RESEARCH.dates, RESEARCH.keep) == ("hmac", "shift", "standard")
    assert [load(name).name for name in PROFILE_NAMES] == list(PROFILE_NAMES)


@pytest.mark.parametrize(
    ("profile", "codes"),
    [
        (HIPAA, "100 101 105"),
        (GDPR, "100 101 103 104 105 107"),
        (RESEARCH, "100 101 105 107 108 109 111"),
    ],
    ids=PROFILE_NAMES,
)
def test_the_codes_are_those_of_the_design_and_101_only_if_pixels_were_read(
    profile: Profile, codes: str
) -> None:
    expected = tuple("113" + code for code in codes.split())
    assert profile.method_codes(pixels_read=True) == expected
    assert profile.method_codes(pixels_read=False) == tuple(c for c in expected if c != "113101")
    assert set(expected) <= METHOD_MEANINGS.keys()


@pytest.mark.parametrize("code", ["113106", "113110", "113112"])
def test_what_is_never_offered_is_never_claimed(code: str) -> None:
    assert code not in METHOD_MEANINGS


def test_an_offered_option_sets_its_field() -> None:
    assert HIPAA.with_options(["year_only"]).year_only
    assert HIPAA.with_options(["patient_chars"]).retain_patient_characteristics
    assert GDPR.with_options(["shift_time", "strict_prose"]).shift_time
    assert GDPR.with_options([], keep="standard").keep == "standard"
    assert RESEARCH.with_options(["structured"]).clean_structured_content
    assert HIPAA.with_options([]) == HIPAA
    assert HIPAA.with_options(["year_only"]).digest != HIPAA.digest


@pytest.mark.parametrize("name", ["shift_time", "device", "safe_private", "full_dates", ""])
def test_safe_harbor_refuses_what_would_break_it(name: str) -> None:
    with pytest.raises(OptionRefused, match="year_only"):
        HIPAA.with_options([name])


def test_a_profile_that_contradicts_itself_is_refused() -> None:
    base = {"name": "own", "basis": "none"}
    for wrong in (
        {"dates": "shift", "year_only": True},
        {"dates": "remove", "shift_time": True},
        {"dates": "remove", "offers": ["everything"]},
        {"dates": "shift", "max_shift_days": 29},
        {"dates": "keep"},
        {"dates": "remove", "keep_all": True},
    ):
        with pytest.raises(ValidationError):
            Profile.model_validate(base | wrong)


def test_of_a_justification_only_the_digest_is_told() -> None:
    assert GDPR.justification_sha256 is None
    reason = "Nodules must be followed over several studies."
    justified = GDPR.with_justification(f" {reason}\n")
    assert justified.justification_sha256 == hashlib.sha256(reason.encode()).hexdigest()
    assert justified.digest == GDPR.digest
    for text in ("", "  ", "x" * 2001):
        with pytest.raises(OptionRefused):
            GDPR.with_justification(text)
    with pytest.raises(OptionRefused):
        HIPAA.with_justification(reason)


def test_every_option_can_be_had_somewhere_or_is_part_of_a_profile() -> None:
    offered = {name for profile in (HIPAA, GDPR, RESEARCH) for name in profile.offers}
    assert set(OPTION_NAMES) - offered == {"device", "safe_private"}
