"""The pods of jobs, as plain objects. They meet Pod Security "restricted", and their root cannot be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anneal.kit.options import LauncherOptions, PodOptions

JOB_DIR = "/var/run/anneal"
JOB_FILE = f"{JOB_DIR}/job.json"
SECRET_KEY = "job.json"
CONTAINER = "job"
COMMAND = ("python", "-m", "anneal.kit.jobs.run")
KEPT = ("scratch", "cache")
"""Folders of the server's data folder that a job uses, under the same paths: what they hold outlives its pod."""
_OWNED_FOLDERS = {
    "HOME": "/tmp",
    "HF_HOME": "/tmp/huggingface",
    "XDG_CACHE_HOME": "/tmp/cache",
    "PYTHONUNBUFFERED": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def pod_template(
    options: LauncherOptions,
    pod: PodOptions,
    *,
    data_dir: Path,
    labels: Mapping[str, str],
    secret: str = "",
    container: Mapping[str, Any],
) -> dict[str, Any]:
    """A pod's template.

    Args:
        options: what all pods share.
        pod: what this one may have.
        data_dir: the server's data folder.
        labels: the pod's labels.
        secret: the secret that holds the job's configuration; empty for a pod that does not get it.
        container: name, image and command of its only container.
    """
    mounts, volumes = _volumes(options, data_dir, secret)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": options.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": options.user,
            "runAsGroup": options.user,
            "fsGroup": options.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                **container,
                "imagePullPolicy": options.image_pull_policy,
                "env": _environment(options, secret),
                "resources": resources(pod),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                # The last lines of a container that failed say why, also after its pod is gone.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
        **_placement(pod),
    }
    if options.env_from_secrets:
        spec["containers"][0]["envFrom"] = [{"secretRef": {"name": name}} for name in options.env_from_secrets]
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    made: dict[str, Any] = {"metadata": {"labels": dict(labels)}, "spec": spec}
    if options.annotations:
        made["metadata"]["annotations"] = dict(options.annotations)
    return made


def resources(pod: PodOptions) -> dict[str, Any]:
    """Requests and limits.

    They are equal unless `cpu_request` reserves fewer processors: such a pod is the last to be evicted, and can take
    nothing from others.
    """
    limits = {"cpu": pod.cpu, "memory": pod.memory}
    if pod.gpus:
        limits[pod.gpu_resource] = str(pod.gpus)
    return {"requests": {**limits, "cpu": pod.cpu_request or pod.cpu}, "limits": limits}


def _environment(options: LauncherOptions, secret: str) -> list[dict[str, str]]:
    environment = {**_OWNED_FOLDERS, **options.env}
    if secret:
        environment["ANNEAL_JOB_FILE"] = JOB_FILE
    return [{"name": name, "value": value} for name, value in environment.items()]


def _volumes(options: LauncherOptions, data_dir: Path, secret: str) -> tuple[Sequence[Any], Sequence[Any]]:
    kept: dict[str, Any] = {"name": "data", "emptyDir": {"sizeLimit": options.scratch_size}}
    if options.scratch_claim:
        kept = {"name": "data", "persistentVolumeClaim": {"claimName": options.scratch_claim}}
    volumes = [
        kept,
        {"name": "tmp", "emptyDir": {"sizeLimit": options.tmp_size}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": options.shm_size}},
        *(dict(volume) for volume in options.volumes),
    ]
    mounts: list[dict[str, Any]] = [
        *({"name": "data", "mountPath": str(data_dir / name), "subPath": name} for name in KEPT),
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
        *(dict(mount) for mount in options.mounts),
    ]
    if secret:
        volumes.append({"name": "job", "secret": {"secretName": secret, "defaultMode": 0o440}})
        mounts.append({"name": "job", "mountPath": JOB_DIR, "readOnly": True})
    return mounts, volumes


def _placement(pod: PodOptions) -> dict[str, Any]:
    placement: dict[str, Any] = {
        "nodeSelector": dict(pod.node_selector),
        "tolerations": [dict(toleration) for toleration in pod.tolerations],
        "affinity": dict(pod.affinity),
        "priorityClassName": pod.priority_class,
        "runtimeClassName": pod.runtime_class,
    }
    return {name: value for name, value in placement.items() if value}
