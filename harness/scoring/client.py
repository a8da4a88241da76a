"""The referee's side of one eval worker: every answer is checked and every wait is bounded [S3-PROTOCOL].

Stands in the way of: wrong shapes, wrong order, silence, death. Does not judge values: :mod:`harness.scoring.nll` does.

A worker may write into the shared memory at any time, so the referee copies what it reads before it uses it, and keeps
its own tokens.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.config.tracks import Limits
from harness.protocol.buffers import LOGITS_DTYPES, Buffers, Shapes, allocate, buffer_shapes, map_tensor, settle
from harness.protocol.messages import Channel, Kind, Message
from harness.sandbox.answers import RankFailed, Ranks
from harness.scoring.nll import token_nats
from harness.scoring.sample import Keeper

MAX_SLAB_BYTES = 1 << 30
Meanwhile = Callable[[], Keeper | None]
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class Hello:
    """What a worker declares before it gets memory; checked against the track's limits."""

    state_bytes: int
    chunk_tokens: int
    slab_rows: int
    logits_dtype: torch.dtype
    on_device: bool

    def __str__(self) -> str:
        where = "on a GPU" if self.on_device else "on the host"
        slabs = f"slabs of {self.slab_rows:,} rows of {str(self.logits_dtype).removeprefix('torch.')}"
        return f"{self.state_bytes:,} bytes of state {where}, chunks of {self.chunk_tokens:,} tokens, {slabs}"


