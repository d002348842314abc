"""Everything that a user is shown to install goes through the code that reads it, up to the first byte in the store."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from anneal.cli import __main__ as command_line
from anneal.cli.app import app
from anneal.gateway.domain.access import Key
from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.kubernetes.job import JobForm
from anneal.kit.jobs.kubernetes.rayjob import RayJobForm
from anneal.kit.jobs.launcher import Attempt
from anneal.kit.options import TlsOptions
from anneal.kit.quantities import parse_quantity
from anneal.kit.rpc.tls import channel_credentials, server_credentials
from anneal.kit.store import Store
from deploy.local.chart_schema import LAUNCHERS
from tests.chart.documents import DOCUMENTS, Installation, commands, created_secrets, installations, own_values
from tests.chart.rendering import CHART, ROOT, Object, Pod, chart, load, objects, of_kind, pods, services
from tests.chart.test_settings import classes_of
from tests.chart.test_values import _known
from tests.fixtures.certificates import Authority
from tests.fixtures.kubernetes_rules import restricted, templates, validate
from tests.fixtures.s3 import Bucket

every_installation = pytest.mark.parametrize("shipped", installations(), ids=lambda shipped: shipped.source)
ON_A_NETWORK = ("s3://", "gs://", "az://")
SECRET_KEYS = {"ANNEAL_TOKENS": "tokens", "ANNEAL_GATEWAY__KEYS": "gateway-keys"}
NODE = {"cpu": parse_quantity("2"), "memory": parse_quantity("8Gi")}
LEFT_TO_OTHERS = {"cpu": parse_quantity("1"), "memory": parse_quantity("2Gi")}
"""Requests of the node's own pods, of PostgreSQL and of the object store: kind's control plane has 950m and 290Mi."""


@every_installation
def test_every_process_reads_what_it_is_given(
    shipped: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    things = _objects(shipped)
    for pod in services(things):
        with told(pod, things, monkeypatch, tmp_path) as environment:
            for kind in classes_of(pod):
                settings = kind()
            assert settings.bearer_tokens()
            for address in settings.addresses.values():
                if pod.component != "standalone":
                    assert _is_served(address, things), address
        keys = environment.get("ANNEAL_GATEWAY__KEYS")
        if keys is not None:
            assert [Key(key["name"], key["sha256"], key["project"]) for key in json.loads(keys)]


@every_installation
def test_the_store_takes_its_options_and_keeps_a_blob(
    shipped: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_bucket: Bucket
) -> None:
    things = _objects(shipped)
    for pod in services(things):
        if pod.component == "gateway":  # it stores nothing
            continue
        with told(pod, things, monkeypatch, tmp_path, credentials=s3_bucket):
            settings = classes_of(pod)[0]()
            url, options = settings.store_url(), dict(settings.store.options)
            if url.startswith("s3://"):
                url = f"{s3_bucket.url}/{url.removeprefix('s3://')}"
                options = _at(s3_bucket, options, monkeypatch)
            elif not url.startswith(ON_A_NETWORK):
                url = str(tmp_path / "store")
            store = Store(url, tmp_path / "cache", options)
            if url.startswith(("gs://", "az://")):
                continue  # opened with its options, which asks nobody anything; no such server is here
            assert store.get_bytes(store.put_bytes(b"a blob")) == b"a blob"


@every_installation
def test_files_of_tls_load_as_server_and_as_client(
    shipped: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    things = _objects(shipped)
    authority = Authority()
    cert, key = authority.sign().write(tmp_path)
    contents = {"tls.crt": cert.read_bytes(), "tls.key": key.read_bytes(), "ca.crt": authority.pem}
    for pod in services(things):
        tls = _settings_of(pod, things, monkeypatch, tmp_path).tls
        if tls.cert is None:
            assert tls == TlsOptions()
            continue
        (volume,) = [volume for volume in pod.spec["volumes"] if volume["name"] == "tls"]
        mount = next(mount for mount in pod.container["volumeMounts"] if mount["name"] == "tls")
        for item in volume["secret"]["items"]:
            (tmp_path / "mounted").mkdir(exist_ok=True)
            (tmp_path / "mounted" / item["path"]).write_bytes(contents[item["key"]])

        def mounted(path: Path | None, root: str = mount["mountPath"]) -> Path | None:
            return None if path is None else tmp_path / "mounted" / path.relative_to(root)

        here = tls.model_copy(update={name: mounted(getattr(tls, name)) for name in ("cert", "key", "ca")})
        assert server_credentials(here) is not None
        assert channel_credentials(here) is not None


@every_installation
def test_the_pods_of_jobs_can_be_made(shipped: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    things = _objects(shipped)
    for pod in services(things):
        launcher = _settings_of(pod, things, monkeypatch, tmp_path).launcher
        if launcher.kind != "kubernetes":
            continue
        for thing in _jobs_of(launcher):
            validate(thing)
            for template in templates(thing):
                restricted(template["spec"])
            assert _module_of(_command_of(thing)) == "anneal.kit.jobs.run"


@every_installation
def test_every_command_is_one_that_its_image_has(shipped: Installation) -> None:
    entry_points = _entry_points()
    things = _objects(shipped)
    for pod in pods(things):
        words = list(pod.container["command"])
        image = pod.container["image"].rpartition(":")[0].rpartition("/")[2]
        if words[:2] == ["python", "-c"]:
            compile(words[2], pod.component, "exec")
            continue
        module = _module_of(words)
        assert module in _modules(), f"{pod.component}: there is no module {module}"
        if pod.owner["kind"] in ("Deployment", "StatefulSet") and "@" not in pod.container["image"]:
            assert entry_points[image] == ["/opt/anneal/bin/python", "-m", module]
        if module == "anneal.cli":
            check_command(words[3:])


def test_a_command_that_no_image_has_is_noticed() -> None:
    with pytest.raises(AssertionError):
        _module_of(["anneal", "up"])
    with pytest.raises(AssertionError, match="no option --prot"):
        check_command(["up", "--prot", "1"])
    with pytest.raises(AssertionError, match="no command upp"):
        check_command(["upp"])


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_anneal_that_a_page_shows_can_be_typed(page: Path) -> None:
    for words in commands(page, "anneal"):
        check_command(words)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_objects_that_a_page_names_to_kubectl_are_made(page: Path) -> None:
    made = {
        f"{thing['kind']}/{thing['metadata']['name']}".lower()
        for shipped in installations()
        if shipped.release == "anneal"
        for thing in _objects(shipped)
    } | {f"secret/{name}" for name in created_secrets()}
    for words in commands(page, "kubectl"):
        named = [
            word for word in words if re.fullmatch(r"(statefulset|deployment|job|secret|service)/[a-z0-9-]+", word)
        ]
        assert set(named) <= made, words


def test_the_values_that_the_charts_readme_names_exist() -> None:
    schema = chart().schema
    assert schema is not None
    text = re.sub(r"```.*?```", "", (CHART / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    text = text.partition("<!-- values: begin -->")[0]
    named = set(re.findall(r"`([a-z][A-Za-z]*(?:\.[A-Za-z_]+)+)`", text))
    assert named
    tops = [
        "",
        "defaults.",
        "standalone.",
        "registry.",
        "training.",
        "serving.",
        "training.settings.",
        "training.settings.launcher.",
        "networkPolicy.",
    ]
    files = {path for path in named if path.endswith((".crt", ".key", ".yaml", ".json"))}
    unknown = [
        path
        for path in sorted(named - files)
        if not any(_known(schema, schema, f"{top}{path}".split(".")) for top in tops)
    ]
    assert unknown == []


def test_the_small_cluster_fits_on_one_node_of_two_cores_and_eight_gibibytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (shipped,) = [one for one in installations() if one.source == "ci/distributed-cpu"]
    things = _objects(shipped)
    for amount, size in NODE.items():
        always = sum(
            (_requested(pod.container, amount) * pod.owner["spec"]["replicas"] for pod in services(things)),
            start=parse_quantity("1") * 0,
        )
        once = sum(_requested(pod.container, amount) for pod in pods(things) if pod.owner["kind"] == "Job")
        jobs = [
            sum(
                _requested(container, amount)
                for template in templates(thing)
                for container in template["spec"]["containers"]
            )
            for pod in services(things)
            if (launcher := _settings_of(pod, things, monkeypatch, tmp_path).launcher).kind == "kubernetes"
            for thing in _jobs_of(launcher)
        ]
        assert len(jobs) == 5
        assert always + once + max(jobs) <= size - LEFT_TO_OTHERS[amount], amount
    for thing in [*pods(things)]:
        assert parse_quantity(thing.container["resources"]["limits"]["memory"]) <= NODE["memory"]


def test_the_small_cluster_says_what_a_job_may_have_as_the_readme_claims() -> None:
    readme = " ".join((CHART / "README.md").read_text(encoding="utf-8").split())
    assert "say in `settings.launcher.pod` of each service what its jobs may have: see `ci/distributed-cpu-" in readme
    (shipped,) = [one for one in installations() if one.source == "ci/distributed-cpu"]
    for service in LAUNCHERS:
        assert set(shipped.values[service]["settings"]["launcher"]["pod"]) == {"cpu", "cpu_request", "memory"}
    assert "gpus" not in json.dumps(shipped.values)
    assert "kuberay" not in json.dumps(shipped.values)


def test_the_key_of_the_readme_opens_the_project_of_its_base_model() -> None:
    keys = [Key(**key) for key in json.loads(created_secrets()["anneal-auth"]["gateway-keys"])]
    projects = {model["model"].split("/")[1] for model in own_values()["serving"]["models"]}
    assert {key.project for key in keys} == projects


def test_the_default_installation_opens_the_project_of_the_example() -> None:
    recipe = load(ROOT / "examples" / "python-docs" / "recipe.yaml")
    shown = [one for one in installations() if "helm install" in one.source and "mode" not in one.values]
    assert len(shown) == 2
    assert {one.values["auth"]["project"] for one in shown} == {recipe["project"]}


# -- helpers -----------------------------------------------------------------------------------------------------------


@contextmanager
def told(
    pod: Pod,
    things: list[Object],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    credentials: Bucket | None = None,
) -> Iterator[dict[str, str]]:
    """The environment of a pod's container, with what its secrets hold, and nothing of this machine's."""
    environment: dict[str, str] = {}
    for source in pod.container.get("envFrom", []):
        environment |= _secret(source["secretRef"]["name"], things, credentials)
    for item in pod.container["env"]:
        environment[item["name"]] = item["value"] if "value" in item else _secret_value(item, things)
    if pod.component == "standalone":
        # `anneal up` knows by itself where the services are.
        environment["ANNEAL_ADDRESSES"] = '{"registry": "itself", "serving": "itself"}'
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("ANNEAL_", "AWS_", "GOOGLE_", "AZURE_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(folder))
        for name, value in environment.items():
            if name.startswith(("ANNEAL_", "AWS_", "GOOGLE_", "AZURE_")):
                patch.setenv(name, value)
        yield environment


def _objects(shipped: Installation) -> list[Object]:
    """The objects that Helm makes; not to be changed."""
    return _rendered(shipped.source)


@cache
def _rendered(source: str) -> list[Object]:
    (shipped,) = [one for one in installations() if one.source == source]
    return objects(shipped.values, name=shipped.release)


def _settings_of(pod: Pod, things: list[Object], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    with told(pod, things, monkeypatch, folder):
        return classes_of(pod)[-1 if pod.component == "standalone" else 0]()


def _secret_value(item: Mapping[str, Any], things: list[Object]) -> str:
    where = item["valueFrom"]["secretKeyRef"]
    made = [thing for thing in of_kind(things, "Secret") if thing["metadata"]["name"] == where["name"]]
    if made:
        return b64decode(made[0]["data"][where["key"]]).decode()
    if item["name"] == "ANNEAL_DATABASE_URL":
        return created_secrets()["anneal-database"]["url"].replace("...", "secret")
    # Other names of secret and key are the operator's; what is in them is what the README says.
    return created_secrets()["anneal-auth"][SECRET_KEYS[item["name"]]]


def _secret(name: str, things: list[Object], credentials: Bucket | None) -> dict[str, str]:
    known = dict(created_secrets().get(name, {}))
    if credentials is not None and "AWS_ACCESS_KEY_ID" in known:
        known |= {"AWS_ACCESS_KEY_ID": credentials.access_key, "AWS_SECRET_ACCESS_KEY": credentials.secret_key}
    return known


def _at(bucket: Bucket, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options themselves, their address replaced; those that name none get one beside them."""
    named = [name for name in options if "endpoint" in name]
    if named:
        return {**options, named[0]: bucket.endpoint}
    beside = {"endpoint": bucket.endpoint, "client_options": {"allow_http": True}}
    if "AWS_ACCESS_KEY_ID" not in os.environ:  # workload identity
        beside |= {"access_key_id": bucket.access_key, "secret_access_key": bucket.secret_key}
    return {**options, **beside}


