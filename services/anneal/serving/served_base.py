"""A base model that is served: its engine, and the adapters inside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, time
from typing import Protocol

from anneal.kit.engine.adapters import AdapterFacts, AdapterRefused, check_adapter
from anneal.kit.engine.models import EngineModel
from anneal.kit.errors import Missing
from anneal.serving.domain.answers import AdapterRef
from anneal.serving.domain.engine import Engine
from anneal.serving.domain.errors import (
    AdapterInUse,
    AdapterMissing,
    AdapterNotLoaded,
    EngineBusy,
)
from anneal.serving.domain.residents import Resident, Residents
from anneal.serving.meters import Meters, Occupancy, short


class Trees(Protocol):
    """Where the files of models and adapters come from."""

    def materialize(self, digest: str) -> Path:
        """A verified local copy of a tree."""


class Files(Protocol):
    """Reads what the checks need."""

    def read_adapter(self, folder: Path) -> AdapterFacts:
        """What an adapter's files hold."""

    def read_base_layers(self, folder: Path) -> Mapping[str, tuple[int, int]]:
        """Linear layers of a base: module path -> (outputs, inputs)."""

    def read_engine_model(self, folder: Path) -> EngineModel | None:
        """What the engine knows of a base's architecture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a replica holds; see `settings.ServingOptions`."""

    max_engines: int
    max_adapters: int
    max_rank: int
    max_requests: int
    adapter_wait_s: float


class ServedBase:
    """A base model with its engine and the adapters in it."""

    def __init__(
        self,
        digest: str,
        engine: Engine,
        layers: Mapping[str, tuple[int, int]],
        *,
        engine_model: EngineModel | None = None,
        trees: Trees,
        files: Files,
        meters: Meters,
        limits: Limits,
    ) -> None:
        self.digest = digest
        self.engine = engine
        self.residents = Residents(limits.max_adapters)
        self.requests = 0
        self._layers, self._engine_model = layers, engine_model
        self._trees, self._files, self._meters = trees, files, meters
        self._limits = limits
        self._loading = asyncio.Lock()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._unpinned = asyncio.Event()
        self._paths: dict[str, Path] = {}
        meters.expect_base(short(digest))

    def occupancy(self) -> Occupancy:
        """What the engine holds right now; asked from other threads, too."""
        adapters = [short(resident.digest) for resident in list(self.residents)]
        slots, most = self.residents.capacity, self._limits.max_requests
        return Occupancy(short(self.digest), adapters, slots, self.requests, most)

    @contextlib.asynccontextmanager
    async def answering(self, adapter_digest: str) -> AsyncIterator[AdapterRef | None]:
        """Hold the engine, and an adapter unless the digest is empty, for one request.

        Raises:
            AdapterMissing, AdapterRefused: it cannot be loaded.
            EngineBusy: no room for a further request, or for a further adapter.
        """
        if self.requests >= self._limits.max_requests:
            raise EngineBusy(f"the engine has {self.requests} requests already", retry_after_s=1.0)
        self.requests += 1
        pinned: Resident | None = None
        try:
            if adapter_digest:
                pinned = await self._pin(adapter_digest)
                yield AdapterRef(adapter_digest, pinned.slot, str(self._paths[adapter_digest]))
            else:
                yield None
        finally:
            self.requests -= 1
            if pinned is not None:
                self.residents.unpin(pinned)
                self._unpinned.set()

    async def load(self, adapter_digest: str) -> Resident:
        """Fetch, check and load an adapter, unless it is here. Raises as `answering`."""
        resident = await self._pin(adapter_digest)
        self.residents.unpin(resident)
        self._unpinned.set()
        return resident

    async def unload(self, adapter_digest: str) -> None:
        """Take an adapter out.

        Raises:
            AdapterNotLoaded: it is not here.
            AdapterInUse: it answers requests.
        """
        async with self._loading:
            resident = self.residents.get(adapter_digest)
            if resident is None:
                raise AdapterNotLoaded(f"adapter {adapter_digest} is not loaded", adapter=adapter_digest)
            if resident.pins:
                raise AdapterInUse(
                    f"adapter {adapter_digest} answers {resident.pins} requests right now", adapter=adapter_digest
                )
            await self._take_out(resident)

    async def _pin(self, digest: str) -> Resident:
        # Once it is loaded, another one may make it go again before this request gets its turn.
        while self.residents.get(digest) is None:
            if digest not in self._loads:
                self._loads[digest] = asyncio.create_task(self._load(digest))
                self._loads[digest].add_done_callback(lambda task: self._loaded(digest, task))
            # A caller that goes away leaves the load to finish: half of one would be in the engine and not in the list.
            await asyncio.shield(self._loads[digest])
        return self.residents.pin(digest)

    def _loaded(self, digest: str, task: asyncio.Task[None]) -> None:
        del self._loads[digest]
        if not task.cancelled():
            task.exception()  # told to whoever waited; nobody may have

    async def _load(self, digest: str) -> None:
        with self._meters.loading(short(self.digest)):
            await self._load_it(digest)

    async def _load_it(self, digest: str) -> None:
        start = perf_counter()
        path = await asyncio.to_thread(self._fetch, digest)
        async with self._loading:
            await self._make_room()
            adapter = AdapterRef(digest, self.residents.next_slot(), str(path))
            await self.engine.load(adapter)
            took_s = perf_counter() - start
            self._paths[digest] = path
            self.residents.add(Resident(digest, adapter.slot, time(), took_s))
            self._meters.adapter_load.labels(short(self.digest), short(digest)).observe(took_s)
            self._meters.expect_answers(short(self.digest), short(digest))

    def _fetch(self, digest: str) -> Path:
        """A checked local copy, on a thread: reading and checking take as long as the adapter is large."""
        try:
            path = self._trees.materialize(digest)
        except Missing as error:
            raise AdapterMissing(f"the store has no adapter {digest}", adapter=digest) from error
        try:
            check_adapter(
                digest,
                self._files.read_adapter(path),
                base_digest=self.digest,
                base_layers=self._layers,
                max_rank=self._limits.max_rank,
                engine_model=self._engine_model,
            )
        except AdapterRefused as refusal:
            self._meters.adapter_refusals.labels(refusal.facts["cause"]).inc()
            raise
        return path

    async def _make_room(self) -> None:
        try:
            async with asyncio.timeout(self._limits.adapter_wait_s):
                while True:
                    self._unpinned.clear()
                    try:
                        victim = self.residents.victim()
                        break
                    except LookupError:
                        await self._unpinned.wait()
        except TimeoutError:
            raise EngineBusy(
                f"all {self.residents.capacity} adapters of the engine answer requests", retry_after_s=5.0
            ) from None
        if victim is not None:
            await self._take_out(victim)
            self._meters.evictions.labels(short(self.digest), short(victim.digest)).inc()

    async def _take_out(self, resident: Resident) -> None:
        # Out of the list first: while the engine unloads it, nobody may pin it.
        self.residents.remove(resident.digest)
        del self._paths[resident.digest]
        await self.engine.unload(resident.slot)
