"""What an attempt's objects are called and labelled, so that a server that comes later finds them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from anneal.kit.jobs.launcher import Attempt

PREFIX = "anneal.dev"
OWNER = f"{PREFIX}/owner"
KIND = f"{PREFIX}/kind"
OPERATION_ID = f"{PREFIX}/operation-id"
ATTEMPT = f"{PREFIX}/attempt"
OPERATION = f"{PREFIX}/operation"
CLAIM = f"{PREFIX}/claim"
QUEUE = "kueue.x-k8s.io/queue-name"
_LONGEST_KIND = 14


def object_name(operation: str, attempt: int) -> str:
    """The name of an attempt's objects: the same one each time, and another one for every other attempt.

    At most 46 characters, a DNS-1035 label: KubeRay derives longer names from it and allows 47. The digest is of the
    whole name, which says the project, too.
    """
    kind = kind_of(operation)[:_LONGEST_KIND].strip("-")
    return f"anneal-{kind}-{hashlib.sha256(operation.encode()).hexdigest()[:12]}-{attempt}"


def kind_of(operation: str) -> str:
    """The kind of job in an operation's name, with dashes."""
    return operation_id(operation).rpartition("-")[0]


def operation_id(operation: str) -> str:
    """The last part of an operation's name; a label value."""
    return operation.rpartition("/")[2]


def labels_of(attempt: Attempt, owner: str, more: Mapping[str, str]) -> dict[str, str]:
    """The labels of an attempt's objects and pods; nothing given may replace one that the launcher looks for."""
    return {
        **more,
        "app.kubernetes.io/name": "anneal",
        "app.kubernetes.io/component": "job",
        "app.kubernetes.io/managed-by": "anneal",
        "app.kubernetes.io/instance": owner,
        OWNER: owner,
        KIND: kind_of(attempt.operation),
        OPERATION_ID: operation_id(attempt.operation),
        ATTEMPT: str(attempt.attempt),
    }


def annotations_of(attempt: Attempt) -> dict[str, str]:
    """What tells an object that this attempt made from every other: the digest of its claim, which only it knows."""
    claim = str(attempt.config["claim"])
    return {OPERATION: attempt.operation, CLAIM: hashlib.sha256(claim.encode()).hexdigest()}


def owned_by(owner: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata by which the cluster deletes an object when its owner is deleted."""
    name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
    return {"ownerReferences": [{"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name, "uid": uid}]}


def metadata(thing: Mapping[str, Any], part: str) -> dict[str, str]:
    """Labels or annotations of an object; empty where it has none."""
    found: dict[str, str] = thing.get("metadata", {}).get(part) or {}
    return found


def key_of(thing: Mapping[str, Any]) -> tuple[str, int] | None:
    """Operation id and attempt that an object belongs to; None where its labels do not say."""
    labels = metadata(thing, "labels")
    try:
        return labels[OPERATION_ID], int(labels[ATTEMPT])
    except (KeyError, ValueError):
        return None
