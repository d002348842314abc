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
    """

    concurrency: int = Field(default=32, ge=1, le=1024)
    answer_deadline_s: float = Field(default=300, gt=0)


class Settings(ServiceSettings):
    """The kit's settings and evaluation's own."""

    evaluation: EvaluationOptions = EvaluationOptions()
