"""Entry point of the `anneal` command."""

from __future__ import annotations

import sys

import grpc
from google.protobuf import json_format
from pydantic import ValidationError
from typer.exceptions import Abort, TyperException

from anneal.cli import contamination, explore, models, resources, system, work
from anneal.cli.app import app
from anneal.cli.base_models import BaseModelChanged, BaseModelUnclear
from anneal.cli.client import OperationFailed
from anneal.cli.loop.desk import LoopFailed
from anneal.cli.loop.recipe import RecipeUnreadable
from anneal.cli.failures import explain
from anneal.cli.up import CannotStart
from anneal.kit.errors import Refusal

COMMANDS = (contamination, explore, models, resources, system, work)
_FOR_PEOPLE = (
    OperationFailed,
    Refusal,
    grpc.RpcError,
    ValidationError,
    json_format.ParseError,
    OSError,
)
_PLAIN = (BaseModelChanged, BaseModelUnclear, RecipeUnreadable, LoopFailed, CannotStart)


def main() -> None:
    """Run a command; what a person can mend is one line on standard error and exit code 1."""
    try:
        code = app(_json_first(sys.argv[1:]), standalone_mode=False)  # an ended command returns its exit code
    except (Abort, KeyboardInterrupt):
        code = 130
    except TyperException as error:
        _say(error.format_message())
        sys.exit(error.exit_code)
    except _PLAIN as error:
        _say(str(error))
        sys.exit(1)
    except _FOR_PEOPLE as error:
        _say(explain(error))
        sys.exit(1)
    if code == 130:
        _say("stopped")
    sys.exit(code)


def _json_first(words: list[str]) -> list[str]:
    """The command line with `--json`, an option of the whole command, in front; people write it last.

    What stands behind `--` are values, whatever they look like.
    """
    end = words.index("--") if "--" in words else len(words)
    options = [word for word in words[:end] if word != "--json"]
    return words if len(options) == end else ["--json", *options, *words[end:]]


def _say(text: str) -> None:
    """One line, whatever a library, a server or a job put into it; nothing where the help was printed instead."""
    if line := " ".join(text.split()):
        sys.stderr.write(f"anneal: {line}\n")


if __name__ == "__main__":
    main()
