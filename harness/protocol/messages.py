"""The messages between referee and worker: 512 bytes each, no pickle, and the bounded channel that carries them.

A channel is a SOCK_SEQPACKET pair: descriptors ride along, every wait has a deadline, and the peer can neither choose
a length nor make a read return half a message.

Layout, little-endian: magic ``GOLF`` (4 bytes), version u16, kind u16,
four int64 ``a b c d``, two float64 ``x y``, then UTF-8 text padded with zero bytes to 512.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

MESSAGE_BYTES = 512
MAX_DESCRIPTORS = 250
VERSION = 2
_MAGIC = b"GOLF"
_HEADER = struct.Struct("<4sHHqqqqdd")
TEXT_BYTES = MESSAGE_BYTES - _HEADER.size
SYNTAX_ERROR = "syntax error in "  # so begins what FAILED says of a submission whose code does not compile


class Kind(IntEnum):
    """Meaning of a message and of its fields. Names ending in nothing are sent by the worker unless noted."""

    # any phase, worker to referee
    READY = 1  # set-up or warm-up finished
    PROGRESS = 2  # a: step, b: tokens, x: fraction 0..1, y: loss (nan where there is none), text: what is going on
    DONE = 3  # the phase's output files are complete; of training a: steps, text: what ended it
    FAILED = 4  # text: the reason, one sentence for people
    # referee to worker
    START = 16  # train: the clock starts; a: start, monotonic ns; b: number of shards, their descriptors ride along
    STOP = 17  # no more work; leave
    # evaluation, worker to referee
    HELLO = 32  # a: state bytes, b: chunk tokens, c: vocabulary size, d: logits code, x: slab rows, y: 1 on a GPU
    LOGITS = 33  # a: first row, b: rows now in the logits buffer
    ADAPTED = 34  # adapt() returned
    LOADED = 35  # load_state() returned
    SCORED = 36  # a: chunk index; score() is over and touches no buffer any more
    # evaluation, referee to worker
    BUFFERS = 48  # a: chunk tokens, b: slab rows, c: CUDA device + 1; descriptors: inputs, targets, logits, state
    SCORE = 49  # a: chunk index, b: tokens in it; the inputs are in their buffer
    NEXT = 50  # the slab was copied; write the next one
    ADAPT = 51  # a: chunk index, b: tokens; committed, the targets are in their buffer
    LOAD_STATE = 52  # the state buffer was filled from outside
    ENOUGH = 53  # no more rows of this chunk are wanted; answer SCORED


class MessageError(ValueError):
    """Bytes that are not a message of this protocol; the text says which field is wrong."""


@dataclass(frozen=True)
class Message:
    """One message. Integers are int64, ``x`` and ``y`` float64, ``text`` at most ``TEXT_BYTES`` of UTF-8."""

    kind: Kind
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    x: float = 0.0
    y: float = 0.0
    text: str = ""

    def encode(self) -> bytes:
        """The 512 bytes of this message. Text beyond its room is cut at a character boundary."""
        text = self.text.encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore").encode()
        head = _HEADER.pack(_MAGIC, VERSION, self.kind, self.a, self.b, self.c, self.d, self.x, self.y)
        return head + text.ljust(TEXT_BYTES, b"\0")


def decode(data: bytes) -> Message:
    """Read one message. Raises ``MessageError`` for anything that ``encode`` would not have written."""
    if len(data) != MESSAGE_BYTES:
        raise MessageError(f"a message is {MESSAGE_BYTES} bytes, found {len(data)}")
    magic, version, kind, a, b, c, d, x, y = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise MessageError(f"magic is {magic!r}, wanted {_MAGIC!r}")
    if version != VERSION:
        raise MessageError(f"version is {version}, wanted {VERSION}")
    try:
        known = Kind(kind)
    except ValueError:
        raise MessageError(f"unknown kind {kind}") from None
    text = data[_HEADER.size :].split(b"\0", 1)[0].decode("utf-8", "replace")
    return Message(known, a, b, c, d, x, y, text)


class ChannelClosed(ConnectionError):
    """The peer is gone: its end of the channel is closed."""


class ChannelTimeout(TimeoutError):
    """No message came in time."""


class Channel:
    """One end of the pair. Not thread-safe: one owner reads and writes."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """The referee's end as a channel, and the worker's end as a plain socket to be inherited."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        """Descriptor for ``select``."""
        return self._socket.fileno()

    def send(self, message: Message, fds: tuple[int, ...] = (), timeout_s: float = 10.0) -> None:
        """Send one message, descriptors riding along. Raises ``ChannelClosed`` or ``ChannelTimeout``."""
        with self._within(timeout_s):
            socket.send_fds(self._socket, [message.encode()], list(fds))

    def receive(self, timeout_s: float) -> Message:
        """The next message, as below; one with descriptors, which a worker never sends, is a ``MessageError``."""
        message, fds = self.receive_with_descriptors(timeout_s)
        for fd in fds:
            os.close(fd)
        if fds:
            raise MessageError("descriptors came with it")
        return message

    def receive_with_descriptors(self, timeout_s: float) -> tuple[Message, list[int]]:
        """The next message and the descriptors that came with it.

        Raises ``ChannelTimeout`` after ``timeout_s`` seconds, ``ChannelClosed`` when the peer is gone, and
        ``MessageError`` when what came is not a message; descriptors that came with it are closed then.
        """
        with self._within(timeout_s):
            data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES + 1, MAX_DESCRIPTORS)
        if not data:
            raise ChannelClosed("the peer closed its end.")
        try:
            return decode(data), fds
        except MessageError:
            for fd in fds:
                os.close(fd)
            raise

    def close(self) -> None:
        """Close this end; safe to call twice."""
        self._socket.close()

    @contextlib.contextmanager
    def _within(self, timeout_s: float) -> Iterator[None]:
        try:
            self._socket.settimeout(timeout_s)
            yield
        except (TimeoutError, BlockingIOError):
            raise ChannelTimeout("no answer in time.") from None
        except OSError as error:
            raise ChannelClosed(f"the peer is gone ({error.strerror}).") from error
