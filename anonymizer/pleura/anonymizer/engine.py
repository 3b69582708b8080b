"""The engine: one file in, one de-identified file out, or a named quarantine.

The output is drafted beside its target and has to pass the independent residual scan of
`verify`; then it appears whole or not at all. The header is in memory, pixel bytes are not:
they are copied untouched, so memory does not grow with the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pleura.anonymizer.actions import Context, Tally
from pleura.anonymizer.burnedin.apply import Unburned, unburn
from pleura.anonymizer.burnedin.policy import Mode, check_face, must_be_read
from pleura.anonymizer.cleaning import clean
from pleura.anonymizer.completing import complete
from pleura.anonymizer.errors import (
    DuplicateDiffers,
    Erased,
    OcrUnavailable,
    Quarantined,
    Unreadable,
)
from pleura.anonymizer.header import Header, read_header
from pleura.anonymizer.inflating import deflate
from pleura.anonymizer.marking import VERSION, authored, file_head, stamp
from pleura.anonymizer.opening import contained, nearest_folder, opened, stamp_of
from pleura.anonymizer.profile import Profile
from pleura.anonymizer.pseudonyms import Pseudonyms, patient_value
from pleura.anonymizer.receipt import OcrCounts, OverrideName, Receipt
from pleura.anonymizer.residues import Expectation
from pleura.anonymizer.rules import Rules, load_rules
from pleura.anonymizer.seeding import collect_seeds
from pleura.anonymizer.source import Source, Span
from pleura.anonymizer.text import Seeds
from pleura.anonymizer.uncovering import uncover
from pleura.anonymizer.verify import check_residuals
from pleura.anonymizer.wire import (
    DicomFile,
    Element,
    encode,
    parse_file,
)
from pleura.anonymizer.writing import Draft, digest_of, digests, drafted
from pleura.common import events
from pleura.common.files import create_private

_BODY_PART: Final = 0x00180015
_MODALITY: Final = 0x00080060
_INSTANCE_NUMBER: Final = 0x00200013
_IS: Final = re.compile(r"[+-]?[0-9]{1,11}")  # PS3.5 6.2


@dataclass(frozen=True, slots=True)
class Deidentified:
    """One accepted object: where it is, what it is called now, and keys to join labels by.

    `accession_key` is H("accession", accession number) or empty; `sop_key` is
    H("sop", original SOP instance UID). `slice_number` is the instance number of a slice that
    nobody looked at for text, because that is done for its series; else None.
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
    slice_number: int | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """The cleaned object before it is written; every new name in it is durable."""

    head: bytes
    elements: list[Element]
    parsed: DicomFile
    header: Header
    context: Context
    pseudonym: str
    uids: tuple[str, str, str]
    codes: tuple[str, ...]
    overrides: tuple[OverrideName, ...]
    unburned: Unburned


