"""Profiles: which options of PS3.15 Annex E a de-identification applies.

A profile is data (`profiles/*.toml`), parsed once. Only options that are really carried out
exist here, and `method_codes` lists exactly the CID 7050 codes they allow to claim.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import as_file, files
from typing import Final, Literal, Self

from pydantic import BaseModel, Field

from pleura.anonymizer.errors import UnknownProfile
from pleura.common.config import load_toml

PROFILE_NAMES: Final = ("hipaa_safe_harbor", "gdpr_pseudonymous", "research_dates")

# PS3.16 CID 7050; the meanings are the code meanings of PS3.16 Annex D.
METHOD_MEANINGS: Final = {
    "113100": "Basic Application Confidentiality Profile",
    "113104": "Clean Structured Content Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
}


class Profile(BaseModel, frozen=True, extra="forbid"):
    """One de-identification profile.

    `max_shift_days` is N of the date shift: every date moves by 1 to N days, either way.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,39}$")
    dates: Literal["remove", "shift"]
    max_shift_days: int = Field(default=365, ge=30, le=3650)
    pseudonyms: Literal["hmac"] = "hmac"
    keep: Literal["standard", "minimal"] = "standard"
    clean_structured_content: bool = False
    retain_patient_characteristics: bool = False
    retain_device_identity: bool = False
    basis: str = Field(max_length=200)

    @property
    def options(self) -> frozenset[str]:
        """Option columns of Table E.1-1 that are active."""
        return _options(
            self.dates == "shift",
            self.clean_structured_content,
            self.retain_patient_characteristics,
            self.retain_device_identity,
        )

    @property
    def method_codes(self) -> tuple[str, ...]:
        """CID 7050 codes of what is done, in ascending order."""
        codes = {
            "113100": True,
            "113104": self.clean_structured_content,
            "113107": self.dates == "shift",
            "113108": self.retain_patient_characteristics,
            "113109": self.retain_device_identity,
        }
        return tuple(code for code, on in codes.items() if on)

    def with_patient_characteristics(self) -> Self:
        """Return this profile keeping sex, capped age, size and weight.

        For a task that declares it needs them (data minimisation, GDPR 5(1)(c)).
        """
        return self.model_copy(update={"retain_patient_characteristics": True})

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the profile's settings."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@cache
def _options(shifts: bool, structured: bool, characteristics: bool, device: bool) -> frozenset[str]:
    active = {
        "modified_dates": shifts,
        "structured": structured,
        "patient_chars": characteristics,
        "device": device,
    }
    return frozenset(name for name, on in active.items() if on)


def load_profile(name: str) -> Profile:
    """Return the shipped profile `name`.

    Raises:
        UnknownProfile: no profile of that name is shipped.
        ConfigError: the profile file is damaged.
    """
    if name not in PROFILE_NAMES:
        raise UnknownProfile(f"known are {', '.join(PROFILE_NAMES)}")
    with as_file(files("pleura.anonymizer") / "profiles" / f"{name}.toml") as path:
        return load_toml(path, Profile)
