from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.s3", "tests.fixtures.serving", "tests.fixtures.workers"]

# A property says what holds, not how fast: a busy machine must not fail it.
settings.register_profile("anneal", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anneal")
