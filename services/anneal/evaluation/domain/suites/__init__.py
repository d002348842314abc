"""The table of suites. To add one: a file here and a line in the table."""

from __future__ import annotations

from anneal.evaluation.domain.suite import Suite
from anneal.evaluation.domain.suites.json_answers import JSON_ANSWERS
from anneal.evaluation.domain.suites.short_answers import SHORT_ANSWERS

SUITES: dict[str, Suite] = {
    "json_answers": JSON_ANSWERS,
    "short_answers": SHORT_ANSWERS,
}
