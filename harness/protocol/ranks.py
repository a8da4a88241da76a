"""Several ranks of one phase: the one that failed must be heard before those that only lose touch with it."""

import math

from harness.protocol.messages import Channel, Kind, Message

LOST_RANK_WAIT_S = 10.0  # the referee ends all ranks as soon as it hears of the one that failed


class LostRank(RuntimeError):
    """Another rank is gone: raise it where a collective breaks. It is told only when nobody else gives a reason."""

    def __init__(self, noticed: str) -> None:
        """noticed: what the broken connection looked like from here."""
        super().__init__(f"lost touch with another rank, which gave no reason of its own ({noticed}).")


def report_start(channel: Channel, world_size: int) -> None:
    """Let the referee know that this rank runs, so that it can name one that never came; nothing for a single rank."""
    if world_size > 1:
        channel.send(Message(Kind.PROGRESS, x=math.nan, y=math.nan, text="started"))
