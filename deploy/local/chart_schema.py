"""The schema of the chart's values.

That of `settings` comes from the settings of the services, so that whatever a process can be told can be said in the
values, and nothing else.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

LAUNCHERS = ("ingestion", "synthesis", "curation", "training", "evaluation")
SERVICES = ("registry", *LAUNCHERS, "serving", "gateway")
SHARED = ("grpc", "jobs", "log_json", "log_level")
"""What every service can be told in `settings`; what else they share, the chart says itself."""
ENGINES = ("training", "serving")
"""Services that know what engines hold. The chart says it where they are in pods of their own."""
BY_THE_CHART = {
    "grpc": {"host", "port", "drain_s", "max_connection_age_s"},
    "launcher": {
        *("kind", "kubeconfig", "namespace", "owner", "role", "host", "image"),
        *("image_pull_policy", "image_pull_secrets", "service_account", "user", "scratch_claim"),
    },
    "registry": {"migrates"},
    "gateway": {"host", "port", "keys", "drain_s"},
    "serving": {"preload", "tensor_parallel", "dtype", "max_adapters", "max_engines", "start_s"},
    "training": {"local_ray"},
}
"""Fields that templates set from values of their own, so that `settings` may not."""
IN_RAY = {"enabled", "image"}
BY_ITS_COMMAND = {"gateway": {"project"}, "training": {"model_folders"}}
"""Fields that `anneal up` takes from its command line, whatever the environment says."""


# -- small parts -------------------------------------------------------------------------------------------------------


def closed(**properties: Any) -> Schema:
    """An object without further keys."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def integer(least: int = 0, most: int | None = None) -> Schema:
    """A whole number."""
    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return {"type": "integer", **bounds}


def text(pattern: str = "") -> Schema:
    """A string."""
    return {"type": "string", "pattern": pattern} if pattern else {"type": "string"}


def array(items: Schema, **limits: Any) -> Schema:
    """A list."""
    return {"type": "array", "items": items, **limits}


