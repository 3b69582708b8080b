"""The engine: one file in, one de-identified file out, or a named quarantine.

Nothing is written until the finished bytes have passed the independent residual scan of
`verify`; then the file appears whole or not at all. Pixel bytes are copied untouched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

from pleura.anonymizer.actions import Context, Tally
from pleura.anonymizer.cleaning import clean, collect_seeds
from pleura.anonymizer.errors import (
    DuplicateDiffers,
    InternalFault,
    IodBroken,
    LimitExceeded,
    Quarantined,
    Undecodable,
)
from pleura.anonymizer.header import Header, admit_pixels, read_header
from pleura.anonymizer.profile import METHOD_MEANINGS, Profile
from pleura.anonymizer.pseudonyms import ProjectKey, patient_value
from pleura.anonymizer.receipt import OverrideName, Receipt
from pleura.anonymizer.rules import Rules, describe, load_rules
from pleura.anonymizer.verify import Expectation, check_residuals
from pleura.anonymizer.wire import (
    MAX_FILE_BYTES,
    PIXEL_TAGS,
    DicomFile,
    Element,
    Syntax,
    deflate,
    encode,
    parse_file,
)
from pleura.common import events
from pleura.common.errors import PleuraError
from pleura.common.files import raise_if_disk_full, write_atomic

VERSION: Final = installed_version("pleura")
IMPLEMENTATION_CLASS_UID: Final = "2.25.327170163436853155066129286553806817917"
# SOP, study and series; the image pixel module (PS3.3 C.7.6.3).
_ESSENTIAL: Final = frozenset(
    {0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00280002, 0x00280004, 0x00280010}
    | {0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103}
    | PIXEL_TAGS
)


@dataclass(frozen=True, slots=True)
class Deidentified:
    """One accepted object: where it is, what it is called now, and keys to join labels by.

    `accession_key` is H("accession", accession number) or empty; `sop_key` is
    H("sop", original SOP instance UID).
    """

    path: Path
    receipt: Receipt
    sop_uid: str
    study_uid: str
    series_uid: str
    patient: str
    modality: str
    accession_key: str
    sop_key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Finished:
    data: bytes
    receipt: Receipt
    header: Header
    modality: str


def deidentify_file(
    source: Path,
    target_folder: Path,
    *,
    profile: Profile,
    key: ProjectKey,
    allow_unread_text: bool = False,
) -> Deidentified:
    """De-identify one file into `target_folder/<patient>/<study>/<series>/<sop>.dcm`.

    The same source, key, profile and version always give the same bytes; a target that is
    already there with those bytes is accepted as it is.

    Raises:
        Quarantined: the object may not leave; `.code` names the reason.
        DiskFull: no room; nothing was left behind.
    """
    try:
        finished = _deidentify_bytes(_read(source), profile, key, allow_unread_text)
        return _commit(finished, target_folder, key)
    except PleuraError:
        raise
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
    except Exception as exc:  # noqa: BLE001  DEID 10: doubt or exception = quarantine
        kind = type(exc).__name__
        events.emit("error.raised", process="anonymizer", code=InternalFault.code, error=kind)
        raise InternalFault(kind) from None


def _read(source: Path) -> bytes:
    try:
        if source.stat().st_size > MAX_FILE_BYTES:
            raise LimitExceeded("file size")
        return source.read_bytes()
    except OSError:
        raise Undecodable("the file cannot be read") from None


def _deidentify_bytes(
    data: bytes, profile: Profile, key: ProjectKey, allow_unread_text: bool
) -> _Finished:
    """Return the finished, self-checked file and its receipt. Touches no disk."""
    rules = load_rules()
    parsed = parse_file(data)
    header = read_header(parsed)
    overridden = admit_pixels(header, allow_unread_text=allow_unread_text)
    context = _context_for(parsed, header, rules, profile, key)
    pseudonym = key.patient(header.patient_id, header.study_uid)
    elements = _stamp(clean(parsed.elements, context), context, pseudonym)
    _check_essentials(parsed.elements, elements)
    output = _encode_file(elements, parsed, header, key)
    expectation = Expectation(
        pseudonym=pseudonym,
        shift_days=context.shift_days if profile.dates == "shift" else None,
        retained=rules.retained(profile),
        identifying=rules.identifying,
        defined_terms=rules.defined_terms,
        authored=_authored(profile),
    )
    check_residuals(data, output, expectation)
    overrides: tuple[OverrideName, ...] = ("unread_text",) if overridden else ()
    receipt = _receipt(data, output, context, header, pseudonym, overrides)
    if overridden:
        events.emit(
            "override.used", kind="unread_text", code="OCR_UNAVAILABLE", profile=profile.name,
            count=1,
        )  # fmt: skip
    return _Finished(output, receipt, header, _modality_of(elements))


def _authored(profile: Profile) -> frozenset[str]:
    """Return every text `_stamp` writes: a patient may be called `Removed`."""
    marks = {"YES", "MODIFIED", "REMOVED", "DCM", _method(profile)}
    return frozenset(marks | METHOD_MEANINGS.keys() | set(METHOD_MEANINGS.values()))


def _check_essentials(before: Sequence[Element], after: Sequence[Element]) -> None:
    """Raise IodBroken if an attribute without which the object means nothing got lost."""
    filled = {e.tag for e in before if len(e.value)} & _ESSENTIAL
    lost = filled - {e.tag for e in after if len(e.value)}
    if lost:
        raise IodBroken(f"{describe(min(lost))} would be lost", counts={"lost": len(lost)})


def _modality_of(elements: Sequence[Element]) -> str:
    """Return the modality that survived the rules, or an empty text."""
    values = [bytes(e.value) for e in elements if e.tag == 0x00080060 and e.items is None]
    return values[0].decode("latin-1").strip(" \0") if values else ""


def _context_for(
    parsed: DicomFile, header: Header, rules: Rules, profile: Profile, key: ProjectKey
) -> Context:
    patient = patient_value(header.patient_id, header.study_uid)
    return Context(
        rules=rules,
        profile=profile,
        key=key,
        seeds=collect_seeds(parsed.elements, rules, profile),
        shift_days=key.date_shift_days(patient, profile.max_shift_days),
        tally=Tally(),
    )


def _method(profile: Profile) -> str:
    return f"Pleura {VERSION} {profile.name}"[:64]


def _stamp(elements: Sequence[Element], context: Context, pseudonym: str) -> list[Element]:
    """Return the data set with the pseudonym and the marks PS3.15 E.1.1 asks for."""
    profile = context.profile
    codes = [
        [
            Element(0x00080100, "SH", code.encode()),
            Element(0x00080102, "SH", b"DCM"),
            Element(0x00080104, "LO", METHOD_MEANINGS[code].encode()),
        ]
        for code in profile.method_codes
    ]
    modified = b"MODIFIED" if profile.dates == "shift" else b"REMOVED"
    stamps = [
        Element(0x00100010, "PN", pseudonym.encode()),
        Element(0x00100020, "LO", pseudonym.encode()),
        Element(0x00120062, "CS", b"YES"),
        Element(0x00120063, "LO", _method(profile).encode()),
        Element(0x00120064, "SQ", items=codes),
        Element(0x00280303, "CS", modified),
    ]
    by_tag = {e.tag: e for e in elements} | {e.tag: e for e in stamps}
    return [by_tag[tag] for tag in sorted(by_tag)]


def _encode_file(
    elements: Sequence[Element], parsed: DicomFile, header: Header, key: ProjectKey
) -> bytes:
    """Return the file: zero preamble, our own file meta (PS3.10 7.1), the data set."""
    meta = encode(
        [
            Element(0x00020001, "OB", b"\0\1"),
            Element(0x00020002, "UI", header.sop_class.encode()),
            Element(0x00020003, "UI", key.uid(header.sop_uid).encode()),
            Element(0x00020010, "UI", parsed.transfer_syntax.encode()),
            Element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()),
            Element(0x00020013, "SH", f"PLEURA_{VERSION}"[:16].encode()),
        ],
        Syntax(),
    )
    size = sum(map(len, meta))
    group_length = Element(0x00020000, "UL", size.to_bytes(4, "little"))
    body = encode(elements, parsed.syntax)
    if parsed.syntax.deflated:
        body = [deflate(body)]
    return b"".join([bytes(128), b"DICM", *encode([group_length], Syntax()), *meta, *body])


_ACTION_NAMES: Final[tuple[str, ...]] = (
    "removed", "emptied", "dummy", "uid_mapped", "kept", "shifted", "recursed", "seed",
)  # fmt: skip


def _receipt(
    data: bytes,
    output: bytes,
    context: Context,
    header: Header,
    pseudonym: str,
    overrides: tuple[OverrideName, ...],
) -> Receipt:
    key, profile, tally = context.key, context.profile, context.tally
    return Receipt.model_validate(
        {
            "version": VERSION,
            "profile": profile.name,
            "profile_digest": profile.digest,
            "options": tuple(sorted(profile.options)),
            "rule_edition": context.rules.edition,
            "rules_digest": context.rules.digest,
            "key_id": key.key_id,
            "key_version": key.version,
            "basis": "patient" if header.patient_id else "study",
            "pseudonym": pseudonym,
            "sop_uid": key.uid(header.sop_uid),
            "series_uid": key.uid(header.series_uid),
            "study_uid": key.uid(header.study_uid),
            "input_digest": key.keyed("input", hashlib.sha256(data).hexdigest()),
            "output_sha256": hashlib.sha256(output).hexdigest(),
            "actions": {n: tally.actions[n] for n in _ACTION_NAMES if tally.actions[n]},
            "removed": dict(sorted(tally.removed.items())),
            "invalid_values": tally.invalid_values,
            "method_codes": profile.method_codes,
            "overrides": overrides,
        }
    )


def _commit(finished: _Finished, target_folder: Path, key: ProjectKey) -> Deidentified:
    receipt, header = finished.receipt, finished.header
    folder = target_folder / receipt.pseudonym / receipt.study_uid / receipt.series_uid
    path = folder / f"{receipt.sop_uid}.dcm"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            if hashlib.sha256(path.read_bytes()).hexdigest() != receipt.output_sha256:
                raise DuplicateDiffers()
        else:
            write_atomic(path, finished.data, mode=0o600)
    except OSError as exc:
        raise_if_disk_full(exc)
        raise
    accession = header.accession
    return Deidentified(
        path=path,
        receipt=receipt,
        sop_uid=receipt.sop_uid,
        study_uid=receipt.study_uid,
        series_uid=receipt.series_uid,
        patient=receipt.pseudonym,
        modality=finished.modality,
        accession_key=key.keyed("accession", accession) if accession else "",
        sop_key=key.keyed("sop", header.sop_uid),
        sha256=receipt.output_sha256,
        size_bytes=len(finished.data),
    )


__all__ = ["Deidentified", "Quarantined", "deidentify_file"]
