"""`anneal config`: the contexts of the configuration file, and one made from a release of the chart."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from anneal.cli import contexts, forwards, release
from anneal.cli.app import Session, app
from anneal.cli.cluster import Cluster, PodMissing, kubeconfig_of, ready_pod
from anneal.cli.contexts import LOCAL, Context, Release
from anneal.kit.errors import Invalid, TooLate
from anneal.v1 import registry_service_pb2 as registry

POLL_S = 2.0

config = typer.Typer(
    no_args_is_help=True,
    help="Contexts: how each system is reached. They are in $ANNEAL_CONFIG, else in anneal/config.yaml below "
    "$XDG_CONFIG_HOME (~/.config).",
)
app.add_typer(config, name="config")

Name = Annotated[str, typer.Argument(help="Name of the context.")]
SecretFile = typer.Option(exists=True, dir_okay=False, resolve_path=True)


class ReleaseNotReady(TooLate):
    """Pods of the release did not become ready in time."""

    reason = "RELEASE_NOT_READY"


@config.command("list")
def list_contexts(context: typer.Context) -> None:
    """List the contexts; `*` marks the one that commands use."""
    session: Session = context.obj
    found = contexts.load(contexts.config_path())
    current = session.context_name
    rows = [("*" if current == LOCAL else "", LOCAL, "the `anneal up` of this machine", "", "")]
    for name, one in sorted(found.contexts.items()):
        rows.append(("*" if name == current else "", name, _place(one), one.http, one.project))
    columns = ("current", "name", "address", "http", "project")
    if session.output.as_json:
        session.output.json([{**dict(zip(columns, row, strict=True)), "current": bool(row[0])} for row in rows])
        return
    session.output.table(columns, rows, shorten=("http", "address", "project"))


def _place(context: Context) -> str:
    if context.release is not None:
        return f"release {context.release.namespace}/{context.release.name} by {context.release.kube_context}"
    return context.address or ", ".join(f"{service}={place}" for service, place in context.addresses.items())


@config.command()
def current(context: typer.Context) -> None:
    """Print the name of the context that commands use."""
    session: Session = context.obj
    name = session.context_name
    contexts.load(contexts.config_path()).context(name)
    if session.output.as_json:
        session.output.json({"name": name})
    session.output.line(name)


@config.command()
def use(context: typer.Context, name: Name) -> None:
    """Make a context the one that commands use; `local` is the `anneal up` of this machine."""
    session: Session = context.obj
    with contexts.changed(contexts.config_path()) as values:
        contexts.parse(values, "the configuration").context(name)
        values["current"] = "" if name == LOCAL else name
    session.output.line(f"commands use the context {name}")


@config.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the context; all when none is named.")] = "",
    with_secrets: Annotated[bool, typer.Option("--show-secrets", help="Print tokens and keys, too.")] = False,
) -> None:
    """Print the configuration as YAML; tokens and keys are left out."""
    session: Session = context.obj
    found = contexts.load(contexts.config_path())
    values = contexts.as_values(found, with_secrets=with_secrets)
    if name:
        found.context(name)
        values = values.get("contexts", {}).get(name, {})
    if session.output.as_json:
        session.output.json(values)
    else:
        sys.stdout.write(yaml.safe_dump(values, sort_keys=False) if values else "")


@config.command("set")
def set_context(
    context: typer.Context,
    name: Name,
    address: Annotated[
        list[str] | None,
        typer.Option(help="host:port of all services, or SERVICE=host:port of one; may be given several times."),
    ] = None,
    http: Annotated[str | None, typer.Option(help="URL or host:port of the gateway.")] = None,
    project: Annotated[str | None, typer.Option(help="Project id.")] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token; `-` reads it from standard input.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token, read at each command.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Key of the gateway; `-` reads it from standard input.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File with the key, read at each command.")] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates that servers' must be signed by.")] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate of this client.")] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of that certificate.")] = None,
    server_name: Annotated[
        list[str] | None, typer.Option(help="Name in the servers' certificate, or SERVICE=name for one service.")
    ] = None,
) -> None:
    """Make a context, or change the fields that are given. An empty value removes a field."""
    session: Session = context.obj
    contexts.check_name(name)
    changes: dict[str, Any] = {"http": http, "project": project}
    for field, secret, file in (("token", token, token_file), ("api_key", api_key, api_key_file)):
        if secret is not None and file is not None:
            raise typer.BadParameter(f"give either --{field} or --{field}-file".replace("_", "-"))
        if secret is not None or file is not None:
            changes[field] = sys.stdin.readline().strip() if secret == "-" else secret or ""
            changes[f"{field}_file"] = _path(file)
    tls: dict[str, Any] = {"ca": _path(ca), "cert": _path(cert), "key": _path(key)}
    given = {"ca": ca, "cert": cert, "key": key}
    with contexts.changed(contexts.config_path()) as values:
        one = values["contexts"].setdefault(name, {})
        if address:
            _set_each(one, "address", "addresses", address)
            one.pop("release", None)
        one.update({field: value for field, value in changes.items() if value is not None or field.endswith("_file")})
        one.setdefault("tls", {}).update({field: tls[field] for field, value in given.items() if value is not None})
        if server_name:
            _set_each(one["tls"], "server_name", "server_names", server_name)
    session.output.line(f"context {name} is written; `anneal config use {name}` makes it the one that commands use")


def _set_each(values: dict[str, Any], one: str, each: str, given: list[str]) -> None:
    """`value` into the field of all services, `service=value` into that of single ones; an empty one removes it."""
    for text in given:
        service, separator, value = text.rpartition("=")
        if not separator:
            values[one] = value
        elif value:
            values.setdefault(each, {})[service] = value
        else:
            values.get(each, {}).pop(service, None)


def _path(path: Path | None) -> str | None:
    """An absolute path; None for none, and for the empty one, which removes a field."""
    return None if path is None or str(path) in ("", ".") else str(path.expanduser().absolute())


@config.command()
def delete(context: typer.Context, name: Name) -> None:
    """Delete a context, and stop its port-forwards."""
    session: Session = context.obj
    path = contexts.config_path()
    contexts.check_name(name)
    contexts.load(path).context(name)
    forwards.stop(path, name)
    with contexts.changed(path) as values:
        values["contexts"].pop(name, None)
        values["current"] = "" if values.get("current") == name else values.get("current", "")
    for file in (contexts.file_beside(path, name, "").parent).glob(f"{contexts.file_beside(path, name, '').name}.*"):
        file.unlink(missing_ok=True)
    session.output.line(f"context {name} is deleted")


@config.command()
def stop(context: typer.Context, name: Annotated[str, typer.Argument(help="Context; the current one.")] = "") -> None:
    """Stop the port-forwards of a context; the next command that needs them starts them again."""
    session: Session = context.obj
    name = name or session.context_name
    path = contexts.config_path()
    contexts.load(path).context(name)
    ended = forwards.stop(path, name)
    session.output.line(f"the port-forwards of {name} {'are stopped' if ended else 'were not running'}")


@config.command("from-release")
def from_release(
    context: typer.Context,
    place: Annotated[str, typer.Argument(metavar="NAMESPACE/RELEASE", help="A release of the chart.")],
    kubeconfig: Annotated[str, typer.Option(help="Kubeconfig; else KUBECONFIG, else ~/.kube/config.")] = "",
    kube_context: Annotated[str, typer.Option(help="Context of the kubeconfig; else its current one.")] = "",
    name: Annotated[str, typer.Option(help="Name of the new context; NAMESPACE/RELEASE when not given.")] = "",
    project: Annotated[str, typer.Option(help="Project id; else the one that the gateway's key opens.")] = "",
    token_file: Annotated[Path | None, typer.Option(help="File with a token, in place of the secret's.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File with a key of the gateway.")] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates, in place of the secret's.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for ready pods.", min=0)] = 600,
) -> None:
    """Make a context from a release of the chart, use it, and start its port-forwards.

    It reads Services, workloads, pods and secrets through your kubeconfig. Later commands start the port-forwards
    again when they do not run; `anneal config stop` stops them.
    """
    session: Session = context.obj
    namespace, separator, release_name = place.partition("/")
    if not separator or not namespace or not release_name or "/" in release_name:
        raise typer.BadParameter(f"{place!r} is not NAMESPACE/RELEASE")
    name = contexts.check_name(name or place)
    cluster = Cluster(kubeconfig_of(kubeconfig, os.environ), kube_context)
    wanted = release.Wanted(token=token_file is None, api_key=api_key_file is None, ca=ca is None)
    found = release.read(cluster, namespace, release_name, wanted)
    values: dict[str, Any] = {
        "token": found.token,
        "token_file": _path(token_file),
        "api_key": found.api_key,
        "api_key_file": _path(api_key_file),
        "release": _with_ports(cluster, namespace, release_name, found).model_dump(mode="json"),
    }
    path = contexts.config_path()
    made = contexts.parse({"contexts": {name: values}}, f"release {place}").contexts[name]
    api_key = made.secret("api_key")
    values["project"] = project or found.project(api_key)
    values["tls"] = {"ca": _path(ca), **_write_certificates(path, name, found, with_ca=ca is None)}
    forwards.stop(path, name)
    with contexts.changed(path) as everything:
        everything["contexts"][name] = values
        everything["current"] = name
    session.output.line(f"context {name} is written, and commands use it: {found.mode}, {_count(found)}")
    _say_of_key(session, found, name, api_key)
    _wait(session, cluster, namespace, found, timeout)
    _prove(session, name)


def _with_ports(cluster: Cluster, namespace: str, name: str, found: release.ReleaseAccess) -> Release:
    """The release with a free local port for each forward; they stay the same, so that apps can be pointed at them."""
    sockets = {service: socket.create_server(("127.0.0.1", 0)) for service in found.forwards}
    try:
        ported = {
            service: found.forwards[service].model_copy(update={"local_port": one.getsockname()[1]})
            for service, one in sockets.items()
        }
    finally:
        for one in sockets.values():
            one.close()
    return Release(
        kubeconfig=cluster.kubeconfig,
        kube_context=cluster.kube_context,
        namespace=namespace,
        name=name,
        forwards=ported,
    )


def _write_certificates(path: Path, name: str, found: release.ReleaseAccess, *, with_ca: bool) -> dict[str, str]:
    written = {}
    for field, file in (("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")):
        if file in found.tls and (with_ca or field != "ca"):
            target = contexts.file_beside(path, name, f".{file}")
            contexts.write_private(target, found.tls[file])
            written[field] = str(target.absolute())
    return written


def _count(found: release.ReleaseAccess) -> str:
    bases = sum(service.startswith("serving/") for service in found.forwards)
    tls = "with TLS" if found.tls else "without TLS"
    return f"{len(found.selectors)} services, {bases} base models, {tls}" if bases else f"one pod, {tls}"


def _say_of_key(session: Session, found: release.ReleaseAccess, name: str, api_key: str) -> None:
    """What the user must still give: the cluster has hashes of the gateway's keys, and only a generated key itself."""
    if not api_key and found.keys:
        session.output.line(
            f"the cluster has only hashes of the gateway's keys: give yours with `anneal config set {name} "
            "--api-key-file FILE`, or `anneal run` fails when it asks the gateway"
        )
    elif api_key and found.keys and not found.takes(api_key):
        raise Invalid("the gateway of this release does not take the key of --api-key-file")


