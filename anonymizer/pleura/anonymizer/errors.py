"""Leaves of the error tree that the anonymizer raises.

Every `Quarantined` leaf stands for one code of the quarantine folder. Messages name tags,
codes and counts; a value, a file name or key material never reaches one.
"""

from __future__ import annotations

from collections.abc import Mapping

from pleura.common.errors import ConfigError, DataFault, HostFault, KeyUnreadable


class UnknownProfile(ConfigError):
    code, hint = "DEID-PROFILE", "Name one of the profiles shipped with Pleura (see --help)."


class OptionRefused(ConfigError):
    code, hint = "DEID-OPTION", "Ask only for options the profile offers; the message lists them."


class MappingRequired(ConfigError):
    code, hint = "DEID-MAPPING", "This profile draws pseudonyms at random: name a --mapping file."


class MappingOfOtherKey(ConfigError):
    code, hint = (
        "DEID-MAPPING-KEY",
        "The mapping belongs to another key or key version; use its key, or start a new mapping "
        "and redo the project's data.",
    )


class KeysMixed(ConfigError):
    code, hint = (
        "DEID-KEYS-MIXED",
        "Give the key this output was made with, or name another output.",
    )


class ProfilesMixed(ConfigError):
    code, hint = (
        "DEID-PROFILES-MIXED",
        "One output holds one profile with one set of options; name another output.",
    )


class MappingsMixed(ConfigError):
    code, hint = (
        "DEID-MAPPINGS-MIXED",
        "Give the mapping this output was made with (--mapping), or name another output.",
    )


class LookUpRefused(ConfigError):
    code, hint = (
        "DEID-LOOKUP",
        "Nothing is sealed for this pseudonym, or the private key is not the steward's.",
    )


class NotDrawn(DataFault):
    code, hint = (
        "DEID-NOT-DRAWN",
        "No pseudonym for some PatientIDs: check their spelling, and that key and mapping are "
        "those of the run.",
    )


class ErasureRefused(ConfigError):
    code, hint = "DEID-ERASE", "The pseudonym is unknown here; check its spelling and the key."


class RulesDamaged(ConfigError):
    code, hint = "DEID-RULES", "The rule tables of this installation are damaged; install it again."


class ProjectKeyInvalid(ConfigError):
    code, hint = "DEID-KEY", "A project key file holds one line: 64 hex digits and the version."


class ProjectKeyUnreadable(KeyUnreadable):
    code, hint = (
        "DEID-KEY-READ",
        "Check the path of the project key; `pleura anonymize keygen FILE` makes a new one.",
    )


class ProjectKeyExists(ConfigError):
    code, hint = "DEID-KEY-EXISTS", "A key is never overwritten; use it, or name another file."


class OutputNotSeparate(ConfigError):
    code, hint = (
        "DEID-OUT",
        "Input, output and quarantine must be three separate folders; key, mapping and name map "
        "lie in none of them.",
    )


class NoInput(ConfigError):
    code, hint = "DEID-NO-INPUT", "Name a file, an archive or a folder that holds files."


class OutputForeign(ConfigError):
    """The output folder holds what no batch put there."""

    code, hint = "DEID-OUT-FOREIGN", "Name an empty or a new folder, or one that `run` wrote to."


class StagingForeign(ConfigError):
    """The folder where a batch would work, and delete, holds what no batch put there."""

    code, hint = "DEID-STAGING", "Move the folder OUT.staging beside the output away; run again."


class Quarantined(DataFault):
    """One object may not leave; `code` names the reason, `counts` holds numbers only."""

    code, hint = "QUARANTINED", "Look at the file inside the site; nothing of it was written out."

    def __init__(self, detail: str = "", *, counts: Mapping[str, int] | None = None) -> None:
        super().__init__(detail)
        self.counts: dict[str, int] = dict(counts or {})


class NotDicom(Quarantined):
    code, hint = "NOT_DICOM", "The file is no DICOM object; run leaves it out."


class Truncated(Quarantined):
    code, hint = (
        "TRUNCATED",
        "File or pixels end early or run on: send it again; if that is no help, ask its maker.",
    )


