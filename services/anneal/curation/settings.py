"""What the pod of the curation service can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings


class EncoderOptions(Options):
    """How encoders, and models that name topics, are reached.

    Attributes:
        hosts: glob patterns of the hosts that an order may name as an endpoint; by default any.
        folders: folders below which an order may name an encoder's model; by default none, so that only models of the
            Hub can be named.
        timeout_s: longest wait for one answer.
        attempts: attempts per request, the first included.
        away_s: longest that an endpoint that does not answer, or is busy, after all attempts is asked again, such as
            while it is restarted.
    """

    hosts: tuple[str, ...] = ("*",)
    folders: tuple[str, ...] = ()
    timeout_s: float = Field(default=60, gt=0)
    attempts: int = Field(default=6, ge=1)
    away_s: float = Field(default=1800, ge=0)


class JudgeOptions(Options):
    """How models that judge rows are reached.

    Attributes:
        hosts: glob patterns of the hosts of judges that an order may name; by default any.
        models: glob patterns of the reward models and classifiers, folders or ids on a hub, that an order may name; by
            default any.
        timeout_s: longest wait for one answer.
        attempts: attempts per call, the first included.
        away_s: longest that an endpoint without a free place or without a server is asked again, such as while it is
            restarted. These tries cost nothing and are no attempts.
    """

    hosts: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    timeout_s: float = Field(default=60, gt=0)
    attempts: int = Field(default=4, ge=1)
    away_s: float = Field(default=1800, ge=0)


class CurationOptions(Options):
    """What orders may ask for, and how they are carried out.

    Attributes:
        max_sources: most dataset versions one order may read.
        max_steps: most steps of one order.
        executor: where rows are looked at: `threads` of the job's process, or Ray Data on a `ray` cluster, whose nodes
            have Anneal and reach the store. The result is the same.
        threads: how many; 0 takes one for each core.
        ray_address: of the cluster; empty takes the one the job's process is part of, or starts one.
        keep_index: whether a version keeps what is known of its rows, some 300 bytes each, in the store, so that the
            dataset's next version looks at new rows only.
        judges: models that judge rows.
        max_sample_rows: most rows that an overview may embed, cluster and draw.
        encoder: how encoders are reached.
    """

    max_sources: int = Field(default=100, ge=1)
    max_steps: int = Field(default=50, ge=1)
    executor: Literal["threads", "ray"] = "threads"
    threads: int = Field(default=0, ge=0)
    ray_address: str = ""
    keep_index: bool = True
    judges: JudgeOptions = JudgeOptions()
    max_sample_rows: int = Field(default=50_000, ge=1)
    encoder: EncoderOptions = EncoderOptions()


class Settings(ServiceSettings):
    """The service's settings: the shared ones and its own."""

    curation: CurationOptions = CurationOptions()
