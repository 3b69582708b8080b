"""Recall: how much burned-in text the reader finds, as measured and shipped (DEID 3, 7).

`tables/reader_recall.json` is written by the measurement itself, `python -m
tests.benchmarks.burned_in --split held --json FILE`, on images and strings that the reader was
not tuned on. The figures hold for one version of the reader; `warnings_for` says where that is
not the one at hand. They say nothing about the images of a site.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.marking import VERSION

READER: Final = "rapidocr-onnxruntime"
TABLE: Final = "reader_recall.json"
STRONG_PERCENT: Final = 25
"""Contrast from which on text counts as easy to see."""

Version = Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+-]{0,31}$")]
Contrast = Annotated[int, Field(ge=1, le=100)]
Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z_]{1,39}$")]


class Share(BaseModel, frozen=True, extra="forbid"):
    """`count` of `of`."""

    count: int = Field(ge=0)
    of: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_part(self) -> Self:
        if self.count > self.of:
            raise ValueError("more than there are")
        return self

    @property
    def percent(self) -> float:
        """From 0 to 100."""
        return 100 * self.count / self.of

    def __str__(self) -> str:
        return f"{self.count} of {self.of}"


class ReaderRecall(BaseModel, frozen=True, extra="forbid"):
    """What one measurement found.

    `strings` maps a contrast in percent to the strings of which at least `covered_percent` of
    the area were blacked out; `refused` has images that went to quarantine by code, whose
    strings count as missed. `clean_*`: images without any text, and what was covered in them.
    """

    format: Literal[1] = 1
    reader: Literal["rapidocr-onnxruntime"]
    reader_version: Version
    pleura_version: Version
    split: Literal["dev", "held"]
    measured_on: date
    images: int = Field(ge=1)
    covered_percent: int = Field(ge=1, le=100)
    smallest_height_px: int = Field(ge=1)
    strings: dict[Contrast, Share] = Field(min_length=1)
    markers_kept: Share
    refused: dict[Code, int] = {}
    clean_images_touched: Share
    clean_pixels_covered: Share

    @property
    def strong(self) -> Share:
        """Strings of a contrast of 25 % and more, or all where none is."""
        shares = [s for c, s in self.strings.items() if c >= STRONG_PERCENT]
        return _joined(shares or list(self.strings.values()))

    @property
    def every(self) -> Share:
        """Strings of all contrasts."""
        return _joined(list(self.strings.values()))

    def to_json(self) -> bytes:
        """Return the bytes of the table."""
        ordered = self.model_copy(update={"strings": dict(sorted(self.strings.items()))})
        return ordered.model_dump_json(indent=1).encode() + b"\n"


def _joined(shares: list[Share]) -> Share:
    return Share(count=sum(s.count for s in shares), of=sum(s.of for s in shares))


class ReaderEvidence(BaseModel, frozen=True, extra="forbid"):
    """The shipped figures, the reader that is installed here (None: none), and what to know."""

    recall: ReaderRecall
    installed_version: str | None
    warnings: tuple[str, ...]


def parse_recall(raw: bytes) -> ReaderRecall:
    """Return a table that may be shipped.

    Raises:
        RulesDamaged: it has another shape, or was measured on images the reader was tuned on.
    """
    try:
        recall = ReaderRecall.model_validate_json(raw)
    except ValidationError as exc:
        raise RulesDamaged(type(exc).__name__) from None
    if recall.split != "held":
        raise RulesDamaged("recall measured on the wrong split")
    return recall


@cache
def load_recall() -> ReaderRecall:
    """Read the shipped table once.

    Raises:
        RulesDamaged: it is missing or may not be shipped.
    """
    try:
        return parse_recall((files("pleura.anonymizer") / "tables" / TABLE).read_bytes())
    except OSError as exc:
        raise RulesDamaged(type(exc).__name__) from None


def installed_reader() -> str | None:
    """Return the version of the reader that is installed, or None."""
    try:
        return version(READER)
    except PackageNotFoundError:
        return None


def warnings_for(
    recall: ReaderRecall, *, reader_version: str | None, pleura_version: str
) -> tuple[str, ...]:
    """Return why the figures may not hold for the reader at hand; nothing if it was that one."""
    found = []
    if reader_version is None:
        found.append(f"{recall.reader} is not installed here: no text can be read")
    elif reader_version != recall.reader_version:
        found.append(
            f"{recall.reader} {reader_version} is installed here, the figures are those of "
            f"{recall.reader_version}: they do not hold for it"
        )
    if pleura_version != recall.pleura_version:
        found.append(
            f"Pleura {pleura_version} is installed here, the figures were measured with "
            f"{recall.pleura_version}"
        )
    return tuple(found)


def reader_evidence() -> ReaderEvidence:
    """Return the shipped figures with what is installed here.

    Raises:
        RulesDamaged: the table is missing or may not be shipped.
    """
    recall, installed = load_recall(), installed_reader()
    warnings = warnings_for(recall, reader_version=installed, pleura_version=VERSION)
    return ReaderEvidence(recall=recall, installed_version=installed, warnings=warnings)
