"""Settings every service shares. Two ways in: environment variables `ANNEAL_...` and secret files of the same names."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from anneal.kit.quantities import parse_quantity

ENV_PREFIX = "ANNEAL_"
_NESTED = "__"


class Misconfigured(Exception):
    """The process was told something that cannot work; the text says what, in one line."""


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
    """

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    max_message_bytes: int = Field(default=4 << 20, ge=1 << 16)
    max_concurrent: int = Field(default=256, ge=1)
    max_waiting: int = Field(default=1024, ge=1)
    drain_s: float = Field(default=10, ge=0)


class MetricsOptions(Options):
    """The Prometheus endpoint of the process.

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
        backoff_s: wait after the first failure; doubles for every further one.
        max_attempts: attempts in all, without those that ended with their server.
    """

    max_running: int = Field(default=2, ge=1)
    lease_s: float = Field(default=60, gt=0)
    cancel_grace_s: float = Field(default=60, ge=0)
    backoff_s: float = Field(default=1, ge=0)
    max_attempts: int = Field(default=4, ge=1)


class PodOptions(Options):
    """What one pod of a job may have. An order can narrow it, and never widen it.

    Attributes:
        cpu: processors, requested and limited, as Kubernetes writes them: `2`, `500m`.
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


class LauncherOptions(Options):
    """Where the processes of long jobs run. Everything but `kind` is for Kubernetes.

    Attributes:
        kind: `subprocess` of this machine, or `kubernetes`: a Job for each attempt, and for training a RayJob.
        kubeconfig: file that says how to reach the cluster; None takes the service account of this pod.
        namespace: where jobs run; empty takes this pod's own.
        owner: tells the jobs of this service from those of every other in the namespace; all its replicas have the
            same. What carries it and belongs to no job of this service is deleted.
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
        pending_s: longest wait for a node, an image or a volume, the time in a queue not counted.
        deadline_s: longest that an attempt may run; 0 for no limit.
        ttl_s: how long ended jobs can be looked at with kubectl.
    """

    kind: Literal["subprocess", "kubernetes"] = "subprocess"
    kubeconfig: Path | None = None
    namespace: str = ""
    owner: str = Field(default="", pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
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
    pending_s: int = Field(default=1800, ge=1)
    deadline_s: int = Field(default=0, ge=0)
    ttl_s: int = Field(default=3600, ge=0)

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


class ServiceSettings(BaseSettings):
    """What every process of Anneal can be told.

    Attributes:
        data_dir: folder for databases, caches, scratch and, by default, the store.
        database_url: SQLAlchemy URL of the registry and the job store; empty means SQLite below `data_dir`.
        tokens: bearer tokens the servers accept, each of printable ASCII without spaces; clients of other services
            send the first one.
        addresses: `service -> host:port` of the other services.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=_NESTED,
        frozen=True,
        extra="forbid",
        secrets_dir=os.environ.get("ANNEAL_SECRETS_DIR"),
    )

    data_dir: Path = Field(default_factory=lambda: Path.home() / ".anneal")
    grpc: GrpcOptions = GrpcOptions()
    metrics: MetricsOptions = MetricsOptions()
    store: StoreOptions = StoreOptions()
    jobs: JobOptions = JobOptions()
    launcher: LauncherOptions = LauncherOptions()
    database_url: SecretStr = SecretStr("")
    tokens: tuple[SecretStr, ...] = ()
    addresses: dict[str, str] = Field(default_factory=dict)
    log_json: bool = True
    log_level: str = "INFO"

    @field_validator("tokens")
    @classmethod
    def _tokens_that_can_be_sent(cls, tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        # A blank one would let in everybody who sends none; others would not survive the way through a header.
        for token in tokens:
            text = token.get_secret_value()
            if not text or not all("!" <= character <= "~" for character in text):
                raise ValueError("a token is blank, or has characters besides printable ASCII without spaces")
        return tokens

    @model_validator(mode="after")
    def _credentials_beyond_loopback(self) -> ServiceSettings:
        if not is_loopback(self.grpc.host) and not self.tokens:
            raise ValueError(
                f"grpc.host {self.grpc.host} is reachable from outside: set ANNEAL_TOKENS, or bind to 127.0.0.1"
            )
        if not is_loopback(self.metrics.host) and not self.metrics.public:
            raise ValueError(
                f"metrics.host {self.metrics.host} is reachable from outside, and metrics ask for no credentials: set "
                "ANNEAL_METRICS__PUBLIC=true to allow it, or bind to 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _a_store_that_pods_reach(self) -> ServiceSettings:
        scheme, separator, _ = self.store.url.partition("://")
        if self.launcher.kind == "kubernetes" and (not separator or scheme in ("file", "memory")):
            raise ValueError(
                "launcher.kind kubernetes needs a store that the pods of jobs reach: set ANNEAL_STORE__URL, such as to "
                "s3://bucket"
            )
        return self

    def store_url(self) -> str:
        """Where the store is."""
        return self.store.url or str(self.data_dir / "store")

    def folders(self) -> dict[str, Path]:
        """The folders that fill up, by name; the store is one of them where it is on this machine."""
        store = self.store_url()
        own = (
            {} if "://" in store and not store.startswith("file://") else {"store": Path(store.removeprefix("file://"))}
        )
        return {"data": self.data_dir, **own}

    def sql_url(self, name: str) -> str:
        """SQLAlchemy URL of a database: the configured one, or a SQLite file of that name."""
        return self.database_url.get_secret_value() or f"sqlite+aiosqlite:///{self.data_dir / (name + '.db')}"

    def bearer_tokens(self) -> tuple[str, ...]:
        """The tokens as plain strings."""
        return tuple(token.get_secret_value() for token in self.tokens)


_Settings = TypeVar("_Settings", bound=ServiceSettings)


def read_settings(kind: type[_Settings], **given: Any) -> _Settings:
    """The settings of this process, from environment and secret files.

    Args:
        kind: which settings.
        given: values that win over the environment; of a nested setting, a mapping of those that do.

    Raises:
        SystemExit: some are wrong; its one line names the environment variables, and no value.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        wrong = [_setting(item["loc"], item["msg"]) for item in error.errors(include_input=False, include_url=False)]
        raise SystemExit(f"anneal: {'; '.join(wrong)}") from None
    except SettingsError as error:  # what should be JSON is none; pydantic's text names the field and not the variable
        named = next((name for name in kind.model_fields if f'"{name}"' in str(error)), None)
        if named is None:
            raise SystemExit(f"anneal: {' '.join(str(error).split())}") from None
        below = (
            f" or {ENV_PREFIX}{named.upper()}{_NESTED}..."
            if isinstance(kind.model_fields[named].default, Options)
            else ""
        )
        raise SystemExit(f"anneal: {ENV_PREFIX}{named.upper()}{below}: is no JSON") from None


def _setting(place: tuple[int | str, ...], problem: str) -> str:
    names = [part.upper() for part in place if isinstance(part, str)]
    text = problem.removeprefix("Value error, ")
    return f"{ENV_PREFIX}{_NESTED.join(names)}: {text}" if names else text


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
