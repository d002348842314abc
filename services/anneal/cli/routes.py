"""Which address a call goes to: one for everything, or one per service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc

from anneal.kit.rpc.channels import open_channel
from anneal.v1 import job_service_pb2 as jobs
from anneal.v1 import job_service_pb2_grpc

SERVICE_OF = {
    "ingest": "ingestion",
    "import": "ingestion",
    "synthesize": "synthesis",
    "curate": "curation",
    "train": "training",
    "import_model": "training",
    "evaluate": "evaluation",
}
"""The service that runs the jobs of a kind. An operation's name ends in its kind and a number of its own."""


def parse_addresses(text: str) -> dict[str, str]:
    """Read `ANNEAL_ADDRESSES`, which says the same to services.

    Raises:
        ValueError: it is no JSON object of strings; the text says so.
    """
    try:
        read = json.loads(text) if text else {}
    except ValueError:
        read = None
    if not isinstance(read, dict) or not all(isinstance(value, str) for value in read.values()):
        raise ValueError('it is no JSON object like {"registry": "host:port", "training": "host:port"}')
    return read


class Routes:
    """Channels to the services, one per address, opened on first use."""

    def __init__(self, address: str, addresses: Mapping[str, str], token: str) -> None:
        """Make them.

        Args:
            address: of every service that `addresses` does not name.
            addresses: `service -> host:port`.
            token: sent with every call.
        """
        self._address, self._addresses, self._token = address, addresses, token
        self._open: dict[str, grpc.Channel] = {}

    def channel(self, service: str) -> grpc.Channel:
        """The channel to a service."""
        address = self._addresses.get(service, self._address)
        if address not in self._open:
            self._open[address] = open_channel(address, self._token)
        return self._open[address]

    def of_operation(self, name: str) -> grpc.Channel:
        """The channel to the service that runs an operation."""
        kind = name.rsplit("/", 1)[-1].rpartition("-")[0].replace("-", "_")
        return self.of_kind(kind)

    def of_kind(self, kind: str) -> grpc.Channel:
        """The channel to the service that runs the jobs of a kind; an unknown kind is asked for at the one address."""
        return self.channel(SERVICE_OF.get(kind, ""))

    def with_jobs(self) -> list[grpc.Channel]:
        """The channels to every service that runs jobs, each address once."""
        return list(dict.fromkeys(self.channel(service) for service in SERVICE_OF.values()))

    def close(self) -> None:
        """Close every channel."""
        for channel in self._open.values():
            channel.close()


class Operations:
    """The `google.longrunning.Operations` of every service as if they were one."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def _of(self, channel: grpc.Channel) -> Any:
        return operations_pb2_grpc.OperationsStub(channel)

    def GetOperation(self, request: operations_pb2.GetOperationRequest, **options: Any) -> operations_pb2.Operation:
        """Ask the service that runs it."""
        made: operations_pb2.Operation = self._of(self._routes.of_operation(request.name)).GetOperation(
            request, **options
        )
        return made

    def CancelOperation(self, request: operations_pb2.CancelOperationRequest, **options: Any) -> Any:
        """Tell the service that runs it."""
        return self._of(self._routes.of_operation(request.name)).CancelOperation(request, **options)

    def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, **options: Any
    ) -> operations_pb2.ListOperationsResponse:
        """List a kind's, or the newest of all services in one page."""
        kind = request.filter.removeprefix("kind=") if request.filter.startswith("kind=") else ""
        channels = [self._routes.of_kind(kind)] if kind else self._routes.with_jobs()
        pages = [self._of(channel).ListOperations(request, **options) for channel in channels]
        if len(pages) == 1:
            only: operations_pb2.ListOperationsResponse = pages[0]
            return only
        found = sorted((each for page in pages for each in page.operations), key=_create_time, reverse=True)
        # Services that share a database list the same ones.
        unique = {each.name: each for each in found}
        return operations_pb2.ListOperationsResponse(operations=list(unique.values())[: request.page_size or None])


class JobEvents:
    """The `anneal.v1.JobService` of every service as if they were one."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def WatchJob(self, request: jobs.WatchJobRequest, **options: Any) -> Any:
        """Watch it at the service that runs it."""
        stub = job_service_pb2_grpc.JobServiceStub(self._routes.of_operation(request.name))
        return stub.WatchJob(request, **options)


def _create_time(operation: operations_pb2.Operation) -> int:
    metadata = jobs.JobMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.create_time.ToNanoseconds()
