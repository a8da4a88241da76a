"""Windows of the train shards in a seeded random order, without copying the shards: every window once an epoch."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from queue import Full, Queue
from threading import Event, Thread

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.protocol.session import SHARD_HEADER_BYTES, ShardFile

HELD_OUT_FRACTION = 0.01
HELD_OUT_MAX_TOKENS = 1_048_576
MAGIC = 20240520
PREFETCH_BATCHES = 2

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
    """Batches of windows over all shards as one stream, and a held-out slice at its end for the loss during training.

    Rank r of w takes every w-th window, so any world size sees the same windows in a step. The last, partial window is
    left out.
    """

    def __init__(self, shards: Sequence[Tokens], length: int, seed: int) -> None:
        total = sum(len(shard) for shard in shards)
        held_out = min(int(total * HELD_OUT_FRACTION), HELD_OUT_MAX_TOKENS, len(shards[-1]) // 2)
        self._held_out = shards[-1][len(shards[-1]) - held_out :]
        self._shards = [*shards[:-1], shards[-1][: len(shards[-1]) - held_out]]
        self._sizes = np.array([len(shard) for shard in self._shards], np.int64)
        self._ends = np.cumsum(self._sizes)
        self._length, self._seed = length, seed
        self.count = max(0, int(self._ends[-1]) - 1) // length
        if self.count == 0:
            raise ShardError(f"the train shards hold {total:,} tokens: not one window of {length:,}.")

    def batches(self, windows: int, rank: int, world_size: int, position: int = 0) -> Iterator[Tensor]:
        """Endless batches, int64 (windows / world_size, length + 1), made ahead by a thread.

        windows:  windows a step, over all ranks
        position: windows already used by all ranks
        """
        return prefetch(self._batches(windows, rank, world_size, position))

    def _batches(self, windows: int, rank: int, world_size: int, position: int) -> Iterator[Tensor]:
        while True:
            own = np.arange(position + rank, position + windows, world_size)
            yield self._gather(self.order(own))
            position += windows

    def order(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which window stands at each position of the endless order; each epoch is a permutation of its own."""
        epochs, places = np.divmod(positions, self.count)
        chosen = np.empty_like(positions)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            chosen[inside] = permuted(places[inside], self.count, (self._seed, int(epoch)))
        return chosen

    def held_out(self, windows: int) -> Tensor:
        """The first windows of the held-out slice, int64 (at most ``windows``, length + 1); may be empty."""
        length = self._length
        count = min(windows, max(0, (len(self._held_out) - 1) // length))
        rows = [self._held_out[i * length : (i + 1) * length + 1] for i in range(count)]
        return torch.from_numpy(np.array(rows, dtype=np.int64).reshape(count, length + 1))

    def _gather(self, chosen: npt.NDArray[np.int64]) -> Tensor:
        """Copy windows into one batch: widened on the way, no copy in between."""
        batch = torch.empty(len(chosen), self._length + 1, dtype=torch.int64, pin_memory=torch.cuda.is_available())
        starts, width = chosen * self._length, self._length + 1
        owners = np.searchsorted(self._ends, starts, side="right")
        inner = starts - self._ends[owners] + self._sizes[owners]
        for row, index, at in zip(batch.numpy(), owners.tolist(), inner.tolist(), strict=True):
            part = self._shards[index][at : at + width]
            row[: len(part)] = part
            if len(part) < width:
                self._fill(row[len(part) :], index + 1)
        return batch

    def _fill(self, rest: npt.NDArray[np.int64], index: int) -> None:
        """The rest of a window that runs on into the shards from ``index`` on."""
        while len(rest):
            part = self._shards[index][: len(rest)]
            rest[: len(part)] = part
            rest, index = rest[len(part) :], index + 1


def permuted(places: npt.NDArray[np.int64], count: int, key: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The images of ``places`` under a keyed permutation of [0, count), without storing it.

    Source: a Feistel network of eight rounds over the next even power of two, with cycle walking.
    """
    half = np.uint64(max(1, -(-(count - 1).bit_length() // 2)))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = np.random.default_rng(key).integers(0, 2**63, 8, dtype=np.uint64)
    images = places.astype(np.uint64)
    todo = np.arange(len(images))
    while len(todo):
        left, right = images[todo] >> half, images[todo] & mask
        for round_key in keys:
            mixed = (right + round_key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        images[todo] = (left << half) | right
        todo = todo[images[todo] >= np.uint64(count)]
    return images.astype(np.int64)


def prefetch(batches: Iterator[Tensor], depth: int = PREFETCH_BATCHES) -> Iterator[Tensor]:
    """The same batches, made ``depth`` ahead by a thread while the caller computes. Its exceptions come out here."""
    ready: Queue[Tensor | BaseException | None] = Queue(depth)
    stopped = Event()

    def put(item: Tensor | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except Full:
                continue
            return

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # whatever it is, the caller must see it
            put(error)

    Thread(target=work, name="batches", daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
