"""What the chart tells processes is what they can be told, and what operators need to say reaches them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings
from deploy.local.chart_schema import (
    BY_THE_CHART,
    IN_RAY,
    LAUNCHERS,
    SERVICES,
    SHARED,
    own_group,
    settings_class,
    settings_definitions,
)
from tests.chart.rendering import SITUATIONS, Pod, chart, objects, of_situation, overlay, pods, services, situation

SECRETS = {
    "ANNEAL_TOKENS": '["a-token"]',
    "ANNEAL_GATEWAY__KEYS": json.dumps([{"name": "app", "sha256": "0" * 64, "project": "acme"}]),
    "ANNEAL_DATABASE_URL": "postgresql+asyncpg://anneal:secret@database:5432/anneal",
}
BY_TEMPLATES = {
    *("ANNEAL_DATA_DIR", "ANNEAL_DATABASE_URL", "ANNEAL_TOKENS", "ANNEAL_ADDRESSES", "ANNEAL_REGISTRY__MIGRATES"),
    *("ANNEAL_METRICS__HOST", "ANNEAL_METRICS__PORT", "ANNEAL_METRICS__PUBLIC"),
    *("ANNEAL_TLS__CERT", "ANNEAL_TLS__KEY", "ANNEAL_TLS__CA", "ANNEAL_TLS__MUTUAL"),
    *("ANNEAL_STORE__URL", "ANNEAL_STORE__OPTIONS"),
    *(f"ANNEAL_GRPC__{name}" for name in ("HOST", "PORT", "DRAIN_S", "MAX_CONNECTION_AGE_S")),
    *(f"ANNEAL_GATEWAY__{name}" for name in ("HOST", "PORT", "KEYS", "DRAIN_S")),
    *(f"ANNEAL_SERVING__{name}" for name in ("PRELOAD", "TENSOR_PARALLEL", "DTYPE", "MAX_ADAPTERS")),
    *(f"ANNEAL_ENGINE__{name}" for name in ("MAX_RANK", "MAX_RANKS", "DEVICE")),
    *("ANNEAL_SERVING__MAX_ENGINES", "ANNEAL_SERVING__START_S"),
    *(f"ANNEAL_LAUNCHER__{name}" for name in ("KIND", "OWNER", "ROLE", "HOST", "IMAGE", "IMAGE_PULL_POLICY")),
    *(f"ANNEAL_LAUNCHER__{name}" for name in ("IMAGE_PULL_SECRETS", "SERVICE_ACCOUNT", "USER", "SCRATCH_CLAIM")),
}
"""What templates set from values of their own."""
NOWHERE = {
    "ANNEAL_LAUNCHER__KUBECONFIG": "pods reach their cluster with their own account",
    "ANNEAL_LAUNCHER__NAMESPACE": "jobs run in the release's namespace, which its Role is for",
    "ANNEAL_TRAINING__LOCAL_RAY": "`anneal up` sets it itself",
}
"""What cannot be said through the chart, and why."""

every_situation = pytest.mark.parametrize("name", SITUATIONS)


def classes_of(pod: Pod) -> list[Any]:
    """The settings that the process of a pod reads: those of all services where one process is all of them."""
    if pod.component == "standalone":
        return [ServiceSettings, *map(settings_class, SERVICES)]
    if pod.component in ("migrate", "test"):
        return [settings_class("registry")]
    return [settings_class(pod.component)]


def names_of(settings: type[BaseModel]) -> Iterator[str]:
    """The variables of some settings, down to the fields of their groups."""
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Options):
            yield from (f"ANNEAL_{name}__{inner}".upper() for inner in kind.model_fields)
        else:
            yield f"ANNEAL_{name}".upper()


@every_situation
def test_every_variable_is_a_field_of_the_settings_of_its_process(name: str) -> None:
    for pod in pods(of_situation(name)):
        known = {variable for settings in classes_of(pod) for variable in names_of(settings)}
        said = {variable for variable in pod.env if variable.startswith("ANNEAL_")}
        assert said <= known, f"{pod.component}: {sorted(said - known)}"


@every_situation
def test_every_process_takes_what_it_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for pod in services(of_situation(name)):
        settings = _read(pod, monkeypatch)
        assert settings.metrics.public
        assert settings.bearer_tokens() == ("a-token",)


def test_settings_of_values_reach_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read = {pod.component: _read(pod, monkeypatch) for pod in services(of_situation("distributed-gpu"))}
    assert read["synthesis"].teacher.hosts == ("*.example.com", "anneal-gateway")
    assert read["synthesis"].launcher.env_from_secrets == ("anneal-store", "teachers")
    assert read["curation"].launcher.env_from_secrets == ("anneal-store",)
    assert read["training"].training.max_workers == 8
    launcher = read["training"].launcher
    assert (launcher.queue, launcher.queues) == ("gpus", ("gpus-urgent",))
    assert launcher.ray.enabled
    assert (launcher.ray.head.cpu, launcher.ray.head.memory) == ("2", "8Gi")
    assert (launcher.ray.worker.cpu, launcher.ray.worker.memory, launcher.ray.worker.gpus) == ("8", "32Gi", 2)
    assert launcher.ray.worker.tolerations[0]["key"] == "nvidia.com/gpu"
    assert read["gateway"].log_level == "WARNING"


def test_callers_know_the_address_of_every_base_model(monkeypatch: pytest.MonkeyPatch) -> None:
    read = {pod.component: _read(pod, monkeypatch) for pod in services(of_situation("distributed-gpu"))}
    for service in ("gateway", "evaluation", "training"):
        addresses = read[service].addresses
        assert addresses["serving"] == "rel-anneal-serving-llama-8b:50051"
        assert addresses["serving/projects/acme/models/llama-8b"] == "rel-anneal-serving-llama-8b:50051"
        assert addresses["serving/projects/acme/models/llama-70b"] == "rel-anneal-serving-llama-70b:50051"


def test_owners_of_jobs_differ_between_services_and_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    values = situation("distributed-cpu")
    owners = [
        _read(pod, monkeypatch).launcher.owner
        for release in ("one", "two")
        for pod in services(objects(values, name=release))
        if pod.component in LAUNCHERS
    ]
    assert len(set(owners)) == len(owners) == 2 * len(LAUNCHERS)


def test_pods_of_jobs_get_the_certificate_where_services_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for pod in services(of_situation("distributed-gpu")):
        if pod.component not in LAUNCHERS:
            continue
        settings = _read(pod, monkeypatch)
        mounted = {mount["mountPath"] for mount in settings.launcher.mounts}
        assert settings.tls.cert is not None
        assert str(settings.tls.cert.parent) in mounted
        volume = next(volume for volume in pod.spec["volumes"] if volume["name"] == "tls")
        assert volume in settings.launcher.volumes


def test_the_registry_leaves_its_tables_to_the_hook_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, hooked in {"distributed-gpu": True, "distributed-cloud": False}.items():
        things = of_situation(name)
        registry = next(pod for pod in services(things) if pod.component == "registry")
        assert _read(registry, monkeypatch).registry.migrates is not hooked
        assert any(pod.component == "migrate" for pod in pods(things)) is hooked


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_process_can_be_told_can_be_said_in_the_values(service: str) -> None:
    definition = settings_definitions()[f"settings-{service}"]["properties"]
    said = {
        f"ANNEAL_{group}__{field}".upper() if "properties" in schema else f"ANNEAL_{group}".upper()
        for group, schema in definition.items()
        for field in schema.get("properties", {"": None})
    }
    unused = set() if service in LAUNCHERS else {"LAUNCHER"}
    fields = {name for name in names_of(settings_class(service)) if name.split("_")[1] not in unused}
    assert fields - said - BY_TEMPLATES - set(NOWHERE) == set()
    assert said & (BY_TEMPLATES | set(NOWHERE)) == set()


def test_what_templates_set_is_set_in_some_situation() -> None:
    said = {variable for name in SITUATIONS for pod in pods(of_situation(name)) for variable in pod.env}
    assert BY_TEMPLATES - said == set()
    assert said & set(NOWHERE) == set()


def test_a_setting_of_every_group_becomes_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {
        service: {"settings": {"grpc": {"max_concurrent": 99}, own_group(service): _sample(service)}}
        for service in SERVICES
        if service != "registry"  # all of its own is the chart's
    }
    things = objects(overlay(situation("distributed-cpu"), told))
    for pod in services(things):
        if pod.component == "registry":
            continue
        read = _read(pod, monkeypatch)
        assert read.grpc.max_concurrent == 99
        group = getattr(read, own_group(pod.component))
        for field, value in _sample(pod.component).items():
            found = getattr(group, field)
            assert (list(found) if isinstance(found, tuple) else found) == value


def test_a_cluster_that_gives_users_by_itself_gets_no_user_from_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = {"podSecurityContext": dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))}
    for pod in services(objects(overlay(situation("distributed-cpu"), {"defaults": nobody}))):
        assert not set(nobody["podSecurityContext"]) & set(pod.spec["securityContext"])
        assert "ANNEAL_LAUNCHER__USER" not in pod.env
        _read(pod, monkeypatch)


def test_the_schema_knows_no_setting_that_the_chart_says_itself() -> None:
    schema = chart().schema
    assert schema is not None
    for service in SERVICES:
        known = schema["$defs"][f"settings-{service}"]["properties"]
        assert set(known) >= set(SHARED)
        for group, fields in BY_THE_CHART.items():
            assert not fields & set(known.get(group, {}).get("properties", {}))
        if service in LAUNCHERS:
            assert not IN_RAY & set(known["launcher"]["properties"]["ray"]["properties"])


def _sample(service: str) -> dict[str, Any]:
    samples: dict[str, dict[str, Any]] = {
        "ingestion": {"max_members": 7},
        "synthesis": {"hosts": ["one", "two"]},
        "curation": {"max_steps": 7},
        "training": {"parity_tolerance": 0.0001, "model_folders": ["/models"]},
        "evaluation": {"concurrency": 7},
        "serving": {"eager": True, "kv_cache_bytes": 8 << 30},
        "gateway": {"project": "acme", "max_body_bytes": 1 << 24},
    }
    return samples[service]


def _environment(pod: Pod) -> Mapping[str, str]:
    told = {name: SECRETS[name] if value is None else value for name, value in pod.env.items()}
    # Where all services are one process, it knows by itself where they are.
    itself = (
        {"ANNEAL_ADDRESSES": '{"registry": "itself", "serving": "itself"}'} if pod.component == "standalone" else {}
    )
    return {**itself, **told}


def _read(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the process of a pod reads from its environment."""
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ANNEAL_")]:
            patch.delenv(name)
        for name, value in _environment(pod).items():
            patch.setenv(name, value)
        made = [settings() for settings in classes_of(pod)]
        assert all(one.data_dir == Path("/data") for one in made)
        return made[0]
