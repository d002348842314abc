"""What the pod of the synthesis service can be told."""

from __future__ import annotations

from pydantic import Field

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings


class TeacherOptions(Options):
    """How teachers are reached.

    Attributes:
        hosts: glob patterns of the hosts that an order may name; by default any.
        timeout_s: longest wait for one answer.
        attempts: attempts per call, the first included.
        away_s: longest that an endpoint without a free place or without a server is asked again, such as while it is
            restarted. These tries cost nothing and are no attempts.
        overhead_tokens: the most tokens that an endpoint's own chat template adds to a prompt; part of every
            call's price until the endpoint says what it really cost.
    """

    hosts: tuple[str, ...] = ("*",)
    timeout_s: float = Field(default=120, gt=0)
    attempts: int = Field(default=6, ge=1)
    away_s: float = Field(default=1800, ge=0)
    overhead_tokens: int = Field(default=128, ge=0)


class Settings(ServiceSettings):
    """The service's settings: the shared ones and the teachers'."""

    teacher: TeacherOptions = TeacherOptions()
