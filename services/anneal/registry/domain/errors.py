"""What the registry refuses, and why."""

from __future__ import annotations

from anneal.kit.errors import Conflict, Exists, Missing, NotYet
from anneal.registry.domain.resources import Kind


class DatasetMissing(Missing):
    """There is no dataset of that name."""

    reason = "DATASET_MISSING"


class DatasetVersionMissing(Missing):
    """There is no dataset version of that name."""

    reason = "DATASET_VERSION_MISSING"


class ModelMissing(Missing):
    """There is no model of that name."""

    reason = "MODEL_MISSING"


class AdapterMissing(Missing):
    """There is no adapter of that name."""

    reason = "ADAPTER_MISSING"


class AdapterVersionMissing(Missing):
    """There is no adapter version of that name."""

    reason = "ADAPTER_VERSION_MISSING"


class BenchmarkMissing(Missing):
    """There is no benchmark of that name."""

    reason = "BENCHMARK_MISSING"


class EvaluationMissing(Missing):
    """There is no evaluation of that name."""

    reason = "EVALUATION_MISSING"


class DeploymentMissing(Missing):
    """There is no deployment of that name."""

    reason = "DEPLOYMENT_MISSING"


class RowMissing(Missing):
    """No dataset version that was looked in holds the row."""

    reason = "ROW_MISSING"


class DatasetExists(Exists):
    """The dataset's name is taken."""

    reason = "DATASET_EXISTS"


class ModelExists(Exists):
    """The model's name is taken."""

    reason = "MODEL_EXISTS"


class AdapterExists(Exists):
    """The adapter's name is taken."""

    reason = "ADAPTER_EXISTS"


class BenchmarkExists(Exists):
    """The benchmark's name is taken."""

    reason = "BENCHMARK_EXISTS"


class EvaluationExists(Exists):
    """The evaluation's name is taken."""

    reason = "EVALUATION_EXISTS"


class DeploymentExists(Exists):
    """The deployment's name is taken."""

    reason = "DEPLOYMENT_EXISTS"


class VersionIdTaken(Exists):
    """Two digests share their first 12 hex digits."""

    reason = "VERSION_ID_TAKEN"


class ManifestMissing(NotYet):
    """A dataset version's manifest is not in the store, is no manifest or does not balance."""

    reason = "MANIFEST_MISSING"


class FilesMissing(NotYet):
    """The files a digest names are not in the store."""

    reason = "FILES_MISSING"


class ParityMissing(NotYet):
    """An adapter version came without proof that serving agrees with training."""

    reason = "PARITY_MISSING"


class BaseModelMismatch(NotYet):
    """An adapter and a base model do not belong together."""

    reason = "BASE_MODEL_MISMATCH"


class TargetMismatch(NotYet):
    """An evaluation says it judged other content than its target has."""

    reason = "TARGET_MISMATCH"


class BenchmarkEmpty(NotYet):
    """A benchmark's split has no rows."""

    reason = "BENCHMARK_EMPTY"


class GateClosed(NotYet):
    """No evaluation gave this adapter version a GO for the deployment's policy."""

    reason = "GATE_CLOSED"


class EtagMismatch(Conflict):
    """The resource was changed since the caller read it."""

    reason = "ETAG_MISMATCH"


class NotEmpty(NotYet):
    """A rebuild needs an empty registry."""

    reason = "REGISTRY_NOT_EMPTY"


_MISSING: dict[Kind, type[Missing]] = {
    Kind.DATASET: DatasetMissing,
    Kind.DATASET_VERSION: DatasetVersionMissing,
    Kind.MODEL: ModelMissing,
    Kind.ADAPTER: AdapterMissing,
    Kind.ADAPTER_VERSION: AdapterVersionMissing,
    Kind.BENCHMARK: BenchmarkMissing,
    Kind.EVALUATION: EvaluationMissing,
    Kind.DEPLOYMENT: DeploymentMissing,
}

_EXISTS: dict[Kind, type[Exists]] = {
    Kind.DATASET: DatasetExists,
    Kind.DATASET_VERSION: VersionIdTaken,
    Kind.MODEL: ModelExists,
    Kind.ADAPTER: AdapterExists,
    Kind.ADAPTER_VERSION: VersionIdTaken,
    Kind.BENCHMARK: BenchmarkExists,
    Kind.EVALUATION: EvaluationExists,
    Kind.DEPLOYMENT: DeploymentExists,
}


def missing(kind: Kind, name: str) -> Missing:
    """The refusal for a name that does not exist."""
    return _MISSING[kind](f"there is no {kind.words} {name}", name=name)


def exists(kind: Kind, name: str) -> Exists:
    """The refusal for a name that is taken."""
    return _EXISTS[kind](f"the {kind.words} {name} exists already", name=name)
