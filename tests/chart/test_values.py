"""The values: each has a comment and does something, and the files that follow from them are fresh."""

from __future__ import annotations

import copy
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jsonschema
import pytest
from helm_python.errors import HelmRenderError, HelmValuesError

from deploy.local.chart import comments, files
from tests.chart.rendering import CHART, chart, defaults, overlay, rendered, situation

OPAQUE = {
    *(
        "settings",
        "resources",
        "podSecurityContext",
        "securityContext",
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
    ),
    *("prometheus", "gatewayClients", "kuberayOperator"),
}
"""Values that Kubernetes or a service defines: one comment is for all that is in them."""


# -- comments and derived files ----------------------------------------------------------------------------------------


def test_every_value_has_a_comment() -> None:
    said = comments((CHART / "values.yaml").read_text(encoding="utf-8"))
    missing = [path for path in leaves(defaults()) if path not in said]
    assert missing == []
    assert all(text.endswith((".", ")")) for text in said.values())


def test_the_schema_and_the_table_of_values_are_fresh() -> None:
    stale = [path.name for path, wanted in files().items() if path.read_text(encoding="utf-8") != wanted]
    assert stale == [], "run: make chart-files"


def test_the_schema_is_one_and_knows_every_value_of_the_chart() -> None:
    schema = chart().schema
    assert schema is not None
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(defaults())


def test_no_object_of_the_schema_lets_unknown_keys_in_by_oversight() -> None:
    schema = chart().schema
    assert schema is not None
    assert [
        path for path, part in _parts(schema) if "properties" in part and part.get("additionalProperties") is not False
    ] == []


# -- every value is read -----------------------------------------------------------------------------------------------


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Paths of the values that have no further keys, or whose keys are not this chart's."""
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping) and value and key not in OPAQUE:
            yield from leaves(value, f"{path}.")
        else:
            yield path


@cache
def everything() -> Mapping[str, Any]:
    """For each mode, values with which everything that can be made is made."""
    wanted = {"enabled": True}
    standalone = {
        "test": wanted,
        "networkPolicy": wanted,
        "standalone": {"persistence": {"enabled": True, "existingClaim": "", "keep": True}, "pdb": wanted},
    }
    distributed = {
        "tls": {"certManager": {"enabled": True, "issuerRef": {"name": "ca"}}},
        "jobs": {"scratch": wanted},
        "ingress": {"enabled": True, "host": "example.com"},
        "defaults": {"persistence": wanted, "pdb": wanted},
        "serving": {"autoscaling": {"enabled": True}},
    }
    without_scaling = {"registry": {"replicaCount": 2}, "gateway": {"replicaCount": 2}}
    own = situation("standalone-own")
    return {
        "standalone": overlay(own, {**standalone, "auth": {"existingSecret": ""}}),
        "standalone, with a secret": overlay(own, standalone),
        "standalone, on nothing": overlay(own, {"standalone": {"persistence": {"enabled": False}}}),
        "distributed": overlay(situation("distributed-gpu"), {**distributed, **without_scaling}),
        "distributed, scaled": overlay(
            situation("distributed-cpu"),
            {
                **distributed,
                "registry": {"autoscaling": wanted},
                "gateway": {"autoscaling": wanted},
                "serving": {"autoscaling": {"enabled": True, "kind": "hpa"}},
            },
        ),
        "distributed, without claims": overlay(
            situation("distributed-gpu"),
            {"defaults": {"persistence": {"enabled": False}}, "serving": {"autoscaling": {"enabled": False}}},
        ),
        "distributed, bare": overlay(situation("distributed-cpu"), {"serving": {"autoscaling": {"enabled": False}}}),
        "distributed, with TLS of one's own": overlay(
            situation("distributed-cpu"), {"tls": {"existingSecret": "tls", "mutual": True}}
        ),
    }


