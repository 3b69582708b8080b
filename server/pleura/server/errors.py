"""Leaves of the error tree that only the coordinator raises."""

from __future__ import annotations

from pleura.common.errors import ConfigError, DataFault, HostFault, Refused, Unreachable
from pleura.common.exit_codes import ExitCode


class RoundClosed(Refused):
    code, hint = "REJ-ROUND", "The round ended; the daemon waits for the next one."


class RunMismatch(Refused):
    code, hint = "REJ-RUN", "The update belongs to another run or plan."


class BaseMismatch(Refused):
    code, hint = "REJ-BASE", "The update was trained from another base model."


class SiteNotInRun(Refused):
    code, hint = "REJ-SITE", "The site is not in the plan of this run."


class NormTooLarge(Refused):
    code, hint = "REJ-NORM", "The update exceeds the plan's norm bound."


class SchemaMismatch(Refused):
    code, hint = (
        "REJ-SCHEMA",
        "The update's tensors differ from the model's names, types or shapes.",
    )


class TooFewSites(Refused):
    code, hint = (
        "REJ-QUORUM",
        "Fewer sites answered than the plan's minimum; the round is repeated.",
    )


class EnrolmentCodeWrong(Refused):
    code, hint = "REJ-CODE", "The one-time code is wrong, used or expired; issue a new one."


class SiteUnknown(DataFault):
    code, hint = "SITE-UNKNOWN", "No such site; see pleura server sites list."


class RunUnknown(DataFault):
    code, hint = "RUN-UNKNOWN", "No such run; see pleura server runs list."


class RunExists(DataFault):
    code, hint = "RUN-EXISTS", "A run with this id exists; choose another run_id."


class PlanInvalid(ConfigError):
    code, hint = "CFG-PLAN", "Correct the named part of the plan file."


class SuperLinkUnreachable(Unreachable):
    code, hint = "NET-SUPERLINK", "The SuperLink does not answer; the supervisor restarts it."


class SiteTooBusy(Unreachable):
    code, hint = "NET-BUSY", "The site has too many requests open; it tries again by itself."


class PortInUse(HostFault):
    code, hint = "HOST-PORT", "Another program listens on the port; choose another or stop it."


class FederationMismatch(Refused):
    code, hint = "REJ-FEDERATION", "The statement belongs to another federation; check enrolment."


class OrderMismatch(Refused):
    code, hint = "REJ-ORDER", "The answer names another order or nonce; the site must answer anew."


class UpdateNotOwn(Refused):
    code, hint = "REJ-OWN", "The site named an update it did not send; ask it to train and send."


class PrivacyMismatch(Refused):
    code, hint = "REJ-PRIVACY", "The update was trained under other privacy terms than the plan's."


class SiteNotApproved(DataFault):
    code, hint = "SITE-PENDING", "Approve the site first: pleura server sites approve SITE."


class RunNotStoppable(DataFault):
    code, hint = "RUN-ENDED", "The run has ended already; nothing was changed."


class ConfirmationMissing(ConfigError):
    code, hint = "CLI-YES", "Add --yes to confirm; nothing was changed."
    exit_code = ExitCode.USAGE


class FlowerCallFailed(Unreachable):
    code, hint = "NET-FLOWER", "The SuperLink refused or missed a call; the supervisor tries again."


class SiteStateWrong(DataFault):
    code, hint = "SITE-STATE", "The site's state does not allow this; see pleura server sites list."


class EnrolmentKeyTaken(Refused):
    code, hint = (
        "REJ-KEY-TAKEN",
        (
            "This key is in use or was revoked: run pleura client retire-keys --yes, then join with"
            " a new code."
        ),
    )


class TooManyRequests(Refused):
    code, hint = "REJ-RATE", "Too many wrong codes from this address; wait an hour."


class RouteUnknown(Refused):
    code, hint = "REJ-ROUTE", "Nothing is at this path and method; check the version of the site."


class NodeKeyMismatch(Refused):
    code, hint = "REJ-NODE-KEY", "The Flower node key is not the one this site enrolled."


class PortForbidden(HostFault):
    code, hint = (
        "HOST-PRIVILEGE",
        "This user may not listen on the address or port; choose another, or grant"
        " CAP_NET_BIND_SERVICE.",
    )


class TlsMissing(ConfigError):
    code, hint = "CFG-TLS", "The certificate or its key is missing; run pleura server init."


class RunStopped(Refused):
    code, hint = "RUN-STOPPED", "An operator stopped the run; its last model is kept."


class UploadOffsetWrong(Refused):
    code, hint = "REJ-OFFSET", "Another amount of the upload is here; continue at Upload-Offset."


class SiteUnreachable(Unreachable):
    code, hint = "NET-SITE", "The site stopped in the middle of a request; it sends it again."


class HeadersUnbounded(Refused):
    code, hint = "REJ-HEADERS", "Request headers came too slowly or were too large."
