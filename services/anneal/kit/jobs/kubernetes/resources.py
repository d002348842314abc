"""The kinds of objects that jobs are made of, and what the launcher may do with them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object.

    Attributes:
        group: its API group; empty for the core.
        version: of the group.
        plural: its name in paths.
        verbs: what the launcher does with it: exactly what its Role must allow.
    """

    group: str
    version: str
    plural: str
    verbs: tuple[str, ...]

    def path(self, namespace: str, name: str = "") -> str:
        """Path of the objects of a namespace, or of one of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        path = f"{root}/namespaces/{quote(namespace)}/{self.plural}"
        return f"{path}/{quote(name)}" if name else path

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


JOBS = Resource("batch", "v1", "jobs", ("create", "delete", "get", "list", "watch"))
RAY_JOBS = Resource("ray.io", "v1", "rayjobs", ("create", "delete", "get", "list", "watch"))
PODS = Resource("", "v1", "pods", ("list", "watch"))
EVENTS = Resource("", "v1", "events", ("list",))
SECRETS = Resource("", "v1", "secrets", ("create",))
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", ("get",))
RESOURCES = (JOBS, RAY_JOBS, PODS, EVENTS, SECRETS, ROLES)
PERMISSIONS = frozenset((kind.group, kind.plural, verb) for kind in RESOURCES for verb in kind.verbs)
"""API group, resource and verb of all that the launcher asks the cluster for: what its Role allows, and no more.

Those of `ray.io` are needed where jobs train on Ray, that of roles for the one that `LauncherOptions.role` names.
"""
