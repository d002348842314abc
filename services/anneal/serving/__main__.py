"""Run serving: settings, bootstrap, serve, drain."""

from __future__ import annotations

from anneal.kit.rpc.service import main
from anneal.kit.settings import read_settings
from anneal.serving.bootstrap import build
from anneal.serving.settings import Settings

if __name__ == "__main__":
    settings = read_settings(Settings)
    main(settings, lambda runtime: build(runtime, settings.serving))
