"""What a pod of a job gets: what the settings allow, narrowed by what its order asks for, and never widened."""

from __future__ import annotations

import re

from anneal.kit.errors import Invalid
from anneal.kit.jobs.demand import Demand
from anneal.kit.options import LauncherOptions, PodOptions
from anneal.kit.quantities import parse_quantity

_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL = re.compile(rf"((?=[^/]{{1,253}}/){_DOMAIN}(\.{_DOMAIN})*/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")
"""Kubernetes documentation, "Labels and Selectors": syntax and character set."""


class DemandTooWide(Invalid):
    """The order asks for more, or for something else, than its jobs may have here."""

    reason = "DEMAND_TOO_WIDE"


def narrow(allowed: PodOptions, demand: Demand) -> PodOptions:
    """The options of one pod.

    Raises:
        DemandTooWide: the demand exceeds what is allowed, or contradicts it.
    """
    cpu = _at_most("cpu", demand.cpu, allowed.cpu)
    found = {
        "cpu": cpu,
        "cpu_request": allowed.cpu_request and min(cpu, allowed.cpu_request, key=parse_quantity),
        "memory": _at_most("memory", demand.memory, allowed.memory),
        "gpus": _gpus(demand.gpus, allowed.gpus),
        "node_selector": _selector(demand, allowed),
    }
    return allowed.model_copy(update=found)


def queue_of(options: LauncherOptions, demand: Demand) -> str:
    """The queue that a job waits in; empty for none.

    Raises:
        DemandTooWide: the demand names one that the settings do not.
    """
    if not demand.queue:
        return options.queue
    allowed = [queue for queue in (options.queue, *options.queues) if queue]
    if demand.queue not in allowed:
        told = f"jobs may wait in {', '.join(allowed)}" if allowed else "no queue is configured"
        raise _too_wide("queue", f"{demand.queue!r} cannot be chosen: {told}")
    return demand.queue


def check(options: LauncherOptions, demand: Demand) -> None:
    """Check a demand before its order is accepted.

    Raises:
        DemandTooWide: it asks for more than the settings allow.
    """
    queue_of(options, demand)
    narrow(working_pod(options, demand), demand)


def working_pod(options: LauncherOptions, demand: Demand) -> PodOptions:
    """The options of the pods that do the work: Ray's workers, or the job's only pod."""
    return options.ray.worker if demand.ray_workers and options.ray.enabled else options.pod


def _at_most(name: str, wanted: str, allowed: str) -> str:
    if not wanted:
        return allowed
    try:
        amount = parse_quantity(wanted)
    except ValueError as error:
        raise _too_wide(name, str(error)) from None
    if amount > parse_quantity(allowed):
        raise _too_wide(name, f"{wanted} is more than the {allowed} that jobs may have")
    return wanted


def _gpus(wanted: int | None, allowed: int) -> int:
    if wanted is None:
        return allowed
    if not 0 <= wanted <= allowed:
        raise _too_wide("gpus", f"{wanted} is not between 0 and the {allowed} that jobs may have")
    return wanted


def _selector(demand: Demand, allowed: PodOptions) -> dict[str, str]:
    for label, value in demand.node_selector.items():
        if not _LABEL.fullmatch(label) or not _VALUE.fullmatch(value):
            raise _too_wide("node_selector", f"{label}={value} is no label that a node can have")
        fixed = allowed.node_selector.get(label, value)
        if fixed != value:
            raise _too_wide("node_selector", f"{label}={value} contradicts {label}={fixed}, where jobs have to run")
    return {**demand.node_selector, **allowed.node_selector}


def _too_wide(name: str, description: str) -> DemandTooWide:
    path = f"demand.{name}"
    return DemandTooWide(f"{path}: {description}", violations=[(path, description)])
