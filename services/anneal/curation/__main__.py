"""`python -m anneal.curation`: settings, bootstrap, serve, drain."""

from __future__ import annotations

from functools import partial

from anneal.curation.bootstrap import build
from anneal.curation.settings import Settings
from anneal.kit.rpc.service import main
from anneal.kit.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(Settings)
    main(settings, partial(build, options=settings.curation))