def deidentify_file(
    source: Path | Source,
    target_folder: Path,
    *,
    profile: Profile,
    key: Pseudonyms,
    ocr: Mode = "policy",
    allow_unread_text: bool = False,
    tombstones: frozenset[str] = frozenset(),
    fsync: bool = True,
) -> Deidentified:
    """De-identify one file into `target_folder/<patient>/<study>/<series>/<sop>.dcm`.

    `source` is a path, or an open source such as the member of an archive.

    The same source, key, profile and version always give the same bytes; a target that is
    already there with those bytes is accepted as it is. `tombstones`: keyed marks of erased
    patients, who are turned away. Names drawn at random are durable before the file appears.
    `ocr`: whose pixels are read for burned-in text; `allow_unread_text` overrides it: nobody
    looks at the pixels, and the receipt says so. Without `fsync` the caller makes file and
    folders durable, a whole study at once.

    Raises:
        MappingRequired: the profile wants pseudonyms drawn at random and `key` computes them.
        Quarantined: the object may not leave; `.code` names the reason.
        DiskFull: no room; nothing was left behind.
    """
    profile.check_kind(key.kind)
    with contained(), opened(source) as original:
        stamp_before = stamp_of(original)
        folder = nearest_folder(target_folder)
        parsed = parse_file(original, spool=folder)
        header = read_header(parsed)
        mode: Mode = "off" if allow_unread_text else ocr
        overrides = _admit(parsed, header, key, mode, allow_unread_text, tombstones)
        parsed, uncovered = uncover(parsed, folder)
        seeds = collect_seeds(parsed.elements, load_rules(), profile, parsed.meta)
        unburned = unburn(parsed, header, seeds, mode, folder)
        with key.session():
            plan = _plan(unburned, header, profile, key, overrides, seeds)
        plan.context.tally.actions.update(uncovered)
        create_private(target_folder)
        with drafted(target_folder, _pieces(plan)) as draft:
            check_residuals(original, draft.source, _expectation(plan))
            before, after = digests(original, draft)
            if stamp_of(original) != stamp_before:
                raise Unreadable("it changed while it was read")
            return _commit(plan, draft, _receipt(plan, before, after), target_folder, fsync)


def _admit(
    parsed: DicomFile,
    header: Header,
    key: Pseudonyms,
    mode: Mode,
    allow_unread_text: bool,
    tombstones: frozenset[str],
) -> tuple[OverrideName, ...]:
    """Return the overrides an object needs to get in.

    Raises:
        Erased: its patient was erased.
        FaceInField: its field may reach the face.
        OcrUnavailable: nobody reads its pixels for text and no override was given.
    """
    if tombstones and key.tombstone(header.patient_id, header.study_uid) in tombstones:
        raise Erased
    check_face(header, _text_of(parsed.elements, _BODY_PART))
    if mode != "off" or not must_be_read(header):
        return ()
    if not allow_unread_text:
        raise OcrUnavailable()
    return ("unread_text",)


def _plan(
    unburned: Unburned,
    header: Header,
    profile: Profile,
    key: Pseudonyms,
    overrides: tuple[OverrideName, ...],
    seeds: Seeds,
) -> _Plan:
    """Return what is to be written. Touches no file but the mapping behind `key`."""
    parsed = unburned.parsed
    context = _context_for(seeds, header, load_rules(), profile, key)
    pseudonym = key.patient(header.patient_id, header.study_uid)
    codes = profile.method_codes(pixels_read=unburned.is_read)
    cleaned = clean(parsed.elements, context)
    completed = complete(header.sop_class, parsed.elements, cleaned, context)
    elements = stamp(completed, profile, pseudonym, codes=codes)
    uids = key.uid(header.sop_uid), key.uid(header.study_uid), key.uid(header.series_uid)
    return _Plan(
        head=file_head(header.sop_class, uids[0], parsed.transfer_syntax),
        elements=elements,
        parsed=parsed,
        header=header,
        context=context,
        pseudonym=pseudonym,
        uids=uids,
        codes=codes,
        overrides=overrides,
        unburned=unburned,
    )


def _pieces(plan: _Plan) -> Iterator[bytes | Span]:
    body = encode(plan.elements, plan.parsed.syntax)
    yield plan.head
    yield from deflate(body) if plan.parsed.syntax.deflated else body


def _expectation(plan: _Plan) -> Expectation:
    context, profile = plan.context, plan.context.profile
    rules = context.rules
    return Expectation(
        pseudonym=plan.pseudonym,
        shift_days=context.shift_days if profile.dates == "shift" else None,
        carries_midnight=profile.shift_time,
        year_only=profile.year_only,
        safe_private=profile.safe_private,
        retained=rules.retained(profile),
        identifying=rules.identifying,
        defined_terms=rules.defined_terms,
        authored=authored(profile),
    )


