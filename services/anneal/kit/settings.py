"""Settings every service shares. Two ways in: environment variables `ANNEAL_...` and secret files of the same names."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from anneal.kit.options import (
    EngineOptions,
    GrpcOptions,
    JobOptions,
    LauncherOptions,
    MetricsOptions,
    Options,
    StoreOptions,
    TlsOptions,
)

ENV_PREFIX = "ANNEAL_"
_NESTED = "__"


class Misconfigured(Exception):
    """The process was told something that cannot work; the text says what, in one line."""


class ServiceSettings(BaseSettings):
    """What every process of Anneal can be told.

    Attributes:
        data_dir: folder for databases, caches, scratch and, by default, the store.
        database_url: SQLAlchemy URL of the registry and the job store; empty means SQLite below `data_dir`.
        tokens: bearer tokens the servers accept, each of printable ASCII without spaces; clients of other services
            send the first one.
        addresses: `service -> host:port` of the other services. Where every base model has servers of its own,
            `serving/projects/p/models/m` is the address of those of one, and `serving` that of the rest.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=_NESTED,
        frozen=True,
        extra="forbid",
        secrets_dir=os.environ.get("ANNEAL_SECRETS_DIR"),
    )

    data_dir: Path = Field(default_factory=lambda: Path.home() / ".anneal")
    grpc: GrpcOptions = GrpcOptions()
    tls: TlsOptions = TlsOptions()
    metrics: MetricsOptions = MetricsOptions()
    store: StoreOptions = StoreOptions()
    jobs: JobOptions = JobOptions()
    launcher: LauncherOptions = LauncherOptions()
    engine: EngineOptions = EngineOptions()
    database_url: SecretStr = SecretStr("")
    tokens: tuple[SecretStr, ...] = ()
    addresses: dict[str, str] = Field(default_factory=dict)
    log_json: bool = True
    log_level: str = "INFO"

    @field_validator("tokens")
    @classmethod
    def _tokens_that_can_be_sent(cls, tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        # A blank one would let in everybody who sends none; others would not survive the way through a header.
        for token in tokens:
            text = token.get_secret_value()
            if not text or not all("!" <= character <= "~" for character in text):
                raise ValueError("a token is blank, or has characters besides printable ASCII without spaces")
        return tokens

    @model_validator(mode="after")
    def _credentials_beyond_loopback(self) -> ServiceSettings:
        if not is_loopback(self.grpc.host) and not self.tokens:
            raise ValueError(
                f"grpc.host {self.grpc.host} is reachable from outside: set ANNEAL_TOKENS, or bind to 127.0.0.1"
            )
        if not is_loopback(self.metrics.host) and not self.metrics.public:
            raise ValueError(
                f"metrics.host {self.metrics.host} is reachable from outside, and metrics ask for no credentials: set "
                "ANNEAL_METRICS__PUBLIC=true to allow it, or bind to 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _a_store_that_pods_reach(self) -> ServiceSettings:
        scheme, separator, _ = self.store.url.partition("://")
        if self.launcher.kind == "kubernetes" and (not separator or scheme in ("file", "memory")):
            raise ValueError(
                "launcher.kind kubernetes needs a store that the pods of jobs reach: set ANNEAL_STORE__URL, such as to "
                "s3://bucket"
            )
        return self

    def store_url(self) -> str:
        """Where the store is."""
        return self.store.url or str(self.data_dir / "store")

    def folders(self) -> dict[str, Path]:
        """The folders that fill up, by name; the store is one of them where it is on this machine."""
        store = self.store_url()
        own = (
            {} if "://" in store and not store.startswith("file://") else {"store": Path(store.removeprefix("file://"))}
        )
        return {"data": self.data_dir, **own}

    def sql_url(self, name: str) -> str:
        """SQLAlchemy URL of a database: the configured one, or a SQLite file of that name."""
        return self.database_url.get_secret_value() or f"sqlite+aiosqlite:///{self.data_dir / (name + '.db')}"

    def bearer_tokens(self) -> tuple[str, ...]:
        """The tokens as plain strings."""
        return tuple(token.get_secret_value() for token in self.tokens)


class ClientSettings(BaseSettings):
    """What a command that calls services takes from the environment, besides its own options.

    Attributes:
        addresses: `service -> host:port` of services that are not behind the one address of the others.
        tls: how they are connected to.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter=_NESTED, frozen=True)

    addresses: dict[str, str] = Field(default_factory=dict)
    tls: TlsOptions = TlsOptions()


_Settings = TypeVar("_Settings", bound=BaseSettings)


def read_settings(kind: type[_Settings], **given: Any) -> _Settings:
    """The settings of this process, from environment and secret files.

    Args:
        kind: which settings.
        given: values that win over the environment; of a nested setting, a mapping of those that do.

    Raises:
        SystemExit: some are wrong; its one line names the environment variables, and no value.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        wrong = [_setting(item["loc"], item["msg"]) for item in error.errors(include_input=False, include_url=False)]
        raise SystemExit(f"anneal: {'; '.join(wrong)}") from None
    except SettingsError as error:  # what should be JSON is none; pydantic's text names the field and not the variable
        named = next((name for name in kind.model_fields if f'"{name}"' in str(error)), None)
        if named is None:
            raise SystemExit(f"anneal: {' '.join(str(error).split())}") from None
        below = (
            f" or {ENV_PREFIX}{named.upper()}{_NESTED}..."
            if isinstance(kind.model_fields[named].default, Options)
            else ""
        )
        raise SystemExit(f"anneal: {ENV_PREFIX}{named.upper()}{below}: is no JSON") from None


def _setting(place: tuple[int | str, ...], problem: str) -> str:
    names = [part.upper() for part in place if isinstance(part, str)]
    text = problem.removeprefix("Value error, ")
    return f"{ENV_PREFIX}{_NESTED.join(names)}: {text}" if names else text


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
