"""Leaves of the error tree that only a site raises."""

from __future__ import annotations

from pleura.common.errors import ConfigError, DataFault, HostFault, Refused, Unreachable


class CohortTooSmall(Refused):
    code, hint = "REJ-COHORT", "The cohort has fewer patients than the policy's minimum; add data."


class LabelsMissing(DataFault):
    code, hint = "DATA-LABELS", "Import labels first: pleura client labels import FILE --task TASK."


class KeyVersionsMixed(DataFault):
    code, hint = (
        "DATA-KEY-VERSIONS",
        "One patient named in two ways counts as two: stop the site, set aside its folders store "
        "and ingest, and take the project's data in again under one key and profile.",
    )


class LabelsUnreadable(DataFault):
    code, hint = "DATA-CSV", "Correct the named line of the labels file; nothing was imported."


class CatalogMissing(DataFault):
    code, hint = "DATA-CATALOG", "Take images in first: pleura client ingest."


class WatchFolderMissing(ConfigError):
    code, hint = (
        "CFG-WATCH",
        "A folder of ingest.watch is absent or cannot be read; check its mount and rights.",
    )


class BudgetExceeded(Refused):
    code, hint = "REJ-BUDGET", "The privacy budget does not allow this round; a steward decides."


class BudgetDamaged(HostFault):
    code, hint = "HOST-BUDGET", "The budget ledger fails its check; restore it before training."


class PolicyRefused(Refused):
    code, hint = "REJ-POLICY", "The site policy does not allow this order; see [policy]."


class TaskUnknown(Refused):
    code, hint = "REJ-TASK", "The task or network is not built into this version; upgrade the site."


class OrderExpired(Refused):
    code, hint = (
        "REJ-EXPIRED",
        "The order is past its expiry; the coordinator must issue a new one.",
    )


class OrderFromFuture(Refused):
    code, hint = "REJ-FUTURE", "The order is dated in the future; check the clocks of both sides."


class WrongFederation(Refused):
    code, hint = "REJ-ORDER-FEDERATION", "The order belongs to another federation or site list."


class ModelRefused(Refused):
    code, hint = "REJ-MODEL", "The network breaks a model rule (normalisation, in-place, buffers)."


class TrainingDiverged(Refused):
    code, hint = "REJ-DIVERGED", "Weights became non-finite; the round is void at this site."


class NotSandboxed(HostFault):
    code, hint = (
        "HOST-SANDBOX",
        (
            "The trainer can reach the network. Run it under systemd PrivateNetwork, or set"
            " policy.allow_unsandboxed_trainer = true; status and log then say so."
        ),
    )


class BundleRefused(Refused):
    code, hint = "REJ-BUNDLE", "The coordinator named another code bundle than this version ships."


class CaMismatch(Refused):
    code, hint = (
        "REJ-CA",
        "The coordinator's certificate is not the pinned one; check for interception.",
    )


class CoordinatorUnreachable(Unreachable):
    code, hint = (
        "NET-COORDINATOR",
        "Check DNS, proxy and firewall towards the coordinator (port 443).",
    )


class TrainerUnreachable(Unreachable):
    code, hint = "NET-TRAINER", "The trainer process does not answer; the supervisor restarts it."


class EnrolmentRefused(Refused):
    code, hint = "REJ-ENROL", "Ask the lead for a new one-time code and check the site id."


class NotEnrolled(ConfigError):
    code, hint = "CFG-ENROL", "Enrol this site first: pleura client join CODE."


class ImageUnreadable(DataFault):
    code, hint = "DATA-IMAGE", "The object cannot be decoded; leave it out or ingest it again."


class ImageUnsupported(DataFault):
    code, hint = "DATA-IMAGE-KIND", "Only single-frame grey images with usable pixels are accepted."


class ImageChanged(DataFault):
    code, hint = "DATA-CHANGED", "The stored object differs from its digest; ingest it again."


class StackRefused(DataFault):
    code, hint = (
        "DATA-STACK",
        "The CT stack has gaps, doubled, tilted or unequal planes; repair it.",
    )


class CoordinatorRefused(Refused):
    code, hint = "REJ-COORDINATOR", "The coordinator refused; its code is in the message."


class ReplyMalformed(Unreachable):
    code, hint = "NET-REPLY", "The coordinator's reply breaks the protocol; check both versions."


