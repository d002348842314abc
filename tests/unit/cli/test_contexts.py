"""The configuration file: what it may hold, what is said of what it may not, and how it is written."""

from __future__ import annotations

import io
import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from anneal.cli import contexts
from anneal.cli.__main__ import main
from anneal.cli.app import DEFAULT_ADDRESS, DEFAULT_HTTP, Given, Session
from anneal.cli.contexts import ConfigInvalid, Context, ContextMissing
from anneal.cli.output import Output
from anneal.cli.up import STATE_FILE, alone_on
from anneal.kit.errors import Invalid
from anneal.kit.settings import ClientSettings

SECRET = "tok-5f0c1d"
VARIABLES = (
    "ADDRESS",
    "ADDRESSES",
    "HTTP",
    "PROJECT",
    "TOKEN",
    "API_KEY",
    "CONTEXT",
    "TLS__CA",
    "TLS__CERT",
    "TLS__KEY",
)
FULL: dict[str, Any] = {
    "current": "prod",
    "contexts": {
        "prod": {
            "address": "anneal.example:443",
            "addresses": {"serving/projects/p/models/m": "m.example:443"},
            "http": "https://api.example",
            "tls": {"ca": "/c/ca.crt", "server_name": "anneal", "server_names": {"serving/projects/p/models/m": "m"}},
            "token": SECRET,
            "api_key_file": "/c/key",
            "project": "team-a",
        },
        "kind": {
            "project": "p",
            "release": {
                "kubeconfig": "/c/config",
                "kube_context": "kind",
                "namespace": "anneal",
                "name": "a",
                "forwards": {"standalone": {"service": "a-anneal", "port": "grpc", "local_port": 4000}},
            },
        },
    },
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file of the test, which is not there yet; nothing else is configured."""
    file = tmp_path / "config" / "config.yaml"
    monkeypatch.setenv("ANNEAL_CONFIG", str(file))
    monkeypatch.setenv("ANNEAL_DATA_DIR", str(tmp_path / "data"))
    for name in VARIABLES:
        monkeypatch.delenv(f"ANNEAL_{name}", raising=False)
    return file


def written(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def test_the_file_is_where_it_is_named_or_where_xdg_says() -> None:
    assert contexts.config_path({"ANNEAL_CONFIG": "/c/own.yaml", "XDG_CONFIG_HOME": "/x"}) == Path("/c/own.yaml")
    assert contexts.config_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/anneal/config.yaml")
    assert contexts.config_path({"XDG_CONFIG_HOME": "relative"}) == Path.home() / ".config/anneal/config.yaml"
    assert contexts.config_path({}) == Path.home() / ".config/anneal/config.yaml"


def test_what_is_written_is_read_again_and_only_this_user_may(path: Path) -> None:
    assert contexts.load(path) == contexts.Config()
    with contexts.changed(path) as values:
        values.update(FULL)
    assert contexts.as_values(contexts.load(path), with_secrets=True) == FULL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert SECRET not in yaml.safe_dump(contexts.as_values(contexts.load(path), with_secrets=False))
    assert SECRET not in repr(contexts.load(path))


def test_a_file_that_others_may_read_is_closed_at_the_next_change_and_a_link_stays(path: Path, tmp_path: Path) -> None:
    real = written(tmp_path / "elsewhere" / "real.yaml", FULL)
    real.chmod(0o644)
    path.parent.mkdir()
    path.symlink_to(real)
    with contexts.changed(path) as values:
        values["current"] = "kind"
    assert path.is_symlink()
    assert contexts.load(path).current == "kind"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_a_change_that_would_be_wrong_leaves_the_file_as_it_is(path: Path) -> None:
    before = written(path, FULL).read_bytes()
    with (
        pytest.raises(ConfigInvalid, match=r"contexts\.prod\.address: it is not host:port"),
        contexts.changed(path) as values,
    ):
        values["contexts"]["prod"]["address"] = "anneal.example"
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if file.suffix not in (".yaml", ".lock")] == []


def test_changes_at_the_same_time_lose_nothing(path: Path) -> None:
    def add(number: int) -> None:
        with contexts.changed(path) as values:
            values["contexts"][f"c{number}"] = {"project": f"p{number}"}

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(contexts.load(path).contexts) == 12


def changed_at(place: str, value: Any) -> dict[str, Any]:
    """The full configuration with another value at a place."""
    made: dict[str, Any] = yaml.safe_load(yaml.safe_dump(FULL))
    *parents, last = place.split("/")
    inner = made
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return made


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("contexts: [", "line 1: it is not YAML"),
        (f"contexts:\n  a:\n    token: {SECRET}: x", "line 3: it is not YAML: mapping values"),
        ("- a", "is not a mapping"),
        ("\x00", "is not YAML"),
        (changed_at("currant", "x"), "currant: there is no such key"),
        (changed_at("contexts/prod/adress", "h:1"), "contexts.prod.adress: there is no such key"),
        (changed_at("contexts/prod/tls/caa", "x"), "contexts.prod.tls.caa: there is no such key"),
        (changed_at("contexts/prod/address", SECRET), "contexts.prod.address: it is not host:port"),
        (changed_at("contexts/prod/address", "h:99999"), "contexts.prod.address: it is not host:port"),
        (changed_at("contexts/prod/addresses", {"registry": "h"}), "contexts.prod.addresses.registry: it is not host"),
        (changed_at("contexts/prod/token", f"{SECRET} x"), "contexts.prod.token: it has characters besides"),
        (changed_at("contexts/prod/token", [SECRET]), "contexts.prod.token: Input should be a valid string"),
        (changed_at("contexts/prod/token_file", "/c/t"), "contexts.prod: give either `token` or `token_file`"),
        (changed_at("contexts/prod/tls/cert", "/c/tls.crt"), "contexts.prod.tls: a certificate needs its key"),
        (changed_at("contexts/prod/project", "A B"), "contexts.prod.project: project"),
        (changed_at("contexts/prod", None), "contexts.prod: Input should be a valid dictionary"),
        (changed_at("contexts/kind/address", "h:1"), "contexts.kind: give either `release` or `address`"),
        (changed_at("contexts/kind/release/forwards/standalone/local_port", 70000), "local_port: Input should be less"),
    ],
)
def test_a_broken_file_is_one_line_that_names_the_field_and_no_value(path: Path, content: Any, text: str) -> None:
    written(path, content)
    with pytest.raises(ConfigInvalid) as broken:
        contexts.load(path)
    line = str(broken.value)
    assert str(path) in line
    assert text in line
    assert "\n" not in line
    assert SECRET not in line


def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(ConfigInvalid, match=f"cannot read {path}"):
        contexts.load(path)
    with pytest.raises(ConfigInvalid, match="cannot"), contexts.changed(path):
        pass


KEYS = st.sampled_from(["contexts", "current", "tls", "release", "a", "token"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@given(VALUES)
def test_no_content_is_a_bug(value: Any) -> None:
    try:
        config = contexts.parse(value, "file") if isinstance(value, dict) else contexts.Config()
    except ConfigInvalid:
        return
    assert contexts.parse(contexts.as_values(config, with_secrets=True), "file") == config


def test_names_that_are_reserved_or_unreadable_are_refused() -> None:
    for name in ("local", "", "a b", "-a", "a\n", "ä", "a" * 129):
        with pytest.raises(Invalid):
            contexts.check_name(name)
    assert contexts.check_name("anneal/prod@eu.1:2_x") == "anneal/prod@eu.1:2_x"


def session(**given: str) -> Session:
    return Session(Given(**given), Output(as_json=True))


LEVELS = ("option", "environment", "context", "default")
SETTINGS = {
    "address": ("o:1", "e:1", "c:1", DEFAULT_ADDRESS),
    "http": ("o:2", "e:2", "c:2", DEFAULT_HTTP),
    "project": ("option", "environment", "context", "default"),
    "token": ("o", "e", "c", ""),
    "api_key": ("o", "e", "c", ""),
}


@pytest.mark.parametrize("present", range(8))
@pytest.mark.parametrize("setting", SETTINGS)
def test_an_option_wins_over_the_environment_that_wins_over_the_context(
    path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, present: int
) -> None:
    values = SETTINGS[setting]
    words, level = ["anneal"], 3
    if present & 4:
        written(path, {"current": "c", "contexts": {"c": {setting: values[2]}}})
        level = 2
    if present & 2:
        monkeypatch.setenv(f"ANNEAL_{setting.upper()}", values[1])
        level = 1
    if present & 1:
        words += [f"--{setting.replace('_', '-')}", values[0]]
        level = 0
    assert resolved(monkeypatch, words)[setting] == values[level], LEVELS[level]


def resolved(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> dict[str, str]:
    """What the command resolves its settings to."""
    made: list[Session] = []

    def remember(given: Given, output: Output) -> Session:
        made.append(Session(given, output))
        return made[0]

    with monkeypatch.context() as patched:
        patched.setattr("anneal.cli.app.Session", remember)
        patched.setattr("sys.argv", [*words, "config", "current"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    client, gateway = made[0].client(), made[0].gateway()
    return {
        "address": client.address,
        "http": gateway.place,
        "project": made[0].project,
        "token": client._token,
        "api_key": gateway.key,
    }


def test_the_context_of_a_command_is_the_named_one_or_the_current_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(path, {"current": "a", "contexts": {"a": {"project": "a"}, "b": {"project": "b"}}})
    assert session().project == "a"
    assert session(context="b").project == "b"
    assert session(context="local").project == "default"
    with pytest.raises(ContextMissing, match=r"no context 'c' \(there are: local, a, b\)"):
        _ = session(context="c").project
    assert resolved(monkeypatch, ["anneal", "--context", "b"])["project"] == "b"
    monkeypatch.setenv("ANNEAL_CONTEXT", "b")
    assert resolved(monkeypatch, ["anneal"])["project"] == "b"


def test_any_address_replaces_all_addresses_of_the_context(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(path, FULL)
    path.parent.joinpath("ca.crt").write_text("-----BEGIN CERTIFICATE-----")
    base = "projects/p/models/m"
    own = session(context="prod", token="t")
    address, addresses, names = own._addresses(ClientSettings())
    assert (address, addresses) == ("anneal.example:443", {f"serving/{base}": "m.example:443"})
    assert names == {"anneal.example:443": "anneal", "m.example:443": "m"}
    assert session(context="prod", address="h:1")._addresses(ClientSettings()) == ("h:1", {}, {})
    monkeypatch.setenv("ANNEAL_ADDRESSES", '{"registry": "r:1"}')
    assert own._addresses(ClientSettings()) == (DEFAULT_ADDRESS, {"registry": "r:1"}, {})


def test_secrets_come_from_their_files_at_each_command(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    written(path, {"current": "c", "contexts": {"c": {"token_file": str(file), "api_key_file": str(tmp_path)}}})
    with pytest.raises(ConfigInvalid, match=f"token_file: cannot read {file}"):
        session().client()
    file.write_text(f"{SECRET}\n")
    assert session().client()._token == SECRET
    file.write_text(f"{SECRET} {SECRET}")
    with pytest.raises(ConfigInvalid, match="printable ASCII") as refused:
        session().client()
    assert SECRET not in str(refused.value)
    with pytest.raises(ConfigInvalid, match="api_key_file: cannot read"):
        session().gateway()


def test_certificates_of_the_context_that_cannot_be_read_are_named(path: Path) -> None:
    written(path, {"current": "c", "contexts": {"c": {"tls": {"ca": "/none/ca.crt"}}}})
    with pytest.raises(ConfigInvalid, match=r"tls\.ca of the context: cannot read /none/ca\.crt"):
        session().client()


def test_a_context_of_a_cluster_is_no_local_system(path: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with alone_on(data):
        (data / STATE_FILE).write_text('{"pid": 1, "grpc": "127.0.0.1:5", "http": "127.0.0.1:6"}')
        assert (session().client().address, session().gateway().place) == ("127.0.0.1:5", "127.0.0.1:6")
        written(path, {"current": "c", "contexts": {"c": {"address": "c:1"}}})
        assert (session().client().address, session().gateway().place) == ("c:1", DEFAULT_HTTP)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Run `anneal config`: what it prints, which is one line of standard error where it fails."""
    monkeypatch.setattr("sys.argv", ["anneal", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code or 0) == code, printed.err
    assert SECRET not in printed.out + printed.err or "--show-secrets" in words
    if code:
        (line,) = printed.err.splitlines()
        return line
    assert printed.err == ""
    return printed.out


def test_contexts_are_made_used_shown_changed_and_deleted(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    def config(*words: str, code: int = 0) -> str:
        return run(monkeypatch, capsys, "config", *words, code=code)

    assert config("list") == "*\tlocal\tthe `anneal up` of this machine\t\t\n"
    config("set", "prod", "--address", "h:443", "--address", "training=t:443", "--project", "team", "--token", SECRET)
    config("set", "prod", "--ca", "ca.crt", "--server-name", "anneal", "--http", "https://h")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\n"))
    config("set", "test", "--api-key", "-", "--project", "p")
    config("use", "prod")
    assert config("current") == "prod\n"
    assert config("list") == (
        "\tlocal\tthe `anneal up` of this machine\t\t\n*\tprod\th:443\thttps://h\tteam\n\ttest\t\t\tp\n"
    )
    shown = yaml.safe_load(config("show", "prod"))
    assert shown == {
        "address": "h:443",
        "addresses": {"training": "t:443"},
        "http": "https://h",
        "tls": {"ca": str(tmp_path / "ca.crt"), "server_name": "anneal"},
        "token": "REDACTED",
        "project": "team",
    }
    assert yaml.safe_load(config("show", "prod", "--show-secrets"))["token"] == SECRET
    assert contexts.load(path).contexts["test"].secret("api_key") == SECRET
    config("set", "prod", "--token-file", "token", "--address", "training=", "--ca", "", "--http", "")
    changed = yaml.safe_load(config("show", "prod"))
    assert changed == {
        "address": "h:443",
        "tls": {"server_name": "anneal"},
        "token_file": str(tmp_path / "token"),
        "project": "team",
    }
    config("delete", "prod")
    assert config("current") == "local\n"
    config("use", "test")
    config("use", "local")
    assert contexts.load(path) == contexts.Config(contexts={"test": Context(project="p", api_key=SecretStr(SECRET))})
    assert "no context 'prod'" in config("use", "prod", code=1)
    assert "no context 'prod'" in config("delete", "prod", code=1)
    assert "no context 'prod'" in config("show", "prod", code=1)
    assert "no context 'prod'" in config("stop", "prod", code=1)
    assert "cannot be changed" in config("set", "local", "--project", "p", code=1)
    assert "were not running" in config("stop", "test")
    assert "either --api-key or --api-key-file" in config("set", "a", "--api-key", "x", "--api-key-file", "y", code=2)
    assert "contexts.a.project" in config("set", "a", "--project", "A B", code=1)
    assert [one["name"] for one in json.loads(config("list", "--json"))] == ["local", "test"]


@pytest.mark.parametrize(
    "words", [["jobs", "list"], ["config", "list"], ["config", "use", "a"], ["chat", "d", "hello"]]
)
def test_a_broken_file_is_one_line_of_every_command(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    written(path, f"contexts: {{a: {{token: '{SECRET}', adress: x}}}}")
    line = run(monkeypatch, capsys, *words, code=1)
    assert line == f"anneal: {path}: contexts.a.adress: there is no such key (CONFIG_INVALID)"


def test_help_and_the_local_system_need_no_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(path, "contexts: [")
    assert "Usage" in run(monkeypatch, capsys, "config", "--help")
    monkeypatch.setattr("anneal.cli.system.run_process", lambda coroutine: coroutine.close())
    assert run(monkeypatch, capsys, "up") == ""
