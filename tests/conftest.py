from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.s3", "tests.fixtures.serving"]

# A property says what holds, not how fast: a busy machine must not fail it.
settings.register_profile("anneal", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anneal")

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep on one worker what shares a running part, and one after the other what needs the whole machine."""
    for item in items:
        folder = item.path.parent.relative_to(HERE).as_posix()
        if item.get_closest_marker("e2e") or item.get_closest_marker("ray"):
            group = "whole machine"
        elif "serving_world" in getattr(item, "fixturenames", ()):
            group = "one engine"
        else:
            group = folder
        item.add_marker(pytest.mark.xdist_group(group))