SERVICES = (
    *("standalone", "registry", "ingestion", "synthesis", "curation", "training", "evaluation", "serving", "gateway"),
)
SAMPLES: tuple[Any, ...] = (
    *(True, False, 77, 1, 2, 0, "other", "9Gi", "77s", "https://example.com", "s3://other", "sha256:" + "1" * 64),
    *("Always", "cuda", "cpu", "NodePort", "float32", "hpa", "keda", "distributed", "standalone", "Never"),
    *(["other"], [7], ["ReadWriteMany"], [{"name": "other"}], [{"podSelector": {"matchLabels": {"a": "b"}}}]),
    *({"other": "value"}, {"requests": {"cpu": "77"}}, {"periodSeconds": 77}, {"log_level": "ERROR"}),
    [{"maxSkew": 7, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    [{"name": "other", "model": "projects/p/models/other"}],
    [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}],
)
TRIED = 4
"""Samples of a value that are enough: where it is read at all, one of them shows."""
READ_BY_NOBODY = {"global": "it is room for a parent chart's own"}


@pytest.mark.parametrize("path", [path for path in leaves(defaults()) if path not in READ_BY_NOBODY])
def test_every_value_changes_what_is_rendered(path: str) -> None:
    assert any(_matters(name, path) for name in _bases(path)), f"nothing that is rendered depends on {path}"


@pytest.mark.parametrize("service", ["standalone", "registry", "training", "serving", "gateway"])
def test_every_key_that_services_share_does_something_for_each_sort_of_service(service: str) -> None:
    keys = {path.partition(".")[2] for path in leaves(defaults()) if path.startswith("defaults.")}
    headless = {"service.type"} if service not in ("standalone", "gateway") else set()
    one_flavor = {"image.flavor"} if service not in ("serving", "training") else set()
    told = keys - headless - one_flavor
    assert [key for key in told if not any(_matters(name, f"{service}.{key}") for name in _bases(f"{service}."))] == []


def test_every_value_that_templates_read_exists() -> None:
    schema = chart().schema
    assert schema is not None
    for template in chart().templates:
        for path in re.findall(r"(?<![\w)])\$?(?:\$root)?\.Values((?:\.[A-Za-z]\w*)+)", template["data"]):
            assert _known(schema, schema, path.strip(".").split(".")), f"{template['name']}: .Values{path}"


# -- helpers -----------------------------------------------------------------------------------------------------------


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """What is rendered, with what is random in the secret taken out."""
    texts = rendered(values)
    data = re.findall(r"^  (\S+): (\S{24,})$", texts.pop("anneal/templates/secret.yaml", ""), re.MULTILINE)
    kept = [(key, re.sub("[0-9A-Za-z]{45,64}", "random", b64decode(value).decode())) for key, value in data]
    return {**texts, "secret": repr(kept)}


def _bases(path: str) -> list[str]:
    """The names of `everything` in which a value can matter."""
    top = path.partition(".")[0]
    mode = "standalone" if top == "standalone" else "distributed" if top in (*SERVICES, "defaults") else ""
    return [name for name in everything() if name.startswith(mode)]


@cache
def _before(name: str) -> dict[str, str]:
    return _texts(everything()[name])


def _matters(name: str, path: str) -> bool:
    """Whether some other value there changes what is rendered from one of `everything`."""
    for sample in _samples(path):
        changed = overlay(defaults(), copy.deepcopy(dict(everything()[name])))
        *parents, last = path.split(".")
        at = changed
        for part in parents:
            at = at.setdefault(part, {})
        if at.get(last) == sample:
            continue
        at[last] = sample
        try:
            if _texts(changed) != _before(name):
                return True
        except (HelmRenderError, HelmValuesError):
            continue
    return False


@cache
def _samples(path: str) -> list[Any]:
    """The samples that the schema takes for a value."""
    schema = chart().schema
    assert schema is not None
    part: Mapping[str, Any] = schema
    for key in path.split("."):
        part = _resolved(schema, part)["properties"][key]
    validator = jsonschema.Draft202012Validator({**_resolved(schema, part), "$defs": schema["$defs"]})
    return [sample for sample in SAMPLES if validator.is_valid(sample)][:TRIED]


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema
    if "$ref" in schema:
        found = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return found


def _parts(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from _parts(value, f"{path}/{key}")


def _known(root: Mapping[str, Any], schema: Mapping[str, Any], parts: list[str]) -> bool:
    """Whether a path of values is one by the schema."""
    schema = _resolved(root, schema)
    if not parts or "properties" not in schema:
        return True
    return parts[0] in schema["properties"] and _known(root, schema["properties"][parts[0]], parts[1:])


def test_paths_that_no_schema_knows_are_seen() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert _known(schema, schema, ["tls", "certManager", "issuerRef", "name"])
    assert not _known(schema, schema, ["tls", "certManger"])
