"""The options that settings are made of: each a nested setting with its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from anneal.kit.engine.adapters import MAX_RANK, RANKS
from anneal.kit.quantities import parse_quantity


class Options(BaseModel):
    """Base of nested settings: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GrpcOptions(Options):
    """The gRPC server.

    Attributes:
        host: address to bind; anything but loopback needs tokens.
        port: 0 takes a free one.
        max_message_bytes: longest message accepted.
        max_concurrent: RPCs handled at once; one more is refused as busy.
        max_waiting: RPCs at once that only wait for a job to go on or to end; one more is refused as busy.
        drain_s: seconds that running RPCs get at shutdown.
        max_connection_age_s: age at which a connection is given up for a new one, so that clients find new replicas;
            0 keeps them. RPCs that run then get to their end.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    max_message_bytes: int = Field(default=4 << 20, ge=1 << 16)
    max_concurrent: int = Field(default=256, ge=1)
    max_waiting: int = Field(default=1024, ge=1)
    drain_s: float = Field(default=10, ge=0)
    max_connection_age_s: float = Field(default=0, ge=0)


class EngineOptions(Options):
    """What the engines of serving hold; training knows it too, so that nothing is trained that they would refuse.

    Attributes:
        max_rank: highest rank of an adapter that an engine has room for; memory grows with it.
        max_ranks: the same of engines that have another room, by the resource name of their base model.
        device: where the engines compute, `cpu` or `cuda`, which decides the sizes of attention heads they can; `auto`
            is what the process that asks computes on itself.
    """

    max_rank: int = Field(default=MAX_RANK, ge=1, le=RANKS[-1])
    max_ranks: dict[str, Annotated[int, Field(ge=1, le=RANKS[-1])]] = Field(default_factory=dict)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def rank_of(self, base_model: str) -> int:
        """The highest rank of an adapter over a base model."""
        return self.max_ranks.get(base_model, self.max_rank)


class TlsOptions(Options):
    """TLS of every gRPC connection, as server and as client; PEM files, read again when they change.

    Attributes:
        cert: this process's certificate, with the chain below it; None serves without TLS.
        key: its private key.
        ca: certificates that the other side's must be signed by; None takes the system's.
        mutual: servers ask clients for a certificate, too.
    """

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    mutual: bool = False

    @model_validator(mode="after")
    def _whole(self) -> TlsOptions:
        if (self.cert is None) != (self.key is None):
            raise ValueError("a certificate needs its key: set both ANNEAL_TLS__CERT and ANNEAL_TLS__KEY")
        if self.mutual and (self.cert is None or self.ca is None):
            raise ValueError("mutual TLS needs ANNEAL_TLS__CERT, ANNEAL_TLS__KEY and ANNEAL_TLS__CA")
        return self


class MetricsOptions(Options):
    """The HTTP endpoint of the process for Prometheus (`/metrics`) and for probes (`/livez`, `/readyz`).

    Attributes:
        host: address to bind; anything but loopback needs `public`.
        port: 0 takes a free one, None serves none.
        public: metrics may be read from outside. Prometheus scrapes without credentials, so tokens do not guard them:
            who says yes here keeps strangers away by the network, such as a NetworkPolicy.
    """

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)
    public: bool = False


class StoreOptions(Options):
    """The object store: a folder or `s3://...`, with the options of obstore's `from_url`."""

    url: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


class JobOptions(Options):
    """Long jobs.

    Attributes:
        max_running: job processes at once.
        lease_s: seconds without a heartbeat after which an attempt is given up.
        cancel_grace_s: seconds a job that was asked to stop may take; then its process is ended.
        backoff_s: wait before the second attempt, give or take a quarter; doubles for every further one, up to 300 s.
        away_s: how long attempts that fail because another service does not answer are repeated and not charged, as
            during a rollout; the waits between them are at most a minute.
        max_attempts: attempts in all, without those that were interrupted.
        max_interruptions: attempts in all that end with their server, their machine or the cluster's doing, which is
            charged to nobody; a job that brings that about itself ends here.
    """

    max_running: int = Field(default=2, ge=1)
    lease_s: float = Field(default=60, gt=0)
    cancel_grace_s: float = Field(default=60, ge=0)
    backoff_s: float = Field(default=5, ge=0)
    away_s: float = Field(default=900, ge=0)
    max_attempts: int = Field(default=4, ge=1)
    max_interruptions: int = Field(default=50, ge=1)


class PodOptions(Options):
    """What one pod of a job may have. An order can narrow it, and never widen it.

    Attributes:
        cpu: processors it may use at most, as Kubernetes writes them: `2`, `500m`.
        cpu_request: processors that the scheduler reserves for it, at most `cpu`; empty reserves all of `cpu`.
        memory: memory, requested and limited: `8Gi`.
        gpus: GPUs.
        gpu_resource: name of the resource that GPUs are counted as.
        node_selector: labels of the nodes it may run on.
        tolerations: taints it may run beside, each as Kubernetes writes it.
        affinity: as Kubernetes writes it.
        priority_class: its PriorityClass; empty takes the cluster's default.
        runtime_class: its RuntimeClass; empty takes the node's default.
    """

    cpu: str = "1"
    cpu_request: str = ""
    memory: str = "2Gi"
    gpus: int = Field(default=0, ge=0)
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: dict[str, Any] = Field(default_factory=dict)
    priority_class: str = ""
    runtime_class: str = ""

    @field_validator("cpu", "memory")
    @classmethod
    def _a_quantity(cls, text: str) -> str:
        parse_quantity(text)
        return text

    @model_validator(mode="after")
    def _request_within_limit(self) -> PodOptions:
        if self.cpu_request and parse_quantity(self.cpu_request) > parse_quantity(self.cpu):
            raise ValueError(f"cpu_request {self.cpu_request} is more than cpu {self.cpu}, which is its limit")
        return self


