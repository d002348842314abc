"""The rules by Prometheus's own tool: they are right in themselves, and each alert fires when it should, only then."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from anneal.cli.monitoring import config
from tests.fixtures.monitoring import RULE_TESTS, RULES, needed

pytestmark = pytest.mark.monitoring


def promtool(*words: str) -> str:
    """Run promtool; what it says, if it is content."""
    done = subprocess.run([needed("promtool"), *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_right_in_themselves() -> None:
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES))
    assert said.count("SUCCESS") == len(RULES)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_the_cases_of_the_rules_hold(path: Path) -> None:
    promtool("test", "rules", str(path))


def test_what_up_tells_prometheus_is_a_configuration(tmp_path: Path) -> None:
    written = tmp_path / "prometheus.yaml"
    written.write_text(yaml.safe_dump(config("127.0.0.1:1")))
    said = promtool("check", "config", str(written))
    assert f"{len(RULES)} rule files found" in said
