"""Base models, adapters and adapter versions."""

from __future__ import annotations

from datetime import datetime

from anneal.kit.digests import hex_of
from anneal.kit.errors import Invalid
from anneal.kit.names import check_id, parse
from anneal.registry import codec
from anneal.registry.adapters.sql.transactions import Writer
from anneal.registry.domain.publishing import check_base, check_parity, check_shape
from anneal.registry.domain.resources import Kind
from anneal.registry.usecases.house import Draft, House, create, resolve_all
from anneal.v1.adapter_pb2 import Adapter, AdapterVersion
from anneal.v1.model_pb2 import Model
from anneal.v1.registry_service_pb2 import CreateAdapterRequest, CreateAdapterVersionRequest, CreateModelRequest


async def create_model(house: House, request: CreateModelRequest) -> Model:
    """Register a base model whose files are in the store.

    Raises:
        FilesMissing: they are not.
        DatasetVersionMissing: it was trained on a dataset version that does not exist.
    """
    parse(request.parent, "project", "parent")
    given = request.model
    name = f"{request.parent}/models/{check_id(request.model_id, 'model_id')}"
    hex_of(given.digest, "model.digest")
    if given.chat_template_digest:
        hex_of(given.chat_template_digest, "model.chat_template_digest")
    for field, value in (("parameter_count", given.parameter_count), ("context_length", given.context_length)):
        if value < 0:
            raise Invalid.field(f"model.{field}", f"{value} is negative")
    await house.shelf.check_files(given.digest, name)

    async def draft(tx: Writer, now: datetime) -> Draft:
        model = Model()
        model.CopyFrom(given)
        model.name = name
        model.ClearField("etag")
        seen = await resolve_all(tx, Kind.DATASET_VERSION, list(given.dataset_versions), "model.dataset_versions")
        model.dataset_versions[:] = seen
        return Draft(record=codec.record_of(Kind.MODEL, model, now))

    answer: Model = await create(house, request, draft)
    return answer


async def create_adapter(house: House, request: CreateAdapterRequest) -> Adapter:
    """Found a family of adapter versions."""
    parse(request.parent, "project", "parent")
    name = f"{request.parent}/adapters/{check_id(request.adapter_id, 'adapter_id')}"

    async def draft(_: Writer, now: datetime) -> Draft:
        adapter = Adapter(name=name, description=request.adapter.description)
        return Draft(record=codec.record_of(Kind.ADAPTER, adapter, now))

    answer: Adapter = await create(house, request, draft)
    return answer


async def create_adapter_version(house: House, request: CreateAdapterVersionRequest) -> AdapterVersion:
    """Publish an adapter version.

    Raises:
        ParityMissing: no proof that serving agrees with training.
        BaseModelMismatch: its base model does not exist or has other content.
        FilesMissing: its files are not in the store.
        DatasetVersionMissing: it was trained on a dataset version that does not exist.
    """
    parse(request.parent, "adapter", "parent")
    given = request.adapter_version
    name = f"{request.parent}/versions/{hex_of(given.digest, 'adapter_version.digest')[:12]}"
    parse(given.base_model, "model", "adapter_version.base_model")
    hex_of(given.base_model_digest, "adapter_version.base_model_digest")
    check_shape(given.rank, given.alpha, given.target_modules, "adapter_version")
    check_parity(codec.parity_of(given), name)
    await house.shelf.check_files(given.digest, name)

    async def draft(tx: Writer, now: datetime) -> Draft:
        base = await tx.find(Kind.MODEL, given.base_model)
        real_digest = None if base is None else str(base.facts["digest"])
        check_base(name, given.base_model, given.base_model_digest, real_digest)
        seen = await resolve_all(
            tx, Kind.DATASET_VERSION, list(given.dataset_versions), "adapter_version.dataset_versions"
        )
        version = AdapterVersion()
        version.CopyFrom(given)
        version.name = name
        version.dataset_versions[:] = seen
        return Draft(
            record=codec.record_of(Kind.ADAPTER_VERSION, version, now),
            family=codec.record_of(Kind.ADAPTER, Adapter(name=request.parent), now),
        )

    answer: AdapterVersion = await create(house, request, draft)
    return answer
