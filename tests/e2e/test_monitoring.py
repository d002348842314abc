"""A real Prometheus watched the small loop: every expression of every panel and rule is asked of what it saw."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from anneal.cli.monitoring import SCRAPE_S
from tests.fixtures.monitoring import (
    DASHBOARDS,
    Expression,
    alerts,
    filled,
    needed,
    panel_expressions,
    rules,
    selectors,
)

pytestmark = [
    pytest.mark.monitoring,
    pytest.mark.e2e,
    pytest.mark.ray,
    pytest.mark.vllm,
    pytest.mark.timeout(900),
]

# Why an expression may be without data after a loop in which nothing went wrong.
WITHOUT_DATA: Mapping[str, str] = {
    "overview: Firing alerts": "nothing is wrong",
    "data: Quarantined, by reason": "every row could be read",
    "serving: Adapters refused": "every adapter passed its checks",
    "jobs: Jobs that wait": "no job waited for longer than a scrape",
    "jobs: Since launched jobs wait": "a process of this machine waits for nothing",
    'AnnealJobPending: anneal_job_pending_seconds{reason!~"queue|api"}': "a process of this machine waits for nothing",
    'AnnealRowsQuarantined: anneal:rows:increase1h{verdict="quarantined"}': "every row could be read",
}
WINDOW_S = 900
AS_GRAFANA = {
    "__rate_interval": f"{4 * SCRAPE_S}s",
    "__range": f"{WINDOW_S}s",
    **dict.fromkeys(("namespace", "kind", "operation", "base", "adapter", "service"), ".*"),
}


class Watch:
    """Asks Prometheus about the time of the loop, whatever the tests before this module did later."""

    def __init__(self, address: str, end: float) -> None:
        self._client = httpx2.Client(base_url=f"http://{address}/api/v1", timeout=60)
        self._end = end

    def ask(self, text: str) -> list[dict[str, Any]]:
        """The series of an expression that had a number at some moment of the loop.

        Raises:
            AssertionError: Prometheus does not understand it.
        """
        asked = {"query": text, "start": str(self._end - WINDOW_S), "end": str(self._end), "step": str(SCRAPE_S)}
        answer = self._client.post("/query_range", data=asked).json()
        assert answer["status"] == "success", f"{answer.get('error')}: {text}"
        series: list[dict[str, Any]] = answer["data"]["result"]
        return [one for one in series if any(math.isfinite(float(value)) for _, value in one["values"])]

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def get(self, path: str) -> Any:
        """What an address of the API answers."""
        return self._client.get(path).json()["data"]


@pytest.fixture(scope="module")
def watch(looped: Any) -> Iterator[Watch]:
    needed("prometheus")
    system, folder, _, _ = looped
    # A moment longer than the loop: what happened in its last seconds is read and evaluated by then.
    end = (folder / "report" / "report.json").stat().st_mtime + 4 * SCRAPE_S
    time.sleep(max(0.0, end - time.time()))
    watch = Watch(system.state["prometheus"], end)
    yield watch
    watch.close()


def unexpected(watch: Watch, expressions: list[Expression]) -> dict[str, str]:
    """The expressions that have no data and no reason, or data in spite of one."""
    found = {}
    for expression in expressions:
        text = filled(expression.text, AS_GRAFANA)
        if bool(watch.ask(text)) == (expression.where in WITHOUT_DATA):
            found[expression.where] = text
    return found


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_the_loop(watch: Watch, path: Path) -> None:
    assert unexpected(watch, list(panel_expressions(path))) == {}


def test_every_recording_rule_records(watch: Watch) -> None:
    recording = [rule for rule in rules() if "record" in rule]
    assert unexpected(watch, [Expression(rule["record"], rule["expr"]) for rule in recording]) == {}
    assert unexpected(watch, [Expression(rule["record"], rule["record"]) for rule in recording]) == {}


def test_every_alert_looks_at_something_and_none_fires(watch: Watch) -> None:
    for alert in alerts():
        watch.ask(alert["expr"])
        seen = [
            Expression(f"{alert['alert']}: {name}{matchers}", name + matchers)
            for name, matchers in selectors(alert["expr"])
        ]
        assert unexpected(watch, seen) == {}
    assert watch.ask('ALERTS{alertstate="firing"}') == []


def test_prometheus_is_content_with_every_rule(watch: Watch) -> None:
    known = [rule for group in watch.get("/rules")["groups"] for rule in group["rules"]]
    assert len(known) == len(rules())
    assert [(rule["name"], rule.get("lastError")) for rule in known if rule["health"] != "ok"] == []


def test_up_says_where_prometheus_is(looped: Any) -> None:
    needed("prometheus")
    system, _, _, _ = looped
    assert json.loads(system.said.read_text())["prometheus"] == system.state["prometheus"]
