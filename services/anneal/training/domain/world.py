"""The workers of one run: how many, which one this is, and how they add tensors up."""

from __future__ import annotations

from typing import Protocol

import torch.distributed as dist
from torch import Tensor


class World(Protocol):
    """What the loop needs to know of other workers."""

    @property
    def rank(self) -> int:
        """Number of this worker, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many workers there are."""
        ...

    def add_up(self, tensor: Tensor) -> None:
        """Replace the tensor by its sum over all workers."""
        ...

    def meet(self) -> None:
        """Wait until every worker is here."""
        ...


class Alone:
    """The only worker."""

    rank = 0
    size = 1

    def add_up(self, tensor: Tensor) -> None:
        """Do nothing: the sum of one is itself."""

    def meet(self) -> None:
        """Do nothing: nobody else comes."""


class ProcessGroup:
    """Workers joined by `torch.distributed`, whose process group is already initialised."""

    def __init__(self) -> None:
        """Ask the process group who this worker is."""
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def add_up(self, tensor: Tensor) -> None:
        """Replace the tensor by its sum over all workers."""
        dist.all_reduce(tensor)

    def meet(self) -> None:
        """Wait until every worker is here."""
        dist.barrier()