def _wait(session: Session, cluster: Cluster, namespace: str, found: release.ReleaseAccess, timeout: float) -> None:
    """Wait until each Service has a ready pod, and say what the others wait for when that changes.

    Servers of a base model are not waited for: they are not ready before it is imported, which may be the next command.
    """
    deadline, last = time.monotonic() + timeout, ""
    while True:
        unready = {}
        for service, selector in found.selectors.items():
            try:
                ready_pod(cluster, namespace, selector)
            except PodMissing as error:
                unready[service] = str(error)
        missing = [text for service, text in unready.items() if service not in found.late]
        if not missing:
            for text in unready.values():
                session.output.line(f"not ready yet, as before its base model is imported: {text}")
            return
        if time.monotonic() >= deadline:
            raise ReleaseNotReady(f"{missing[0]}; the context is written, so try any command when it is")
        if missing[0] != last:
            last = missing[0]
            session.output.line(f"waiting: {last}")
        time.sleep(POLL_S)


def _prove(session: Session, name: str) -> None:
    """Start the port-forwards and call the registry through them, so that a wrong token or certificate shows now."""
    fresh = Session(given=type(session.given)(context=name), output=session.output)
    client = fresh.client()
    client.registry.ListDeployments(registry.ListDeploymentsRequest(parent=client.parent, page_size=1))
    client.close()
    gateway = fresh.gateway()
    if session.output.as_json:
        addresses = {"grpc": client.address, "http": gateway.url}
        session.output.json({"name": name, **addresses, "project": fresh.project})
    session.output.line(f"gRPC      {client.address}")
    session.output.line(f"HTTP      {gateway.url}  (OpenAI-compatible)")
    session.output.line(f"project   {fresh.project}")
    session.output.line("the port-forwards run in the background; `anneal config stop` stops them")
