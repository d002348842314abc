"""The `anneal` command. `--json` everywhere; an error is one clear line and exit code 1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from anneal.cli.client import Client
from anneal.cli.output import Output
from anneal.cli.up import state_of
from anneal.kit.settings import ClientSettings, read_settings

DEFAULT_ADDRESS = "127.0.0.1:7600"
DEFAULT_HTTP = "127.0.0.1:8000"

app = typer.Typer(
    name="anneal",
    help="Turn documents and examples into evaluated adapters behind an endpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@dataclass(frozen=True, slots=True)
class Session:
    """What every command is told: where the system is, in which project, and how to print."""

    address: str
    http: str
    project: str
    token: str
    api_key: str
    output: Output

    def client(self, project: str = "") -> Client:
        """A client of the running system, in this session's project where none is given."""
        settings = read_settings(ClientSettings)
        return Client(
            self.address,
            project=project or self.project,
            token=self.token,
            addresses=settings.addresses,
            tls=settings.tls,
        )

    def name(self, collection: str, value: str) -> str:
        """A full resource name from an id: `adapters`, `kind` -> `projects/p/adapters/kind`."""
        if value.startswith("projects/"):
            return value
        head, slash, rest = value.partition("/")
        return f"projects/{self.project}/{collection}/{head}{slash}{rest}"

    def version(self, collection: str, value: str) -> str:
        """A full version name from `id`, `id/versions/v` or a whole name; `latest` where no version is given."""
        name = self.name(collection, value)
        return name if "/versions/" in name else f"{name}/versions/latest"


def data_dir() -> Path:
    """The default data folder."""
    return Path(os.environ.get("ANNEAL_DATA_DIR", str(Path.home() / ".anneal")))


@app.callback()
def options(
    context: typer.Context,
    address: Annotated[str, typer.Option(envvar="ANNEAL_ADDRESS", help="host:port of the gRPC server.")] = "",
    http: Annotated[str, typer.Option(envvar="ANNEAL_HTTP", help="URL or host:port of the HTTP gateway.")] = "",
    project: Annotated[str, typer.Option(envvar="ANNEAL_PROJECT", help="Project id.")] = "default",
    token: Annotated[str, typer.Option(envvar="ANNEAL_TOKEN", help="Bearer token.", show_envvar=True)] = "",
    api_key: Annotated[str, typer.Option(envvar="ANNEAL_API_KEY", help="Key of the HTTP gateway.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Options before the command; without --address the `anneal up` of this machine is found by itself."""
    state = state_of(data_dir()) or {}
    context.obj = Session(
        address=address or state.get("grpc", DEFAULT_ADDRESS),
        http=http or state.get("http", DEFAULT_HTTP),
        project=project,
        token=token,
        api_key=api_key,
        output=Output(as_json=as_json),
    )
