"""Settings every service shares. Two ways in: environment variables `ANNEAL_...` and secret files of the same names."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Options(BaseModel):
    """Base of nested settings: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GrpcOptions(Options):
    """The gRPC server.

    Attributes:
        host: address to bind; anything but loopback needs tokens.
        port: 0 takes a free one.
        max_message_bytes: longest message accepted.
        max_concurrent: RPCs handled at once; one more is refused as busy.
        max_waiting: RPCs at once that only wait for a job to go on or to end; one more is refused as busy.
        drain_s: seconds that running RPCs get at shutdown.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    max_message_bytes: int = Field(default=4 << 20, ge=1 << 16)
    max_concurrent: int = Field(default=256, ge=1)
    max_waiting: int = Field(default=1024, ge=1)
    drain_s: float = Field(default=10, ge=0)


class MetricsOptions(Options):
    """The Prometheus endpoint of the process; `port` 0 takes a free one, None serves none."""

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)


class StoreOptions(Options):
    """The object store: a folder or `s3://...`, with the options of obstore's `from_url`."""

    url: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


class JobOptions(Options):
    """Long jobs.

    Attributes:
        max_running: job processes at once.
        lease_s: seconds without a heartbeat after which an attempt is given up.
        cancel_grace_s: seconds a job that was asked to stop may take; then its process is ended.
        backoff_s: wait after the first failure; doubles for every further one.
        max_attempts: attempts in all, without those that ended with their server.
    """

    max_running: int = Field(default=2, ge=1)
    lease_s: float = Field(default=60, gt=0)
    cancel_grace_s: float = Field(default=60, ge=0)
    backoff_s: float = Field(default=1, ge=0)
    max_attempts: int = Field(default=4, ge=1)


class ServiceSettings(BaseSettings):
    """What every process of Anneal can be told.

    Attributes:
        data_dir: folder for databases, caches, scratch and, by default, the store.
        database_url: SQLAlchemy URL of the registry and the job store; empty means SQLite below `data_dir`.
        tokens: bearer tokens the servers accept; clients of other services send the first one.
        addresses: `service -> host:port` of the other services.
    """

    model_config = SettingsConfigDict(
        env_prefix="ANNEAL_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        secrets_dir=os.environ.get("ANNEAL_SECRETS_DIR"),
    )

    data_dir: Path = Field(default_factory=lambda: Path.home() / ".anneal")
    grpc: GrpcOptions = GrpcOptions()
    metrics: MetricsOptions = MetricsOptions()
    store: StoreOptions = StoreOptions()
    jobs: JobOptions = JobOptions()
    database_url: SecretStr = SecretStr("")
    tokens: tuple[SecretStr, ...] = ()
    addresses: dict[str, str] = Field(default_factory=dict)
    log_json: bool = True
    log_level: str = "INFO"

    @model_validator(mode="after")
    def _credentials_beyond_loopback(self) -> ServiceSettings:
        if not is_loopback(self.grpc.host) and not self.tokens:
            raise ValueError(
                f"grpc.host {self.grpc.host} is reachable from outside: set ANNEAL_TOKENS, or bind to 127.0.0.1"
            )
        return self

    def store_url(self) -> str:
        """Where the store is."""
        return self.store.url or str(self.data_dir / "store")

    def sql_url(self, name: str) -> str:
        """SQLAlchemy URL of a database: the configured one, or a SQLite file of that name."""
        return self.database_url.get_secret_value() or f"sqlite+aiosqlite:///{self.data_dir / (name + '.db')}"

    def bearer_tokens(self) -> tuple[str, ...]:
        """The tokens as plain strings."""
        return tuple(token.get_secret_value() for token in self.tokens)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
