"""Dashboards and rules: what Grafana and people need of them, and that they ask for nothing that nobody exports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.architecture.contract import rpcs
from tests.fixtures.monitoring import (
    DASHBOARDS,
    OF_PROMETHEUS,
    RULE_TESTS,
    RULES,
    alerts,
    dashboard,
    exported,
    panel_expressions,
    panels,
    recorded,
    rules,
    selectors,
)

BUILT_IN = {"__rate_interval", "__range"}
each = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def asked() -> list[str]:
    """Every expression of every panel and rule."""
    return [rule["expr"] for rule in rules()] + [e.text for path in DASHBOARDS for e in panel_expressions(path)]


def test_the_five_dashboards_are_there() -> None:
    assert [path.stem for path in DASHBOARDS] == ["data", "jobs", "overview", "serving", "training"]


@each
def test_a_dashboard_is_known_by_its_file(path: Path) -> None:
    found = dashboard(path)
    assert found["uid"] == f"anneal-{path.stem}"
    assert found["title"].startswith("Anneal / ")
    assert found["description"]
    assert found["tags"] == ["anneal"]
    assert "id" not in found, "Grafana gives out the number"
    assert found["schemaVersion"] <= 38, "Grafana 10.0 loads it without a migration it does not know"


@each
def test_a_dashboard_works_with_any_datasource(path: Path) -> None:
    found = dashboard(path)
    first = found["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asking = [variable for variable in found["templating"]["list"] if variable["type"] == "query"]
    asking += [part for panel in panels(path) for part in (panel, *panel["targets"])]
    assert [part for part in asking if part["datasource"] != chosen] == []


@each
def test_every_variable_is_used_and_known(path: Path) -> None:
    found = dashboard(path)
    known = {variable["name"] for variable in found["templating"]["list"]} - {"datasource"}
    questions = [expression.text for expression in panel_expressions(path)]
    questions += [variable["definition"] for variable in found["templating"]["list"] if "definition" in variable]
    used = {name for question in questions for name in re.findall(r"\$\{?(\w+)", question)} - BUILT_IN
    assert used == known


@each
def test_every_panel_can_be_read(path: Path) -> None:
    all_panels = dashboard(path)["panels"]
    ids = [panel["id"] for panel in all_panels]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in all_panels]
    assert all(titles)
    assert len(titles) == len(set(titles))
    for panel in panels(path):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)) >= 1, panel["title"]


@each
def test_no_panel_covers_another(path: Path) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard(path)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]


@each
def test_no_panel_picks_a_job_or_a_machine_by_hand(path: Path) -> None:
    for expression in panel_expressions(path):
        picked = re.findall(r'\b(job|instance|namespace|operation|base|adapter)\s*(=~?)\s*"([^"]*)"', expression.text)
        assert [value for _, _, value in picked if not value.startswith("$")] == [], expression.where


def test_every_metric_that_is_asked_for_is_exported() -> None:
    known = exported() | recorded() | OF_PROMETHEUS
    unknown = {(name, text) for text in asked() for name, _ in selectors(text) if name not in known}
    assert unknown == set()


def test_every_metric_of_ours_is_looked_at() -> None:
    looked_at = {name for text in asked() for name, _ in selectors(text)}
    definitions = [v.get("definition", "") for path in DASHBOARDS for v in dashboard(path)["templating"]["list"]]
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported() if name.startswith("anneal_")}
    unseen = {
        family
        for family in families
        if not looked_at & {family, f"{family}_bucket", f"{family}_sum", f"{family}_count"}
        and not any(family in definition for definition in definitions)
    }
    assert unseen == set()


def test_every_recorded_series_is_named_as_one_and_asked_for() -> None:
    looked_at = {name for text in asked() for name, _ in selectors(text)}
    names = [rule["record"] for rule in rules() if "record" in rule]
    assert len(names) == len(set(names))
    assert all(name.startswith("anneal:") for name in names)
    assert set(names) - looked_at == set()


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names))
    for alert in alerts():
        assert alert["alert"].startswith("Anneal")
        assert alert["labels"]["severity"] in ("warning", "critical"), alert["alert"]
        assert set(alert["annotations"]) == {"summary", "description"}, alert["alert"]


def test_every_alert_has_a_case() -> None:
    fired: set[str] = set()
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            fired |= {case["alertname"] for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert {alert["alert"] for alert in alerts()} - fired == set()
    assert [path.name for path in RULE_TESTS] == [path.name for path in RULES]


def test_the_methods_that_rules_leave_out_exist() -> None:
    left_out = {
        method
        for rule in rules()
        for matcher in re.findall(r'grpc_method!~"([^"]*)"', rule["expr"])
        for method in matcher.split("|")
    }
    assert left_out
    assert left_out - {rpc.name for rpc in rpcs()} == {"WaitOperation"}, "that one is google.longrunning's"


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("sum by (kind) (rate(a_total[5m]))", [("a_total", "")]),
        ('a{x="y", z=~"b|c"} / on (job) group_left () b:c > bool 1', [("a", '{x="y", z=~"b|c"}'), ("b:c", "")]),
        ("(increase(a[1h]) and a offset 1h) or vector(0)", [("a", ""), ("a", "")]),
        ("histogram_quantile(0.95, a_bucket) or 0 * b", [("a_bucket", ""), ("b", "")]),
    ],
)
def test_the_metrics_of_an_expression_are_found(expression: str, found: list[tuple[str, str]]) -> None:
    assert list(selectors(expression)) == found
