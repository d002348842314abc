"""What the pod of the curation service can be told."""

from __future__ import annotations

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
    """

    hosts: tuple[str, ...] = ("*",)
    folders: tuple[str, ...] = ()
    timeout_s: float = Field(default=60, gt=0)
    attempts: int = Field(default=6, ge=1)


class CurationOptions(Options):
    """What orders may ask for.

    Attributes:
        max_sources: most dataset versions one order may read.
        max_steps: most steps of one order.
        max_sample_rows: most rows that an overview may embed, cluster and draw.
        encoder: how encoders are reached.
    """

    max_sources: int = Field(default=100, ge=1)
    max_steps: int = Field(default=50, ge=1)
    max_sample_rows: int = Field(default=50_000, ge=1)
    encoder: EncoderOptions = EncoderOptions()


class Settings(ServiceSettings):
    """The service's settings: the shared ones and its own."""

    curation: CurationOptions = CurationOptions()
