"""The registry of the contract tests, over both databases."""

from __future__ import annotations

from tests.contract.registry.conftest import settings, world

__all__ = ["settings", "world"]
