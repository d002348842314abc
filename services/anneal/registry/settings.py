"""Everything the registry's pod can be told."""

from __future__ import annotations

from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings


class RegistryOptions(Options):
    """The registry.

    Attributes:
        migrates: bring the database's tables up to date before the first use; several pods may do so at once.
    """

    migrates: bool = True


class Settings(ServiceSettings):
    """The kit's settings and the registry's own."""

    registry: RegistryOptions = RegistryOptions()
