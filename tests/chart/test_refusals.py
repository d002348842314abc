"""Wrong values: the schema's clear error for one by itself, and a line for each of those that do not go together."""

from __future__ import annotations

from typing import Any

import pytest
from helm_python.errors import HelmRenderError, HelmValuesError

from tests.chart.rendering import overlay, rendered, situation

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
