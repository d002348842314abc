"""Commands that run the system itself: up, run, demo."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from anneal.cli.app import DEFAULT_ADDRESS, DEFAULT_HTTP, DEFAULT_PROJECT, Session, app, data_dir
from anneal.cli.base_models import FORMS
from anneal.cli.client import Client
from anneal.cli.failures import explain
from anneal.cli.gateway import Gateway
from anneal.cli.loop.recipe import Loaded, load
from anneal.cli.loop.run import Loop
from anneal.cli.output import Output
from anneal.cli.report.model import Report
from anneal.cli.report.page import write
from anneal.cli.up import CannotStart, Local, serve, state_of
from anneal.kit.rpc.process import run_process
from anneal.kit.tied import tied

BaseModel = Annotated[str, typer.Option(help=f"Instead of the recipe's base model: {FORMS}.")]
PROMETHEUS_PORT = 7690
"""Its own default, 9090, is where a Prometheus that is installed as a service already listens."""
START_S = 120.0
STOP_S = 60.0

_SECRETS = ("--token", "--api-key")


@app.command()
def up(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Option("--data-dir", help="Folder for everything it keeps.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback needs ANNEAL_TOKENS and ANNEAL_GATEWAY__KEYS.")
    ] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="0 takes a free port.")] = int(DEFAULT_ADDRESS.rsplit(":", 1)[1]),
    http_port: Annotated[int, typer.Option(help="0 takes a free port.")] = int(DEFAULT_HTTP.rsplit(":", 1)[1]),
    model_folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of this server that models may be imported from as server:/...; none when not given."
        ),
    ] = None,
    monitoring: Annotated[
        bool, typer.Option("--monitoring", help="Start Prometheus on it, too, if it is installed.")
    ] = False,
    prometheus_port: Annotated[int, typer.Option(help="0 takes a free port.")] = PROMETHEUS_PORT,
) -> None:
    """Start every service on this machine, on loopback unless told otherwise. Ctrl-C stops everything."""
    session: Session = context.obj
    # Before torch is loaded here or in any job: waiting OpenMP threads sleep, so that others get the processor.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folders = tuple(path.resolve() for path in model_folder or [])
    local = Local(
        folder or data_dir(),
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        model_folders=folders,
        project=session.given.project or DEFAULT_PROJECT,
        prometheus_port=prometheus_port if monitoring else None,
    )
    ready = session.output.json if session.output.as_json else None
    run_process(serve(local, session.output.line, ready))


@app.command()
def run(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="The recipe.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option("--report", help="Folder of the report.")] = Path("report"),
    base_model: BaseModel = "",
) -> None:
    """Run a recipe against the running system; what was done before with the same inputs is skipped."""
    session: Session = context.obj
    loaded = load(recipe, base_model)
    client = session.client(session.project_or(loaded.recipe.project))
    _loop(client, session.gateway(), loaded, session.output, out)


def shown(words: Sequence[str]) -> str:
    """The command line as a report shows it: without the values of options that let somebody in."""
    kept = list(words)
    for number, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in _SECRETS and equals:
            kept[number] = f"{name}=..."
        elif number and words[number - 1] in _SECRETS:
            kept[number] = "..."
    return shlex.join(["anneal", *kept])


class ReportUnwritten(Exception):
    """The report cannot be written; the text says why, and how the run ended."""


def _loop(client: Client, gateway: Gateway, loaded: Loaded, output: Output, out: Path) -> None:
    """Run the loop and write its report, also when it fails."""
    start = time.perf_counter()
    loop = Loop(client, gateway, loaded, output, command=shown(sys.argv[1:]))
    out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made fails now, and not after hours
    try:
        loop.run()
    except KeyboardInterrupt:
        loop.report.outcome = "interrupted"
        raise
    except Exception as error:
        loop.report.outcome, loop.report.failure = "failed", explain(error)
        raise
    finally:
        client.close()
        gateway.close()
        loop.report.seconds = time.perf_counter() - start
        _write(loop.report, output, out)


def _write(report: Report, output: Output, out: Path) -> None:
    try:
        page = write(report, out)
    except OSError as error:
        ended = f"; the run failed: {report.failure}" if report.failure else ""
        raise ReportUnwritten(f"cannot write the report to {out}: {error.strerror or error}{ended}") from error
    output.line(f"report: {page} ({report.seconds:.0f} s)")
    if output.as_json:
        output.json(json.loads(report.model_dump_json()))


@app.command()
def demo(
    context: typer.Context,
    recipe: Annotated[Path, typer.Option(help="The recipe.")] = Path("examples/bike-shop/recipe.yaml"),
    folder: Annotated[Path, typer.Option("--data-dir", help="Folder for everything it keeps.")] = Path("build/demo"),
    out: Annotated[Path, typer.Option("--report", help="Folder of the report.")] = Path("report"),
    base_model: BaseModel = "",
) -> None:
    """Start the system, run a recipe to the end, write the report, stop the system."""
    session: Session = context.obj
    start = time.perf_counter()
    loaded = load(recipe, base_model)
    with _told_like_ctrl_c(), _system(folder, loaded.recipe.project, session.output) as state:
        client = Client(state["grpc"], project=loaded.recipe.project)
        _loop(client, Gateway(state["http"]), loaded, session.output, out)
    session.output.line(f"demo: {time.perf_counter() - start:.0f} s; everything that was started is stopped")


@contextmanager
def _told_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop this process as Ctrl-C does; by themselves they would end it at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under `nohup`
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _system(folder: Path, project: str, output: Output) -> Iterator[dict[str, Any]]:
    """A running `anneal up` in a process of its own; stopped at the end, after Ctrl-C, and when this process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "anneal.cli",
        "--project",
        project,
        "up",
        "--data-dir",
        str(folder),
        "--grpc-port",
        "0",
        "--http-port",
        "0",
    ]
    log = folder / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            tied(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        state = _started(process, folder, log)
        output.line(f"anneal up: gRPC {state['grpc']}, HTTP http://{state['http']}/v1, data {folder}")
        yield state
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _started(process: subprocess.Popen[bytes], folder: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        state = state_of(folder)
        if state is not None and state["pid"] == process.pid:
            return state
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise CannotStart(lines[-1].removeprefix("anneal: ") if lines else f"it ended with {process.returncode}")
        time.sleep(0.1)
    raise CannotStart(f"it did not start within {START_S:.0f} s; its log is {log}")
