"""The score ledger: what is committed stays, in order, once [C3-SCORE-BEFORE-UPDATE, C4-SINGLE-PASS, C4-COVERAGE].

A chunk's targets can be had from the ledger only, and only after that chunk's nats are committed to it. So an order
that breaks C3 cannot be written down in the loop.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.scoring.nll import NotFinite, token_nats
from harness.units import bits_per_byte

RUNNING_POINTS = 200

Tokens = npt.NDArray[np.integer[Any]]


class OutOfOrder(RuntimeError):
    """The referee itself tried to score out of order, twice, or to reveal targets before their score: a bug."""


@dataclass(frozen=True)
class Chunks:
    """Where the chunks lie, worked out when asked for: a worker that wants tiny chunks costs no memory."""

    targets: int
    chunk_tokens: int

    def __len__(self) -> int:
        return -(-self.targets // self.chunk_tokens)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> tuple[int, int]:
        place = range(len(self))[index] * self.chunk_tokens
        return place, min(self.chunk_tokens, self.targets - place)


@dataclass(frozen=True)
class Stream:
    """The validation stream: target i is ``tokens[i + 1]`` and spells ``target_bytes[i]`` raw bytes.

    tokens: integer (N,); target_bytes: integer (N - 1,); targets: how many are scored, from the front
    """

    tokens: Tokens
    target_bytes: npt.NDArray[np.integer[Any]]
    targets: int

    def chunks(self, chunk_tokens: int) -> Chunks:
        """(first input, number of inputs) of each chunk, left to right, the tail included."""
        return Chunks(self.targets, chunk_tokens)

    def inputs(self, start: int, count: int) -> Tokens:
        """Inputs of a chunk."""
        return self.tokens[start : start + count]


class SealedTargets:
    """Targets of one chunk, in the referee's memory: scored at any time, handed out once committed."""

    def __init__(self, ledger: "ScoreLedger", end: int, values: torch.Tensor) -> None:
        self._ledger, self._end, self._values = ledger, end, values

    def nats(self, row: int, logits: torch.Tensor) -> torch.Tensor:
        """-ln p of the targets from ``row`` on under ``logits`` (rows, vocabulary); ``NotFinite`` names the target."""
        try:
            return token_nats(logits, self._values[row : row + len(logits)])
        except NotFinite as error:
            raise NotFinite(self._end - len(self._values) + row + error.row) from None

    def open(self) -> torch.Tensor:
        """The targets, int64 (n,), for the worker. Raises ``OutOfOrder`` until the chunk's score is committed."""
        if self._end > self._ledger.committed:
            raise OutOfOrder(f"targets up to {self._end} are asked for; {self._ledger.committed} are committed.")
        return self._values


class ScoreLedger:
    """Committed nats of a ``stream``, one float64 a target, left to right."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._nats = np.empty(stream.targets, np.float64)
        self._ends = [0]  # of the committed chunks

    @property
    def committed(self) -> int:
        """Targets committed so far."""
        return self._ends[-1]

    @property
    def nats(self) -> npt.NDArray[np.float64]:
        """What is committed, float64 (committed,)."""
        return self._nats[: self.committed]

    def seal(self, start: int, count: int, place: Callable[[Tokens], torch.Tensor]) -> SealedTargets:
        """Targets for the referee's own NLL; ``place`` puts them, as int64 (n,), where the logits will be."""
        return SealedTargets(self, start + count, place(self.stream.tokens[start + 1 : start + 1 + count]))

    def commit(self, chunk: int, start: int, nats: npt.NDArray[np.float64]) -> None:
        """Fix the score of one chunk for good [C4-SINGLE-PASS]. Raises ``OutOfOrder`` unless it comes next."""
        end = start + len(nats)
        if start != self.committed or end > self.stream.targets:
            raise OutOfOrder(f"chunk {chunk} covers targets {start} to {end}; {self.committed} are committed.")
        self._nats[start:end] = nats
        self._ends.append(end)

    def totals(self) -> tuple[float, int, int]:
        """(nats, targets, bytes) of all that is committed [C4-COVERAGE].

        The sum is rounded once: no order, chunking or number of GPUs moves it (Shewchuk's partials).
        """
        nats = math.fsum(self.nats.data)
        return nats, self.committed, int(self.stream.target_bytes[: self.committed].sum(dtype=np.int64))

    def running_bpb(self) -> list[tuple[int, float]]:
        """At most 200 points (targets so far, bpb so far) at ends of chunks, the last one included."""
        step = max(1, math.ceil((len(self._ends) - 1) / RUNNING_POINTS))
        points, nats, n_bytes = list[tuple[int, float]](), 0.0, 0
        for start, end in pairwise([0, *self._ends[:0:-step][::-1]]):
            nats += float(self._nats[start:end].sum())
            n_bytes += int(self.stream.target_bytes[start:end].sum(dtype=np.int64))
            points += [(end, bits_per_byte(nats, n_bytes))] if n_bytes else []
        return points
