"""Where things stand, for the tests of this folder."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "services" / "anneal"
SERVICES = ("registry", "ingestion", "synthesis", "curation", "training", "serving", "evaluation", "gateway")


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file git knows, or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


@cache
def source_trees() -> dict[Path, ast.Module]:
    """Every module written by hand under services/, parsed."""
    files = (file for file in PACKAGE.rglob("*.py") if PACKAGE / "v1" not in file.parents)
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(files)}
