"""Settings of the coordinator: `server.toml`, every key typed, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from pleura.common.config import load_toml
from pleura.common.ids import FederationIdField

CONFIG_ENV: Final = "PLEURA_SERVER_CONFIG"


class ServerSettings(BaseModel):
    """The whole of `server.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    federation_id: FederationIdField
    state_dir: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 443
    public_url: Annotated[str, Field(pattern=r"^https://[^/\s]+$")] = "https://127.0.0.1"
    superlink_port: Annotated[int, Field(ge=1024, le=65535)] = 9093
    max_blob_mb: Annotated[int, Field(ge=1, le=8192)] = 2048
    invite_hours: Annotated[int, Field(ge=1, le=168)] = 24

    @property
    def signing_key_file(self) -> Path:
        return self.state_dir / "keys" / "coordinator.key"

    @property
    def ca_file(self) -> Path:
        return self.state_dir / "tls" / "ca.pem"

    @property
    def tls_cert_file(self) -> Path:
        return self.state_dir / "tls" / "server.pem"

    @property
    def tls_key_file(self) -> Path:
        return self.state_dir / "tls" / "server.key"

    @property
    def sites_db_file(self) -> Path:
        return self.state_dir / "sites.db"

    @property
    def runs_db_file(self) -> Path:
        return self.state_dir / "runs.db"

    @property
    def log_db_file(self) -> Path:
        """The append-only log of signed statements."""
        return self.state_dir / "statements.db"

    @property
    def blobs_dir(self) -> Path:
        return self.state_dir / "blobs"

    @property
    def flower_home_dir(self) -> Path:
        """Flower's own folder (FLWR_HOME): its connection settings and unpacked bundles."""
        return self.state_dir / "flower"

    @property
    def flower_app_dir(self) -> Path:
        """The bundle's source: the names of the two installed apps."""
        return self.state_dir / "flower_app"

    @property
    def leases_dir(self) -> Path:
        return self.state_dir / "runs"

    @property
    def scratch_dir(self) -> Path:
        """Aggregates being written; inside the blobs folder, so that a rename ends them."""
        return self.blobs_dir / "scratch"

    @property
    def orders_bell_file(self) -> Path:
        """Rung when orders were handed to the SuperLink."""
        return self.state_dir / "orders.bell"

    @property
    def answers_bell_file(self) -> Path:
        """Rung when a part of an answer was handed to the SuperLink."""
        return self.state_dir / "answers.bell"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "log"


def load_settings(path: Path) -> ServerSettings:
    """Read `server.toml`; a relative state_dir is relative to its folder.

    Raises:
        ConfigUnreadable, UnknownConfigKey, InvalidConfigValue: each names the key.
    """
    settings = load_toml(path, ServerSettings)
    return settings.model_copy(update={"state_dir": path.resolve().parent / settings.state_dir})
