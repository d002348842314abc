"""What an order asks of the machine it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What an order asks for; what it leaves out it gets as the settings say.

    A launcher grants at most what its settings allow, so that a demand can narrow them and never widen them.

    Attributes:
        ray_workers: Ray workers; 0 for a job that does not run on Ray.
        ray_cpus: processors that Ray is told each worker's pod has: what one worker asks Ray for, so that each pod
            takes one, whatever it may really use.
        cpu: processors of each process that works, as Kubernetes writes them, such as `2` or `500m`.
        memory: memory of each, such as `8Gi`.
        gpus: GPUs of each; None takes what the settings say.
        node_selector: labels a node must have besides those of the settings.
        queue: Kueue's local queue, one of those in the settings.
    """

    ray_workers: int = 0
    ray_cpus: int = 1
    cpu: str = ""
    memory: str = ""
    gpus: int | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    queue: str = ""


def demand_of(request: Any, *, ray_workers: int = 0, ray_cpus: int = 1) -> Demand:
    """What an order says in its field `demand`, an `anneal.v1.Demand`; nothing where it has no such field.

    Args:
        request: the order.
        ray_workers: Ray workers that it needs.
        ray_cpus: processors that each of them asks Ray for.
    """
    said = getattr(request, "demand", None)
    if said is None:
        return Demand(ray_workers=ray_workers, ray_cpus=ray_cpus)
    return Demand(
        ray_workers=ray_workers,
        ray_cpus=ray_cpus,
        cpu=said.cpu,
        memory=said.memory,
        gpus=said.gpus if said.HasField("gpus") else None,
        node_selector=dict(said.node_selector),
        queue=said.queue,
    )
