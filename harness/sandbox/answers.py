"""Waiting for what the ranks of a cell say: every wait ends, and a failure is blamed on the rank that began it."""

import time
from collections.abc import Callable, Collection, Sequence
from multiprocessing.connection import wait

from harness.protocol.messages import Channel, ChannelClosed, ChannelTimeout, Kind, Message, MessageError
from harness.text import printable

FAR_NS = 2**62
REASON_CHARACTERS = 400
LOOK_AGAIN_S = 60.0


class RankFailed(Exception):
    """A rank said that it failed, broke the protocol, or is gone; the text says which, for people.

    said: the rank's own words, where it said that it failed
    """

    said: str | None = None


class RankGone(RankFailed):
    """A rank ended without a word; ``rank`` says whose, ``awaited`` which message did not come."""

    def __init__(self, rank: int, awaited: str) -> None:
        super().__init__(f"rank {rank} ended while {awaited} was awaited")
        self.rank, self.awaited = rank, awaited


class Silent(RankFailed):
    """No answer within the limit for one message."""


class OutOfTime(Exception):
    """The deadline passed first; the text says who was late, empty if that tells nothing."""


class Ranks:
    """The channels of a cell's ranks, listened to together.

    When a rank is gone the others wait for it, for ever with NCCL, or end with an error that is not their own. So all
    are listened to, and one that ended without a word is blamed before those that left some.

    deadline_ns: monotonic end of every wait, set before each span
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.deadline_ns = FAR_NS
        self._channels = channels
        self._open = dict(enumerate(channels))
        self._unheard = set(self._open)
        self._ended: dict[int, RankFailed | None] = {}  # in the order in which it was noticed; None: without a word

    def collect(
        self,
        wanted: Kind,
        of: Collection[int] | None = None,
        *,
        within_s: float | None = None,
        progress: Callable[[int, Message], None] = lambda *_: None,
    ) -> dict[int, Message]:
        """Wait until every rank of ``of`` (default: all) sent ``wanted``, and return those messages by rank.

        Other ranks have no say; ``progress`` gets what all of them tell of theirs.
        Raises ``RankFailed`` for whatever is not in the protocol [S3-PROTOCOL], ``Silent`` after ``within_s`` seconds,
        and ``OutOfTime``.
        """
        awaited = range(len(self._channels)) if of is None else of
        until_ns = FAR_NS if within_s is None else time.monotonic_ns() + int(within_s * 1e9)
        said: dict[int, Message] = {}
        while True:
            for rank in [rank for rank in self._open if rank not in said]:
                message = self._take(rank)
                if message is None:
                    continue
                if message.kind is Kind.PROGRESS:
                    progress(rank, message)
                elif rank in awaited and message.kind is wanted:
                    said[rank] = message
                else:
                    why = f" where {wanted.name} was awaited" if rank in awaited else ", and has no say"
                    self._end(rank, RankFailed(f"rank {rank} sent {message.kind.name}{why}"))
            late = [rank for rank in awaited if rank not in said] if of is None else []
            self._check_clock(late)  # also what is said in the grace after TERM is too late
            if len(said) == len(awaited):
                return said
            for rank, failed in sorted(self._ended.items(), key=lambda item: item[1] is not None):
                raise failed or RankGone(rank, wanted.name)
            now_ns = time.monotonic_ns()  # a flood of progress must not stretch the wait
            if now_ns >= until_ns:
                raise Silent(f"no {wanted.name} within {within_s:g} s: the worker is silent")
            left_s = (min(until_ns, self.deadline_ns) - now_ns) / 1e9
            open_ends = [channel.fileno() for rank, channel in self._open.items() if rank not in said]
            wait(open_ends, min(left_s, LOOK_AGAIN_S))

    def send(
        self, message: Message, descriptors: tuple[int, ...] = (), *, rank: int = 0, within_s: float = 10.0
    ) -> None:
        """Send a message. Raises ``RankFailed`` with the reason that a rank left which reads no more; ``OutOfTime``."""
        left_s = (self.deadline_ns - time.monotonic_ns()) / 1e9
        try:
            self._channels[rank].send(message, descriptors, timeout_s=max(0.0, min(left_s, within_s)))
        except ChannelTimeout:
            self._check_clock([])
            raise RankFailed(f"rank {rank} does not read its messages") from None
        except ChannelClosed:
            self.collect(Kind.FAILED, (rank,))

    def _check_clock(self, late: list[int]) -> None:
        """Raise ``OutOfTime`` behind the deadline; whom the phase waited for in vain, where that is not all of them."""
        if time.monotonic_ns() < self.deadline_ns:
            return
        slow = "never connected: it did not start, or is slow before it connects"
        for ranks, words in ((sorted(self._unheard), slow), (late, "had not answered")):
            if 0 < len(ranks) < len(self._channels):
                raise OutOfTime(f"; rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} {words}")
        raise OutOfTime

    def _take(self, rank: int) -> Message | None:
        """One message, if there is one: a flood of one rank must not keep the referee from the others."""
        try:
            message = self._open[rank].receive(0.0)
        except ChannelTimeout:
            return None
        except ChannelClosed:
            failed = None
        except MessageError as error:
            failed = RankFailed(f"rank {rank} sent something that is not a message: {error}")
        else:
            self._unheard.discard(rank)
            if message.kind is not Kind.FAILED:
                return message
            words = printable(message.text, REASON_CHARACTERS)
            failed = RankFailed(f"rank {rank} says: {words}")
            failed.said = words
        self._end(rank, failed)
        return None

    def _end(self, rank: int, failed: RankFailed | None) -> None:
        del self._open[rank]
        self._ended[rank] = failed
