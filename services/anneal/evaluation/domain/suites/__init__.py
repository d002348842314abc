"""The table of suites. To add one: a file here and a line in the table."""

from __future__ import annotations

from anneal.evaluation.domain.suite import Suite
from anneal.evaluation.domain.suites.answers import ANSWERS
from anneal.evaluation.domain.suites.likelihood import LIKELIHOOD

SUITES: dict[str, Suite] = {
    "answers": ANSWERS,
    "likelihood": LIKELIHOOD,
}
