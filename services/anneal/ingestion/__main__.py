"""Runs the ingestion service."""

from __future__ import annotations

from anneal.ingestion.bootstrap import build
from anneal.ingestion.settings import Settings
from anneal.kit.rpc.service import main
from anneal.kit.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(Settings)
    main(settings, lambda runtime: build(runtime, settings.ingestion))
