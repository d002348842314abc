"""What the gateway can be told, beyond what every service can."""

from __future__ import annotations

from pydantic import Field, model_validator

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings, is_loopback


class ApiKey(Options):
    """A key that apps send as `Authorization: Bearer`; only its hash is kept.

    Attributes:
        name: whose it is, for logs.
        sha256: SHA-256 of the key, as 64 hex digits.
        project: the only project it can reach.
    """

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    project: str = "default"


class GatewayOptions(Options):
    """The HTTP side.

    Attributes:
        host: address to bind; anything but loopback needs keys.
        port: 0 takes a free one.
        project: where short model names are looked up for callers without a key.
        keys: keys that are accepted; empty accepts everybody, on loopback only.
        max_body_bytes: longest request.
        deadline_s: longest time for one answer.
        drain_s: seconds that running answers get at shutdown.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    project: str = "default"
    keys: tuple[ApiKey, ...] = ()
    max_body_bytes: int = Field(default=4 << 20, ge=1024)
    deadline_s: float = Field(default=600, gt=0)
    drain_s: int = Field(default=10, ge=0)

    @model_validator(mode="after")
    def _credentials_beyond_loopback(self) -> GatewayOptions:
        if not is_loopback(self.host) and not self.keys:
            raise ValueError(
                f"gateway.host {self.host} is reachable from outside: set ANNEAL_GATEWAY__KEYS, or bind to 127.0.0.1"
            )
        return self


class Settings(ServiceSettings):
    """Settings of the gateway."""

    gateway: GatewayOptions = GatewayOptions()

    @model_validator(mode="after")
    def _knows_whom_to_ask(self) -> Settings:
        missing = [name for name in ("registry", "serving") if name not in self.addresses]
        if missing:
            raise ValueError(f"ANNEAL_ADDRESSES does not say where these services are: {', '.join(missing)}")
        return self
