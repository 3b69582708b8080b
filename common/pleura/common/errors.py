"""The error tree: one root, branches by who must act, leaves in each package.

Every member carries a stable `code`, a `hint` that tells the operator what to
do, and the exit status of a command that ends with it. Messages name tags,
codes, digests and counts; never DICOM values, file names from a PACS or keys.
Leaves live in `pleura.<package>.errors`; only those both sides raise are here.
"""

from __future__ import annotations

from typing import ClassVar

from pleura.common.exit_codes import ExitCode


class PleuraError(Exception):
    """Root. `code` is stable, `hint` tells an operator what to do."""

    code: ClassVar[str] = "PLEURA"
    hint: ClassVar[str] = "This is a fault in Pleura; please report it with the code."
    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __str__(self) -> str:
        detail = super().__str__()
        return f"{self.code}: {detail}" if detail else self.code


# --- branches: who must act --------------------------------------------------


class ConfigError(PleuraError):
    """A file the operator wrote must be corrected."""

    code, hint = "CONFIG", "Correct the named key in the configuration file."
    exit_code = ExitCode.CONFIG


class HostFault(PleuraError):
    """This machine cannot do it now: disk, port, clock, sandbox."""

    code, hint = "HOST", "Repair the named condition of this machine and start again."
    exit_code = ExitCode.ENVIRONMENT


class DataFault(PleuraError):
    """Data the operator supplied cannot be used; nothing was lost."""

    code, hint = "DATA", "Correct or leave out the named data and run the command again."
    exit_code = ExitCode.INCOMPLETE


class Refused(PleuraError):
    """A signature, policy, budget or privacy rule said no. Never retried as is."""

    code, hint = "REFUSED", "A rule refused this; see the code in docs/reference/errors.md."
    exit_code = ExitCode.REFUSED


class Unreachable(PleuraError):
    """The other side did not answer; trying again later is right."""

    code, hint = "UNREACHABLE", "Check the network path to the other side; Pleura keeps trying."
    exit_code = ExitCode.UNREACHABLE


# --- leaves both sides raise ---------------------------------------------------


class UnknownConfigKey(ConfigError):
    code, hint = "CFG-KEY", "Remove or rename the key; docs/reference lists every allowed key."


class InvalidConfigValue(ConfigError):
    code, hint = "CFG-VALUE", "Set the named key to an allowed value."


class ConfigUnreadable(ConfigError):
    code, hint = "CFG-READ", "Check that the file exists, is readable and is valid TOML."


class InvalidId(ConfigError):
    code, hint = "CFG-ID", "Use lower-case letters, digits and hyphens, 2 to 40 characters."


class KeyFileInsecure(ConfigError):
    code, hint = "KEY-MODE", "Make the key file mode 0600 and its folder 0700 (chmod)."


class KeyUnreadable(ConfigError):
    code, hint = "KEY-READ", "Check the path and passphrase of the key file."


class DiskFull(HostFault):
    code, hint = "HOST-DISK", "Free space on the volume that is written to; nothing was lost."


class DiskFailed(HostFault):
    code, hint = "HOST-IO", "The disk is full or failing: free space, check it, and start again."


class StateInsecure(HostFault):
    code, hint = "HOST-MODE", "Make the folder readable by its owner only (chmod 0700)."


class AlreadyRunning(HostFault):
    code, hint = "HOST-LOCK", "Another process owns this state folder; stop it first."


class ClockSkew(HostFault):
    code, hint = "HOST-CLOCK", "Set this machine's clock (NTP); the sides differ too much."


class DatabaseDamaged(HostFault):
    code, hint = "HOST-DB", "The database failed its check; restore it from the last backup."


class SignatureRejected(Refused):
    code, hint = "REJ-SIGNATURE", "The signature does not match; the sender's key or bytes differ."


class KeyUnknown(Refused):
    code, hint = "REJ-KEY", "The signing key is not registered or was revoked; approve the site."


class SiteNotApproved(Refused):
    code, hint = "REJ-PENDING", "The site is enrolled but not approved; the lead approves it."


class InviteCodeMalformed(Refused):
    code, hint = "REJ-CODE-FORM", "Copy the whole one-time code, from PL1 to its last sign."


class EnvelopeMalformed(Refused):
    code, hint = "REJ-ENVELOPE", "The message is not a valid signed statement; check versions."


class StatementMalformed(Refused):
    code, hint = "REJ-STATEMENT", "The signed statement has an unknown shape; check versions."


class DigestMismatch(Refused):
    code, hint = "REJ-DIGEST", "The bytes differ from their digest; send them again."


class TensorsRejected(Refused):
    code, hint = "REJ-TENSORS", "The tensors break the plan's schema; the site must correct them."


class NotFinite(TensorsRejected):
    code, hint = "REJ-NONFINITE", "The tensors hold NaN or infinity; lower the learning rate."


class BlobTooLarge(Refused):
    code, hint = "REJ-SIZE", "The object is larger than the plan allows."


class BlobMissing(DataFault):
    code, hint = "BLOB-MISSING", "The object is not in the store; send or fetch it first."


class ReplayRejected(Refused):
    code, hint = "REJ-REPLAY", "The request was seen before; the sender must sign a new one."


class AccountingFailed(Refused):
    code, hint = "REJ-ACCOUNTANT", "No finite privacy bound could be proved; change the plan."
