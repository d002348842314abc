"""Every service over real channels, with an object store, a database and a registry that can be taken away."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, descriptor_pool, duration_pb2, field_mask_pb2, message_factory
from google.rpc import error_details_pb2, status_pb2
from pydantic import SecretStr

from anneal.curation.bootstrap import build as build_curation
from anneal.evaluation.adapters import row_file
from anneal.evaluation.bootstrap import build as build_evaluation
from anneal.gateway import bootstrap as gateway
from anneal.gateway.settings import GatewayOptions
from anneal.ingestion.bootstrap import build as build_ingestion
from anneal.ingestion.settings import IngestionOptions
from anneal.kit.metrics import Metrics
from anneal.kit.options import JobOptions, MetricsOptions, StoreOptions
from anneal.kit.rpc.channels import Channels
from anneal.kit.rpc.server import Host
from anneal.kit.rpc.status import status_of
from anneal.kit.settings import ServiceSettings
from anneal.registry.bootstrap import build as build_registry
from anneal.serving.bootstrap import build as build_serving
from anneal.synthesis.bootstrap import build as build_synthesis
from anneal.synthesis.settings import TeacherOptions
from anneal.training.bootstrap import build as build_training
from anneal.v1 import (
    adapter_pb2,
    adapter_service_pb2,
    contamination_pb2,
    curation_service_pb2,
    dataset_pb2,
    deployment_pb2,
    evaluation_service_pb2,
    inference_service_pb2,
    ingestion_service_pb2,
    job_host_service_pb2,
    job_service_pb2,
    model_pb2,
    synthesis_service_pb2,
    training_service_pb2,
)
from anneal.v1 import registry_service_pb2 as registry_pb
from tests.contract.registry.world import POLICY, PROJECT, World
from tests.fixtures.faulty_s3 import FaultyS3
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.relay import Relay
from tests.fixtures.synthesis_house import make_recipe

FILE = b"# A title\n\nA page of some words.\n"
UPLOAD_NAME = f"{PROJECT}/uploads/upload-0"
TASKS = {"tasks": [{"name": "t", "over": "spans", "prompts": ["What is {{ signature }}?"], "answer": "{{ type }}"}]}
ROUTES = ("/v1/models", "/v1/models/tiny", "/v1/chat/completions", "/v1/completions", "/v1/chat/completions stream")


class Outcome(NamedTuple):
    """How a call ended.

    Attributes:
        code: of gRPC or HTTP.
        reason: of the refusal; empty where there is none.
        waits: whether the answer says when to try again.
        text: the message.
    """

    code: str
    reason: str
    waits: bool
    text: str

    @property
    def kind(self) -> tuple[str, str]:
        """What two calls have in common that ended the same way."""
        return self.code, self.reason


@dataclass
class Names:
    """What the registry holds."""

    data: str = ""
    model: str = ""
    base: str = ""
    adapter: str = ""
    adapter_digest: str = ""
    operation: str = ""
    ended: str = ""
    token: str = ""
    uploads: int = 0
    created: dict[str, Any] = field(default_factory=dict)


class Call(NamedTuple):
    """One RPC with a request."""

    service: str
    method: str
    requests: list[Any]


@dataclass
class Installation:
    """Two processes' worth of services: the registry, and everything else with the gateway.

    Attributes:
        s3: the object store of both.
        database: the database of both.
        registry: the way to the registry.
        serving: the way from the gateway to serving.
        hosts: the registry's server and that of the others.
        http: the gateway's address.
    """

    s3: FaultyS3
    store: Relay
    database: Relay
    registry: Relay
    serving: Relay
    hosts: tuple[Host, Host]
    http: str
    names: Names

    async def ask(self, call: Call) -> Outcome:
        """Send one RPC, without any second try, and say how it ended."""
        host = self.hosts[0 if call.service == "anneal.v1.RegistryService" else 1]
        descriptor = descriptor_pool.Default().FindServiceByName(call.service).FindMethodByName(call.method)
        answer = message_factory.GetMessageClass(descriptor.output_type)
        options = [("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(host.address, options=options) as channel:
            streams = (descriptor.client_streaming, descriptor.server_streaming)
            make = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, False): channel.stream_unary,
            }[streams]
            serialize: Any = lambda message: message.SerializeToString()  # noqa: E731
            method: Any = make(f"/{call.service}/{call.method}", serialize, answer.FromString)
            try:
                if descriptor.server_streaming:
                    stream = method(call.requests[0], timeout=60)
                    async for _ in stream:
                        break
                    stream.cancel()
                elif descriptor.client_streaming:
                    await method(iter(call.requests), timeout=60)
                else:
                    await method(call.requests[0], timeout=60)
            except grpc.aio.AioRpcError as error:
                return _outcome(error)
        return Outcome("OK", "", False, "")

    def get(self, route: str) -> Outcome:
        """Ask the gateway."""
        path, _, mode = route.partition(" ")
        body: dict[str, Any] | None = None
        if path.endswith("chat/completions"):
            body = {"model": "bot", "messages": [{"role": "user", "content": "x"}], "stream": bool(mode)}
        elif path.endswith("completions"):
            body = {"model": "bot", "prompt": "x"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.http}{path}", data=data)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Outcome(str(answer.status), "", False, "")
        except urllib.error.HTTPError as error:
            with error:
                said = json.loads(error.read())["error"]
            return Outcome(str(error.code), str(said["code"]), "retry-after" in error.headers, said["message"])


def _outcome(error: grpc.aio.AioRpcError) -> Outcome:
    status: status_pb2.Status = status_of(error)
    info, wait = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    reason, waits = "", False
    for detail in status.details:
        if detail.Unpack(info):
            reason = info.reason
        waits = detail.Unpack(wait) or waits
    return Outcome(error.code().name, reason, waits, error.details() or "")


@asynccontextmanager
async def running(folder: Path, s3: FaultyS3, postgres: PostgresServer) -> AsyncIterator[Installation]:
    """Everything, filled with what the requests name."""
    url = await _database(postgres)
    async with AsyncExitStack() as stack:

        def relay(target: int) -> Relay:
            made = Relay(target)
            stack.callback(made.close)
            return made

        database = relay(postgres.port)
        store = relay(int(s3.bucket.endpoint.rpartition(":")[2]))
        url = url.replace(f":{postgres.port}/", f":{database.port}/")
        options = {**s3.options, "endpoint": f"http://{store.address}"}

        async def host(name: str, builds: list[Any], **addresses: str) -> Host:
            settings = ServiceSettings(
                data_dir=folder / name,
                database_url=SecretStr(url),
                store=StoreOptions(url=s3.bucket.url, options=options),
                addresses=addresses,
                jobs=JobOptions(lease_s=3600),
                metrics=MetricsOptions(port=0),
            )
            made = Host(settings, builds)
            await made.start()
            stack.push_async_callback(made.stop)
            return made

        first = await host("registry", [build_registry])
        registry = relay(first.port)
        builds = [
            partial(build_ingestion, options=IngestionOptions(hub_owners=("acme",))),
            partial(build_synthesis, teacher=TeacherOptions(hosts=("127.0.0.1",))),
            build_curation,
            build_training,
            build_serving,
            build_evaluation,
        ]
        second = await host("others", builds, registry=registry.address)
        serving = relay(second.port)
        channels = Channels({"registry": registry.address, "serving": serving.address})
        stack.push_async_callback(channels.close)
        server = gateway.build(channels, Metrics(), GatewayOptions(project="p", drain_s=1))
        await server.start()
        stack.push_async_callback(server.stop)
        names = Names()
        made = Installation(s3, store, database, registry, serving, (first, second), server.address, names)
        await _fill(made)
        yield made


async def _database(postgres: PostgresServer) -> str:
    """An empty database of an account of its own."""
    url = postgres.create_database()
    name = url.rsplit("/", 1)[1]
    postgres.run_sql(f'CREATE ROLE "{name}" LOGIN')
    postgres.run_sql(f'ALTER DATABASE "{name}" OWNER TO "{name}"')
    return url.replace("anneal@", f"{name}@")


async def _fill(made: Installation) -> None:
    registry, others = made.hosts
    world = World(registry, _stub(registry))
    names = made.names
    manifest = world.manifest(["one", "two"], test=["three"])
    data = await world.dataset_version(manifest)
    model = await world.model()
    await world.benchmark(data)
    adapter = await world.publish(world.new_adapter(model, data))
    rows = row_file.write(registry.store, [])
    await world.evaluate(adapter, "e1", rows_digest=rows)
    await world.evaluate(adapter, "e2", rows_digest=rows)
    await world.deploy(adapter, "bot")
    names.data, names.model, names.base = data.name, model.name, model.digest
    names.adapter, names.adapter_digest = adapter.name, adapter.digest
    names.created = {"adapter": world.new_adapter(model, data, "other"), "evaluation": world.new_evaluation(adapter)}
    names.created["digest"] = manifest.digest
    packed = any_pb2.Any()
    packed.Pack(curation_service_pb2.CurateDatasetRequest(parent=PROJECT))
    jobs = others.jobs.store
    for place in ("operation", "ended"):
        job = await jobs.accept(
            project=PROJECT, kind="nobodys", request=packed.SerializeToString(), request_id="", max_attempts=1
        )
        setattr(names, place, job.name)
    launched = await jobs.launch(names.operation, 3600)
    assert launched is not None
    _, names.token = await jobs.claim(names.operation, launched[1], 3600)
    await jobs.ask_cancel(names.ended)


def _stub(host: Host) -> Any:
    from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

    host.channels.addresses["registry"] = host.address
    return RegistryServiceStub(host.channels.get("registry"))


def calls(names: Names) -> list[Call]:
    """Every RPC of the contract with a request that means something."""
    return [
        *_registry_calls(names),
        *_job_calls(names),
        *_serving_calls(names),
        *_order_calls(names),
    ]


def _registry_calls(names: Names) -> list[Call]:
    pb, service = registry_pb, "anneal.v1.RegistryService"
    made = names.created

    def call(method: str, **fields: Any) -> Call:
        request = getattr(pb, f"{method}Request")(**fields)
        return Call(service, method, [request])

    own = {
        "Dataset": "qa",
        "Model": "tiny",
        "Adapter": "bot",
        "Benchmark": "summaries",
        "Evaluation": "e1",
        "Deployment": "bot",
    }
    plural = {kind: f"{kind.lower()}s" for kind in own}
    got = [call(f"Get{kind}", name=f"{PROJECT}/{plural[kind]}/{name}") for kind, name in own.items()]
    listed = [call(f"List{kind}s", parent=PROJECT) for kind in own]
    version = dataset_pb2.DatasetVersion(digest=made["digest"], kind=dataset_pb2.DATASET_KIND_CONVERSATION)
    model = model_pb2.Model(digest=names.base, architecture="LlamaForCausalLM")
    deployment = deployment_pb2.Deployment(adapter_version=names.adapter, policy=POLICY)
    return [
        *got,
        *listed,
        call("GetDatasetVersion", name=names.data),
        call("GetAdapterVersion", name=names.adapter),
        call("ListDatasetVersions", parent=f"{PROJECT}/datasets/qa"),
        call("ListAdapterVersions", parent=f"{PROJECT}/adapters/bot"),
        call("CreateDataset", parent=PROJECT, dataset_id="new", dataset=dataset_pb2.Dataset(kind=version.kind)),
        call("CreateDatasetVersion", parent=f"{PROJECT}/datasets/again", dataset_version=version),
        call("CreateModel", parent=PROJECT, model_id="again", model=model),
        call("CreateAdapter", parent=PROJECT, adapter_id="new", adapter=adapter_pb2.Adapter(description="d")),
        call("CreateAdapterVersion", parent=f"{PROJECT}/adapters/again", adapter_version=made["adapter"]),
        call("CreateBenchmark", parent=PROJECT, benchmark_id="again", benchmark=_benchmark(names)),
        call("CreateEvaluation", parent=PROJECT, evaluation_id="again", evaluation=made["evaluation"]),
        call("CreateDeployment", parent=PROJECT, deployment_id="again", deployment=deployment),
        call(
            "UpdateDeployment",
            deployment=deployment_pb2.Deployment(name=f"{PROJECT}/deployments/bot", adapter_version=names.adapter),
            update_mask=field_mask_pb2.FieldMask(paths=["adapter_version"]),
        ),
        call("DeleteDeployment", name=f"{PROJECT}/deployments/nobody"),
        call("ResolveDeployment", name=f"{PROJECT}/deployments/bot"),
        call("ReadRows", dataset_version=names.data),
        call("LookupRow", parent=PROJECT, row_id="0" * 16),
        call("GetLineage", name=names.adapter),
    ]


def _benchmark(names: Names) -> Any:
    from anneal.v1 import evaluation_pb2

    return evaluation_pb2.Benchmark(dataset_version=names.data, split="test", metrics=["exact_match"], max_tokens=8)


def _job_calls(names: Names) -> list[Call]:
    operations, host = "google.longrunning.Operations", "anneal.v1.JobHostService"
    result = any_pb2.Any()
    result.Pack(dataset_pb2.DatasetVersion())
    pb = job_host_service_pb2
    wait = operations_pb2.WaitOperationRequest(name=names.operation, timeout=duration_pb2.Duration(nanos=1000))
    attempt: dict[str, Any] = {"operation": names.operation, "attempt_token": "not-it"}
    return [
        Call(operations, "GetOperation", [operations_pb2.GetOperationRequest(name=names.operation)]),
        Call(operations, "ListOperations", [operations_pb2.ListOperationsRequest(name=PROJECT)]),
        Call(operations, "CancelOperation", [operations_pb2.CancelOperationRequest(name=names.ended)]),
        Call(operations, "DeleteOperation", [operations_pb2.DeleteOperationRequest(name=names.operation)]),
        Call(operations, "WaitOperation", [wait]),
        Call("anneal.v1.JobService", "WatchJob", [job_service_pb2.WatchJobRequest(name=names.operation)]),
        Call(host, "ClaimJob", [pb.ClaimJobRequest(operation=names.operation, claim="not-it")]),
        Call(
            host,
            "Heartbeat",
            [pb.HeartbeatRequest(operation=names.operation, attempt_token=names.token, batch=1)],
        ),
        Call(host, "CompleteJob", [pb.CompleteJobRequest(result=result, **attempt)]),
        Call(host, "FailJob", [pb.FailJobRequest(error=status_pb2.Status(code=2, message="x"), **attempt)]),
    ]


def _serving_calls(names: Names) -> list[Call]:
    pb, inference, adapters = inference_service_pb2, "anneal.v1.InferenceService", "anneal.v1.AdapterService"
    target = pb.InferenceTarget(deployment=f"{PROJECT}/deployments/bot")
    text = pb.GenerateRequest(target=target, prompt="x")
    chat = pb.ChatRequest(target=target, messages=[pb.ChatMessage(role="user", content="x")])
    both: dict[str, Any] = {"base_model_digest": names.base, "adapter_digest": names.adapter_digest}
    return [
        Call(inference, "Generate", [text]),
        Call(inference, "StreamGenerate", [text]),
        Call(inference, "Chat", [chat]),
        Call(inference, "StreamChat", [chat]),
        Call(inference, "Score", [pb.ScoreRequest(target=target, prompt="x", continuation="y")]),
        Call(adapters, "LoadAdapter", [adapter_service_pb2.LoadAdapterRequest(**both)]),
        Call(adapters, "UnloadAdapter", [adapter_service_pb2.UnloadAdapterRequest(**both)]),
        Call(adapters, "ListLoadedAdapters", [adapter_service_pb2.ListLoadedAdaptersRequest()]),
    ]


def _order_calls(names: Names) -> list[Call]:
    """Orders are sent twice or checked only: none of them starts a process."""
    ingestion, curation = "anneal.v1.IngestionService", "anneal.v1.CurationService"
    synthesis, training = "anneal.v1.SynthesisService", "anneal.v1.TrainingService"
    evaluation = "anneal.v1.EvaluationService"
    into: dict[str, Any] = {"parent": PROJECT, "dataset_id": "made", "validate_only": True, "request_id": "order-1"}
    number = names.uploads
    names.uploads += 1  # each upload is another one, so that each is written
    data = FILE + str(number).encode()
    header = ingestion_service_pb2.UploadHeader(
        parent=PROJECT,
        upload_id=f"upload-{number}",
        path="page.md",
        size_bytes=len(data),
        digest="sha256:" + hashlib.sha256(data).hexdigest(),
    )
    chunk = ingestion_service_pb2.UploadChunk(offset=0, data=data)
    spec = training_service_pb2.TrainingSpec(method="lora")
    train: dict[str, Any] = {
        "parent": PROJECT,
        "base_model": names.model,
        "dataset_versions": [names.data],
        "spec": spec,
    }
    curated = curation_service_pb2.CurateDatasetRequest(
        sources=[names.data], steps=[curation_service_pb2.CurationStep(step="exact_duplicates")], **into
    )
    checked = contamination_pb2.CheckContaminationRequest(
        parent=PROJECT,
        dataset_versions=[names.data],
        benchmarks=[f"{PROJECT}/benchmarks/summaries"],
        validate_only=True,
        request_id="order-2",
    )
    recipe = make_recipe(params=TASKS)
    return [
        Call(
            ingestion,
            "UploadDocuments",
            [
                ingestion_service_pb2.UploadDocumentsRequest(header=header),
                ingestion_service_pb2.UploadDocumentsRequest(chunk=chunk),
            ],
        ),
        Call(ingestion, "GetUpload", [ingestion_service_pb2.GetUploadRequest(name=UPLOAD_NAME)]),
        Call(
            ingestion, "IngestDocuments", [ingestion_service_pb2.IngestDocumentsRequest(uploads=[UPLOAD_NAME], **into)]
        ),
        Call(
            ingestion,
            "ImportDataset",
            [ingestion_service_pb2.ImportDatasetRequest(blob="sha256:" + "0" * 64, **into)],
        ),
        Call(
            ingestion,
            "PushDataset",
            [
                ingestion_service_pb2.PushDatasetRequest(
                    parent=PROJECT,
                    dataset_version=names.data,
                    hub_id="acme/rows",
                    validate_only=True,
                    request_id="order-4",
                )
            ],
        ),
        Call(curation, "CurateDataset", [curated]),
        Call(
            curation,
            "ExploreDataset",
            [
                curation_service_pb2.ExploreDatasetRequest(
                    dataset_version=names.data, validate_only=True, request_id="order-3"
                )
            ],
        ),
        Call(
            curation,
            "GetContaminationReport",
            [contamination_pb2.GetContaminationReportRequest(dataset_version=names.data)],
        ),
        Call(curation, "CheckContamination", [checked]),
        Call(
            synthesis,
            "SynthesizeDataset",
            [synthesis_service_pb2.SynthesizeDatasetRequest(source=names.data, recipe=recipe, **into)],
        ),
        Call(
            synthesis,
            "PreviewSynthesis",
            [synthesis_service_pb2.PreviewSynthesisRequest(source=names.data, recipe=recipe)],
        ),
        Call(training, "PlanTraining", [training_service_pb2.PlanTrainingRequest(**train)]),
        Call(
            training,
            "CreateTrainingJob",
            [training_service_pb2.CreateTrainingJobRequest(output_id="out", validate_only=True, **train)],
        ),
        Call(
            training,
            "ImportModel",
            [
                training_service_pb2.ImportModelRequest(
                    parent=PROJECT, model_id="m", hub_id="a/b", request_id="order-4", validate_only=True
                )
            ],
        ),
        Call(
            evaluation,
            "EvaluateModel",
            [
                evaluation_service_pb2.EvaluateModelRequest(
                    parent=PROJECT,
                    evaluation_id="new",
                    target=names.adapter,
                    benchmarks=[f"{PROJECT}/benchmarks/summaries"],
                    validate_only=True,
                    request_id="order-5",
                )
            ],
        ),
        Call(
            evaluation,
            "CompareModels",
            [
                evaluation_service_pb2.CompareModelsRequest(
                    parent=PROJECT, evaluation=f"{PROJECT}/evaluations/e1", baseline=f"{PROJECT}/evaluations/e2"
                )
            ],
        ),
    ]


Ask = Callable[[Call], Awaitable[Outcome]]
