"""The values: each has a comment and does something, wrong ones are refused with a clear error, and files are fresh."""

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


# -- wrong values ------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"replicas": 3}, "at '': additional properties 'replicas' not allowed"),
    "an unknown key of a service": (
        {"gateway": {"replica": 3}},
        "at '/gateway': additional properties 'replica' not allowed",
    ),
    "an unknown setting": (
        {"curation": {"settings": {"jobs": {"max_runing": 3}}}},
        "at '/curation/settings/jobs': additional properties 'max_runing' not allowed",
    ),
    "a setting of another service": (
        {"registry": {"settings": {"training": {"max_workers": 3}}}},
        "at '/registry/settings': additional properties 'training' not allowed",
    ),
    "a setting that the chart makes": (
        {"training": {"settings": {"launcher": {"owner": "me"}}}},
        "at '/training/settings/launcher': additional properties 'owner' not allowed",
    ),
    "a setting out of its bounds": (
        {"ingestion": {"settings": {"jobs": {"max_running": 0}}}},
        "at '/ingestion/settings/jobs/max_running': minimum: got 0, want 1",
    ),
    "an unknown mode": ({"mode": "ha"}, "at '/mode': value must be one of 'standalone', 'distributed'"),
    "text for a number": ({"gateway": {"replicaCount": "3"}}, "at '/gateway/replicaCount': got string, want integer"),
    "a number for text": (
        {"training": {"settings": {"launcher": {"pod": {"cpu": 2}}}}},
        "at '/training/settings/launcher/pod/cpu': got number, want string",
    ),
    "two keepers of jobs": ({"training": {"replicaCount": 2}}, "at '/training/replicaCount': maximum: got 2, want 1"),
    "a bad quantity": (
        {"standalone": {"persistence": {"size": "100 GB"}}},
        "at '/standalone/persistence/size': '100 GB'",
    ),
    "a bad digest": (
        {"registry": {"image": {"digest": "latest"}}},
        "at '/registry/image/digest': 'latest' does not match",
    ),
    "a store that pods cannot reach": ({"store": {"url": "/data"}}, "at '/store/url': '/data' does not match pattern"),
    "a base model without a name": (
        {"serving": {"models": [{"model": "projects/a/models/b"}]}},
        "at '/serving/models/0': missing property 'name'",
    ),
    "a base model that is none": (
        {"serving": {"models": [{"name": "b", "model": "meta/llama"}]}},
        "at '/serving/models/0/model': 'meta/llama' does not match pattern",
    ),
    "a peer that is none": (
        {"networkPolicy": {"prometheus": [{"namespace": "monitoring"}]}},
        "at '/networkPolicy/prometheus/0': additional properties 'namespace' not allowed",
    ),
}
TOGETHER: dict[str, tuple[dict[str, Any], str]] = {
    "distributed without a secret of tokens": (
        {"auth": {"existingSecret": ""}},
        "auth.existingSecret: `distributed` needs a secret with the tokens of the services and the keys of the gateway",
    ),
    "distributed without a database": (
        {"database": {"existingSecret": ""}},
        "database.existingSecret: `distributed` needs a secret with the URL of a PostgreSQL database",
    ),
    "distributed without a store": (
        {"store": {"url": ""}},
        "store.url: `distributed` needs an object store that all pods reach, such as s3://bucket",
    ),
    "distributed without a base model": (
        {"serving": {"models": []}},
        "serving.models: `distributed` needs one base model at least",
    ),
    "two base models of one name": (
        {"serving": {"models": [{"name": "a", "model": f"projects/p/models/{m}"} for m in "bc"]}},
        "serving.models: two are called a",
    ),
    "one base model twice": (
        {"serving": {"models": [{"name": name, "model": "projects/p/models/m"} for name in "bc"]}},
        "serving.models: two serve projects/p/models/m",
    ),
    "KubeRay without a claim": (
        {"training": {"kuberay": {"enabled": True}}},
        "jobs.scratch.enabled: training with KubeRay needs a claim that the head and the workers share",
    ),
    "mutual TLS without TLS": (
        {"tls": {"mutual": True}},
        "tls.mutual: needs tls.existingSecret or tls.certManager.enabled",
    ),
    "mutual TLS without an authority": (
        {"tls": {"mutual": True, "existingSecret": "tls", "caKey": ""}},
        "tls.caKey: mutual TLS needs the certificates that clients' are signed by",
    ),
    "a certificate from nobody": (
        {"tls": {"certManager": {"enabled": True}}},
        "tls.certManager.issuerRef.name: say which issuer makes the certificate",
    ),
    "two certificates": (
        {"tls": {"existingSecret": "tls", "certManager": {"enabled": True, "issuerRef": {"name": "ca"}}}},
        "tls: either existingSecret or certManager.enabled, not both",
    ),
    "an Ingress for nobody": ({"ingress": {"enabled": True}}, "ingress.host: an Ingress needs the host name"),
    "less time to stop than to drain": (
        {"gateway": {"drainSeconds": 60, "terminationGracePeriodSeconds": 60}},
        "gateway.terminationGracePeriodSeconds: 60 is not longer than drainSeconds and preStopSeconds together (65)",
    ),
    "more replicas at least than at most": (
        {"registry": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
        "registry.autoscaling: minReplicas 9 is more than maxReplicas 6",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_schema_refuses(what: str) -> None:
    values, told = WRONG[what]
    with pytest.raises(HelmValuesError) as refused:
        rendered(values)
    assert told in str(refused.value)


@pytest.mark.parametrize("what", TOGETHER)
def test_values_that_do_not_go_together_are_refused(what: str) -> None:
    values, told = TOGETHER[what]
    with pytest.raises(HelmRenderError) as refused:
        rendered(overlay(situation("distributed-cpu"), values))
    assert f"- {told}" in str(refused.value)


def test_all_that_does_not_go_together_is_said_at_once() -> None:
    with pytest.raises(HelmRenderError) as refused:
        rendered({"mode": "distributed"})
    assert str(refused.value).count("\n- ") == 4


def test_there_is_room_for_the_values_of_a_parent_chart() -> None:
    assert rendered({"global": {"imageRegistry": "example.com"}, "auth": {"existingSecret": "a"}})


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