class NoPreamble(Quarantined):
    code, hint = "NO_PREAMBLE", "It looks like DICOM without preamble; export it as a Part 10 file."


class NoSopUid(Quarantined):
    code, hint = (
        "NO_SOP_UID",
        "SOP, series or study UID is missing or not valid; correct it at the source.",
    )


class NoTransferSyntax(Quarantined):
    code, hint = "NO_TRANSFER_SYNTAX", "The file meta names no transfer syntax; export it again."


class MediaDirectory(Quarantined):
    code, hint = "MEDIA_DIRECTORY", "A DICOMDIR lists names and no image; run leaves it out."


class SopRefused(Quarantined):
    code, hint = "SOP_REFUSED", "This kind of object is not accepted (unknown, audio, document)."


class PatientConflict(Quarantined):
    code, hint = "PATIENT_CONFLICT", "One study names several patients; correct it at the source."


class DuplicateDiffers(Quarantined):
    code, hint = "DUPLICATE_DIFFERS", "Two objects share a SOP UID but differ; keep the right one."


class Undecodable(Quarantined):
    code, hint = "UNDECODABLE", "The encoding or transfer syntax is not supported."


class Unreadable(Quarantined):
    code, hint = "UNREADABLE", "The file cannot be read; mend its rights or its disk, run again."


class OcrUnavailable(Quarantined):
    code, hint = (
        "OCR_UNAVAILABLE",
        "The pixels may hold burned-in text, which nobody read; install the extra `ocr`, or review "
        "the images and pass --accept-unread-text if they are clean: nothing of any picture is "
        "read or blacked out then, known areas of ultrasound neither.",
    )


class SelfCheckFailed(Quarantined):
    code, hint = "SELF_CHECK", "An identifying value survived the rules; report the tag to us."


class IodBroken(Quarantined):
    code, hint = "IOD_BROKEN", "The rules would remove what the image needs; report the tag to us."


class LimitExceeded(Quarantined):
    code, hint = "LIMIT", "The file exceeds a size, depth or inflation limit."


class Erased(Quarantined):
    code, hint = "ERASED", "This patient was erased on request; the source must not come back."


class InternalFault(Quarantined):
    code, hint = "INTERNAL", "A fault in Pleura; report the error class. Nothing was written out."


class AuditBroken(ConfigError):
    code, hint = "DEID-AUDIT", "The audit file was changed or cut; keep it and start another one."


class TextResidual(Quarantined):
    code, hint = "TEXT_RESIDUAL", "Text was still legible after redaction; review the image."


class TextBoxTooLarge(Quarantined):
    code, hint = "TEXT_BOX_TOO_LARGE", "Text covers too much of the image to black it out; review."


class FaceInField(Quarantined):
    code, hint = "FACE_IN_FIELD", "The field may reach the face; crop it above the lung apex first."


class ArchiveEncrypted(Quarantined):
    code, hint = "ARCHIVE_ENCRYPTED", "A member of an archive needs a password; unpack it first."


class ArchiveDamaged(Quarantined):
    code, hint = (
        "ARCHIVE_DAMAGED",
        "The archive is damaged or packed in a way not known here; unpack it yourself.",
    )


class ArchiveNested(Quarantined):
    code, hint = "ARCHIVE_NESTED", "An archive inside an archive is not opened; unpack it first."


class BatchRunning(HostFault):
    code, hint = "DEID-RUNNING", "Another batch writes to this output; wait until it has ended."


class NoPicture(DataFault):
    code, hint = "DEID-NO-PICTURE", "Name a file that has pixels, and a frame that it has."


class NameMapDamaged(ConfigError):
    code, hint = "DEID-NAME-MAP", "Name the file that `run --name-map` wrote for this output."


class AuditMissing(ConfigError):
    code, hint = "DEID-NO-AUDIT", "A receipt comes from OUT.audit.jsonl, which `run` writes."


class WriteRefused(HostFault):
    """A place named for something new cannot take it; seen before any work is done."""

    code, hint = (
        "DEID-WRITE",
        "Name a place that can be written; the message says which kind of target it was.",
    )