class RayOptions(Options):
    """Training on a Ray cluster that KubeRay makes for each job.

    Attributes:
        enabled: KubeRay is installed; without it a job trains in its own pod.
        version: Ray's version, the image's.
        head: the pod that drives the training; it holds no GPU.
        worker: each pod that trains.
        image: image of both; empty takes the launcher's.
        linger_s: seconds that the Ray cluster is kept after its job has ended.
    """

    enabled: bool = False
    version: str = "2.60.0"
    head: PodOptions = PodOptions(cpu="2", memory="8Gi")
    worker: PodOptions = PodOptions(cpu="4", memory="16Gi", gpus=1)
    image: str = ""
    linger_s: int = Field(default=0, ge=0)


OWN_VOLUMES = ("data", "tmp", "shm", "job")
"""Names of the volumes that the launcher itself gives the pods of jobs."""


class LauncherOptions(Options):
    """Where the processes of long jobs run. Everything but `kind` is for Kubernetes.

    Attributes:
        kind: `subprocess` of this machine, or `kubernetes`: a Job for each attempt, and for training a RayJob.
        kubeconfig: file that says how to reach the cluster; None takes the service account of this pod.
        namespace: where jobs run; empty takes this pod's own.
        owner: tells the jobs of this service from those of every other in the namespace; all its replicas have the
            same. What carries it and belongs to no job of this service is deleted.
        role: name of a Role of the installation, such as the one that lets this service start jobs. The cluster deletes
            the jobs when it is deleted; with none they outlive the installation.
        host: `host:port` at which the pods of jobs reach this service.
        image: image of the jobs' pods.
        image_pull_policy: as Kubernetes names it.
        image_pull_secrets: names of the secrets that the image is pulled with.
        service_account: account of the jobs' pods, for a store's workload identity; its token is never mounted.
        user: numeric user and group they run as.
        env: environment variables of their containers.
        env_from_secrets: secrets whose keys become environment variables, such as a store's credentials.
        scratch_claim: a PersistentVolumeClaim on which jobs keep checkpoints and caches. Without one a new attempt
            starts from the beginning. Training on Ray needs one that many nodes can write.
        scratch_size: how much a pod may keep on its node where there is no claim.
        tmp_size: how much it may write to `/tmp`.
        shm_size: shared memory; counts as memory of the pod.
        volumes: further volumes of the pods, such as a bundle of certificates, each as Kubernetes writes it.
        mounts: where their containers find them.
        pod: what the pod of a job may have.
        ray: training on Ray.
        queue: Kueue's local queue that jobs wait in; empty for none.
        queues: further queues that an order may ask for.
        labels: labels of the pods, besides those that the launcher needs.
        annotations: annotations of the pods.
        grace_s: seconds between asking a pod to stop and ending it.
        pending_s: longest that a job waits for a node, an image, a volume, a quota or whatever else keeps its process
            from starting, the time in a queue not counted; then the job fails with that reason.
        deadline_s: longest that an attempt may run; 0 for no limit.
        away_s: how long a job goes on while this service does not answer it, as when it is upgraded.
        ttl_s: how long ended jobs can be looked at with kubectl; those that were cancelled are deleted at once.
    """

    kind: Literal["subprocess", "kubernetes"] = "subprocess"
    kubeconfig: Path | None = None
    namespace: str = ""
    owner: str = Field(default="", pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
    role: str = ""
    host: str = ""
    image: str = ""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    user: int = Field(default=10001, ge=1)
    env: dict[str, str] = Field(default_factory=dict)
    env_from_secrets: tuple[str, ...] = ()
    scratch_claim: str = ""
    scratch_size: str = "20Gi"
    tmp_size: str = "10Gi"
    shm_size: str = "1Gi"
    volumes: tuple[dict[str, Any], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    pod: PodOptions = PodOptions()
    ray: RayOptions = RayOptions()
    queue: str = ""
    queues: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    grace_s: int = Field(default=60, ge=0)
    pending_s: int = Field(default=900, ge=1)
    deadline_s: int = Field(default=0, ge=0)
    away_s: int = Field(default=3600, ge=0)
    ttl_s: int = Field(default=3600, ge=0)

    @field_validator("volumes")
    @classmethod
    def _names_that_are_free(cls, volumes: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for volume in volumes:
            if volume.get("name") in OWN_VOLUMES:
                raise ValueError(f"the volume {volume['name']} is the launcher's own: choose another name")
        return volumes

    @field_validator("scratch_size", "tmp_size", "shm_size")
    @classmethod
    def _a_quantity(cls, text: str) -> str:
        parse_quantity(text)
        return text

    @model_validator(mode="after")
    def _what_kubernetes_needs(self) -> LauncherOptions:
        if self.kind == "kubernetes":
            needed = {
                "image": "the image of the jobs' pods",
                "host": "where those pods reach this one",
                "owner": "a name for this service's jobs that no other service in the namespace has",
            }
            for name, wanted in needed.items():
                if not getattr(self, name):
                    raise ValueError(f"launcher.kind kubernetes needs ANNEAL_LAUNCHER__{name.upper()}: {wanted}")
            if self.ray.enabled and not self.scratch_claim:
                raise ValueError(
                    "launcher.ray needs ANNEAL_LAUNCHER__SCRATCH_CLAIM: its head and workers share checkpoints and data"
                )
        return self