def _text_of(elements: Sequence[Element], tag: int) -> str:
    """Return the first value of an element as text, empty where there is none."""
    values = [bytes(e.value) for e in elements if e.tag == tag and e.items is None]
    return values[0].decode("latin-1").strip(" \0") if values else ""


def _context_for(
    seeds: Seeds, header: Header, rules: Rules, profile: Profile, key: Pseudonyms
) -> Context:
    patient = patient_value(header.patient_id, header.study_uid)
    return Context(
        rules=rules,
        profile=profile,
        key=key,
        seeds=seeds,
        shift_days=(
            key.date_shift_days(patient, profile.max_shift_days) if profile.dates == "shift" else 0
        ),
        tally=Tally(),
        shift_seconds=key.time_shift_seconds(patient) if profile.shift_time else 0,
        sop_class=header.sop_class,
    )


_ACTION_NAMES: Final[tuple[str, ...]] = (
    "removed", "emptied", "dummy", "uid_mapped", "kept", "shifted", "recursed", "seed",
    "hidden_bits", "comments",
)  # fmt: skip


def _receipt(plan: _Plan, before: str, after: str) -> Receipt:
    context = plan.context
    key, profile, tally = context.key, context.profile, context.tally
    sop_uid, study_uid, series_uid = plan.uids
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
            "basis": "patient" if plan.header.patient_id else "study",
            "pseudonym": plan.pseudonym,
            "sop_uid": sop_uid,
            "series_uid": series_uid,
            "study_uid": study_uid,
            "input_digest": key.keyed("input", before),
            "output_sha256": after,
            "actions": {n: tally.actions[n] for n in _ACTION_NAMES if tally.actions[n]},
            "removed": dict(sorted(tally.removed.items())),
            "invalid_values": tally.invalid_values,
            "words_removed": tally.words_removed,
            "method_codes": plan.codes,
            "overrides": plan.overrides,
            "mapping": key.kind,
            "mapping_id": key.origin.mapping or None,
            "ocr": _ocr_counts(plan.unburned),
            "justification_sha256": profile.justification_sha256,
        }
    )


def _ocr_counts(unburned: Unburned) -> OcrCounts | None:
    reading = unburned.reading
    if reading is None:
        return None
    return OcrCounts(frames=reading.frames_read, boxes=reading.boxes, markers=reading.markers)


def _commit(
    plan: _Plan, draft: Draft, receipt: Receipt, target_folder: Path, fsync: bool
) -> Deidentified:
    """Give the checked draft its place; a file that is there stays if it is the same."""
    folder = target_folder / receipt.pseudonym / receipt.study_uid / receipt.series_uid
    path = folder / f"{receipt.sop_uid}.dcm"
    create_private(folder)
    if not path.exists():
        draft.commit(path, fsync=fsync)
    elif digest_of(path) != receipt.output_sha256:
        raise DuplicateDiffers()
    if plan.overrides:
        events.emit(
            "override.used", kind="unread_text", code="OCR_UNAVAILABLE",
            profile=plan.context.profile.name, count=1,
        )  # fmt: skip
    key, header = plan.context.key, plan.header
    return Deidentified(
        path=path,
        receipt=receipt,
        sop_uid=receipt.sop_uid,
        study_uid=receipt.study_uid,
        series_uid=receipt.series_uid,
        patient=receipt.pseudonym,
        modality=_text_of(plan.elements, _MODALITY),
        accession_key=key.keyed("accession", header.accession) if header.accession else "",
        sop_key=key.keyed("sop", header.sop_uid),
        sha256=receipt.output_sha256,
        size_bytes=draft.source.size,
        slice_number=_instance_number(plan.elements) if plan.unburned.is_slice else None,
    )


def _instance_number(elements: Sequence[Element]) -> int:
    text = _text_of(elements, _INSTANCE_NUMBER)
    return int(text) if _IS.fullmatch(text) else 0


__all__ = ["Deidentified", "Quarantined", "deidentify_file"]
