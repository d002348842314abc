"""The chart, rendered as Helm renders it: its objects, and the pods that come of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "anneal"
SITUATIONS = tuple(path.name.removesuffix("-values.yaml") for path in sorted((CHART / "ci").glob("*-values.yaml")))
RELEASE, NAMESPACE = "rel", "ns"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Object = dict[str, Any]


@cache
def chart() -> Chart:
    """The chart, loaded once."""
    return Chart.load(CHART)


def situation(name: str) -> dict[str, Any]:
    """The values of a supported situation; each call gets its own."""
    found: dict[str, Any] = load(CHART / "ci" / f"{name}-values.yaml")
    return found


def defaults() -> dict[str, Any]:
    """The chart's own values; each call gets its own."""
    found: dict[str, Any] = load(CHART / "values.yaml")
    return found


def load(path: Path) -> Any:
    """A YAML file."""
    return yaml.load(path.read_text(encoding="utf-8"), _Loader)


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping laid over another."""
    made = dict(below)
    for key, value in above.items():
        under = made.get(key)
        made[key] = overlay(under, value) if isinstance(value, Mapping) and isinstance(under, Mapping) else value
    return made


def rendered(values: Mapping[str, Any] | None = None, *, name: str = RELEASE, **options: Any) -> dict[str, str]:
    """What Helm would send, by template."""
    return chart().render(dict(values or {}), name=name, namespace=NAMESPACE, **options)


def parsed(texts: Mapping[str, str]) -> list[Object]:
    """The objects in what was rendered."""
    manifests = [text for path, text in sorted(texts.items()) if path.endswith(".yaml")]
    return [thing for text in manifests for thing in yaml.load_all(text, _Loader) if thing]


def objects(values: Mapping[str, Any] | None = None, *, name: str = RELEASE) -> list[Object]:
    """The objects of a release."""
    return parsed(rendered(values, name=name))


@cache
def _of_situation(name: str) -> tuple[Object, ...]:
    return tuple(objects(situation(name)))


def of_situation(name: str) -> Sequence[Object]:
    """The objects of a supported situation; not to be changed."""
    return _of_situation(name)


def of_kind(things: Sequence[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [thing for thing in things if thing["kind"] in kinds]


def named(things: Sequence[Object], kind: str, name: str) -> Object:
    """The one of a kind and name."""
    return next(thing for thing in of_kind(things, kind) if thing["metadata"]["name"] == name)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that comes of an object.

    Attributes:
        owner: the object.
        metadata: of the pod.
        spec: of the pod.
    """

    owner: Object
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def component(self) -> str:
        """Which part of Anneal it is."""
        found: str = self.metadata["labels"]["app.kubernetes.io/component"]
        return found

    @property
    def container(self) -> Mapping[str, Any]:
        """Its only container."""
        (only,) = self.spec["containers"]
        found: Mapping[str, Any] = only
        return found

    @property
    def env(self) -> dict[str, str | None]:
        """Its variables; None for those that come from a secret."""
        return {item["name"]: item.get("value") for item in self.container["env"]}


def pods(things: Sequence[Object]) -> Iterator[Pod]:
    """The pods that come of some objects."""
    for thing in things:
        if thing["kind"] == "Pod":
            yield Pod(thing, thing["metadata"], thing["spec"])
        elif thing["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = thing["spec"]["template"]
            yield Pod(thing, template["metadata"], template["spec"])


def services(things: Sequence[Object]) -> list[Pod]:
    """The pods that serve, without those that only run once."""
    return [pod for pod in pods(things) if pod.owner["kind"] in ("Deployment", "StatefulSet")]
