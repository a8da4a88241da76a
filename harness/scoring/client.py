"""The referee's side of one eval worker: every answer is checked and every wait is bounded [S3-PROTOCOL].

Stands in the way of: wrong shapes, wrong order, silence, death. Does not judge values: :mod:`harness.scoring.nll` does.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.protocol.channel import Channel, ChannelClosed, ChannelTimeout
from harness.protocol.device_memory import settle
from harness.protocol.layout import LOGITS_DTYPES, Buffers, buffer_shapes
from harness.protocol.messages import Kind, Message, MessageError
from harness.scoring.buffers import eval_buffers
from harness.scoring.nll import token_nats
from harness.text import printable

MAX_SLAB_BYTES = 1 << 30
REASON_CHARACTERS = 400


class WorkerFailure(Exception):
    """The worker broke the protocol, said that it failed, or is gone; the text says which, for people."""


class RankGone(WorkerFailure):
    """A process of the worker ended without a word; ``rank`` says whose."""

    def __init__(self, rank: int, awaited: str) -> None:
        super().__init__(f"rank {rank} ended while {awaited} was awaited")
        self.rank, self.awaited = rank, awaited


class Silent(WorkerFailure):
    """No answer within the limit for one message."""


class OutOfTime(Exception):
    """The clock of the span ran out while the referee waited for the worker."""


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
        return (
            f"{self.state_bytes:,} bytes of state {where}, chunks of {self.chunk_tokens:,} tokens, slabs of "
            f"{self.slab_rows:,} rows of {str(self.logits_dtype).removeprefix('torch.')}"
        )


@dataclass(frozen=True)
class WorkerLimits:
    """What a worker may ask for, and how long one answer may take.

    device: CUDA device whose memory it gets if it wants that; ``None``: host memory only
    """

    vocab_size: int
    chunk_tokens: int
    state_bytes: int
    message_s: float
    device: int | None = None


class Peers:
    """Channels of the ranks from 1 on, which have no say: the referee needs to know that they came, and how they ended.

    Rank 0 gives every answer. When another rank is gone rank 0 waits for it, for ever with NCCL, or ends with an error
    that is not its own; so the referee listens to all of them. ``listen`` notes what came; only ``wait`` waits.

    unheard: ranks that never said anything
    ended:   rank -> its last words, ``None`` where it ended without any; in the order in which that was noticed
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._open = dict(enumerate(channels, 1))
        self.unheard = set(self._open)
        self.ended: dict[int, str | None] = {}

    def wait(self, channel: Channel, timeout_s: float) -> None:
        """Until there is something to read from ``channel`` or from a rank, or the time is over."""
        poll = select.poll()
        for one in (channel, *self._open.values()):
            poll.register(one.fileno(), select.POLLIN)
        poll.poll(max(1, int(timeout_s * 1000)))

    def listen(self) -> None:
        """Take one message of each rank that sent any: a flood must not keep the referee here."""
        for rank, channel in list(self._open.items()):
            words: str | None = None
            try:
                message = channel.receive(0.0)
            except ChannelTimeout:
                continue
            except MessageError as error:
                words = f"sent something that is not a message: {error}"
            except ChannelClosed:
                pass
            else:
                self.unheard.discard(rank)
                if message.kind is Kind.PROGRESS:
                    continue
                failed = message.kind is Kind.FAILED
                words = f"says: {message.text}" if failed else f"sent {message.kind.name}, and has no say"
            del self._open[rank]
            self.ended[rank] = words


