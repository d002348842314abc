"""The command's configuration file: contexts, each of which says how one system is reached, as kubectl has them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from anneal.kit import names
from anneal.kit.errors import Invalid, Missing
from anneal.kit.options import TlsOptions

LOCAL = "local"
"""The context that always exists: the `anneal up` of this machine, found through its data folder."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/-]{0,127}")
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700


class ConfigInvalid(Invalid):
    """The configuration file cannot be used; the text names the file and the field, and no value."""

    reason = "CONFIG_INVALID"


class ContextMissing(Missing):
    """The configuration file has no context of that name."""

    reason = "CONTEXT_MISSING"


def _credential(value: SecretStr) -> SecretStr:
    return SecretStr(check_credential(value.get_secret_value()))


def check_credential(text: str) -> str:
    """A token or a key that survives the way through a header.

    Raises:
        ValueError: it does not; the message does not hold it.
    """
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("it has characters besides printable ASCII without spaces")
    return text


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and not (value.startswith("unix:") or (host and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError("it is not host:port")
    return value


def _project(value: str) -> str:
    try:
        return names.check_id(value, "project") if value else ""
    except Invalid as error:
        raise ValueError(str(error)) from None


Credential = Annotated[SecretStr, AfterValidator(_credential)]
Address = Annotated[str, AfterValidator(_address)]


class Section(BaseModel):
    """Base of the file's sections: unknown keys are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(Section):
    """How gRPC connections are secured, and what an `https` gateway is trusted by.

    Without `ca` and `cert`, gRPC connections have no TLS.

    Attributes:
        ca: certificates that the server's must be signed by; None takes the system's.
        cert: certificate of this client, where servers ask for one.
        key: its private key.
        server_name: name that a server's certificate has, where that is not the host of its address.
        server_names: the same for single services: `service -> name`, with the keys of `addresses`.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""
    server_names: dict[str, str] = {}

    @model_validator(mode="after")
    def _whole(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("a certificate needs its key: give both `cert` and `key`")
        return self

    def options(self) -> TlsOptions:
        """The same as the options of a channel.

        Raises:
            ConfigInvalid: a file cannot be read.
        """
        for field, path in (("ca", self.ca), ("cert", self.cert), ("key", self.key)):
            if path is not None and not os.access(path, os.R_OK):
                raise ConfigInvalid(f"tls.{field} of the context: cannot read {path}")
        return TlsOptions(ca=self.ca, cert=self.cert, key=self.key)


class Forward(Section):
    """A local port that leads to the ready pods of a Kubernetes Service.

    Attributes:
        service: name of the Service.
        port: name of its port, `grpc` or `http`.
        local_port: port of the loopback interface that is taken when it is free; 0 for any.
    """

    service: str
    port: str
    local_port: int = Field(default=0, ge=0, le=65535)


class Release(Section):
    """A release of the chart, reached through port-forwards that commands start when they need them.

    Attributes:
        kubeconfig: path of the kubeconfig, or several with colons between them, as in `KUBECONFIG`.
        kube_context: context of the kubeconfig.
        namespace: namespace of the release.
        name: name of the release.
        forwards: `service -> forward`, with the keys of `addresses`, and `http` for the gateway.
    """

    kubeconfig: str
    kube_context: str
    namespace: str
    name: str
    forwards: dict[str, Forward]


class Context(Section):
    """How one system is reached.

    Attributes:
        address: `host:port` of the services that `addresses` does not name.
        addresses: `service -> host:port`; `serving/projects/p/models/m` for the servers of one base model.
        http: URL or `host:port` of the gateway.
        tls: certificates.
        token: bearer token of the services; or `token_file`, which is read at each command.
        api_key: key of the gateway; or `api_key_file`.
        project: id of the project.
        release: where the addresses are those of port-forwards to a release of the chart.
    """

    address: Address = ""
    addresses: dict[str, Address] = {}
    http: str = ""
    tls: Tls = Tls()
    token: Credential = SecretStr("")
    token_file: Path | None = None
    api_key: Credential = SecretStr("")
    api_key_file: Path | None = None
    project: Annotated[str, AfterValidator(_project)] = ""
    release: Release | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Context:
        for field in ("token", "api_key"):
            if getattr(self, field).get_secret_value() and getattr(self, f"{field}_file") is not None:
                raise ValueError(f"give either `{field}` or `{field}_file`")
        if self.release is not None and (self.address or self.addresses):
            raise ValueError("give either `release` or `address` and `addresses`")
        return self

    def secret(self, field: str) -> str:
        """The `token` or the `api_key`, from its file where it has one.

        Raises:
            ConfigInvalid: the file cannot be read, or holds no credential.
        """
        path: Path | None = getattr(self, f"{field}_file")
        if path is None:
            secret: SecretStr = getattr(self, field)
            return secret.get_secret_value()
        try:
            return check_credential(path.expanduser().read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ConfigInvalid(f"{field}_file: cannot read {path}: {error.strerror}") from None
        except ValueError as error:  # UnicodeDecodeError is one
            text = "it is not text" if isinstance(error, UnicodeError) else str(error)
            raise ConfigInvalid(f"{field}_file: {path}: {text}") from None


class Config(Section):
    """The whole file.

    Attributes:
        current: context of commands without `--context`; empty for `local`.
        contexts: `name -> context`.
    """

    current: str = ""
    contexts: dict[str, Context] = {}

    def context(self, name: str) -> Context:
        """A context by name.

        Raises:
            ContextMissing: there is none.
        """
        if name == LOCAL:
            return Context()
        if name not in self.contexts:
            known = ", ".join([LOCAL, *sorted(self.contexts)])
            raise ContextMissing(f"there is no context {name!r} (there are: {known}); see `anneal config list`")
        return self.contexts[name]


def check_name(name: str) -> str:
    """A name for a context that can be written.

    Raises:
        Invalid: it is reserved, or has other characters.
    """
    if name == LOCAL:
        raise Invalid(f"the context {LOCAL!r} is the `anneal up` of this machine and cannot be changed; choose another")
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} cannot name a context: letters, digits and ._@:/- can, at most 128 of them")
    return name


def config_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where the file is: `ANNEAL_CONFIG`, or `anneal/config.yaml` below `XDG_CONFIG_HOME` or `~/.config`."""
    variables = os.environ if environment is None else environment
    if named := variables.get("ANNEAL_CONFIG"):
        return Path(named).expanduser()
    base = variables.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "anneal" / "config.yaml"


def file_beside(path: Path, context: str, suffix: str) -> Path:
    """A file that belongs to a context, such as its certificates; in a folder beside the configuration file."""
    return path.parent / f"{path.stem}.d" / f"{quote(context, safe='')}{suffix}"


def load(path: Path) -> Config:
    """Read the file; one that does not exist is empty.

    Raises:
        ConfigInvalid: it cannot be read, or a field is wrong.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigInvalid(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigInvalid(f"{path} is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:  # its own text quotes the lines, which may hold secrets
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigInvalid(f"{path}{line}: it is not YAML: {error.problem or 'it cannot be parsed'}") from None
    except yaml.YAMLError:
        raise ConfigInvalid(f"{path} is not YAML") from None
    if value is None:
        return Config()
    if not isinstance(value, dict):
        raise ConfigInvalid(f"{path} is not a mapping of `current` and `contexts`")
    return parse(value, str(path))


def parse(value: Mapping[str, Any], where: str) -> Config:
    """The configuration in parsed YAML.

    Raises:
        ConfigInvalid: a field is wrong; the text names it, and not its value.
    """
    try:
        return Config.model_validate(value)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(name) for name in item['loc'])}: {_problem(item['type'], item['msg'])}"
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise ConfigInvalid(f"{where}: {wrong}") from None


def _problem(kind: str, text: str) -> str:
    return "there is no such key" if kind == "extra_forbidden" else text.removeprefix("Value error, ")


def as_values(config: Config, *, with_secrets: bool) -> dict[str, Any]:
    """The configuration as YAML values, without what has its default."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude_defaults=True)
    for name, context in config.contexts.items():
        for field in ("token", "api_key"):
            secret: str = getattr(context, field).get_secret_value()
            if secret:
                values["contexts"][name][field] = secret if with_secrets else "REDACTED"
    return values


@contextmanager
def changed(path: Path) -> Iterator[dict[str, Any]]:
    """Change the file as YAML values; written whole, readable by this user only, and by one command at a time.

    Raises:
        ConfigInvalid: it cannot be read or written, or what is written would be wrong.
    """
    try:
        path = path.resolve()  # a link stays one
        path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        with (path.parent / f".{path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            values = as_values(load(path), with_secrets=True)
            values.setdefault("contexts", {})
            yield values
            config = parse(values, str(path))
            write_private(path, yaml.safe_dump(as_values(config, with_secrets=True), sort_keys=False).encode())
    except OSError as error:
        raise ConfigInvalid(f"cannot write {error.filename or path}: {error.strerror}") from None


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all; only this user may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its mode is 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _FILE_MODE)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
