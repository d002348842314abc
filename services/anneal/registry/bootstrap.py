"""The one file that chooses the registry's real adapters."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import grpc

from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.store import Store
from anneal.registry.adapters.shelf import Shelf
from anneal.registry.adapters.sql.catalog import Catalog
from anneal.registry.servicer import RegistryServicer
from anneal.registry.settings import RegistryOptions
from anneal.registry.usecases.house import House
from anneal.v1.registry_service_pb2_grpc import add_RegistryServiceServicer_to_server


def open_registry(
    settings: ServiceSettings,
    store: Store,
    options: RegistryOptions,
    on_fault: Callable[[object], None] = lambda _: None,
) -> House:
    """The real database, the real store, the real clock and real chance."""
    chance = random.SystemRandom()
    return House(
        catalog=Catalog(settings.sql_url("registry"), migrates=options.migrates, on_fault=on_fault),
        shelf=Shelf(store),
        now=lambda: datetime.now(UTC),
        draw=lambda: chance.randrange(100),
    )


def build(runtime: Runtime, options: RegistryOptions | None = None) -> Service:
    """The registry, ready to be put on a server."""
    chosen = options or RegistryOptions()
    house = open_registry(runtime.settings, runtime.store, chosen, runtime.on_database_fault)

    def add(server: grpc.aio.Server) -> None:
        add_RegistryServiceServicer_to_server(RegistryServicer(house), server)

    async def start() -> None:
        await house.catalog.prepare()
        # What a crash kept from the store goes there now.
        await house.flush()

    return Service(
        name="registry",
        add=add,
        grpc_services=("anneal.v1.RegistryService",),
        start=start,
        check=house.catalog.check,
        stop=house.catalog.close,
    )
