"""The images are built once for a session."""

from __future__ import annotations

import pytest

from tests.containers.images import build_images, need_podman


@pytest.fixture(scope="session")
def images() -> None:
    """Every image that a cluster without GPUs needs, and those of the servers beside it."""
    need_podman()
    build_images()
