"""`make test-containers`: what the chart renders is run, in the images that it names, and the loop runs across it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.import_graph import image_modules
from tests.containers.cluster import PROJECT, RELEASE, ChartSystem
from tests.containers.images import (
    IMAGE_LIMITS_MB,
    IMAGES,
    IMPORT_ALL,
    WITHOUT_LAUNCHER,
)
from tests.e2e.small_loop import small_recipe

if not os.environ.get("ANNEAL_TEST_CONTAINERS"):  # one line among the skipped, not one for each test
    pytest.skip("ANNEAL_TEST_CONTAINERS is not set: make test-containers sets it", allow_module_level=True)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3600)]
ENGINES = ("torch", "transformers", "ray", "vllm")
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=10001:10001")
MODEL = f"projects/{PROJECT}/models/anneal-tiny"
WRITES = """
import os
seen = [str(os.getuid())]
for folder in ("/data", "/tmp", "/", "/opt/anneal", "/etc"):
    try:
        open(folder + "/probe", "w").close()
        seen.append(folder)
    except OSError:
        pass
status = open("/proc/1/status").read()
seen += [line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "NoNewPrivs"))]
print(*seen)
"""


@pytest.fixture(scope="module")
def distributed(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChartSystem]:
    yield from _opened(ChartSystem("distributed-cpu", tmp_path_factory.mktemp("distributed")))


@pytest.fixture(scope="module")
def standalone(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChartSystem]:
    yield from _opened(ChartSystem("standalone", tmp_path_factory.mktemp("standalone"), {"auth": {"project": PROJECT}}))


def _opened(system: ChartSystem) -> Iterator[ChartSystem]:
    try:
        system.open()
        yield system
    finally:
        system.close()


def _run(image: str, *words: str) -> str:
    ran = subprocess.run(["podman", "run", "--rm", *words], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, f"{image}: {ran.stdout}{ran.stderr}"
    return ran.stdout.strip()


# -- the images --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("service", IMAGES)
def test_an_image_imports_all_of_its_service(service: str) -> None:
    """In the image itself, with nothing but its own lock: also what only jobs import."""
    names = image_modules(service, launches=service not in WITHOUT_LAUNCHER)
    words = ["--network=none", *HARDENED, "--entrypoint", "/opt/anneal/bin/python", IMAGES[service]]
    shown = _run(service, *words, "-c", IMPORT_ALL, *names)
    sys.stdout.write(f"{service}: {shown}\n")
    assert "modules in" in shown


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("service", IMAGES)
def test_an_image_says_what_it_is_and_starts_without_a_shell(service: str) -> None:
    shown = subprocess.run(["podman", "image", "inspect", IMAGES[service]], capture_output=True, check=True).stdout
    (image,) = json.loads(shown)
    config = image["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/opt/anneal/bin/python", "-m", f"anneal.{service}"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    expected = {"title", "description", "version", "revision", "created", "licenses", "vendor", "base.name"}
    assert expected <= labels.keys()
    assert all(labels[key] for key in expected)


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("service", ["registry", "ingestion", "synthesis", "curation", "evaluation", "gateway"])
def test_a_light_image_has_no_engine(service: str) -> None:
    code = f"import importlib.util as u; print([n for n in {ENGINES!r} if u.find_spec(n)])"
    words = ["--network=none", "--entrypoint", "/opt/anneal/bin/python", IMAGES[service]]
    assert _run(service, *words, "-c", code) == "[]"


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("service", IMAGE_LIMITS_MB)
def test_an_image_is_not_larger_than_it_may_be(service: str) -> None:
    shown = subprocess.run(
        ["podman", "image", "inspect", "--format", "{{.Size}}", IMAGES[service]], capture_output=True, check=True
    ).stdout
    assert int(shown) / 1e6 <= IMAGE_LIMITS_MB[service]


# -- mode: distributed -------------------------------------------------------------------------------------------------


def test_helm_test_passes_before_there_is_a_model(distributed: ChartSystem) -> None:
    code, log = distributed.helm_test()
    assert code == 0, f"{log}\n{distributed.logs()}"
    assert f"{MODEL} is not imported yet, so it was asked nothing" in log
    assert distributed.api is not None
    (job,) = distributed.api.all("jobs")
    assert job["metadata"]["labels"]["anneal.dev/kind"] == "ingest"


@pytest.fixture(scope="module")
def looped(distributed: ChartSystem) -> Path:
    """The folder of the report of the small loop, run from this machine."""
    return loop(distributed)


def loop(system: ChartSystem) -> Path:
    folder = system.folder / "loop"
    folder.mkdir()
    ran = system.access().anneal("run", str(small_recipe(folder)), "--report", str(folder / "report"))
    sys.stdout.write(ran.stdout)
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}\n{system.logs()}"
    return folder / "report"


def check_report(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "succeeded"
    assert [judgement["verdict"] for judgement in report["judgements"]] == ["GO"]
    answers = {answer["text"] for question in report["questions"] for answer in question["answers"]}
    assert len(answers) == 1, "gRPC and HTTP, streamed and not, must answer alike at temperature 0"
    assert [hop["kind"] for hop in report["lineage"]][-1] == "document"
    assert report["trainings"][0]["parity"]["passed"]


def test_the_loop_runs_across_the_small_cluster(looped: Path) -> None:
    check_report(looped)


def test_every_job_ran_in_a_pod_of_its_own_within_its_limits(distributed: ChartSystem, looped: Path) -> None:
    assert looped.is_dir()
    api = distributed.api
    assert api is not None
    kinds = {job["metadata"]["labels"]["anneal.dev/kind"] for job in api.all("jobs")}
    assert kinds == {"import-model", "ingest", "synthesize", "curate", "train", "evaluate"}
    assert api.asked <= api.allowed
    listed = distributed.access().anneal("--project", PROJECT, "--json", "jobs", "list")
    assert listed.returncode == 0, listed.stderr
    assert {job["attempt"] for job in json.loads(listed.stdout)} == {1}, listed.stdout


def test_helm_test_asks_the_model_that_is_there(distributed: ChartSystem, looped: Path) -> None:
    assert looped.is_dir()
    distributed.wait_for_models()
    code, log = distributed.helm_test()
    assert code == 0, f"{log}\n{distributed.logs()}"
    assert f"{MODEL} answers" in log
    assert log.rstrip().endswith("round trip: the gateway answers")


def test_a_container_may_write_to_its_data_and_nowhere_else(distributed: ChartSystem) -> None:
    for name in distributed.served:
        assert distributed.python(name, WRITES) == "10001 /data /tmp 0000000000000000 1", name


def test_a_wrong_token_is_refused(distributed: ChartSystem) -> None:
    refused = distributed.access().anneal("--token", "wrong", "datasets", "list")
    assert refused.returncode == 1
    assert "CREDENTIALS_MISSING" in refused.stderr


def test_a_pod_ends_within_its_grace(distributed: ChartSystem) -> None:
    for name in list(distributed.served):
        assert distributed.stop(name) == 0, f"{name}\n{distributed.podman.logs(distributed.served[name].pod)}"


# -- mode: standalone, the chart's default -----------------------------------------------------------------------------


def test_the_default_runs_the_loop_and_passes_helm_test(standalone: ChartSystem) -> None:
    check_report(loop(standalone))
    code, log = standalone.helm_test()
    assert code == 0, f"{log}\n{standalone.logs()}"
    assert log.rstrip().endswith("the gateway answers")
    (name,) = standalone.served
    assert name == RELEASE
    assert standalone.python(name, WRITES) == "10001 /data /tmp 0000000000000000 1"
    assert standalone.stop(name) == 0
