"""`make test-containers`: the images do what the chart expects of them, and the loop runs across them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT
from tests.containers.house import EXAMPLES, HARDENED, IMPORT_ALL, SERVICES, TARGETS, House, build_images, find_tool
from tests.e2e.small_loop import small_recipe

if not os.environ.get("ANNEAL_TEST_CONTAINERS"):  # one line among the skipped, not one for each test
    pytest.skip("ANNEAL_TEST_CONTAINERS is not set: make test-containers sets it", allow_module_level=True)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3600)]
ENGINES = ("torch", "transformers", "ray", "vllm")
IMAGES = {**{service: TARGETS[service] for service in SERVICES}, "gateway": "gateway", "cli": "standalone"}


@pytest.fixture(scope="session")
def tool() -> str:
    return find_tool()


@pytest.fixture(scope="session")
def images(tool: str) -> dict[str, str]:
    assert tool
    return build_images()


@pytest.fixture(scope="module")
def house(tool: str, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tool, images, tmp_path_factory.mktemp("containers"))
    try:
        made.open()
        yield made
    finally:
        made.close()
        assert made.left() == ""


@pytest.fixture(scope="module")
def looped(house: House) -> Path:
    """The folder of the report of the small loop."""
    folder = house.folder
    recipe = small_recipe(folder)
    recipe.write_text(recipe.read_text().replace(str(ROOT / "examples"), EXAMPLES))
    folder.chmod(0o777)  # the container's user is another one
    ran = house.ask(
        "run", "/loop/recipe.yaml", "--report", "/loop/report", options=["--volume", f"{folder}:/loop"], timeout=1200
    )
    sys.stdout.write(ran.stdout)
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}\n{house.logs()}"
    return folder / "report"


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_imports_all_of_its_service(tool: str, images: dict[str, str], service: str) -> None:
    """In the image itself, with nothing but its own lock: also what only jobs import."""
    house = House(tool, images, Path())
    packages = [f"anneal.{service}", "anneal.kit"]
    image = images[IMAGES[service]]
    command = ["run", "--rm", "--network=none", *HARDENED, "--entrypoint", "/opt/anneal/bin/python", image]
    told = house.call(*command, "-c", IMPORT_ALL, *packages, timeout=300).stdout
    sys.stdout.write(f"{service}: {told}")
    assert "modules in" in told


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_says_what_it_is_and_starts_without_a_shell(tool: str, images: dict[str, str], service: str) -> None:
    (told,) = json.loads(House(tool, images, Path()).call("image", "inspect", images[IMAGES[service]]).stdout)
    config = told["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/opt/anneal/bin/python", "-m", f"anneal.{service}"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    expected = {"title", "description", "version", "revision", "created", "licenses", "vendor", "base.name"}
    assert expected <= labels.keys()
    assert all(labels[key] for key in expected)


@pytest.mark.parametrize("service", ["registry", "ingestion", "synthesis", "curation", "evaluation", "gateway"])
def test_a_light_image_has_no_engine(tool: str, images: dict[str, str], service: str) -> None:
    house = House(tool, images, Path())
    code = f"import importlib.util as u; print([n for n in {ENGINES!r} if u.find_spec(n)])"
    command = ["run", "--rm", "--network=none", "--entrypoint", "/opt/anneal/bin/python", images[service]]
    assert house.call(*command, "-c", code).stdout.strip() == "[]"


def test_the_loop_runs_across_the_containers(looped: Path) -> None:
    report = json.loads((looped / "report.json").read_text())
    assert report["outcome"] == "succeeded"
    assert [judgement["verdict"] for judgement in report["judgements"]] == ["GO"]
    answers = {answer["text"] for question in report["questions"] for answer in question["answers"]}
    assert len(answers) == 1, "gRPC and HTTP, streamed and not, must answer alike at temperature 0"
    assert [hop["kind"] for hop in report["lineage"]][-1] == "document"
    assert report["trainings"][0]["parity"]["passed"]


@pytest.mark.usefixtures("looped")
def test_the_jobs_of_every_service_are_listed_together(house: House) -> None:
    listed = house.ask("--project", "python-docs", "--json", "jobs", "list")
    assert listed.returncode == 0, listed.stderr
    kinds = {job["name"].rsplit("/", 1)[-1].rpartition("-")[0] for job in json.loads(listed.stdout)}
    assert kinds == {"import-model", "ingest", "synthesize", "curate", "train", "evaluate"}


@pytest.mark.usefixtures("looped")
@pytest.mark.parametrize("service", [*SERVICES, "gateway"])
def test_a_container_may_write_to_its_data_and_nowhere_else(house: House, service: str) -> None:
    code = """
import os
said = [str(os.getuid())]
for folder in ("/data", "/tmp", "/", "/opt/anneal", "/etc"):
    try:
        open(folder + "/probe", "w").close()
        said.append(folder)
    except OSError:
        pass
status = open("/proc/1/status").read()
said += [line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "NoNewPrivs"))]
print(*said)
"""
    assert house.python(service, code) == "10001 /data /tmp 0000000000000000 1"


@pytest.mark.usefixtures("looped")
def test_a_wrong_token_is_refused(house: House) -> None:
    told = house.ask("--token", "wrong", "datasets", "list")
    assert told.returncode == 1
    assert "CREDENTIALS_MISSING" in told.stderr
