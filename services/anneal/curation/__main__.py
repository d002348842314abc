"""`python -m anneal.curation`: settings, bootstrap, serve, drain."""

from __future__ import annotations

from functools import partial

from anneal.curation.bootstrap import build
from anneal.curation.settings import CurationSettings
from anneal.kit.rpc.server import main

if __name__ == "__main__":
    settings = CurationSettings()
    main(settings, partial(build, options=settings.curation))
