"""A bounded channel between referee and worker: whole 512-byte messages over a SOCK_SEQPACKET pair, with descriptors.

Every wait has a deadline. The peer can neither choose a length nor make a read return half a message.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from harness.protocol.messages import MESSAGE_BYTES, Message, MessageError, decode

MAX_DESCRIPTORS = 250


class ChannelClosed(ConnectionError):
    """The peer is gone: its end of the channel is closed."""


class ChannelTimeout(TimeoutError):
    """No message came in time."""


class Channel:
    """One end of the pair. Not thread-safe: one owner reads and writes."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
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
        with contextlib.suppress(OSError):
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
