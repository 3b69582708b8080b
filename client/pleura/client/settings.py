"""Settings of one site: `site.toml`, every key typed, unknown keys refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pleura.common.config import load_toml
from pleura.common.ids import FederationIdField, SiteIdField
from pleura.common.orders import TaskName

OptionName = Literal[
    "year_only", "shift_time", "patient_chars", "device", "safe_private", "structured",
    "strict_prose",
]  # fmt: skip


class Section(BaseModel):
    """Base of every section: frozen, no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CoordinatorSection(Section):
    """Where the coordinator is and how it is recognised. Keys come with enrolment."""

    url: Annotated[str, Field(pattern=r"^https://[^/\s]+$")]
    federation_id: FederationIdField
    ca_file: Path


class PolicySection(Section):
    """What the data steward allows; it wins over anything the coordinator orders."""

    tasks: tuple[TaskName, ...] = ()
    min_patients: Annotated[int, Field(ge=1)] = 20
    allow_non_dp: bool = False
    epsilon_cap: Annotated[Decimal, Field(gt=0, le=20)] = Decimal("8")
    delta: Annotated[Decimal, Field(gt=0, le=Decimal("1e-4"))] = Decimal("1e-5")
    max_attempts: Annotated[int, Field(ge=1, le=5)] = 2
    allow_unsandboxed_trainer: bool = False


class IngestSection(Section):
    """Folders to watch and how their objects are de-identified.

    `options` are added to the profile, which must offer them. `justification` is the written
    reason to pseudonymise (EHDS 66); receipts carry its SHA-256. `steward_key` is the steward's
    public X25519 key in hex: with a profile that draws pseudonyms at random, the original
    PatientIDs are sealed to it; without one nobody can look a patient up again.
    """

    watch: tuple[Path, ...] = ()
    profile: Literal["hipaa_safe_harbor", "gdpr_pseudonymous", "research_dates"] = (
        "gdpr_pseudonymous"
    )
    options: tuple[OptionName, ...] = ()
    justification: Annotated[str, Field(max_length=2000)] = ""
    steward_key: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    poll_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    settle_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    ocr: Literal["policy", "all", "off"] = "policy"
    accept_unread_text: bool = False
    reserve_gb: Annotated[float, Field(ge=0)] = 1.0


class TrainerSection(Section):
    """Resources of the trainer."""

    threads: Annotated[int, Field(ge=1, le=64)] = 1


class SiteSettings(Section):
    """The whole of `site.toml`."""

    site_id: SiteIdField
    state_dir: Path
    coordinator: CoordinatorSection
    policy: PolicySection = PolicySection()
    ingest: IngestSection = IngestSection()
    trainer: TrainerSection = TrainerSection()

    # the state folder, one property a place (OPERATIONS.md section 2)
    @property
    def transport_key_file(self) -> Path:
        return self.state_dir / "agent" / "transport.key"

    @property
    def node_key_file(self) -> Path:
        return self.state_dir / "agent" / "node.key"

    @property
    def coordinator_key_file(self) -> Path:
        """The coordinator's public signing key, pinned at enrolment."""
        return self.state_dir / "trainer" / "coordinator.pub"

    @property
    def site_key_file(self) -> Path:
        return self.state_dir / "trainer" / "site.key"

    @property
    def agent_dir(self) -> Path:
        return self.state_dir / "agent"

    @property
    def trainer_dir(self) -> Path:
        return self.state_dir / "trainer"

    @property
    def trainer_socket(self) -> Path:
        return self.state_dir / "run" / "trainer.sock"

    @property
    def store_dir(self) -> Path:
        return self.state_dir / "store"

    @property
    def catalog_file(self) -> Path:
        return self.state_dir / "store" / "catalog.db"

    @property
    def quarantine_dir(self) -> Path:
        return self.state_dir / "quarantine"

    @property
    def ingest_db_file(self) -> Path:
        return self.state_dir / "ingest" / "ingest.db"

    @property
    def pseudonym_key_file(self) -> Path:
        return self.state_dir / "vault" / "pseudonym.key"

    @property
    def mapping_file(self) -> Path:
        """Pseudonyms drawn at random, for the profiles that draw them."""
        return self.state_dir / "vault" / "map.db"

    @property
    def erasure_file(self) -> Path:
        """Keyed tombstones of erased patients."""
        return self.state_dir / "vault" / "erasure.db"

    @property
    def rounds_file(self) -> Path:
        """Which patients were trained on in which round; the trainer writes it."""
        return self.state_dir / "trainer" / "rounds.db"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "log"


def load_settings(path: Path) -> SiteSettings:
    """Read `site.toml`; relative paths are relative to its folder.

    Raises:
        ConfigUnreadable, UnknownConfigKey, InvalidConfigValue: each names the key.
    """
    settings = load_toml(path, SiteSettings)
    base = path.resolve().parent
    coordinator = settings.coordinator.model_copy(
        update={"ca_file": base / settings.coordinator.ca_file}
    )
    ingest = settings.ingest.model_copy(
        update={"watch": tuple(base / folder for folder in settings.ingest.watch)}
    )
    return settings.model_copy(
        update={
            "state_dir": base / settings.state_dir,
            "coordinator": coordinator,
            "ingest": ingest,
        }
    )
