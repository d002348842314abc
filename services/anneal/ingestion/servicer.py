"""The gRPC face of ingestion. Nothing is decided and nothing is caught here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.longrunning import operations_pb2

from anneal.ingestion import codec
from anneal.ingestion.adapters.uploads import Uploads
from anneal.ingestion.settings import IngestionOptions
from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.kit.jobs.engine import Jobs
from anneal.kit.publishing import validated_operation
from anneal.kit.store import BlobMissing, Store
from anneal.v1 import ingestion_service_pb2 as pb
from anneal.v1.ingestion_service_pb2_grpc import IngestionServiceServicer
from anneal.v1.registry_service_pb2 import GetDatasetVersionRequest


class IngestionServicer(IngestionServiceServicer):
    """Serves `anneal.v1.IngestionService`."""

    def __init__(self, jobs: Jobs, store: Store, uploads: Uploads, options: IngestionOptions, registry: Any) -> None:
        self._jobs = jobs
        self._registry = registry
        self._store = store
        self._uploads = uploads
        self._options = options

    async def UploadDocuments(
        self, request_iterator: AsyncIterator[pb.UploadDocumentsRequest], context: Any
    ) -> pb.Upload:
        """Receive one file; what arrived before a stream broke stays and the upload goes on there."""
        messages = aiter(request_iterator)
        first = await anext(messages, None)
        if first is None or first.WhichOneof("message") != "header":
            raise Invalid.field("header", "the first message must be the header")
        announced = codec.decode_header(first.header, self._options.max_upload_bytes)
        async with self._uploads.turn(announced) as writing:
            async for message in messages:
                codec.check_chunk(message)
                await asyncio.to_thread(writing.append, message.chunk.offset, message.chunk.data)
            await asyncio.to_thread(writing.finish)
        return codec.encode_upload(await asyncio.to_thread(self._uploads.get, announced.name))

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.Upload:
        """Tell how far an upload is."""
        names.parse(request.name, "upload")
        return codec.encode_upload(await asyncio.to_thread(self._uploads.get, request.name))

    async def IngestDocuments(self, request: pb.IngestDocumentsRequest, context: Any) -> operations_pb2.Operation:
        """Accept an order; parsing goes on in a process of its own."""
        codec.check_ingest(request)
        if not await self._jobs.knows(request.parent, request.request_id):
            for upload in request.uploads:
                await asyncio.to_thread(self._uploads.blob, upload)
        return await self._submit("ingest", request)

    async def ImportDataset(self, request: pb.ImportDatasetRequest, context: Any) -> operations_pb2.Operation:
        """Accept an order; reading goes on in a process of its own."""
        codec.check_import(request)
        if not await self._jobs.knows(request.parent, request.request_id):
            if request.upload:
                await asyncio.to_thread(self._uploads.blob, request.upload)
            if request.blob and not await asyncio.to_thread(self._store.exists, request.blob):
                raise BlobMissing(f"the store has nothing under {request.blob}", digest=request.blob)
        return await self._submit("import", request)

    async def PushDataset(self, request: pb.PushDatasetRequest, context: Any) -> operations_pb2.Operation:
        """Accept an order; writing and sending go on in a process of its own."""
        codec.check_push(request, self._options.hub_owners)
        if not await self._jobs.knows(request.parent, request.request_id):
            await self._registry.GetDatasetVersion(GetDatasetVersionRequest(name=request.dataset_version))
        self._jobs.check("push", request)
        if request.validate_only:
            return codec.encode_validated_push()
        return await self._jobs.submit("push", request, project=request.parent, request_id=request.request_id)

    async def _submit(self, kind: str, request: Any) -> operations_pb2.Operation:
        self._jobs.check(kind, request)
        if request.validate_only:
            return validated_operation()
        return await self._jobs.submit(kind, request, project=request.parent, request_id=request.request_id)