class EvalClient(ExitStack):
    """Drive one worker. Set ``deadline_ns`` (monotonic) before each span; use as a context manager for its memory.

    hello, buffers: what the worker declared, and the memory that it shares; both from ``prepare`` on
    """

    def __init__(self, channel: Channel, limits: WorkerLimits, others: Sequence[Channel] = ()) -> None:
        """channel: of rank 0, which gives every answer; others: of the other ranks, whose end ends the worker."""
        super().__init__()
        self._channel = channel
        self._peers = Peers(others)
        self._heard = False
        self._limits = limits
        self._private = torch.empty(0)
        self._enough = False
        self.hello: Hello
        self.buffers: Buffers
        self.deadline_ns: int | None = None

    def unheard(self) -> list[int]:
        """The ranks that never said anything."""
        self._peers.listen()
        return [*([] if self._heard else [0]), *sorted(self._peers.unheard)]

    def prepare(self, like: Hello | None = None, meanwhile: Callable[[], None] = lambda: None) -> Hello:
        """Take HELLO, hand over memory, wait until the worker has warmed up.

        like: what another worker of the same artifact declared; one that declares something else gets no memory
        meanwhile: what the referee has to do, with ``hello`` and ``buffers``, before the clock can start
        """
        hello = self.hello = self._check_hello(self._expect(Kind.HELLO, patient=True))
        if like is not None and hello != like:
            raise WorkerFailure(f"it declares {hello}, and in the run that counts {like}")
        sizes = hello.chunk_tokens, hello.slab_rows, self._limits.vocab_size
        shapes = buffer_shapes(*sizes, hello.logits_dtype, hello.state_bytes)
        device = self._limits.device if hello.on_device else None
        buffers = self.buffers = self.enter_context(eval_buffers(shapes, device))
        self._private = torch.empty_like(buffers.logits)
        message = Message(Kind.BUFFERS, hello.chunk_tokens, hello.slab_rows, 0 if device is None else 1 + device)
        self._send(message, buffers.descriptors)
        if device is not None:  # compiles what the score needs, while the worker does the same
            zeros = torch.zeros(len(self._private), dtype=torch.int64)
            token_nats(self._private.zero_(), zeros)
        meanwhile()
        self._expect(Kind.READY, patient=True)
        return hello

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

    def score(self, chunk: int, inputs: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Reveal ``inputs`` now; then yield (first row, logits) slab by slab until every row came.

        Each slab is a private copy, so the worker cannot show one thing to the score and another to the audits; the
        next slab overwrites it. Call ``enough`` when no more rows are needed. When the loop is over the worker has left
        ``score()``: a state that it carries forward behind its last slab is complete, and nothing that the
        referee writes next meets a worker that still computes.
        """
        self.buffers.inputs[: len(inputs)].copy_(inputs)
        settle(self.buffers.device)
        self._send(Message(Kind.SCORE, chunk, len(inputs)))
        self._enough = False
        return self._slabs(len(inputs))

    def _slabs(self, count: int) -> Iterator[tuple[int, torch.Tensor]]:
        row = 0
        while row < count and not self._enough:
            message = self._expect(Kind.LOGITS)
            rows = message.b
            if message.a != row or not 1 <= rows <= min(count - row, self.buffers.logits.shape[0]):
                raise WorkerFailure(
                    f"it sent rows {message.a} to {message.a + rows} of a chunk of {count}, wanted {row} on"
                )
            private = self._private[:rows].copy_(self.buffers.logits[:rows])
            settle(self.buffers.device)
            yield row, private
            row += rows
            if row < count:
                self._send(Message(Kind.ENOUGH if self._enough else Kind.NEXT))
        self._expect(Kind.SCORED)

    def enough(self) -> None:
        """No more rows of this chunk are needed: call it while ``score`` yields, and let the loop run out."""
        self._enough = True

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
        limits, most = self._limits, self._limits.chunk_tokens
        slab_rows = int(message.x) if 1 <= message.x < 2**31 else 0
        wrong = [
            (not 0 <= message.a <= limits.state_bytes, f"{message.a:,} bytes of state, limit {limits.state_bytes:,}"),
            (not 1 <= message.b <= most, f"chunks of {message.b:,} tokens, limit {most:,}"),
            (message.c != limits.vocab_size, f"a vocabulary of {message.c:,}, the track's is {limits.vocab_size:,}"),
            (not 0 <= message.d < len(LOGITS_DTYPES), f"logits code {message.d}"),
            (slab_rows == 0, f"slabs of {message.x} rows"),
        ]
        for is_wrong, text in wrong:
            if is_wrong:
                raise WorkerFailure(f"it declares {text}")
        dtype = LOGITS_DTYPES[message.d]
        slab_rows = min(slab_rows, message.b)
        if slab_rows * limits.vocab_size * dtype.itemsize > MAX_SLAB_BYTES:
            raise WorkerFailure(f"it declares slabs of {slab_rows:,} rows, more than {MAX_SLAB_BYTES:,} bytes")
        return Hello(message.a, message.b, slab_rows, dtype, message.y == 1.0)

    def _send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        try:
            self._channel.send(message, descriptors, timeout_s=self._patience(patient=False))
        except ChannelTimeout:
            self._check_clock()
            raise WorkerFailure("it does not read its messages") from None
        except ChannelClosed:
            self._expect(Kind.FAILED)  # shows the reason that the worker left in the channel, if any

    def _expect(self, kind: Kind, *, patient: bool = False) -> Message:
        """The next message of ``kind``; progress is skipped. ``patient``: only the span's deadline limits the wait."""
        until = time.monotonic() + self._patience(patient)
        while True:
            try:
                message = self._receive(until, kind)
            except ChannelTimeout:
                self._check_clock()
                raise Silent(f"no {kind.name} within {self._limits.message_s:g} s: the worker is silent") from None
            except ChannelClosed:
                raise RankGone(0, kind.name) from None
            except MessageError as error:
                raise WorkerFailure(f"it sent something that is not a message: {error}") from None
            if message.kind is Kind.FAILED:
                self._blame_another(kind, without_words=True)
                raise WorkerFailure(f"it says: {printable(message.text, REASON_CHARACTERS)}")
            if message.kind is kind:
                self._check_clock()
                return message
            if message.kind is not Kind.PROGRESS:
                raise WorkerFailure(f"it sent {message.kind.name} where {kind.name} was awaited")

    def _receive(self, until: float, awaited: Kind) -> Message:
        """The next message of rank 0, unless another rank ends before it comes."""
        while True:
            left = until - time.monotonic()
            if left <= 0:  # a flood of progress must not stretch the wait
                raise ChannelTimeout
            try:
                message = self._channel.receive(0.0)
            except ChannelTimeout:
                self._blame_another(awaited)
                self._peers.wait(self._channel, left)
            else:
                self._heard = True
                return message

    def _blame_another(self, awaited: Kind, *, without_words: bool = False) -> None:
        """Raise ``WorkerFailure`` if another rank is gone; ``without_words``: only if it left no reason."""
        self._peers.listen()
        for rank, words in self._peers.ended.items():  # one that has last words may only have lost the others
            if words is None:
                raise RankGone(rank, awaited.name)
        for rank, words in self._peers.ended.items():
            if words is not None and not without_words:
                raise WorkerFailure(f"rank {rank} {printable(words, REASON_CHARACTERS)}")

    def _patience(self, patient: bool) -> float:
        left = float("inf") if self.deadline_ns is None else (self.deadline_ns - time.monotonic_ns()) / 1e9
        most = 24 * 3600.0 if patient else self._limits.message_s
        return max(0.0, min(left, most))

    def _check_clock(self) -> None:
        if self.deadline_ns is not None and time.monotonic_ns() >= self.deadline_ns:
            raise OutOfTime
