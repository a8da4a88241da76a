"""Windows of the train shards in a seeded random order, without copying the shards.

Every window is used once before any is used twice. The order depends on the seed alone; rank r of w takes every w-th
window, so any world size sees the same windows in the same step.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.protocol.session import SHARD_HEADER_BYTES, ShardFile

HELD_OUT_FRACTION = 0.01
HELD_OUT_MAX_TOKENS = 1_048_576
MAGIC = 20240520

Tokens = npt.NDArray[np.uint16]


class ShardError(ValueError):
    """A shard that is not what it claims to be."""


def map_shard(shard: ShardFile, vocab_size: int) -> Tokens:
    """A shard's tokens, memory-mapped, (tokens,). Raises ``ShardError`` for a wrong header, size or vocabulary."""
    mapped = mmap.mmap(shard.fd, 0, prot=mmap.PROT_READ)
    header = np.frombuffer(mapped, np.int32, 3) if len(mapped) >= SHARD_HEADER_BYTES else np.zeros(3, np.int32)
    if header[0] != MAGIC or header[1] != 1:
        raise ShardError(f"{shard.name} has no header of a version 1 token shard.")
    if len(mapped) != SHARD_HEADER_BYTES + 2 * int(header[2]):
        raise ShardError(f"{shard.name} promises {int(header[2]):,} tokens and holds {len(mapped):,} bytes.")
    tokens = np.frombuffer(mapped, np.dtype("<u2"), offset=SHARD_HEADER_BYTES)
    largest = int(tokens[: 1 << 20].max(initial=0))
    if largest >= vocab_size:
        raise ShardError(f"{shard.name} holds token {largest}; VOCAB_SIZE is {vocab_size}.")
    return tokens


class Windows:
    """Batches of windows, and a held-out slice at the end of the last shard for the loss during training."""

    def __init__(self, shards: Sequence[Tokens], length: int, seed: int) -> None:
        total = sum(len(shard) for shard in shards)
        held_out = min(int(total * HELD_OUT_FRACTION), HELD_OUT_MAX_TOKENS, len(shards[-1]) // 2)
        self._held_out = shards[-1][len(shards[-1]) - held_out :]
        self._shards = [*shards[:-1], shards[-1][: len(shards[-1]) - held_out]]
        self._length, self._seed = length, seed
        counts = [max(0, (len(shard) - 1) // length) for shard in self._shards]
        self._starts = np.concatenate(
            [np.stack((np.full(n, i), np.arange(n) * length), 1) for i, n in enumerate(counts)]
        )
        if len(self._starts) == 0:
            raise ShardError(f"the train shards hold {total:,} tokens: not one window of {length:,}.")

    def batches(self, windows: int, rank: int, world_size: int) -> Iterator[Tensor]:
        """Endless batches, int64 (windows / world_size, length + 1); ``windows`` is the number over all ranks."""
        order = self._order()
        while True:
            chosen = [next(order) for _ in range(windows)][rank::world_size]
            rows = [self._shards[i][start : start + self._length + 1] for i, start in chosen]
            yield torch.from_numpy(np.stack(rows).astype(np.int64))

    def held_out(self, windows: int) -> Tensor:
        """The first windows of the held-out slice, int64 (at most ``windows``, length + 1); may be empty."""
        count = min(windows, max(0, (len(self._held_out) - 1) // self._length))
        rows = [self._held_out[i * self._length : (i + 1) * self._length + 1] for i in range(count)]
        return torch.from_numpy(np.array(rows, dtype=np.int64).reshape(count, self._length + 1))

    def _order(self) -> Iterator[tuple[int, int]]:
        epoch = 0
        while True:
            permutation = np.random.default_rng((self._seed, epoch)).permutation(len(self._starts))
            for index in permutation:
                shard, start = self._starts[index]
                yield int(shard), int(start)
            epoch += 1