STRING = text()
FILLED = {"type": "string", "minLength": 1}
BOOLEAN = {"type": "boolean"}
OBJECT = {"type": "object"}
OBJECTS = array(OBJECT)
STRINGS = {"type": "object", "additionalProperties": STRING}
NAME = text(r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$")
QUANTITY = text(r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$")
QUANTITY_OR_NONE = text(r"^([0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?)?$")
TAG = text(r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$")
STORE_URL = text("^((s3|s3a|gs|az|azure|abfs|abfss|adl|https)://.+)?$")
DURATION = text(r"^([0-9]+(h|m|s|ms))+$")
PULL_POLICY = {"enum": ["IfNotPresent", "Always", "Never"]}
PORTS = array(integer(1, 65535), minItems=1)


def ref(name: str) -> Schema:
    """A definition below `$defs`."""
    return {"$ref": f"#/$defs/{name}"}


ACCOUNT = closed(create=BOOLEAN, name=NAME, annotations=STRINGS)
PLACE = closed(to=array(ref("peer")), ports=PORTS)
PEERS = array(ref("peer"))


def definitions() -> Schema:
    """What several values share."""
    claim = {"enum": ["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]}
    return {
        "image": closed(
            registry=STRING,
            repository=STRING,
            tag=TAG,
            digest=text("^(sha256:[0-9a-f]{64})?$"),
            pullPolicy={"enum": ["", *PULL_POLICY["enum"]]},
            flavor={"enum": ["", "cpu", "cuda"]},
        ),
        "peer": {**closed(podSelector=OBJECT, namespaceSelector=OBJECT, ipBlock=OBJECT), "minProperties": 1},
        "persistence": closed(
            enabled=BOOLEAN,
            existingClaim=NAME,
            storageClass=STRING,
            accessModes=array(claim, minItems=1),
            size=QUANTITY,
            keep=BOOLEAN,
        ),
        "probe": closed(
            initialDelaySeconds=integer(),
            periodSeconds=integer(1),
            timeoutSeconds=integer(1),
            successThreshold=integer(1),
            failureThreshold=integer(1),
        ),
        "resources": closed(requests=OBJECT, limits=OBJECT, claims=OBJECTS),
    }


def pods() -> Schema:
    """The keys that every service has."""
    percent = {"type": "string", "pattern": "^[0-9]+%$"}
    return {
        "image": ref("image"),
        "imagePullSecrets": array(closed(name=NAME)),
        "replicaCount": integer(),
        "settings": OBJECT,
        "serviceAccount": ACCOUNT,
        "podSecurityContext": OBJECT,
        "securityContext": OBJECT,
        "resources": ref("resources"),
        "nodeSelector": STRINGS,
        "tolerations": OBJECTS,
        "affinity": OBJECT,
        "topologySpreadConstraints": OBJECTS,
        "priorityClassName": STRING,
        "runtimeClassName": STRING,
        "podAnnotations": STRINGS,
        "podLabels": STRINGS,
        "extraEnv": OBJECTS,
        "extraEnvFrom": OBJECTS,
        "extraVolumes": OBJECTS,
        "extraVolumeMounts": OBJECTS,
        "strategy": OBJECT,
        "drainSeconds": integer(),
        "preStopSeconds": integer(1),
        "terminationGracePeriodSeconds": integer(),
        "startupProbe": ref("probe"),
        "livenessProbe": ref("probe"),
        "readinessProbe": ref("probe"),
        "volumes": closed(data=QUANTITY, tmp=QUANTITY, shm=QUANTITY_OR_NONE),
        "persistence": ref("persistence"),
        "pdb": closed(enabled=BOOLEAN, maxUnavailable={"anyOf": [integer(), percent]}),
        "service": closed(type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, annotations=STRINGS),
    }


def component(service: str, **own: Any) -> Schema:
    """A service's values."""
    return closed(**{**pods(), "settings": ref(f"settings-{service}"), **own})


ONE = {**integer(0, 1), "description": "Jobs and files have one keeper: one pod, or none to stop it."}
CPU_SCALING = closed(
    enabled=BOOLEAN,
    minReplicas=integer(1),
    maxReplicas=integer(1),
    targetCPUUtilizationPercentage=integer(1),
)
QUEUE_SCALING = closed(
    enabled=BOOLEAN,
    kind={"enum": ["keda", "hpa"]},
    minReplicas=integer(1),
    maxReplicas=integer(1),
    targetWaitingRequests=integer(1),
    prometheusAddress=text("^https?://.+"),
    hpaMetric=FILLED,
    pollingSeconds=integer(1),
    cooldownSeconds=integer(),
)


def serving() -> Schema:
    """The values of serving, of which each base model can set all but the list again."""
    shared = {
        "gpus": integer(),
        "gpuResource": FILLED,
        "dtype": {"enum": ["auto", "float32", "bfloat16", "float16"]},
        "maxAdapters": integer(1, 256),
        "maxRank": integer(1, 512),
        "startSeconds": integer(1),
        "autoscaling": QUEUE_SCALING,
    }
    model = component(
        "serving",
        **shared,
        name=text("^[a-z0-9]([a-z0-9-]{0,16}[a-z0-9])?$"),
        model=text("^projects/[a-z0-9][a-z0-9-]*/models/[a-z0-9][a-z0-9-]*$"),
    )
    return component("serving", **shared, models=array({**model, "required": ["name", "model"]}))


# -- the schema of settings, from the services -------------------------------------------------------------------------


def settings_class(service: str) -> Any:
    """The settings of a service's process."""
    return importlib.import_module(f"anneal.{service}.settings").Settings


def own_group(service: str) -> str:
    """The nested settings that only this service has."""
    return "teacher" if service == "synthesis" else service


def groups(service: str) -> Schema:
    """What can be said in `settings` of one service."""
    made = settings_class(service).model_json_schema()
    known = made["properties"]
    wanted = [*SHARED, own_group(service)]
    if service in LAUNCHERS:
        wanted.append("launcher")
    if service in ENGINES:
        wanted.append("engine")
    return {name: _group(name, known[name], made["$defs"]) for name in wanted}


def _group(name: str, schema: Schema, known: Mapping[str, Schema]) -> Schema:
    found = _plain(schema, known)
    for field in BY_THE_CHART.get(name, ()):
        del found["properties"][field]
    if name == "launcher":
        for field in IN_RAY:
            del found["properties"]["ray"]["properties"][field]
    return found


def _plain(schema: Schema, known: Mapping[str, Schema]) -> Schema:
    """A schema of pydantic's without references, titles and defaults; fields get what their docstring says."""
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    kept = {key: value for key, value in schema.items() if key not in ("title", "default", "description", "format")}
    if "items" in kept:
        kept["items"] = _plain(kept["items"], known)
    if "properties" in kept:
        said = dict(_attributes(schema.get("description", "")))
        fields = {name: _plain(field, known) for name, field in kept["properties"].items()}
        kept["properties"] = {
            name: {**field, "description": said[name]} if name in said else field for name, field in fields.items()
        }
    return kept


def _attributes(docstring: str) -> Iterator[tuple[str, str]]:
    _, _, listed = docstring.partition("Attributes:\n")
    for entry in re.split(r"\n {4}(?=\w)", "\n" + listed):
        name, colon, said = entry.strip().partition(": ")
        if colon:
            yield name, " ".join(said.split())


def settings_definitions() -> Schema:
    """One definition for each service, one for all of them in one process, one for what they share."""
    each = {service: groups(service) for service in SERVICES}
    shared = {name: schema for name, schema in each["registry"].items() if name in SHARED}
    together = {name: schema for found in each.values() for name, schema in found.items() if name != "launcher"}
    made = {
        f"settings-{service}": closed(**{name: schema for name, schema in found.items() if name != "engine"})
        for service, found in each.items()
    }
    for group, fields in BY_ITS_COMMAND.items():
        left = {name: field for name, field in together[group]["properties"].items() if name not in fields}
        together[group] = {**together[group], "properties": left}
    return {**made, "settings-shared": closed(**shared), "settings-standalone": closed(**together)}


# -- the whole ---------------------------------------------------------------------------------------------------------


def schema() -> Schema:
    """The schema of all values."""
    monitor = {"enabled": BOOLEAN, "additionalLabels": STRINGS}
    values = closed(
        mode={"enum": ["standalone", "distributed"]},
        nameOverride=NAME,
        fullnameOverride=NAME,
        commonLabels=STRINGS,
        commonAnnotations=STRINGS,
        clusterDomain=FILLED,
        image=closed(registry=STRING, prefix=STRING, tag=TAG, pullPolicy=PULL_POLICY),
        auth=closed(existingSecret=NAME, tokensKey=FILLED, gatewayKeysKey=FILLED, project=text("^[a-z0-9][a-z0-9-]*$")),
        tls=closed(
            existingSecret=NAME,
            caKey=STRING,
            mutual=BOOLEAN,
            certManager=closed(
                enabled=BOOLEAN,
                issuerRef=closed(name=NAME, kind=FILLED, group=FILLED),
                duration=DURATION,
                renewBefore=DURATION,
            ),
        ),
        database=closed(existingSecret=NAME, key=FILLED),
        store=closed(url=STORE_URL, options=OBJECT, existingSecret=NAME),
        migrations=closed(
            enabled=BOOLEAN, backoffLimit=integer(), activeDeadlineSeconds=integer(1), resources=ref("resources")
        ),
        jobs=closed(
            serviceAccount=ACCOUNT,
            scratch=closed(enabled=BOOLEAN, existingClaim=NAME, storageClass=STRING, size=QUANTITY, keep=BOOLEAN),
        ),
        defaults=component("shared"),
        standalone=component("standalone", replicaCount=ONE, extraArgs=array(STRING)),
        registry=component("registry", autoscaling=CPU_SCALING),
        ingestion=component("ingestion", replicaCount=ONE),
        synthesis=component("synthesis", replicaCount=ONE),
        curation=component("curation", replicaCount=ONE),
        training=component("training", replicaCount=ONE, kuberay=closed(enabled=BOOLEAN, image=STRING)),
        serving=serving(),
        evaluation=component("evaluation", replicaCount=ONE),
        gateway=component("gateway", autoscaling=CPU_SCALING),
        ingress=closed(enabled=BOOLEAN, className=STRING, annotations=STRINGS, host=STRING, tlsSecret=NAME),
        networkPolicy=closed(
            enabled=BOOLEAN,
            **dict.fromkeys(("prometheus", "gatewayClients", "grpcClients", "kuberayOperator"), PEERS),
            **dict.fromkeys(("dns", "database", "store", "kubernetesApi", "internet"), PLACE),
        ),
        monitoring=closed(
            serviceMonitor=closed(**monitor, interval=DURATION),
            podMonitor=closed(**monitor, interval=DURATION),
            prometheusRule=closed(**monitor),
            dashboards=closed(enabled=BOOLEAN, label=FILLED, labelValue=STRING, annotations=STRINGS),
        ),
        test=closed(enabled=BOOLEAN, timeoutSeconds=integer(1)),
        extraObjects=array({"type": ["object", "string"]}),
    )
    values["properties"]["global"] = OBJECT
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart anneal",
        **values,
        "$defs": {**definitions(), **settings_definitions()},
    }