def _is_served(address: str, things: list[Object]) -> bool:
    host, _, port = address.partition(":")
    return any(
        service["metadata"]["name"] == host and port in {str(port["port"]) for port in service["spec"]["ports"]}
        for service in of_kind(things, "Service")
    )


def _jobs_of(launcher: Any) -> list[Any]:
    def attempt(**demand: Any) -> Attempt:
        operation = "projects/p/operations/train-0123456789ab"
        return Attempt(
            operation=operation, attempt=1, config={"operation": operation, "claim": "c"}, demand=Demand(**demand)
        )

    made = [JobForm(launcher, Path("/data")).build(attempt())]
    if launcher.ray.enabled:
        made.append(RayJobForm(launcher, Path("/data")).build(attempt(ray_workers=2)))
    return made


def _command_of(thing: Mapping[str, Any]) -> list[str]:
    if thing["kind"] == "RayJob":
        return str(thing["spec"]["entrypoint"]).split()
    return list(thing["spec"]["template"]["spec"]["containers"][0]["command"])


def _module_of(words: list[str]) -> str:
    """The module that a container runs; the interpreter is all that every image has on its PATH."""
    assert words[:2] == ["python", "-m"], words
    return words[2]


def _modules() -> set[str]:
    """Modules that can be run, by their names."""
    found = set()
    for path in (ROOT / "services" / "anneal").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "services").with_suffix("").parts)
        if path.name == "__main__.py":
            found.add(name.removesuffix(".__main__"))
        elif 'if __name__ == "__main__":' in path.read_text(encoding="utf-8"):
            found.add(name)
    assert all(importlib.util.find_spec(name) for name in found)
    return found


