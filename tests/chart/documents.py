"""What the documents show: their commands, the values in them, and the secrets that their commands create."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.chart.rendering import CHART, ROOT, SITUATIONS, load, overlay, situation

DOCUMENTS = (ROOT / "README.md", CHART / "README.md")
OWN_VALUES = "my-values.yaml"
"""The name that the documents give to the reader's own values: the YAML that the chart's README shows."""
VARIABLES = {"REGISTRY": "registry.example.com"}
_RECORDER = """#!/usr/bin/env bash
printf '%s\\0' "$@" >> "$RECORD"
printf '\\n' >> "$RECORD"
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """Values that a file of this repository hands to a user.

    Attributes:
        source: where they are from.
        values: what Helm would be given.
        release: the release's name.
    """

    source: str
    values: Mapping[str, Any]
    release: str = "anneal"


def code_blocks(text: str) -> Iterator[str]:
    """The indented and the fenced code of a Markdown page."""
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for indented in re.findall(
        r"(?:^ {4}.*\n(?:[ \t]*\n)*)+", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M
    ):
        yield re.sub(r"^ {4}", "", indented, flags=re.MULTILINE)


def shell_lines(path: Path) -> list[str]:
    """The lines of shell that a page shows, each with what it continues on."""
    blocks = [block for block in code_blocks(path.read_text(encoding="utf-8")) if not _is_yaml(block)]
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def commands(path: Path, program: str) -> list[list[str]]:
    """The words of every command of a program that a page shows, comments left out."""
    found = []
    for line in shell_lines(path):
        for part in re.split(r"\s(?:&&|;)\s", line):
            if re.match(rf"{program}\s", part):
                found.append(shlex.split(_expanded(part), comments=True)[1:])
    return found


def own_values() -> dict[str, Any]:
    """The values that the chart's README shows as the reader's own."""
    shown = [
        yaml.safe_load(block)
        for block in code_blocks((CHART / "README.md").read_text(encoding="utf-8"))
        if _is_yaml(block)
    ]
    (found,) = [values for values in shown if isinstance(values, dict) and "mode" in values]
    return dict(found)


@cache
def installations() -> tuple[Installation, ...]:
    """Everything that a user is shown to install: values files, and the commands of the documents."""
    made = [Installation(f"ci/{name}", situation(name)) for name in SITUATIONS]
    for page in DOCUMENTS:
        for words in commands(page, "helm"):
            if words[0] in ("install", "upgrade"):
                shown = f"{page.relative_to(ROOT)}: helm {' '.join(words)}"
                made.append(Installation(shown, _values_of(words), release=words[1]))
    return tuple(made)


@cache
def created_secrets() -> dict[str, dict[str, str]]:
    """`secret -> key -> value`: what the commands of the chart's README create, run with a recorder for kubectl."""
    (block,) = [
        block
        for block in code_blocks((CHART / "README.md").read_text(encoding="utf-8"))
        if "kubectl" in block and "create secret" in block
    ]
    with tempfile.TemporaryDirectory() as folder:
        recorder = Path(folder) / "kubectl"
        recorder.write_text(_RECORDER)
        recorder.chmod(0o755)
        (Path(folder) / "helm").symlink_to("/bin/true")
        record = Path(folder) / "record"
        environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "RECORD": str(record)}
        subprocess.run(["bash", "-euo", "pipefail", "-c", block], check=True, env=environment, cwd=folder)
        calls = [line.split("\0")[:-1] for line in record.read_text().splitlines()]
    found: dict[str, dict[str, str]] = {}
    for words in calls:
        at = words.index("secret")
        assert words[at - 1] == "create", words
        assert words[at + 1] == "generic", words
        literals = [word.removeprefix("--from-literal=") for word in words if word.startswith("--from-literal=")]
        found[words[at + 2]] = dict(literal.split("=", 1) for literal in literals)
    return found


def _values_of(words: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option, value in pairwise(words):
        if option == "--values":
            values = overlay(values, own_values() if value == OWN_VALUES else load(ROOT / value))
        elif option == "--set":
            for pair in value.split(","):
                path, _, said = pair.partition("=")
                values = overlay(values, _nested(path.split("."), yaml.safe_load(said)))
    return values


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    return {path[0]: value if len(path) == 1 else _nested(path[1:], value)}


def _expanded(line: str) -> str:
    for name, value in VARIABLES.items():
        line = line.replace(f"${name}", value).replace(f"${{{name}}}", value)
    return line


def _is_yaml(block: str) -> bool:
    return bool(re.match(r"[\w-]+:(?: |\n)", block))
