"""Jobs may run on other machines than their service: of its disk they know only the folders that pods have, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anneal.cli.up import SERVICES, service_build
from anneal.kit.jobs.kubernetes.pod import KEPT
from anneal.kit.options import LauncherOptions, StoreOptions
from anneal.kit.rpc.server import Host
from anneal.kit.settings import ServiceSettings
from tests.fixtures.kubernetes_api import api_server
from tests.fixtures.s3 import Bucket


@pytest.fixture
async def host(tmp_path: Path, s3_bucket: Bucket) -> Any:
    """Every service, with its jobs on a cluster."""
    with api_server() as api:
        launcher = LauncherOptions(
            kind="kubernetes", kubeconfig=api.kubeconfig(tmp_path), owner="tests", host="anneal:50051", image="i"
        )
        settings = ServiceSettings(
            data_dir=tmp_path / "data",
            addresses=dict.fromkeys(SERVICES, "anneal-other:50051"),
            launcher=launcher,
            store=StoreOptions(url=s3_bucket.url, options=s3_bucket.options),
        )
        made = Host(settings, [service_build(name, None) for name in SERVICES])
        await made.start()
        yield made
        await made.stop()


async def test_what_jobs_are_told_is_of_use_on_other_machines(host: Host) -> None:
    data = str(host.settings.data_dir)
    kept = tuple(f"{data}/{folder}" for folder in KEPT)
    told = {kind.name: kind.options() for service in host.services for kind in service.kinds}
    assert len(told) >= 6
    told["every job"] = host.jobs._config()
    for kind, options in told.items():
        paths = [text for text in texts(options) if data in text]
        assert all(path.startswith(kept) for path in paths), (kind, paths)


async def test_jobs_find_their_own_service_where_pods_reach_it(host: Host) -> None:
    config = host.jobs._config()
    assert config["host"] == "anneal:50051"
    assert {config["addresses"][service.name] for service in host.services} == {"anneal:50051"}


def texts(value: Any) -> list[str]:
    """Every text inside JSON values."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []
