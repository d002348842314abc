"""Which modules the sources import, directly and through others, without importing any."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

from tests.architecture.repository import PACKAGE

ONLY_TESTS = {"anneal.kit.testing"}
"""What only tests import."""
LAUNCHER = ("anneal.kit.rpc.server", "anneal.kit.jobs.kubernetes.launcher")
"""An import that is made only where `launcher.kind` is kubernetes, which only services with jobs may set."""


@cache
def modules() -> dict[str, Path]:
    """`dotted name -> file` of everything in the package, generated code included."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        names = ("anneal", *file.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = file
    return found


def imports_in(tree: ast.AST) -> Iterator[str]:
    """What a module imports, wherever in it; what only the type checker sees is no import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports_in(other)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() or node.module == "google" else node.module
        yield from imports_in(node)


@cache
def imports_of(module: str) -> frozenset[str]:
    """What one module of the package imports, and the packages that it lies in."""
    return frozenset(
        [
            *imports_in(ast.parse(modules()[module].read_text(encoding="utf-8"))),
            *([module.rpartition(".")[0]] if "." in module else []),
        ]
    )


def modules_of(services: Iterable[str]) -> set[str]:
    """Every module of some services: jobs run bodies that nothing imports."""
    roots = tuple(f"anneal.{service}" for service in services)
    return {name for name in modules() if name in roots or name.startswith(tuple(f"{root}." for root in roots))}


def closure(roots: Iterable[str], *, launches: bool) -> dict[str, str]:
    """`module -> one that imports it` for what these modules import, directly and through others.

    Args:
        roots: modules of the package.
        launches: whether the Kubernetes launcher may be chosen.
    """
    found: dict[str, str] = {}
    left = [(root, root) for root in roots if root not in ONLY_TESTS]
    while left:
        name, by = left.pop()
        if name in found:
            continue
        found[name] = by
        if name in modules():
            left += [(each, name) for each in imports_of(name) if launches or (name, each) != LAUNCHER]
    return found


def own(found: Collection[str]) -> set[str]:
    """Those of the package itself."""
    return {name for name in found if name in modules()}


def foreign(found: Collection[str]) -> set[str]:
    """Those of other distributions."""
    known = {*sys.stdlib_module_names, "anneal"}
    return {name for name in found if name.partition(".")[0] not in known}


def image_modules(service: str, *, launches: bool) -> list[str]:
    """The package's own modules that the image of a service must be able to import."""
    left_out = ("__main__", "anneal.registry.adapters.sql.migrations.env")  # these run when they are imported
    found = own(closure(modules_of([service]), launches=launches))
    return sorted(name for name in found if not name.endswith(left_out))
