"""Everything the training pod can be told."""

from __future__ import annotations

import os

from pydantic import Field, field_validator

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings
from anneal.training.domain.model_files import URI_SCHEMES


class TrainingOptions(Options):
    """Training.

    Attributes:
        local_ray: keep one Ray runtime on this machine, started when the first job needs it.
        ray_address: `host:port` of the cluster's Ray; empty with `local_ray`. Its token comes from the environment
            (`RAY_AUTH_MODE`, `RAY_AUTH_TOKEN_PATH`).
        model_folders: folders of this server's own, such as mounted volumes, below which base models may be imported
            from. A caller's own folder is uploaded and needs none.
        model_uris: prefixes of URIs of object stores below which base models may be imported from: `s3://` for every
            bucket that the credentials of the jobs can read, `s3://bucket/models` for one place, empty for none. The
            system's own store is never read this way.
        max_workers: most Ray Train workers that an order may ask for.
        worker_cpus: processors that each worker is given.
        parity_tolerance: largest difference of a logprob between training and serving, in nats; 0 takes what was
            measured for the model in the number format that serving computes in (`domain/agreement.py`).
        parity_rms_tolerance: largest root of the mean square of those differences, in nats; 0 takes the measured one.
        parity_deadline_s: longest that the comparison with serving may take in all. Until then it waits for whatever is
            missing: the name, the port, the engine, room for a request. It should be longer than a rollout of serving
            and the start of an engine take. After it the job fails, and the same request takes up its weights.
        object_store_bytes: size of the local runtime's object store; training hardly uses it.
    """

    local_ray: bool = False
    ray_address: str = ""
    model_folders: tuple[str, ...] = ()
    model_uris: tuple[str, ...] = URI_SCHEMES
    max_workers: int = Field(default_factory=lambda: max(2, os.cpu_count() or 1), ge=1)
    worker_cpus: int = Field(default=1, ge=1)
    parity_tolerance: float = Field(default=0, ge=0)
    parity_rms_tolerance: float = Field(default=0, ge=0)
    parity_deadline_s: float = Field(default=1800, gt=0)
    object_store_bytes: int = Field(default=200 << 20, ge=80 << 20)

    @field_validator("model_uris")
    @classmethod
    def _prefixes_of_stores(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in prefixes:
            if not prefix.startswith(URI_SCHEMES):
                raise ValueError(f"{prefix!r} begins with none of {', '.join(URI_SCHEMES)}")
        return prefixes


class Settings(ServiceSettings):
    """The kit's settings and training's own."""

    training: TrainingOptions = TrainingOptions()
