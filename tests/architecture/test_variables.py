"""Every environment variable that a text of this repository names is one that some process reads."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from typer.main import get_command

from anneal.cli import __main__ as command_line
from anneal.cli.app import app
from anneal.kit.options import Options
from anneal.kit.settings import ENV_PREFIX, ClientSettings, ServiceSettings
from deploy.local.chart_schema import SERVICES, settings_class
from tests.architecture.repository import ROOT, tracked_files

READ_ELSEWHERE = {
    "ANNEAL_JOB": "anneal.kit.jobs.run",
    "ANNEAL_JOB_FILE": "anneal.kit.jobs.run",
    "ANNEAL_SECRETS_DIR": "anneal.kit.settings",
    "ANNEAL_CONFIG": "anneal.cli.contexts",
    "ANNEAL_BUILDER": "deploy/images/build.py",
    "ANNEAL_SOURCE_URL": "deploy/images/build.py",
    "ANNEAL_TEACHER_KEY": "the name that a recipe gives to the secret of its teacher",
    "ANNEAL_JUDGE_KEY": "the same of a judge",
    "ANNEAL_ENCODER_KEY": "the same of an encoder",
}
"""`variable -> who reads it`: those of no settings class and no option of the command line."""
NAMED = re.compile(r"ANNEAL_[A-Z][A-Z_]*[A-Z](?!\w)(?!_*\.\.\.)")


def variables_of(settings: type[BaseModel], prefix: str) -> Iterator[str]:
    """The variables of settings: each group as a whole, too, and every field of nested ones."""
    for name, field in settings.model_fields.items():
        yield f"{prefix}{name}".upper()
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Options):
            yield from variables_of(kind, f"{prefix}{name}__")


def known_variables() -> set[str]:
    classes = [ServiceSettings, ClientSettings, *(settings_class(service) for service in SERVICES)]
    assert command_line.COMMANDS  # imported, so that every command is registered
    options = {
        variable
        for parameter in get_command(app).params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or [])
    }
    return {name for one in classes for name in variables_of(one, ENV_PREFIX)} | options | set(READ_ELSEWHERE)


@pytest.mark.parametrize("where", ["services", "charts", "deploy", "docs", "examples", "README.md", "CONTRIBUTING.md"])
def test_the_variables_that_texts_name_are_read(where: str) -> None:
    known = known_variables()
    unknown: dict[str, set[str]] = {}
    for path in tracked_files():
        name = path.relative_to(ROOT).as_posix()
        if not (name == where or name.startswith(f"{where}/")) or path.suffix in (".xz", ".safetensors", ".svg"):
            continue
        for variable in NAMED.findall(path.read_text(encoding="utf-8", errors="replace")):
            if variable not in known:
                unknown.setdefault(variable, set()).add(name)
    assert unknown == {}


def test_a_variable_that_nobody_reads_is_noticed() -> None:
    assert NAMED.findall("set ANNEAL_STORE__URI, or ANNEAL_TLS__...") == ["ANNEAL_STORE__URI"]
    assert "ANNEAL_STORE__URI" not in known_variables()
    assert "ANNEAL_LAUNCHER__RAY__WORKER__MEMORY" in known_variables()
