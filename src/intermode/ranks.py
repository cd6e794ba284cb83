"""This process among those that share the work.

Processes share work through a folder (:mod:`intermode.chunks`), not through messages: none waits for another to
begin, and none is lost with another. The rank only says where a process begins, so that two rarely want the same
chunk, and what it may print. ``accelerate launch`` and ``torchrun`` tell each process its place in the environment;
no process group is opened for it, since that would let one dead process stop all others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from intermode.errors import InputError

__all__ = ["Ranks", "launched", "local_device"]


@dataclass(frozen=True)
class Ranks:
    """Process ``rank`` of ``count``.

    Raises:
        InputError: a rank outside 0 .. count - 1.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise InputError(f"ranks: {self.rank} of {self.count}; need 0 <= rank < count")

    def order(self, chunks: Sequence[int]) -> list[int]:
        """Which chunks to try first: this rank's own share as it comes, then the other ranks' from the far end."""
        own = [index for index in chunks if index % self.count == self.rank]
        others = [index for index in chunks if index % self.count != self.rank]
        return own + others[::-1]


def launched() -> Ranks:
    """The place that ``accelerate launch`` or ``torchrun`` gave this process; 0 of 1 without them."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    return Ranks()


def local_device(device: str) -> str:
    """``cuda`` as one of this machine's GPUs, another for each process launched on it; other devices as they are."""
    if device != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    import torch

    # a scheduler may show each process no other GPU than its own
    return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
