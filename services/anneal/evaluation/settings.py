"""Everything the evaluation pod can be told."""

from __future__ import annotations

from pydantic import Field

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings


class EvaluationOptions(Options):
    """Evaluation.

    Attributes:
        concurrency: questions in flight at the serving service, per job.
        answer_deadline_s: seconds that one answer may take before it is asked again.
        serving_deadline_s: longest wait for one answer in all, while serving is away, starts, or has no room. It should
            be longer than a rollout of serving and the start of an engine take.
    """

    concurrency: int = Field(default=32, ge=1, le=1024)
    answer_deadline_s: float = Field(default=300, gt=0)
    serving_deadline_s: float = Field(default=1800, gt=0)


class Settings(ServiceSettings):
    """The kit's settings and evaluation's own."""

    evaluation: EvaluationOptions = EvaluationOptions()
