"""`python -m anneal.synthesis`: settings, bootstrap, serve, drain."""

from __future__ import annotations

from functools import partial

from anneal.kit.rpc.service import main
from anneal.kit.settings import read_settings
from anneal.synthesis.bootstrap import build
from anneal.synthesis.settings import Settings

if __name__ == "__main__":
    settings = read_settings(Settings)
    main(settings, partial(build, teacher=settings.teacher))
