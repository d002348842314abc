"""What a cluster says about each object, and about all of them together."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from helm_python.chart import Chart, lint, package

from tests.chart.crds import crd_schema
from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    SITUATIONS,
    Object,
    chart,
    objects,
    of_kind,
    of_situation,
    parsed,
    rendered,
    situation,
)
from tests.fixtures.kubernetes_rules import CRDS, VERSIONS

CUSTOM = {
    "ServiceMonitor": ("monitoring.coreos.com_servicemonitors.yaml", "v1"),
    "PodMonitor": ("monitoring.coreos.com_podmonitors.yaml", "v1"),
    "PrometheusRule": ("monitoring.coreos.com_prometheusrules.yaml", "v1"),
    "ScaledObject": ("keda.sh_scaledobjects.yaml", "v1alpha1"),
}
# cert-manager's CRDs are not among those at hand: the fields of its reference that this chart may use.
CERTIFICATE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["secretName", "issuerRef", "dnsNames"],
    "properties": {
        "secretName": {"type": "string"},
        "issuerRef": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "kind": {"type": "string"}, "group": {"type": "string"}},
        },
        "duration": {"type": "string", "pattern": "^([0-9]+(h|m|s))+$"},
        "renewBefore": {"type": "string", "pattern": "^([0-9]+(h|m|s))+$"},
        "dnsNames": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "ipAddresses": {"type": "array", "items": {"type": "string"}},
        "usages": {"items": {"enum": ["digital signature", "key encipherment", "server auth", "client auth"]}},
        "privateKey": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "algorithm": {"enum": ["RSA", "ECDSA", "Ed25519"]},
                "size": {"type": "integer"},
                "rotationPolicy": {"enum": ["Never", "Always"]},
            },
        },
    },
}
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
LONGEST_RELEASE = "a" * 53

every_situation = pytest.mark.parametrize("name", SITUATIONS)


@every_situation
def test_helm_lints_each_situation(name: str) -> None:
    report = lint(CHART, situation(name), strict=True, namespace=NAMESPACE)
    assert [found["error"] for found in report["messages"]] == ["icon is recommended"]
    assert report["errors"] == []


@every_situation
def test_core_objects_are_valid_in_the_oldest_and_the_newest_cluster(name: str) -> None:
    for thing in of_situation(name):
        if thing["kind"] in CUSTOM or thing["kind"] == "Certificate":
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(dict(thing), version, strict=True)


@pytest.mark.parametrize("kind", CUSTOM)
def test_custom_objects_are_valid_by_their_published_schema(kind: str) -> None:
    schema = crd_schema(*CUSTOM[kind])
    if schema is None:
        pytest.skip(f"no CRDs in ../shared/crds beside the repository: {kind} is not validated by its published schema")
    found = [thing for name in SITUATIONS for thing in of_kind(of_situation(name), kind)]
    assert found, f"no situation makes a {kind}"
    for thing in found:
        jsonschema.Draft202012Validator(schema).validate(dict(thing))


def test_the_folder_of_published_schemas_has_what_is_looked_up_there() -> None:
    if not CRDS.exists():
        pytest.skip("no CRDs in ../shared/crds beside the repository")
    assert {file for file, _ in CUSTOM.values()} <= {path.name for path in CRDS.iterdir()}


def test_certificates_have_only_fields_that_cert_manager_knows() -> None:
    found = [thing for name in SITUATIONS for thing in of_kind(of_situation(name), "Certificate")]
    assert found
    for thing in found:
        jsonschema.Draft202012Validator(CERTIFICATE).validate(thing["spec"])
        for name in thing["spec"]["dnsNames"]:
            assert all(_DNS_LABEL.fullmatch(part) for part in name.split(".")), name


@every_situation
def test_no_two_objects_have_one_name(name: str) -> None:
    counted = Counter((thing["kind"], thing["metadata"]["name"]) for thing in of_situation(name))
    assert [twice for twice, times in counted.items() if times > 1] == []


@every_situation
def test_objects_say_what_they_belong_to_and_leave_the_namespace_to_helm(name: str) -> None:
    for thing in _own(of_situation(name)):
        labels = thing["metadata"]["labels"]
        wanted = ("name", "instance", "component", "part-of", "managed-by", "version")
        assert {f"app.kubernetes.io/{label}" for label in wanted} | {"helm.sh/chart"} <= set(labels)
        assert "namespace" not in thing["metadata"]


@pytest.mark.parametrize("name", SITUATIONS)
def test_names_and_labels_fit_also_with_the_longest_name_of_a_release(name: str) -> None:
    values = situation(name)
    for model in values.get("serving", {}).get("models", []):
        model["name"] = "m" * 18
        break
    for thing in objects(values, name=LONGEST_RELEASE):
        own = thing["metadata"]["name"]
        assert _SUBDOMAIN.fullmatch(own), own
        if thing["kind"] in ("Service", "Pod", "Job", "Deployment"):
            assert _DNS_LABEL.fullmatch(own), own
        if thing["kind"] == "StatefulSet":
            assert len(thing["metadata"]["name"]) <= 52  # its pods carry `<name>-<hash>` as a label
        template = thing.get("spec", {}).get("template", {}) if thing["kind"] != "Certificate" else {}
        for labels in (thing["metadata"].get("labels", {}), template.get("metadata", {}).get("labels", {})):
            assert all(_LABEL_VALUE.fullmatch(value) for value in labels.values()), labels


@every_situation
def test_rendering_twice_gives_the_same(name: str) -> None:
    once, again = (_without_chance(rendered(situation(name))) for _ in range(2))
    assert once == again


def test_what_is_made_by_chance_is_the_secret_of_standalone_alone() -> None:
    once, again = rendered(), rendered()
    assert [path for path in once if once[path] != again[path]] == ["anneal/templates/secret.yaml"]


@every_situation
def test_what_refers_to_an_object_of_the_release_finds_it(name: str) -> None:
    things = of_situation(name)
    made = {(thing["kind"], thing["metadata"]["name"]) for thing in things}
    for thing in of_kind(things, "RoleBinding"):
        assert ("Role", thing["roleRef"]["name"]) in made
        assert {("ServiceAccount", subject["name"]) for subject in thing["subjects"]} <= made
    for thing in of_kind(things, "HorizontalPodAutoscaler", "ScaledObject"):
        assert ("Deployment", thing["spec"]["scaleTargetRef"]["name"]) in made
    for thing in of_kind(things, "StatefulSet"):
        assert ("Service", thing["spec"]["serviceName"]) in made
    for thing in of_kind(things, "Ingress"):
        (rule,) = thing["spec"]["rules"]
        assert ("Service", rule["http"]["paths"][0]["backend"]["service"]["name"]) in made


def test_a_package_of_the_chart_renders_like_its_folder(tmp_path: Path) -> None:
    values = situation("distributed-gpu")
    with Chart.load(package(CHART, destination=tmp_path)) as packed:
        assert parsed(packed.render(values, name="rel", namespace=NAMESPACE)) == objects(values)
        assert not any(file["name"].startswith("ci/") for file in packed.files)


def test_the_chart_has_the_version_of_the_distribution() -> None:
    version = re.search(r'^version = "(.+)"$', (CHART.parents[1] / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert chart().metadata["appVersion"] == version[1]


def test_further_objects_are_templates() -> None:
    made = {thing["metadata"]["name"]: thing for thing in of_kind(of_situation("distributed-cloud"), "ConfigMap")}
    assert made["extra"]["data"] == {"release": "rel"}
    assert "rel-an-more" in made


def _own(things: object) -> list[Object]:
    """Without `extraObjects`, which say for themselves what they are."""
    return [thing for thing in things if "labels" in thing["metadata"]]  # type: ignore[attr-defined]


def _without_chance(texts: dict[str, str]) -> dict[str, str]:
    return {path: text for path, text in texts.items() if not path.endswith("/secret.yaml")}
