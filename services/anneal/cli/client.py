"""A client of a running Anneal: stubs, uploads, and waiting for long-running operations."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import json_format
from google.protobuf.message import Message

from anneal.cli.uploads import OnBytes, measure, send
from anneal.kit.errors import Down
from anneal.kit.options import TlsOptions
from anneal.kit.rpc.channels import address_of, open_channel
from anneal.kit.rpc.status import RETRYABLE
from anneal.v1 import (
    curation_service_pb2_grpc,
    evaluation_service_pb2_grpc,
    inference_service_pb2_grpc,
    ingestion_service_pb2_grpc,
    job_service_pb2_grpc,
    registry_service_pb2_grpc,
    synthesis_service_pb2_grpc,
    training_service_pb2_grpc,
)
from anneal.v1 import ingestion_service_pb2 as ingestion_pb
from anneal.v1 import job_service_pb2 as jobs

WATCH_TRIES = 30
WATCH_PAUSE_S = 1.0

M = TypeVar("M", bound=Message)
OnEvent = Callable[[jobs.JobEvent], None]


class OperationFailed(Exception):
    """A long-running operation ended with an error."""

    def __init__(self, operation: operations_pb2.Operation) -> None:
        super().__init__(operation.error.message)
        self.operation = operation


@dataclass(frozen=True, slots=True)
class Done:
    """A finished operation: its result, and whether it was found finished already."""

    operation: operations_pb2.Operation
    skipped: bool


class Client:
    """Calls every service, behind one address or each behind its own."""

    def __init__(
        self,
        address: str,
        *,
        project: str = "default",
        token: str = "",
        addresses: Mapping[str, str] | None = None,
        tls: TlsOptions | None = None,
        server_names: Mapping[str, str] | None = None,
    ) -> None:
        """Make the client; nothing is connected before the first call.

        Args:
            address: `host:port` of the services that `addresses` does not name.
            project: id of the project.
            token: bearer token; empty sends none.
            addresses: `service -> host:port`. Operations and jobs are asked of the registry, which reads the same
                database as the services that run them.
            tls: how to connect; None connects without TLS.
            server_names: `address -> name of the certificate` of servers whose certificate has another name than the
                host of their address.

        Raises:
            Misconfigured: a file of `tls` cannot be read.
        """
        self.address = address
        self.parent = f"projects/{project}"
        self._addresses = dict(addresses or {})
        self._token, self._tls = token, tls
        self._server_names = dict(server_names or {})
        self._channels: dict[str, grpc.Channel] = {}

    def channel(self, service: str, part: str = "") -> grpc.Channel:
        """The channel to a service, opened once; `part` as in `address_of`."""
        address = self.address_of(service, part)
        if address not in self._channels:
            server_name = self._server_names.get(address, "")
            self._channels[address] = open_channel(address, self._token, self._tls, server_name)
        return self._channels[address]

    def address_of(self, service: str, part: str = "") -> str:
        """`host:port` of a service; `part` as in the kit's `address_of`."""
        return address_of({service: self.address, **self._addresses}, service, part)

    @cached_property
    def registry(self) -> registry_service_pb2_grpc.RegistryServiceStub:
        """Names, deployments, lineage."""
        return registry_service_pb2_grpc.RegistryServiceStub(self.channel("registry"))

    @cached_property
    def ingestion(self) -> ingestion_service_pb2_grpc.IngestionServiceStub:
        """Files to datasets."""
        return ingestion_service_pb2_grpc.IngestionServiceStub(self.channel("ingestion"))

    @cached_property
    def synthesis(self) -> synthesis_service_pb2_grpc.SynthesisServiceStub:
        """Datasets to instruction data."""
        return synthesis_service_pb2_grpc.SynthesisServiceStub(self.channel("synthesis"))

    @cached_property
    def curation(self) -> curation_service_pb2_grpc.CurationServiceStub:
        """Filters, duplicates, splits."""
        return curation_service_pb2_grpc.CurationServiceStub(self.channel("curation"))

    @cached_property
    def training(self) -> training_service_pb2_grpc.TrainingServiceStub:
        """Plans and training."""
        return training_service_pb2_grpc.TrainingServiceStub(self.channel("training"))

    def inference(self, base_model: str) -> inference_service_pb2_grpc.InferenceServiceStub:
        """Answers of the servers of a base model's resource name."""
        return inference_service_pb2_grpc.InferenceServiceStub(self.channel("serving", base_model))

    @cached_property
    def evaluation(self) -> evaluation_service_pb2_grpc.EvaluationServiceStub:
        """Scores and verdicts."""
        return evaluation_service_pb2_grpc.EvaluationServiceStub(self.channel("evaluation"))

    @cached_property
    def jobs(self) -> job_service_pb2_grpc.JobServiceStub:
        """Events of jobs."""
        return job_service_pb2_grpc.JobServiceStub(self.channel("registry"))

    @cached_property
    def operations(self) -> Any:
        """Long-running operations."""
        return operations_pb2_grpc.OperationsStub(self.channel("registry"))

    def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            channel.close()

    # -- long-running operations ---------------------------------------------------------------------------------

    def pages(self, call: Callable[[Any], Any], request: Any, field: str) -> Iterator[Any]:
        """Every item of a paged list."""
        while True:
            answer = call(request)
            yield from getattr(answer, field)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def run(self, call: Callable[[Any], Any], request: Any, kind: str, result: M, on_event: OnEvent) -> Done:
        """Order a job, or find the one that did or is doing exactly this, and unpack its result.

        Args:
            call: the stub's method.
            request: the order; its request_id is set here.
            kind: the job's kind, to look among finished ones.
            result: an empty message of the result's type; filled.
            on_event: told of everything that happens.

        Raises:
            OperationFailed: the job ended with an error.
        """
        operation = self.find(kind, request)
        skipped = operation is not None and operation.done
        if operation is None:
            request.request_id = str(uuid.uuid4())
            operation = call(request)
        if not operation.done:
            operation = self.wait_or_cancel(operation.name, on_event)
        operation.response.Unpack(result)
        return Done(operation, skipped=skipped)

    def wait_or_cancel(self, name: str, on_event: OnEvent) -> operations_pb2.Operation:
        """Wait for a job; Ctrl-C asks it to stop, so that nobody pays for what nobody waits for."""
        try:
            return self.wait(name, on_event)
        except KeyboardInterrupt:
            with contextlib.suppress(grpc.RpcError):
                self.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name), timeout=5)
            raise

    def find(self, kind: str, request: Message) -> operations_pb2.Operation | None:
        """The newest operation of a kind that did, or is doing, exactly this request, request_id aside."""
        wanted = _without_id(json_format.MessageToDict(request, preserving_proto_field_name=True))
        query = operations_pb2.ListOperationsRequest(name=self.parent, filter=f"kind={kind}", page_size=200)
        for operation in self.pages(self.operations.ListOperations, query, "operations"):
            metadata = jobs.JobMetadata()
            operation.metadata.Unpack(metadata)
            if operation.HasField("error") or metadata.state == jobs.JobState.JOB_STATE_CANCELLING:
                continue
            if _without_id(json.loads(metadata.request_json)) == wanted:
                found: operations_pb2.Operation = operation
                return found
        return None

    def wait(self, name: str, on_event: OnEvent) -> operations_pb2.Operation:
        """Watch a job to its end; after a broken connection it goes on where it was.

        Raises:
            OperationFailed: it ended with an error.
            Down: the stream ended again and again, and nothing came.
            grpc.RpcError: the server refused, or was away for `WATCH_TRIES` tries in a row.
        """
        next_sequence, tries = 1, 0
        while True:
            try:
                for message in self.jobs.WatchJob(jobs.WatchJobRequest(name=name, from_sequence=next_sequence)):
                    tries = 0
                    if message.HasField("operation"):
                        if message.operation.HasField("error"):
                            raise OperationFailed(message.operation)
                        return message.operation
                    on_event(message.event)
                    next_sequence = message.event.sequence + 1
            except grpc.RpcError as error:
                broken: Any = error
                if broken.code() not in RETRYABLE or tries == WATCH_TRIES - 1:
                    raise
            tries += 1
            if tries == WATCH_TRIES:
                raise Down(f"the server ends the stream of {name} without saying how it is", operation=name)
            time.sleep(WATCH_PAUSE_S)

    # -- uploads -------------------------------------------------------------------------------------------------

    def upload(self, path: Path, name: str, on_bytes: OnBytes = lambda *_: None) -> ingestion_pb.Upload:
        """Send a file; the same file again sends nothing, a cut upload goes on where it stopped.

        Args:
            path: the file.
            name: its path inside the collection.
            on_bytes: given bytes sent, and bytes in all.

        Raises:
            FileChanged: it changed while it was sent.
            grpc.RpcError: the server refused, or was away for long.
        """
        return send(self.ingestion, self.parent, measure(path), name, on_bytes).upload


def _without_id(request: dict[str, Any]) -> dict[str, Any]:
    """A request as JSON without what differs between two equal orders, and without its type."""
    return {key: value for key, value in request.items() if key not in ("request_id", "@type")}
