"""Profiles: which options of PS3.15 Annex E a de-identification applies.

A profile is data (`profiles/*.toml`), parsed once. Only options that are really carried out
exist here, and `method_codes` lists exactly the CID 7050 codes they allow to claim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Final, Literal, Self

from pydantic import BaseModel, Field, model_validator

from pleura.anonymizer.errors import MappingRequired, OptionRefused, UnknownProfile
from pleura.common.config import load_toml

PROFILE_NAMES: Final = ("hipaa_safe_harbor", "gdpr_pseudonymous", "research_dates")

# PS3.16 CID 7050; the meanings are the code meanings of PS3.16 Annex D.
METHOD_MEANINGS: Final = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113111": "Retain Safe Private Option",
}


# What a caller may add to a profile that offers it; each sets one field.
_OPTIONS: Final[Mapping[str, Mapping[str, object]]] = {
    "year_only": {"year_only": True},
    "shift_time": {"shift_time": True},
    "patient_chars": {"retain_patient_characteristics": True},
    "device": {"retain_device_identity": True},
    "safe_private": {"safe_private": True},
    "structured": {"clean_structured_content": True},
    "strict_prose": {"strict_prose": True},
}
OPTION_NAMES: Final = tuple(_OPTIONS)


class Profile(BaseModel, frozen=True, extra="forbid"):
    """One de-identification profile.

    `max_shift_days` is N of the date shift: every date moves by 1 to N days, either way.
    `offers` are the options a caller may add. `justification` is a site's written reason to
    pseudonymise (EHDS 66); of it only the SHA-256 goes into a receipt, which has no free text.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,39}$")
    dates: Literal["remove", "shift"]
    max_shift_days: int = Field(default=365, ge=30, le=3650)
    year_only: bool = False
    shift_time: bool = False
    pseudonyms: Literal["hmac", "random"] = "hmac"
    keep: Literal["standard", "minimal"] = "standard"
    clean_pixels: bool = False
    clean_descriptors: bool = False
    strict_prose: bool = False
    clean_structured_content: bool = False
    clean_graphics: bool = False
    retain_patient_characteristics: bool = False
    retain_device_identity: bool = False
    safe_private: bool = False
    offers: tuple[str, ...] = ()
    takes_justification: bool = False
    justification: str = Field(default="", max_length=2000)
    basis: str = Field(max_length=200)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.year_only and self.dates != "remove":
            raise ValueError("year_only needs dates = remove")
        if self.shift_time and self.dates != "shift":
            raise ValueError("shift_time needs dates = shift")
        unknown = set(self.offers) - set(OPTION_NAMES)
        if unknown:
            raise ValueError("offers names an unknown option")
        return self

    @property
    def options(self) -> frozenset[str]:
        """Option columns of Table E.1-1 that are active."""
        return _options(self)

    def method_codes(self, *, pixels_read: bool) -> tuple[str, ...]:
        """Return the CID 7050 codes of what is done to one file, in ascending order.

        `pixels_read`: every frame of this file was read for text and the re-read was empty.
        """
        codes = {
            "113100": True,
            "113101": self.clean_pixels and pixels_read,
            "113103": self.clean_graphics,
            "113104": self.clean_structured_content,
            "113105": self.clean_descriptors,
            "113107": self.dates == "shift",
            "113108": self.retain_patient_characteristics,
            "113109": self.retain_device_identity,
            "113111": self.safe_private,
        }
        return tuple(code for code, on in codes.items() if on)

    def check_kind(self, kind: Literal["hmac", "random"]) -> None:
        """Return if pseudonyms made this way will do; drawn ones always do.

        Raises:
            MappingRequired: the profile wants them drawn at random.
        """
        if self.pseudonyms == "random" and kind != "random":
            raise MappingRequired(f"profile {self.name}")

    def with_patient_characteristics(self) -> Self:
        """Return this profile keeping sex, capped age, size and weight.

        For a task that declares it needs them (data minimisation, GDPR 5(1)(c)).
        """
        return self.model_copy(update={"retain_patient_characteristics": True})

    def with_options(
        self, names: Iterable[str], *, keep: Literal["standard", "minimal"] | None = None
    ) -> Self:
        """Return this profile with options a caller asked for by name.

        Raises:
            OptionRefused: an option is unknown, or this profile does not offer it.
        """
        update: dict[str, object] = {} if keep is None else {"keep": keep}
        for name in names:
            if name not in self.offers:
                raise OptionRefused(f"{self.name} offers {', '.join(self.offers) or 'none'}")
            update |= _OPTIONS[name]
        return type(self).model_validate(self.model_dump() | update)

    def with_justification(self, text: str) -> Self:
        """Return this profile with the site's written reason to pseudonymise.

        Raises:
            OptionRefused: the text is empty or longer than 2000 characters, or the profile
                asks for none.
        """
        if not self.takes_justification:
            raise OptionRefused(f"{self.name} asks for no justification")
        reason = text.strip()
        if not 0 < len(reason) <= 2000:
            raise OptionRefused("a justification has 1 to 2000 characters")
        return self.model_copy(update={"justification": reason})

    @property
    def justification_sha256(self) -> str | None:
        """SHA-256 (hex) of the justification, or None if none was given."""
        text = self.justification
        return hashlib.sha256(text.encode()).hexdigest() if text else None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the profile's settings; a site's justification is none."""
        settings = self.model_dump_json(exclude={"justification"})
        return hashlib.sha256(settings.encode()).hexdigest()


@lru_cache(maxsize=64)
def _options(profile: Profile) -> frozenset[str]:
    active = {
        "modified_dates": profile.dates == "shift",
        "descriptors": profile.clean_descriptors,
        "structured": profile.clean_structured_content,
        "graphics": profile.clean_graphics,
        "patient_chars": profile.retain_patient_characteristics,
        "device": profile.retain_device_identity,
        "safe_private": profile.safe_private,
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
