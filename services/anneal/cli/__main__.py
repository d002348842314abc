"""Entry point of the `anneal` command."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback

from typer.exceptions import Abort, TyperException

from anneal.cli import (
    configure,
    contamination,
    contexts,
    datasets,
    explore,
    forwards,
    models,
    resources,
    rows,
    system,
    work,
)
from anneal.cli.app import app
from anneal.cli.failures import explain, is_connection, is_expected

COMMANDS = (configure, contamination, datasets, explore, models, resources, rows, system, work)
INTERRUPTED = 130


def main() -> None:
    """Run a command; what a person can mend is one line on standard error and exit code 1, and so is a bug."""
    started = time.time()
    try:
        code = app(_json_first(sys.argv[1:]), standalone_mode=False)  # an ended command returns its exit code
        sys.stdout.flush()
    except (Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except TyperException as error:
        _say(error.format_message())
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read the output has what they wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)  # as typer ends where the command itself was still writing
    except Exception as error:  # noqa: BLE001 - the one place where a failure becomes a line
        _say(explain(error) + _cause(error, started) if is_expected(error) else _bug(error))
        sys.exit(1)
    if code == INTERRUPTED:
        _say("stopped")
    sys.exit(code)


def _cause(error: Exception, started: float) -> str:
    """What the port-forward of this command met, where the server behind it cannot be reached."""
    failure = forwards.failure_since(contexts.config_path(), started) if is_connection(error) else ""
    return f"; the port-forward: {failure}" if failure else ""


def _bug(error: Exception) -> str:
    """The line about an error that nobody expected; its trace goes into a file, for whoever mends it."""
    text = f"this is a bug of the command: {explain(error)}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="anneal-", suffix=".log", delete=False) as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return text
    return f"{text}; its trace is in {file.name}"


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