class EvalClient(ExitStack):
    """Drive one worker. Set the deadline of its ``ranks`` before each span; use as a context manager for its memory.

    hello, buffers: what the worker declared, and the memory that it shares; both from ``prepare`` on
    """

    def __init__(self, channels: Sequence[Channel], limits: Limits, vocab_size: int, device: int | None = None) -> None:
        """channels: of all ranks; rank 0 gives every answer, and the end of any other ends the worker.

        limits, vocab_size: of the track: what a worker may ask for, and how long one answer may take
        device: CUDA device whose memory it gets if it wants that; ``None``: host memory only
        """
        super().__init__()
        self.ranks = Ranks(channels)
        self._limits, self._vocab_size, self._device = limits, vocab_size, device
        self._private = torch.empty(0)
        self.hello: Hello
        self.buffers: Buffers

    def prepare(self, like: Hello | None = None, meanwhile: Meanwhile = lambda: None) -> Keeper | None:
        """Take HELLO, hand over memory, wait until the worker has warmed up.

        like: what another worker of the same artifact declared; one that declares something else gets no memory
        meanwhile: what the referee has to do, with ``hello`` and ``buffers``, before the clock can start; returned
        """
        hello = self.hello = self._check_hello(self._expect(Kind.HELLO, patient=True))
        if like is not None and hello != like:
            raise RankFailed(f"it declares {hello}, and in the run that counts {like}")
        sizes = hello.chunk_tokens, hello.slab_rows, self._vocab_size
        shapes = buffer_shapes(*sizes, hello.logits_dtype, hello.state_bytes)
        device = self._device if hello.on_device else None
        buffers = self.buffers = self._allocate(shapes, device)
        self._private = torch.empty_like(buffers.logits)
        message = Message(Kind.BUFFERS, hello.chunk_tokens, hello.slab_rows, 0 if device is None else 1 + device)
        self._send(message, buffers.descriptors)
        if device is not None:  # compiles what the score needs, while the worker does the same
            token_nats(self._private.zero_(), torch.zeros(len(self._private), dtype=torch.int64))
        made = meanwhile()
        self._expect(Kind.READY, patient=True)
        return made

    def start(self) -> None:
        """Say that the clock runs, and have the worker take over the state as it lies in the buffer."""
        self._send(Message(Kind.START, time.monotonic_ns()))
        self.load_state()

    def load_state(self, blob: torch.Tensor | None = None) -> None:
        """Put ``blob`` into the state buffer (default: leave it as it is) and tell the worker."""
        if blob is not None:
            self.buffers.state.copy_(blob)
            settle(self.buffers.device)
        self._send(Message(Kind.LOAD_STATE))
        self._expect(Kind.LOADED)

    def copy_state(self, place: torch.Tensor) -> None:
        """Copy the state as it is now into ``place``, a private tensor of its shape on its device."""
        place.copy_(self.buffers.state)
        settle(self.buffers.device)

    def upload(self, tokens: npt.NDArray[np.integer[Any]]) -> torch.Tensor:
        """Tokens as int64 (n,) in private memory where the buffers are: do it while the worker computes."""
        return torch.from_numpy(tokens.astype(np.int64)).to(self.buffers.inputs.device)

    def score(self, chunk: int, inputs: torch.Tensor, needed: int | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        """Reveal ``inputs`` now; then yield (first row, logits) slab by slab until every row came.

        Each slab is a private copy, so the worker cannot show one thing to the score and another to the audits; the
        next slab overwrites it, and the worker computes that one meanwhile. When the loop is over the worker has left
        ``score()``: a state that it carries forward behind its last slab is complete, and nothing that the
        referee writes next meets a worker that still computes.

        needed: how many rows, from the first on, are wanted; later slabs are not asked for. ``None``: all
        """
        count = len(inputs)
        self.buffers.inputs[:count].copy_(inputs)
        settle(self.buffers.device)
        self._send(Message(Kind.SCORE, chunk, count))
        return self._slabs(count, count if needed is None else needed)

    def _slabs(self, count: int, needed: int) -> Iterator[tuple[int, torch.Tensor]]:
        row = 0
        while row < needed:
            message = self._expect(Kind.LOGITS)
            rows = message.b
            if message.a != row or not 1 <= rows <= min(count - row, self.buffers.logits.shape[0]):
                sent = f"rows {message.a} to {message.a + rows}"
                raise RankFailed(f"it sent {sent} of a chunk of {count}, wanted {row} on")
            private = self._private[:rows].copy_(self.buffers.logits[:rows])
            settle(self.buffers.device)
            first, row = row, row + rows
            if row < count:
                self._send(Message(Kind.NEXT if row < needed else Kind.ENOUGH))
            yield first, private
        self._expect(Kind.SCORED)

    def hand_over(self, chunk: int, targets: torch.Tensor) -> None:
        """Hand over the targets of a committed chunk, int64 (n,). Until ``await_adapted`` the caller's time is free."""
        self.buffers.targets[: len(targets)].copy_(targets)
        settle(self.buffers.device)
        self._send(Message(Kind.ADAPT, chunk, len(targets)))

    def await_adapted(self) -> None:
        """Wait until the worker has learnt from what was handed over."""
        self._expect(Kind.ADAPTED)

    def stop(self) -> None:
        """Tell the worker to leave."""
        self._send(Message(Kind.STOP))

    def _check_hello(self, message: Message) -> Hello:
        limits, most, vocabulary = self._limits, self._limits.chunk_tokens, self._vocab_size
        slab_rows = int(message.x) if 1 <= message.x < 2**31 else 0
        wrong = [
            (not 0 <= message.a <= limits.state_bytes, f"{message.a:,} bytes of state, limit {limits.state_bytes:,}"),
            (not 1 <= message.b <= most, f"chunks of {message.b:,} tokens, limit {most:,}"),
            (message.c != vocabulary, f"a vocabulary of {message.c:,}, the track's is {vocabulary:,}"),
            (not 0 <= message.d < len(LOGITS_DTYPES), f"logits code {message.d}"),
            (slab_rows == 0, f"slabs of {message.x} rows"),
        ]
        for is_wrong, text in wrong:
            if is_wrong:
                raise RankFailed(f"it declares {text}")
        dtype = LOGITS_DTYPES[message.d]
        slab_rows = min(slab_rows, message.b)
        if slab_rows * vocabulary * dtype.itemsize > MAX_SLAB_BYTES:
            raise RankFailed(f"it declares slabs of {slab_rows:,} rows, more than {MAX_SLAB_BYTES:,} bytes")
        return Hello(message.a, message.b, slab_rows, dtype, message.y == 1.0)

    def _allocate(self, shapes: Shapes, device: int | None) -> Buffers:
        """The buffers of this evaluation, zeroed: memory files, or memory of a GPU that is shared by descriptor.

        The files are sealed: a worker that truncates one would kill the referee with SIGBUS. Device memory has no size
        to change. Descriptors are closed at the end. Host memory goes with its last view; device memory then, views or
        not.
        """
        descriptors, tensors = [], []
        for dtype, shape in shapes:
            size = dtype.itemsize * torch.Size(shape).numel()
            if device is None:
                descriptor = os.memfd_create("golf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                self.callback(os.close, descriptor)
                os.ftruncate(descriptor, size)
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
                tensors.append(map_tensor(descriptor, dtype, shape))
            else:
                memory, descriptor = allocate(size, device)
                self.callback(memory.close)
                self.callback(os.close, descriptor)
                tensors.append(memory.tensor(dtype, shape))
            descriptors.append(descriptor)
        inputs, targets, logits, state = tensors
        return Buffers(inputs, targets, logits, state, device, tuple(descriptors))

    def _send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        self.ranks.send(message, descriptors, within_s=self._limits.message_s)

    def _expect(self, kind: Kind, *, patient: bool = False) -> Message:
        """The next message of ``kind``. ``patient``: only the span's deadline limits the wait."""
        return self.ranks.collect(kind, (0,), within_s=None if patient else self._limits.message_s)[0]