def _entry_points() -> dict[str, list[str]]:
    """`image -> ENTRYPOINT`, as the Dockerfile says."""
    stages = re.split(
        r"^FROM .* AS ", (ROOT / "deploy" / "images" / "Dockerfile").read_text(encoding="utf-8"), flags=re.M
    )
    found = {}
    for stage in stages:
        entry = re.search(r"^ENTRYPOINT (\[.*\])$", stage, re.MULTILINE)
        if entry:
            found[stage.split()[0].removesuffix("-cpu").removesuffix("-cuda")] = json.loads(entry[1])
    return found


def check_command(words: list[str]) -> None:
    """See that words behind `anneal` name a command that exists, with options that it has."""
    assert command_line.COMMANDS  # imported, so that every command is registered
    command: Any = get_command(app)
    options = {name for parameter in command.params for name in parameter.opts}
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("--"):
            name = word.partition("=")[0]
            assert name in options, f"{command.name} has no option {name}"
            taking = next(parameter for parameter in command.params if name in parameter.opts)
            skip = not getattr(taking, "is_flag", False) and "=" not in word
        elif isinstance(command, TyperGroup):
            assert word in command.commands, f"{command.name} has no command {word}"
            command = command.commands[word]
            options = {name for parameter in command.params for name in parameter.opts} | {"--help"}


def _requested(container: Mapping[str, Any], amount: str) -> Any:
    return parse_quantity(container["resources"]["requests"][amount])
