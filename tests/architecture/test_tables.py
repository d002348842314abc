"""What can be chosen by name stands in one explicit table beside its files; a file nobody can choose is a mistake."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.repository import PACKAGE

# Table, its folder, and whether its keys are the files' names (parsers are chosen by media type).
TABLES = (
    ("IMPORTERS", "ingestion/adapters/importers", True),
    ("PARSERS", "ingestion/adapters/parsers", False),
    ("GENERATORS", "synthesis/domain/generators", True),
    ("STEPS", "curation/domain/steps", True),
    ("METHODS", "training/domain/methods", True),
    ("OBJECTIVES", "training/domain/objectives", True),
    ("METRICS", "evaluation/domain/metrics", True),
    ("SUITES", "evaluation/domain/suites", True),
)
# The protocol a table's entries follow, and what several of them share.
NOT_ENTRIES = ("__init__", "base")


def names_by_file(tree: ast.Module) -> dict[str, set[str]]:
    """The names a table's module takes from each file beside it."""
    names: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                bound = alias.asname or alias.name
                names.setdefault(node.module.rpartition(".")[2], set()).add(bound)
                names.setdefault(alias.name, set()).add(bound)
    return names


def table_of(tree: ast.Module, name: str) -> ast.Dict:
    """The dict literal bound to a name."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            value = node.value
            while isinstance(value, ast.Call) and value.args:  # MappingProxyType({...})
                value = value.args[0]
            assert isinstance(value, ast.Dict), f"{name} is not written as a dict"
            return value
    raise AssertionError(f"there is no {name}")


@pytest.mark.parametrize(("table", "folder", "keys_are_files"), TABLES, ids=[name for name, _, _ in TABLES])
def test_every_file_is_in_its_table(table: str, folder: str, keys_are_files: bool) -> None:
    where = PACKAGE / folder
    tree = ast.parse((where / "__init__.py").read_text(encoding="utf-8"))
    entries = table_of(tree, table)
    used = {node.id for node in ast.walk(entries) if isinstance(node, ast.Name)}
    files = {file.stem for file in where.glob("*.py") if file.stem not in NOT_ENTRIES and file.stem[0] != "_"}
    imported = names_by_file(tree)
    assert {stem for stem in files if not imported.get(stem, set()) & used} == set()
    if keys_are_files:
        keys = {key.value for key in entries.keys if isinstance(key, ast.Constant)}
        assert keys == files
