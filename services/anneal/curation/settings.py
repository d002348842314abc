"""What the pod of the curation service can be told."""

from __future__ import annotations

from pydantic import Field

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings


class CurationOptions(Options):
    """What orders may ask for.

    Attributes:
        max_sources: most dataset versions one order may read.
        max_steps: most steps of one order.
    """

    max_sources: int = Field(default=100, ge=1)
    max_steps: int = Field(default=50, ge=1)


class Settings(ServiceSettings):
    """The service's settings: the shared ones and its own."""

    curation: CurationOptions = CurationOptions()
