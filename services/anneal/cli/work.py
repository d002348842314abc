"""Commands that start work: ingest, synthesize, curate, plan, train, evaluate, chat; and those that look after jobs."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml
from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from anneal.cli.app import Session, app
from anneal.cli.base_models import FORMS, import_model, model_id_of, source_of
from anneal.cli.output import as_dict, describe
from anneal.v1 import adapter_pb2, dataset_pb2, evaluation_pb2, model_pb2
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import evaluation_service_pb2 as evaluation
from anneal.v1 import inference_service_pb2 as inference
from anneal.v1 import job_service_pb2 as jobs_pb
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1 import synthesis_service_pb2 as synthesis
from anneal.v1 import training_service_pb2 as training

M = TypeVar("M", bound=Message)
Dataset = Annotated[str, typer.Argument(help="Id of the dataset that gets the new version.")]
AllowEmpty = Annotated[
    bool, typer.Option("--allow-empty", help="Publish a version without a row as well, to read why it has none.")
]
SpecFile = Annotated[Path, typer.Argument(help="YAML or JSON file with the settings.", exists=True, dir_okay=False)]


def read_message(path: Path, message: M) -> M:
    """A YAML or JSON file as a message; unknown fields and wrong types are named."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} is not YAML or JSON: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{path} is not a mapping of fields to values")
    try:
        return json_format.ParseDict(value, message)
    except json_format.ParseError as error:
        raise typer.BadParameter(f"{path}: {error}") from None


def run_job(session: Session, title: str, call: Any, request: Any, kind: str, result: Message) -> None:
    """Run a long-running operation, and print what it made."""
    with session.output.job(title) as watcher:
        session.client().run(call, request, kind, result, watcher)
    session.output.message(result)


@app.command()
def synthesize(
    context: typer.Context, dataset: Dataset, source: str, recipe: SpecFile, allow_empty: AllowEmpty = False
) -> None:
    """Make instruction data from a dataset version by a synthesis recipe."""
    session: Session = context.obj
    client = session.client()
    request = synthesis.SynthesizeDatasetRequest(
        parent=client.parent,
        dataset_id=dataset,
        source=session.version("datasets", source),
        allow_empty=allow_empty,
    )
    request.recipe.CopyFrom(read_message(recipe, synthesis.SynthesisRecipe()))
    made = dataset_pb2.DatasetVersion()
    run_job(session, "synthesize", client.synthesis.SynthesizeDataset, request, "synthesize", made)


@app.command()
def curate(
    context: typer.Context,
    dataset: Dataset,
    pipeline: Annotated[
        str, typer.Argument(help="instruction-default, strict or documents; or a YAML file with `steps`.")
    ],
    source: Annotated[list[str], typer.Argument(help="Dataset versions to read.")],
    allow_empty: AllowEmpty = False,
) -> None:
    """Run a pipeline, a ready one or one of your own, over dataset versions."""
    session: Session = context.obj
    client = session.client()
    request = curation.CurateDatasetRequest(pipeline=pipeline)
    if Path(pipeline).suffix or Path(pipeline).is_file():
        request = read_message(Path(pipeline), curation.CurateDatasetRequest())
    request.parent, request.dataset_id = client.parent, dataset
    request.allow_empty = request.allow_empty or allow_empty
    request.sources.extend(session.version("datasets", name) for name in source)
    made = dataset_pb2.DatasetVersion()
    run_job(session, "curate", client.curation.CurateDataset, request, "curate", made)


Base = Annotated[str, typer.Option("--base-model", help=f"Registered model; or what is imported first: {FORMS}.")]
Spec = Annotated[Path | None, typer.Option("--spec", help="YAML file with a TrainingSpec.", exists=True)]
Method = Annotated[str, typer.Option(help="lora or full, when there is no --spec.")]


def _base(session: Session, client: Any, value: str) -> str:
    """The resource name of a base model; what is no name of one is imported first."""
    if value.startswith("projects/") or ("/" not in value and not Path(value).is_dir()):
        return session.name("models", value)
    source = source_of(value)
    with session.output.job("import base model") as watcher:
        imported = import_model(client, model_id_of(source), source, watcher)
    if imported.left_out:
        session.output.line(f"left out: {', '.join(imported.left_out)}")
    return imported.model.name


def _spec(spec: Path | None, method: str) -> training.TrainingSpec:
    return training.TrainingSpec(method=method) if spec is None else read_message(spec, training.TrainingSpec())


@app.command()
def plan(
    context: typer.Context, datasets: list[str], base_model: Base, spec: Spec = None, method: Method = "lora"
) -> None:
    """Tell what a training job would cost, before it does."""
    session: Session = context.obj
    client = session.client()
    request = training.PlanTrainingRequest(
        parent=client.parent,
        base_model=_base(session, client, base_model),
        dataset_versions=[session.version("datasets", name) for name in datasets],
        spec=_spec(spec, method),
    )
    session.output.message(client.training.PlanTraining(request, timeout=600))


