"""The secret that holds what the process of an attempt is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from anneal.kit.jobs.kubernetes.names import object_name, owned_by
from anneal.kit.jobs.kubernetes.pod import SECRET_KEY
from anneal.kit.jobs.launcher import Attempt


def build_secret(attempt: Attempt, owner: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """The secret of an attempt. The cluster deletes it together with its owner.

    Args:
        attempt: whose configuration it holds, with the claim and the token.
        owner: the Job or RayJob as the cluster made it.
        labels: its labels.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": object_name(attempt.operation, attempt.attempt),
            "labels": dict(labels),
            **owned_by(owner),
        },
        "stringData": {SECRET_KEY: json.dumps(attempt.config)},
    }
