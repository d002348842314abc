"""An attempt and settings that the tests of this folder begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.launcher import Attempt
from anneal.kit.options import LauncherOptions, PodOptions, RayOptions

DATA = Path("/var/lib/anneal")
OPERATION = "projects/p/operations/train-0123456789ab"


def attempt(number: int = 1, *, claim: str = "the claim", **demand: Any) -> Attempt:
    config = {"operation": OPERATION, "claim": claim, "token": "the token"}
    return Attempt(operation=OPERATION, attempt=number, config=config, demand=Demand(**demand))


def options(**given: Any) -> LauncherOptions:
    values: dict[str, Any] = {
        "kind": "kubernetes",
        "host": "anneal-training:50051",
        "image": "registry.example/anneal:1",
        "owner": "release-training",
        "pod": PodOptions(cpu="2", memory="4Gi", gpus=1, node_selector={"pool": "gpu"}),
        **given,
    }
    return LauncherOptions(**values)


def with_ray(**given: Any) -> LauncherOptions:
    return options(scratch_claim="scratch", ray=RayOptions(enabled=True), **given)
