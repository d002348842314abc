"""Entry point of the `anneal` command."""

from __future__ import annotations

import sys

import grpc
from google.protobuf import json_format
from pydantic import ValidationError
from typer.exceptions import Abort, TyperException

from anneal.cli import resources, system, work
from anneal.cli.app import app
from anneal.cli.base_models import BaseModelChanged, BaseModelUnclear
from anneal.cli.client import OperationFailed
from anneal.cli.loop.recipe import RecipeUnreadable
from anneal.cli.loop.run import LoopFailed
from anneal.cli.output import explain
from anneal.cli.up import CannotStart
from anneal.kit.errors import Refusal

COMMANDS = (resources, system, work)
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
    words = sys.argv[1:]
    if "--json" in words:  # an option of the whole command; people write it last
        words = ["--json", *(word for word in words if word != "--json")]
    try:
        code = app(words, standalone_mode=False)  # an interrupted or ended command returns its exit code
    except (Abort, KeyboardInterrupt):
        code = 130
    except TyperException as error:
        if line := error.format_message():  # none where the help was printed instead
            sys.stderr.write(f"anneal: {line}\n")
        sys.exit(error.exit_code)
    except _PLAIN as error:
        sys.stderr.write(f"anneal: {error}\n")
        sys.exit(1)
    except _FOR_PEOPLE as error:
        sys.stderr.write(f"anneal: {explain(error)}\n")
        sys.exit(1)
    if code == 130:
        sys.stderr.write("anneal: stopped\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
