"""The round trip of `helm test`: a file goes in, a job makes a dataset of it, its rows are read, a model answers.

It tries again until everything works or the time is over, and prints a line for each step. What it writes is the same
at every run: one small file and one dataset version in the project `helm-test`.
"""

import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2

from anneal.kit.rpc.channels import address_of, open_channel
from anneal.kit.settings import ServiceSettings, read_settings
from anneal.v1 import dataset_pb2, inference_service_pb2, ingestion_service_pb2, job_service_pb2, registry_service_pb2
from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub
from anneal.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

PARENT = "projects/helm-test"
TEXT = "This file was written by `helm test`. It goes through the object store, a job, the registry and back.\n"
PAUSE_S = 2


class Failed(Exception):
    """A step did not work; the text says why."""


class JobFailed(Failed):
    """The job ended with an error; it was tried again often enough by its service."""


def say(text):
    """Print one line at once."""
    print(f"round trip: {text}", flush=True)


class RoundTrip:
    """The steps, each over the services of one release."""

    def __init__(self, settings, gateway, project, deadline):
        """Open nothing yet; the settings say where the services are, and which base models have their own."""
        self.gateway, self.project, self.deadline = gateway, project, deadline
        self.served = [name.removeprefix("serving/") for name in settings.addresses if name.startswith("serving/")]
        self._settings, self._channels = settings, {}

    def stub(self, kind, service, part=""):
        """A stub of a service, over a channel that is opened once."""
        address = address_of(self._settings.addresses, service, part)
        if address not in self._channels:
            token = self._settings.bearer_tokens()[0]
            self._channels[address] = open_channel(address, token, self._settings.tls)
        return kind(self._channels[address])

    def upload(self):
        """Send the file: ingestion checks its digest and writes it to the object store."""
        data = TEXT.encode()
        header = ingestion_service_pb2.UploadHeader(
            parent=PARENT,
            upload_id="helm-test",
            path="round-trip.txt",
            size_bytes=len(data),
            digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        )
        chunk = ingestion_service_pb2.UploadChunk(offset=0, data=data)
        request = ingestion_service_pb2.UploadDocumentsRequest
        upload = self.stub(IngestionServiceStub, "ingestion").UploadDocuments(
            iter([request(header=header), request(chunk=chunk)]), timeout=30
        )
        return upload.name

    def ingest(self, upload):
        """Have a job read the file from the store and make a dataset version of it."""
        operation = self.stub(IngestionServiceStub, "ingestion").IngestDocuments(
            ingestion_service_pb2.IngestDocumentsRequest(parent=PARENT, dataset_id="round-trip", uploads=[upload]),
            timeout=30,
        )
        operations = self.stub(operations_pb2_grpc.OperationsStub, "ingestion")
        shown = ""
        while not operation.done:
            if time.monotonic() >= self.deadline:
                raise Failed(f"the job {operation.name} is not done: {shown or 'it says nothing'}")
            time.sleep(1)
            operation = operations.GetOperation(
                operations_pb2.GetOperationRequest(name=operation.name), timeout=10, wait_for_ready=True
            )
            metadata = job_service_pb2.JobMetadata()
            operation.metadata.Unpack(metadata)
            state = job_service_pb2.JobState.Name(metadata.state).removeprefix("JOB_STATE_").lower()
            now = " ".join(filter(None, [state, metadata.progress.message, metadata.last_failure]))
            if now != shown:
                shown = now
                say(f"job: {now}")
        if operation.HasField("error"):
            code = code_pb2.Code.Name(operation.error.code)
            raise JobFailed(f"the job {operation.name} failed: {code}: {operation.error.message}")
        version = dataset_pb2.DatasetVersion()
        operation.response.Unpack(version)
        return version.name

    def read(self, version):
        """Read the rows back through the registry."""
        answer = self.stub(RegistryServiceStub, "registry").ReadRows(
            registry_service_pb2.ReadRowsRequest(dataset_version=version), timeout=30
        )
        texts = [json.loads(row.json)["text"] for row in answer.rows]
        if [text.strip() for text in texts] != [TEXT.strip()]:
            raise Failed(f"{version} holds {texts!r} and not what was sent")

    def imported(self):
        """The base models to ask, name -> digest: those with servers of their own, else the project's newest."""
        registry = self.stub(RegistryServiceStub, "registry")
        if not self.served:
            request = registry_service_pb2.ListModelsRequest(parent=f"projects/{self.project}", page_size=1)
            return {model.name: model.digest for model in registry.ListModels(request, timeout=10).models}
        found = {}
        for name in self.served:
            try:
                request = registry_service_pb2.GetModelRequest(name=name)
                found[name] = registry.GetModel(request, timeout=10).digest
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
        return found

    def complete(self, name, digest):
        """Ask a base model for one token."""
        self.stub(InferenceServiceStub, "serving", name).Generate(
            inference_service_pb2.GenerateRequest(
                target=inference_service_pb2.InferenceTarget(base_model_digest=digest),
                prompt="Hello",
                sampling=inference_service_pb2.SamplingParams(max_tokens=1, temperature=0),
            ),
            timeout=max(1, self.deadline - time.monotonic()),
        )

    def reach_gateway(self, has_model):
        """The gateway is well when registry and serving are; without a base model nothing serves yet."""
        try:
            with urllib.request.urlopen(f"{self.gateway}/health", timeout=10) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            if has_model:
                raise Failed(f"the gateway at {self.gateway}: {error}") from None
        except (urllib.error.URLError, OSError) as error:
            raise Failed(f"the gateway at {self.gateway}: {error}") from None

    def until_it_works(self, what, step):
        """Do a step, again until it works or the time is over."""
        while True:
            try:
                return step()
            except JobFailed as error:
                raise Failed(f"{what}: {error}") from None
            except Failed as error:
                problem = f"{what}: {error}"
            except grpc.RpcError as error:
                problem = f"{what}: {error.code().name}: {error.details()}"
            if time.monotonic() >= self.deadline:
                raise Failed(problem)
            time.sleep(PAUSE_S)


def run(trip):
    """Every step in its order."""
    upload = trip.until_it_works("upload", trip.upload)
    say(f"the object store has {upload}")
    version = trip.until_it_works("ingest", lambda: trip.ingest(upload))
    trip.until_it_works("read", lambda: trip.read(version))
    say(f"the registry reads {version}")
    imported = trip.until_it_works("models", trip.imported)
    for name, digest in imported.items():
        trip.until_it_works(f"complete with {name}", lambda name=name, digest=digest: trip.complete(name, digest))
        say(f"{name} answers")
    for name in [name for name in trip.served if name not in imported]:
        say(f"{name} is not imported yet, so it was asked nothing")
    trip.until_it_works("gateway", lambda: trip.reach_gateway(bool(imported)))
    say("the gateway answers" if imported else "the gateway answers, and waits for a base model")


def main():
    """Try until it works; the last line says what did not."""
    trip = RoundTrip(
        read_settings(ServiceSettings),
        os.environ["GATEWAY"],
        os.environ["PROJECT"],
        time.monotonic() + float(os.environ["PATIENCE_S"]),
    )
    try:
        run(trip)
    except Failed as error:
        sys.exit(f"round trip failed at {error}")


if __name__ == "__main__":
    main()
