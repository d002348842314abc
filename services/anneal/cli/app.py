"""The `anneal` command. `--json` everywhere; an error is one clear line and exit code 1."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from anneal.cli import contexts, forwards
from anneal.cli.client import Client
from anneal.cli.contexts import Context
from anneal.cli.gateway import Gateway
from anneal.cli.output import Output
from anneal.cli.up import state_of
from anneal.kit.errors import Invalid
from anneal.kit.options import TlsOptions
from anneal.kit.settings import ClientSettings, read_settings

DEFAULT_ADDRESS = "127.0.0.1:7600"
DEFAULT_HTTP = "127.0.0.1:8000"
DEFAULT_PROJECT = "default"

HELP = "\n\n".join(
    (
        "Turn documents and examples into evaluated adapters behind an endpoint.",
        "Each setting (addresses, TLS, gateway, token, key, project) is taken from the option before the command; else "
        "from the environment; else from the context that --context or `anneal config use` names; else from the "
        "`anneal up` of this machine. --address, ANNEAL_ADDRESS and ANNEAL_ADDRESSES are one setting: any of them "
        "replaces all addresses of the context.",
        "Lists are tables on a terminal. Elsewhere, such as in a pipe, a list is one record a line: the table's "
        "columns in their order, separated by tabs, without a header and never shortened. --json has every field.",
    )
)

app = typer.Typer(
    name="anneal",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line and the environment name; empty where they do not."""

    address: str = ""
    http: str = ""
    project: str = ""
    token: str = ""
    api_key: str = ""
    context: str = ""


class Session:
    """What every command gets: where the system is, in which project, and how to print.

    What a command does not need is not resolved: `anneal up` reads no context, and `anneal config` starts no
    port-forward.
    """

    def __init__(self, given: Given, output: Output) -> None:
        self.given = given
        self.output = output

    @cached_property
    def context_name(self) -> str:
        """Name of the context of this command."""
        return self.given.context or contexts.load(contexts.config_path()).current or contexts.LOCAL

    @cached_property
    def context(self) -> Context:
        """The context of this command.

        Raises:
            ConfigInvalid: the configuration file is broken.
            ContextMissing: it has no such context.
        """
        if self.context_name == contexts.LOCAL:
            return Context()
        return contexts.load(contexts.config_path()).context(self.context_name)

    @property
    def project(self) -> str:
        """The project id."""
        return self.project_or(DEFAULT_PROJECT)

    def project_or(self, default: str) -> str:
        """The project id, or `default` where neither an option, the environment nor the context names one."""
        return self.given.project or self.context.project or default

    @cached_property
    def _forwarded(self) -> Mapping[str, str]:
        """`service -> 127.0.0.1:port` of the context's port-forwards, which run after this."""
        release = self.context.release
        if release is None:
            return {}
        ports = forwards.ensure(contexts.config_path(), self.context_name, release)
        return {service: f"127.0.0.1:{port}" for service, port in ports.items()}

    def client(self, project: str = "") -> Client:
        """A client of the running system, in this session's project where none is given."""
        settings = read_settings(ClientSettings)
        address, addresses, server_names = self._addresses(settings)
        return Client(
            address,
            project=project or self.project,
            token=self._credential("token"),
            addresses=addresses,
            tls=self._tls(settings),
            server_names=server_names,
        )

    def _addresses(self, settings: ClientSettings) -> tuple[str, Mapping[str, str], Mapping[str, str]]:
        """The address, the addresses of single services, and `address -> name of the certificate`."""
        if self.given.address or settings.addresses:
            return self.given.address or DEFAULT_ADDRESS, settings.addresses, {}
        tls, release = self.context.tls, self.context.release
        if release is not None:
            addresses = {service: place for service, place in self._forwarded.items() if service != "http"}
            named = {addresses[service]: release.forwards[service].service for service in addresses}
            return addresses.get("standalone") or addresses["registry"], addresses, named
        address = self.context.address or self._local().get("grpc", DEFAULT_ADDRESS)
        places = {"": address, **self.context.addresses}
        names = {place: tls.server_names.get(service, tls.server_name) for service, place in places.items()}
        return address, self.context.addresses, {place: name for place, name in names.items() if name}

    def _tls(self, settings: ClientSettings) -> TlsOptions:
        return settings.tls if settings.tls != TlsOptions() else self.context.tls.options()

    def gateway(self) -> Gateway:
        """The OpenAI-compatible endpoint."""
        place = self.given.http or self._forwarded.get("http", "") or self.context.http
        return Gateway(
            place or self._local().get("http", DEFAULT_HTTP),
            self._credential("api_key"),
            ca=self._tls(read_settings(ClientSettings)).ca,
        )

    def _credential(self, field: str) -> str:
        given: str = getattr(self.given, field)
        try:
            return contexts.check_credential(given) or self.context.secret(field)
        except ValueError as error:
            raise Invalid(f"--{field.replace('_', '-')}: {error}") from None

    def _local(self) -> Mapping[str, str]:
        """Where the `anneal up` of this machine listens; empty where the command has a context, or none runs."""
        return (state_of(data_dir()) or {}) if self.context_name == contexts.LOCAL else {}

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
    typer_context: typer.Context,
    address: Annotated[str, typer.Option(envvar="ANNEAL_ADDRESS", help="host:port of the gRPC server.")] = "",
    http: Annotated[str, typer.Option(envvar="ANNEAL_HTTP", help="URL or host:port of the HTTP gateway.")] = "",
    project: Annotated[str, typer.Option(envvar="ANNEAL_PROJECT", help="Project id.")] = "",
    token: Annotated[str, typer.Option(envvar="ANNEAL_TOKEN", help="Bearer token.", show_envvar=True)] = "",
    api_key: Annotated[str, typer.Option(envvar="ANNEAL_API_KEY", help="Key of the HTTP gateway.")] = "",
    context: Annotated[
        str, typer.Option(envvar="ANNEAL_CONTEXT", help="Context of the configuration file; see `anneal config`.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Options before the command; without any, the `anneal up` of this machine is found by itself."""
    given = Given(address=address, http=http, project=project, token=token, api_key=api_key, context=context)
    typer_context.obj = Session(given, Output(as_json=as_json))
