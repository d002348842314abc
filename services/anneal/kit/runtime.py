"""What a service is built from, and what its `bootstrap.build` returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from anneal.kit.jobs.demand import Demand, demand_of
from anneal.kit.metrics import Metrics
from anneal.kit.rpc.channels import Channels
from anneal.kit.settings import ServiceSettings
from anneal.kit.store import Store

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from anneal.kit.jobs.engine import Jobs


async def _nothing() -> None:
    return None


async def _unheard(_service: str, _serving: bool) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """A kind of long job.

    Attributes:
        name: such as `curate`.
        request: message type of the order.
        body: `module:function` of the job's body, called in a process of its own as `body(ctx, request) -> result`.
        publish: turns the body's result into the named resource, in the service's own process; must be idempotent.
        succeeded: runs in the service's own process after an operation has succeeded, such as to remove what only a
            repetition would need; gets the operation's name.
        options: JSON values the body finds in `ctx.options`, such as the address of a Ray runtime.
        max_attempts: attempts in all, without those that were interrupted; None takes the setting.
        demand: what an order asks of the machine it runs on.
    """

    name: str
    request: type[Message]
    body: str
    publish: Callable[[Any, str], Awaitable[Message]] | None = None
    succeeded: Callable[[str], Awaitable[None]] | None = None
    options: Callable[[], Mapping[str, Any]] = dict
    max_attempts: int | None = None
    demand: Callable[[Any], Demand] = demand_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service, ready to be put on a server.

    Attributes:
        name: such as `curation`.
        add: registers its servicers on a server.
        grpc_services: full names of the gRPC services, for health and reflection.
        kinds: its kinds of long jobs.
        start: runs after the server is up; raises `NotReady` or `BackendFault` to be run again later.
        check: sees again, after a call met a fault, that the tables it keeps are there; raises `BackendFault`.
        stop: runs after its last RPC ended.
    """

    name: str
    add: Callable[[grpc.aio.Server], None]
    grpc_services: Sequence[str]
    kinds: Sequence[JobKind] = ()
    start: Callable[[], Awaitable[None]] = _nothing
    check: Callable[[], Awaitable[None]] = _nothing
    stop: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What the composition root gives to a service's `bootstrap.build`.

    Attributes:
        report_health: tells the health service that a gRPC service (full name) does or does not serve. The whole
            server serves while each of its services does.
        on_database_fault: hears of each refusal of a database that a service opens itself.
    """

    settings: ServiceSettings
    store: Store
    jobs: Jobs
    metrics: Metrics
    channels: Channels
    extras: dict[str, Any] = field(default_factory=dict)
    report_health: Callable[[str, bool], Awaitable[None]] = _unheard
    on_database_fault: Callable[[object], None] = lambda _: None

    def channel(self, service: str) -> grpc.aio.Channel:
        """An asyncio channel to another service."""
        return self.channels.get(service)
