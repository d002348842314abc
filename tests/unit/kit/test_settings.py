from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anneal.cli.up import Local
from anneal.kit.settings import ServiceSettings, is_loopback, read_settings

OUTSIDE = ("0.0.0.0", "::", "10.0.0.7", "anneal.example")
INSIDE = ("127.0.0.1", "127.8.8.8", "::1", "localhost", "unix:/run/anneal.sock")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANNEAL_")]:
        monkeypatch.delenv(name)


def refused(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """The line that these settings are refused with."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        read_settings(ServiceSettings)
    line = str(caught.value)
    assert line.startswith("anneal: ")
    assert "\n" not in line
    return line


@pytest.mark.parametrize("host", OUTSIDE)
def test_beyond_loopback_grpc_needs_tokens(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert "ANNEAL_TOKENS" in refused(monkeypatch, ANNEAL_GRPC__HOST=host)
    monkeypatch.setenv("ANNEAL_TOKENS", '["a-token"]')
    assert read_settings(ServiceSettings).bearer_tokens() == ("a-token",)


@pytest.mark.parametrize("host", OUTSIDE)
def test_beyond_loopback_metrics_need_a_clear_word(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    # Tokens do not guard metrics, so they do not open them either.
    line = refused(monkeypatch, ANNEAL_METRICS__HOST=host, ANNEAL_TOKENS='["a-token"]')
    assert "ANNEAL_METRICS__PUBLIC" in line
    monkeypatch.setenv("ANNEAL_METRICS__PUBLIC", "true")
    assert read_settings(ServiceSettings).metrics.host == host


@pytest.mark.parametrize("host", INSIDE)
def test_on_loopback_nothing_is_needed(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert is_loopback(host)
    monkeypatch.setenv("ANNEAL_GRPC__HOST", host)
    monkeypatch.setenv("ANNEAL_METRICS__HOST", host)
    assert read_settings(ServiceSettings).tokens == ()


@pytest.mark.parametrize(
    "tokens", ['[""]', '[" "]', '["good", ""]', '["two words"]', '["caf\u00e9"]', '["new\\nline"]']
)
def test_a_token_nobody_can_send_is_refused(monkeypatch: pytest.MonkeyPatch, tokens: str) -> None:
    line = refused(monkeypatch, ANNEAL_TOKENS=tokens, ANNEAL_GRPC__HOST="0.0.0.0")
    assert line.startswith("anneal: ANNEAL_TOKENS: a token is blank")
    assert "good" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANNEAL_GRPC__PORT", "many"),
        ("ANNEAL_GRPC__PORT", "65536"),
        ("ANNEAL_GRPC__PROT", "1"),
        ("ANNEAL_JOBS__MAX_RUNNING", "0"),
        ("ANNEAL_TOKENS", "secret-no-json"),
        ("ANNEAL_ADDRESSES", "{"),
        ("ANNEAL_LOG_JSON", "perhaps"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    line = refused(monkeypatch, **{name: value})
    assert line.startswith(f"anneal: {name}: ")
    assert "secret" not in line


def test_below_a_nested_setting_its_beginning_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, ANNEAL_STORE__OPTIONS="{")
    assert line == "anneal: ANNEAL_STORE or ANNEAL_STORE__...: is no JSON"


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNEAL_METRICS__PORT", "9100")
    given: dict[str, Any] = {"metrics": {"host": "::1"}}
    assert read_settings(ServiceSettings, **given).metrics.model_dump() == {
        "host": "::1", "port": 9100, "public": False
    }  # fmt: skip


def test_anneal_up_stays_on_loopback_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANNEAL_GRPC__HOST", "0.0.0.0")
    monkeypatch.setenv("ANNEAL_METRICS__HOST", "0.0.0.0")
    monkeypatch.setenv("ANNEAL_METRICS__PUBLIC", "true")
    settings = Local(tmp_path, grpc_port=0, http_port=0, model_folders=(), project="p")._settings
    assert is_loopback(settings.grpc.host)
    assert is_loopback(settings.metrics.host)


@pytest.mark.parametrize(
    ("module", "setting", "text"),
    [
        ("anneal.ingestion", {"ANNEAL_GRPC__HOST": "0.0.0.0"}, "grpc.host 0.0.0.0 is reachable from outside"),
        ("anneal.gateway", {}, "ANNEAL_ADDRESSES does not say where these services are: registry, serving"),
    ],
)
def test_a_process_ends_with_one_line(module: str, setting: dict[str, str], text: str) -> None:
    environment = {**os.environ, **setting, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, "-m", module],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"anneal: {text}")


KUBERNETES = {
    "ANNEAL_LAUNCHER__KIND": "kubernetes",
    "ANNEAL_LAUNCHER__IMAGE": "registry.example/anneal:1",
    "ANNEAL_LAUNCHER__HOST": "anneal-training:50051",
    "ANNEAL_LAUNCHER__OWNER": "release-training",
    "ANNEAL_STORE__URL": "s3://bucket",
}


def test_jobs_on_kubernetes_are_told_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        **KUBERNETES,
        "ANNEAL_LAUNCHER__POD__MEMORY": "8Gi",
        "ANNEAL_LAUNCHER__POD__NODE_SELECTOR": '{"pool": "gpu"}',
        "ANNEAL_LAUNCHER__POD__TOLERATIONS": '[{"key": "nvidia.com/gpu", "operator": "Exists"}]',
        "ANNEAL_LAUNCHER__SCRATCH_CLAIM": "scratch",
        "ANNEAL_LAUNCHER__RAY__ENABLED": "true",
        "ANNEAL_LAUNCHER__RAY__WORKER__GPUS": "2",
        "ANNEAL_LAUNCHER__QUEUES": '["night"]',
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    launcher = read_settings(ServiceSettings).launcher
    assert (launcher.kind, launcher.pod.memory, launcher.ray.worker.gpus) == ("kubernetes", "8Gi", 2)
    assert launcher.pod.node_selector == {"pool": "gpu"}
    assert launcher.pod.tolerations[0]["key"] == "nvidia.com/gpu"
    assert launcher.queues == ("night",)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ANNEAL_LAUNCHER__IMAGE": ""}, "ANNEAL_LAUNCHER__IMAGE"),
        ({"ANNEAL_LAUNCHER__HOST": ""}, "ANNEAL_LAUNCHER__HOST"),
        ({"ANNEAL_LAUNCHER__OWNER": ""}, "ANNEAL_LAUNCHER__OWNER"),
        ({"ANNEAL_LAUNCHER__OWNER": "No Label"}, "ANNEAL_LAUNCHER__OWNER"),
        ({"ANNEAL_LAUNCHER__RAY__ENABLED": "true"}, "ANNEAL_LAUNCHER__SCRATCH_CLAIM"),
        ({"ANNEAL_LAUNCHER__POD__MEMORY": "8GB"}, "ANNEAL_LAUNCHER__POD__MEMORY"),
        ({"ANNEAL_LAUNCHER__POD__MEMROY": "8Gi"}, "ANNEAL_LAUNCHER__POD__MEMROY"),
        ({"ANNEAL_LAUNCHER__VOLUMES": '[{"name": "tmp", "emptyDir": {}}]'}, "ANNEAL_LAUNCHER__VOLUMES"),
        ({"ANNEAL_STORE__URL": "folder"}, "ANNEAL_STORE__URL"),
        ({"ANNEAL_STORE__URL": "file:///folder"}, "ANNEAL_STORE__URL"),
    ],
)
def test_what_jobs_on_kubernetes_lack_is_named(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], said: str
) -> None:
    assert said in refused(monkeypatch, **{**KUBERNETES, **changed})
