"""What the pod of the curation service can be told."""

from __future__ import annotations

from pydantic import Field

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings


class JudgeOptions(Options):
    """How models that judge rows are reached.

    Attributes:
        hosts: glob patterns of the hosts of judges that an order may name; by default any.
        models: glob patterns of the reward models and classifiers, folders or ids on a hub, that an order may name; by
            default any.
        timeout_s: longest wait for one answer.
        attempts: attempts per call, the first included.
    """

    hosts: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    timeout_s: float = Field(default=60, gt=0)
    attempts: int = Field(default=4, ge=1)


class CurationOptions(Options):
    """What orders may ask for.

    Attributes:
        max_sources: most dataset versions one order may read.
        max_steps: most steps of one order.
        judges: models that judge rows.
    """

    max_sources: int = Field(default=100, ge=1)
    max_steps: int = Field(default=50, ge=1)
    judges: JudgeOptions = JudgeOptions()


class Settings(ServiceSettings):
    """The service's settings: the shared ones and its own."""

    curation: CurationOptions = CurationOptions()
