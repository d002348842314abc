from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.s3", "tests.fixtures.serving", "tests.fixtures.workers"]

# What a developer has configured for the command must not reach a test.
os.environ["ANNEAL_CONFIG"] = os.devnull

# A property says what holds, not how fast: a busy machine must not fail it.
settings.register_profile("anneal", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anneal")