class PhantomFolderNotEmpty(DataFault):
    code, hint = "DATA-PHANTOM", "Name an empty or new folder for the generated images."


class TaskNotAllowed(PolicyRefused):
    code, hint = "REJ-POLICY-TASK", "Add the task to [policy] tasks if the steward agrees."


class NonPrivateRefused(PolicyRefused):
    code, hint = (
        "REJ-POLICY-DP",
        "Training without differential privacy needs policy.allow_non_dp and a plan that says so.",
    )


class PrivacyCapExceeded(PolicyRefused):
    code, hint = (
        "REJ-POLICY-EPSILON",
        "The plan's epsilon or delta is above the site's cap; see [policy].",
    )


class AttemptsExhausted(PolicyRefused):
    code, hint = (
        "REJ-POLICY-ATTEMPTS",
        "This round was tried as often as policy.max_attempts allows; the site sits it out.",
    )


class RoleRefused(Refused):
    code, hint = (
        "REJ-ROLE",
        "The plan gives this site another role: it trains, or it validates externally.",
    )


class PlanChanged(Refused):
    code, hint = (
        "REJ-PLAN",
        "The plan differs from the first order of this run; a new plan needs a new run.",
    )


class RoundRolledBack(Refused):
    code, hint = (
        "REJ-ROLLBACK",
        "The order is for an earlier round than this site has answered; ask the lead why.",
    )


class EvaluationNotDue(Refused):
    code, hint = (
        "REJ-NOT-DUE",
        "The plan has no evaluation after this round; the lead must plan it.",
    )


class RoundBeyondPlan(Refused):
    code, hint = "REJ-ROUNDS", "The order is for a round the plan does not have."


class BaseChanged(Refused):
    code, hint = (
        "REJ-BASE-CHANGED",
        "An earlier order of this round had another base model; the coordinator must explain.",
    )


class BlobNotWanted(Refused):
    code, hint = "REJ-BLOB", "No accepted order waits for this object and no answer offers it."


class OrderRefusedUnsigned(Refused):
    code, hint = (
        "REJ-ORDER-UNSIGNED",
        "The order could not be tied to the pinned coordinator key; the site answers nothing.",
    )


class OrderConflict(Refused):
    code, hint = (
        "REJ-CONFLICT",
        "Another order for the same round and attempt was taken before; ask the lead why.",
    )


class ArchiveDamaged(HostFault):
    code, hint = (
        "HOST-ARCHIVE",
        "A record of taken orders cannot be read; restore trainer/runs from the last backup.",
    )


class EntropyMissing(HostFault):
    code, hint = "HOST-ENTROPY", "The system's random source failed; repair it before training."


class RunEnded(Refused):
    code, hint = (
        "REJ-RUN-ENDED",
        "The Flower run of this message ended; a new run sends the order again.",
    )


class MessageRefused(Refused):
    code, hint = (
        "REJ-MESSAGE",
        "A Flower message has not the shape both sides agreed; check versions.",
    )


class BudgetTermsDiffer(BudgetExceeded):
    code, hint = (
        "REJ-BUDGET-TERMS",
        "Cohort, delta, cap or plan differ from what the budget fixed; a steward decides.",
    )


class RoundOvercharged(BudgetExceeded):
    code, hint = "REJ-BUDGET-ROUND", "The round was tried as often as policy.max_attempts allows."


class UpdateAlreadySpent(BudgetExceeded):
    code, hint = (
        "REJ-BUDGET-SPENT",
        "The round was trained before; its stored update is sent again, nothing is recomputed.",
    )


class DemoStepFailed(HostFault):
    code, hint = (
        "DEMO-STEP",
        "Read the named process's last words; its logs lie in the demo's state.",
    )


class DemoFolderTaken(HostFault):
    code, hint = "DEMO-FOLDER", "Choose another --state folder, or remove this one yourself."


class DemoDataMissing(DataFault):
    code, hint = (
        "DEMO-DATA",
        (
            "DIR needs one folder a site with dicom/ and labels.csv inside; name those that only"
            " validate external-..."
        ),
    )


class SocketUnusable(HostFault):
    code, hint = (
        "HOST-SOCKET",
        "The trainer's socket cannot be made; choose a shorter state_dir on a local volume.",
    )


class EpsilonUnderstated(Refused):
    code, hint = (
        "REJ-EPSILON",
        ("The plan states less epsilon than its noise gives; let the coordinator solve sigma."),
    )