@app.command()
def train(
    context: typer.Context,
    output: Annotated[str, typer.Argument(help="Id of the adapter (or, method full, of the model).")],
    datasets: list[str],
    base_model: Base,
    spec: Spec = None,
    method: Method = "lora",
) -> None:
    """Train an adapter on dataset versions."""
    session: Session = context.obj
    client = session.client()
    settings = _spec(spec, method)
    request = training.CreateTrainingJobRequest(
        parent=client.parent,
        base_model=_base(session, client, base_model),
        dataset_versions=[session.version("datasets", name) for name in datasets],
        spec=settings,
        output_id=output,
    )
    made: Message = model_pb2.Model() if settings.method == "full" else adapter_pb2.AdapterVersion()
    run_job(session, "train", client.training.CreateTrainingJob, request, "train", made)


@app.command()
def evaluate(
    context: typer.Context,
    evaluation_id: Annotated[str, typer.Argument(help="Id of the new evaluation.")],
    target: Annotated[str, typer.Argument(help="Adapter id or version; with --model a model id.")],
    benchmark: Annotated[list[str], typer.Option(help="Benchmark; may be given several times.")],
    model: Annotated[bool, typer.Option("--model", help="The target is a base model.")] = False,
    baseline: Annotated[str, typer.Option(help="Evaluation to pair with.")] = "",
    policy: Annotated[Path | None, typer.Option(help="YAML file with a Policy.", exists=True)] = None,
) -> None:
    """Score a model or an adapter on benchmarks, and judge it by a policy."""
    session: Session = context.obj
    client = session.client()
    request = evaluation.EvaluateModelRequest(
        parent=client.parent,
        evaluation_id=evaluation_id,
        target=session.name("models", target) if model else session.version("adapters", target),
        benchmarks=[session.name("benchmarks", name) for name in benchmark],
        baseline=session.name("evaluations", baseline) if baseline else "",
    )
    if policy is not None:
        request.policy.CopyFrom(read_message(policy, evaluation_pb2.Policy()))
    run_job(session, "evaluate", client.evaluation.EvaluateModel, request, "evaluate", evaluation_pb2.Evaluation())


@app.command()
def chat(
    context: typer.Context,
    deployment: Annotated[str, typer.Argument(help="Deployment id.")],
    message: Annotated[str, typer.Argument(help="What to say; read from standard input when it is `-`.")],
    max_tokens: Annotated[int, typer.Option(min=1)] = 256,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
) -> None:
    """Ask a deployment, and print the answer as it comes."""
    session: Session = context.obj
    text = sys.stdin.read() if message == "-" else message
    client = session.client()
    found = client.registry.GetDeployment(registry.GetDeploymentRequest(name=session.name("deployments", deployment)))
    request = inference.ChatRequest(
        target=inference.InferenceTarget(deployment=found.name),
        messages=[inference.ChatMessage(role="user", content=text)],
        sampling=inference.SamplingParams(temperature=temperature, max_tokens=max_tokens),
    )
    stub = client.inference(found.base_model)
    if session.output.as_json:
        session.output.message(stub.Chat(request))
        return
    for piece in stub.StreamChat(request):
        sys.stdout.write(piece.text)
        sys.stdout.flush()
    sys.stdout.write("\n")


jobs = typer.Typer(help="List, watch and cancel long-running jobs.", no_args_is_help=True)
app.add_typer(jobs, name="jobs")
Operation = Annotated[str, typer.Argument(help="Operation id or full name.")]


@jobs.command("list")
def list_jobs(
    context: typer.Context,
    kind: Annotated[str, typer.Option(help="Only this kind.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """List the project's jobs, newest first."""
    session: Session = context.obj
    client = session.client()
    request = operations_pb2.ListOperationsRequest(
        name=client.parent, filter=f"kind={kind}" if kind else "", page_size=limit
    )
    found = []
    for operation in islice(client.pages(client.operations.ListOperations, request, "operations"), limit):
        metadata = jobs_pb.JobMetadata()
        operation.metadata.Unpack(metadata)
        found.append((operation.name, metadata))
    if session.output.as_json:
        session.output.json([{"name": name, **as_dict(metadata)} for name, metadata in found])
        return
    for name, metadata in found:
        state = jobs_pb.JobState.Name(metadata.state).removeprefix("JOB_STATE_")
        done = describe(metadata.progress) if metadata.HasField("progress") else ""
        session.output.line(f"{name:<60} {state:<11} attempt {metadata.attempt}  {done}  {metadata.last_failure}")
    if not found:
        session.output.line("none")


@jobs.command()
def watch(context: typer.Context, operation: Operation) -> None:
    """Follow a job to its end."""
    session: Session = context.obj
    name = session.name("operations", operation)
    with session.output.job(name.rsplit("/", 1)[-1]) as watcher:
        ended = session.client().wait(name, watcher)
    session.output.message(ended)


@jobs.command()
def cancel(context: typer.Context, operation: Operation) -> None:
    """Ask a job to stop."""
    session: Session = context.obj
    name = session.name("operations", operation)
    operations = session.client().operations
    operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name))
    if session.output.as_json:
        session.output.message(operations.GetOperation(operations_pb2.GetOperationRequest(name=name)))
    session.output.line(f"{name} was asked to stop")
