from __future__ import annotations

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.s3", "tests.fixtures.serving"]
