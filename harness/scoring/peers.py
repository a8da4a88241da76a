"""The ranks of an evaluation that have no say in it: the referee only needs to know that they came, and how they ended.

Rank 0 gives every answer. When another rank is gone rank 0 waits for it, for ever with NCCL, or ends with an error that
is not its own; so the referee listens to all of them.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

from harness.protocol.channel import Channel, ChannelClosed, ChannelTimeout
from harness.protocol.messages import Kind, MessageError


class Peers:
    """Channels of the ranks from 1 on. ``listen`` notes what came; nothing here waits but ``wait``.

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
        for rank in list(self._open):
            self._listen_to(rank)

    def first_ended(self) -> int | None:
        """The rank to blame for the end: one without last words before one that may only have lost it."""
        silent = [rank for rank, words in self.ended.items() if words is None]
        return next(iter([*silent, *self.ended]), None)

    def _listen_to(self, rank: int) -> None:
        words: str | None
        try:
            message, fds = self._open[rank].receive(0.0)
        except ChannelTimeout:
            return
        except ChannelClosed:
            words = None
        except MessageError as error:
            words = f"sent what is no message: {error}"
        else:
            self.unheard.discard(rank)
            for fd in fds:
                os.close(fd)
            if message.kind is Kind.PROGRESS:
                return
            failed = message.kind is Kind.FAILED
            words = f"says: {message.text}" if failed else f"sent {message.kind.name}, and has no say"
        del self._open[rank]
        self.ended[rank] = words
